//! The trace that an invocation belongs to (`X-Amzn-Trace-Id`), in its forms: as a client sends it, as the runtime gets it, as the answer bears it.

/// Far more than the header's fields can be together.
const MAX_BYTES: usize = 512;

/// The fields of a trace header that say what they should.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fields<'a> {
    root: Option<&'a str>,
    parent: Option<&'a str>,
    sampled: Option<&'a str>,
    lineage: Option<&'a str>,
}

/// The trace for the runtime of an invocation whose client named one, `asked`, or none: of the client's what it may decide, of `fresh`, which is
/// whole, all else. A client's trace without a root in X-Ray's form is none.
pub fn continued(asked: Option<&str>, fresh: &str) -> String {
    let (asked, fresh_fields) = (asked.map(fields).unwrap_or_default(), fields(fresh));
    let Some(root) = asked.root else { return fresh.to_owned() };
    let parent = asked.parent.or(fresh_fields.parent).map(|parent| format!(";Parent={parent}")).unwrap_or_default();
    let sampled = asked.sampled.filter(|sampled| *sampled != "?").unwrap_or("0");
    let lineage = asked.lineage.or(fresh_fields.lineage).map(|lineage| format!(";Lineage={lineage}")).unwrap_or_default();
    format!("Root={root}{parent};Sampled={sampled}{lineage}")
}

/// The trace as Lambda's answer bears it: without the parent, names in lower case. One in a form of its own stays as it is.
pub fn answered(trace: &str) -> String {
    let fields = fields(trace);
    let Some(root) = fields.root else { return trace.to_owned() };
    let sampled = fields.sampled.unwrap_or("0");
    let lineage = fields.lineage.map(|lineage| format!(";lineage={lineage}")).unwrap_or_default();
    format!("root={root};sampled={sampled}{lineage}")
}

fn fields(header: &str) -> Fields<'_> {
    let mut fields = Fields::default();
    if header.len() > MAX_BYTES {
        return fields;
    }
    for (name, value) in header.split(';').filter_map(|field| field.trim().split_once('=')) {
        if name.eq_ignore_ascii_case("root") && is_root(value) {
            fields.root = Some(value);
        } else if name.eq_ignore_ascii_case("parent") && is_hex(value, 16) {
            fields.parent = Some(value);
        } else if name.eq_ignore_ascii_case("sampled") && matches!(value, "0" | "1" | "?") {
            fields.sampled = Some(value);
        } else if name.eq_ignore_ascii_case("lineage") && is_lineage(value) {
            fields.lineage = Some(value);
        }
    }
    fields
}

/// `1-` time in hex `-` 96 bits in hex.
fn is_root(text: &str) -> bool {
    match text.split('-').collect::<Vec<_>>()[..] {
        ["1", time, rest] => is_hex(time, 8) && is_hex(rest, 24),
        _ => false,
    }
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_lineage(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'|'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: &str = "Root=1-00000000-000000000000000000000000;Parent=1111111111111111;Sampled=0;Lineage=1:22222222:0";
    const ROOT: &str = "1-5e1b4151-5ac6c58d239d3a4f8d0f8f0f";

    #[test]
    fn clients_give_the_root() {
        for (asked, runtime) in [
            (None, FRESH.to_owned()),
            (Some(String::new()), FRESH.to_owned()),
            (Some("nonsense".to_owned()), FRESH.to_owned()),
            (Some("Root=1-2-3".to_owned()), FRESH.to_owned()),
            (Some(format!("Root={ROOT}")), format!("Root={ROOT};Parent=1111111111111111;Sampled=0;Lineage=1:22222222:0")),
            (
                Some(format!("sampled=1; root={ROOT};Self=x;parent=53995c3f42cd8ad8")),
                format!("Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=1;Lineage=1:22222222:0"),
            ),
            (
                Some(format!("Root={ROOT};Parent=x y;Sampled=?;Lineage=a87bd80c:1|68fd508a:5")),
                format!("Root={ROOT};Parent=1111111111111111;Sampled=0;Lineage=a87bd80c:1|68fd508a:5"),
            ),
            (Some(format!("Root={ROOT};{}", "x".repeat(MAX_BYTES))), FRESH.to_owned()),
        ] {
            assert_eq!(continued(asked.as_deref(), FRESH), runtime, "{asked:?}");
        }
        assert_eq!(continued(Some(&format!("Root={ROOT}")), ""), format!("Root={ROOT};Sampled=0"));
    }

    #[test]
    fn answers_bear_it_in_lower_case() {
        for (trace, answer) in [
            (FRESH, "root=1-00000000-000000000000000000000000;sampled=0;lineage=1:22222222:0"),
            ("Root=1-00000000-000000000000000000000000", "root=1-00000000-000000000000000000000000;sampled=0"),
            ("mine", "mine"),
            ("", ""),
        ] {
            assert_eq!(answered(trace), answer);
        }
    }
}
