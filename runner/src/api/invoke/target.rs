//! Which function is meant: names, partial and full ARNs, qualifiers, by the rules of Lambda's service model.

use crate::lambda::InvokeTarget;

use super::refusal::Refusal;

const MAX_NAME_CHARS: usize = 256;
const MAX_QUALIFIER_CHARS: usize = 128;
const NAME_PATTERN: &str = r"(arn:(aws[a-zA-Z-]*)?:lambda:)?([a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?";
const QUALIFIER_PATTERN: &str = r"\$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+";

/// The function that a path's name and a query's qualifier stand for.
pub(super) fn target(name: &str, qualifier: Option<&str>) -> Result<InvokeTarget, Refusal> {
    if name.chars().count() > MAX_NAME_CHARS {
        return Err(Refusal::too_long("functionName", name, MAX_NAME_CHARS));
    }
    let parts: Vec<&str> = name.split(':').collect();
    let mut target = of_parts(&parts).ok_or_else(|| Refusal::pattern("functionName", name, NAME_PATTERN))?;
    let Some(asked) = qualifier else { return Ok(target) };
    check_qualifier(asked)?;
    match &target.qualifier {
        Some(derived) if derived != asked => Err(Refusal::invalid_parameter(
            "The derived qualifier from the function name does not match the specified qualifier.".to_owned(),
        )),
        _ => {
            target.qualifier = Some(asked.to_owned());
            Ok(target)
        }
    }
}

fn check_qualifier(qualifier: &str) -> Result<(), Refusal> {
    if qualifier.is_empty() {
        return Err(Refusal::too_short("qualifier", qualifier));
    }
    if qualifier.chars().count() > MAX_QUALIFIER_CHARS {
        return Err(Refusal::too_long("qualifier", qualifier, MAX_QUALIFIER_CHARS));
    }
    if qualifier.bytes().all(|byte| byte == b'$' || is_qualifier_byte(byte)) || qualifier == "$LATEST.PUBLISHED" {
        return Ok(());
    }
    Err(Refusal::pattern("qualifier", qualifier, QUALIFIER_PATTERN))
}

/// The pattern's groups, each of which may be missing. As with any such pattern, the longest reading that leads to an end is the one: `function:live`
/// is a function `live`, and `function:$LATEST` one of the name `function`.
fn of_parts(parts: &[&str]) -> Option<InvokeTarget> {
    if let ["arn", partition, "lambda", rest @ ..] = parts
        && is_partition(partition)
        && let Some(target) = after_service(rest)
    {
        return Some(target);
    }
    after_service(parts)
}

fn after_service(parts: &[&str]) -> Option<InvokeTarget> {
    if let [region, rest @ ..] = parts
        && is_region(region)
        && let Some(target) = after_region(rest)
    {
        return Some(InvokeTarget { region: Some((*region).to_owned()), ..target });
    }
    after_region(parts)
}

fn after_region(parts: &[&str]) -> Option<InvokeTarget> {
    if let [account, rest @ ..] = parts
        && account.len() == 12
        && account.bytes().all(|byte| byte.is_ascii_digit())
        && let Some(target) = after_account(rest)
    {
        return Some(InvokeTarget { account_id: Some((*account).to_owned()), ..target });
    }
    after_account(parts)
}

fn after_account(parts: &[&str]) -> Option<InvokeTarget> {
    if let ["function", rest @ ..] = parts
        && let Some(target) = name_and_qualifier(rest)
    {
        return Some(target);
    }
    name_and_qualifier(parts)
}

fn name_and_qualifier(parts: &[&str]) -> Option<InvokeTarget> {
    let (name, qualifier) = match parts {
        [name] => (name, None),
        [name, qualifier] => (name, Some((*qualifier).to_owned())),
        _ => return None,
    };
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte == b'.' || is_qualifier_byte(byte));
    let is_qualified = qualifier.as_deref().is_none_or(|qualifier| {
        matches!(qualifier, "$LATEST" | "$LATEST.PUBLISHED") || !qualifier.is_empty() && qualifier.bytes().all(is_qualifier_byte)
    });
    (is_name && is_qualified).then(|| InvokeTarget { name: (*name).to_owned(), qualifier, region: None, account_id: None })
}

fn is_qualifier_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn is_partition(text: &str) -> bool {
    text.is_empty() || text.strip_prefix("aws").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-'))
}

/// `us-east-1`, `us-gov-west-1`, `us-isob-east-1`.
fn is_region(text: &str) -> bool {
    let lower = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase());
    let digit = |text: &str| text.len() == 1 && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_special =
        |text: &str| text == "gov" || text.strip_prefix("iso").is_some_and(|rest| rest.is_empty() || rest.len() == 1 && lower(rest));
    match text.split('-').collect::<Vec<_>>()[..] {
        [country, direction, number] => country.len() == 2 && lower(country) && lower(direction) && digit(number),
        [country, special, direction, number] => {
            country.len() == 2 && lower(country) && is_special(special) && lower(direction) && digit(number)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_all_forms() {
        const ACCOUNT: Option<&str> = Some("123456789012");
        let long = "x".repeat(256);
        for (name, function, qualifier, region, account) in [
            ("fn", "fn", None, None, None),
            ("my.fn-1_x", "my.fn-1_x", None, None, None),
            ("fn:live", "fn", Some("live"), None, None),
            ("fn:$LATEST", "fn", Some("$LATEST"), None, None),
            ("fn:$LATEST.PUBLISHED", "fn", Some("$LATEST.PUBLISHED"), None, None),
            ("function", "function", None, None, None),
            ("function:fn", "fn", None, None, None),
            ("function:fn:1", "fn", Some("1"), None, None),
            ("function:$LATEST", "function", Some("$LATEST"), None, None),
            ("123456789012:function:fn", "fn", None, None, ACCOUNT),
            ("123456789012:fn:2", "fn", Some("2"), None, ACCOUNT),
            ("123456789012", "123456789012", None, None, None),
            ("us-east-1:123456789012:function:fn", "fn", None, Some("us-east-1"), ACCOUNT),
            ("arn:aws:lambda:us-east-1:123456789012:function:fn", "fn", None, Some("us-east-1"), ACCOUNT),
            ("arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:fn:a", "fn", Some("a"), Some("us-gov-west-1"), ACCOUNT),
            ("arn:aws-iso-b:lambda:us-isob-east-1:123456789012:function:fn", "fn", None, Some("us-isob-east-1"), ACCOUNT),
            ("lambda", "lambda", None, None, None),
            (&long, &long, None, None, None),
        ] {
            let own = |text: Option<&str>| text.map(str::to_owned);
            let expected =
                InvokeTarget { name: function.to_owned(), qualifier: own(qualifier), region: own(region), account_id: own(account) };
            assert_eq!(target(name, None), Ok(expected), "{name}");
        }
    }

    #[test]
    fn no_names() {
        for name in [
            "",
            "f n",
            "fn:",
            ":fn",
            "fn:a:b",
            "fn:a.b",
            "fn:$latest",
            "é",
            "a/b",
            "arn:aws:lambda:us-east-1:1:function:fn",
            "arn:aws:s3:::bucket",
        ] {
            let message = format!(
                "1 validation error detected: Value '{name}' at 'functionName' failed to satisfy constraint: Member must satisfy regular \
                 expression pattern: {NAME_PATTERN}"
            );
            assert_eq!(target(name, None), Err(Refusal::validation(message)), "{name}");
        }
        let refusal = target(&"x".repeat(257), None).unwrap_err();
        assert!(refusal.body().contains("Member must have length less than or equal to 256"));
    }

    #[test]
    fn qualifiers_of_the_query() {
        for (name, asked) in [("fn", "live"), ("fn", "$LATEST"), ("fn:1", "1"), ("fn", "$LATEST.PUBLISHED")] {
            assert_eq!(target(name, Some(asked)).unwrap().qualifier.as_deref(), Some(asked));
        }
        for (name, asked, part) in [
            ("fn", "", "greater than or equal to 1"),
            ("fn", "a b", "regular expression pattern"),
            ("fn", &"x".repeat(129), "less than or equal to 128"),
            ("fn:1", "2", "The derived qualifier from the function name does not match the specified qualifier."),
        ] {
            assert!(target(name, Some(asked)).unwrap_err().body().contains(part), "{asked}");
        }
    }
}
