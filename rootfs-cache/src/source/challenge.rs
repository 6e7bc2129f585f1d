//! What a registry wants before it answers: the `WWW-Authenticate` header of RFC 9110, as far as registries use it. Pure.

type Parameters = Vec<(String, String)>;

/// What a registry wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token, to be had from `realm` for `service`.
    Bearer { realm: String, service: Option<String> },
    /// User name and password with every request.
    Basic,
}

/// The challenge to follow among the values of the headers: a token where that is offered.
pub(super) fn choose<'h>(headers: impl Iterator<Item = &'h str>) -> Option<Challenge> {
    let all: Vec<Challenge> = headers.flat_map(parse).collect();
    let bearer = all.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
    bearer.or(all.first()).cloned()
}

fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut rest = header;
    while let Some((scheme, parameters, after)) = one(rest) {
        let find = |wanted: &str| parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.clone());
        if scheme.eq_ignore_ascii_case("bearer") {
            challenges.extend(find("realm").map(|realm| Challenge::Bearer { realm, service: find("service") }));
        } else if scheme.eq_ignore_ascii_case("basic") {
            challenges.push(Challenge::Basic);
        }
        rest = after;
    }
    challenges
}

/// A scheme with its parameters, and what stands behind.
fn one(text: &str) -> Option<(&str, Parameters, &str)> {
    let text = text.trim_start_matches([' ', ',', '\t']);
    let end = text.find([' ', ',']).unwrap_or(text.len());
    let (scheme, mut rest) = text.split_at(end);
    if scheme.is_empty() {
        return None;
    }
    let mut parameters = Parameters::new();
    while let Some((name, value, after)) = parameter(rest) {
        parameters.push((name, value));
        rest = after;
    }
    Some((scheme, parameters, rest))
}

/// `NAME=VALUE` or `NAME="VALUE"`. Anything else begins the next challenge.
fn parameter(text: &str) -> Option<(String, String, &str)> {
    let text = text.trim_start_matches([' ', ',', '\t']);
    let (name, rest) = text.split_once('=')?;
    let name = name.trim_end();
    if name.is_empty() || name.contains([' ', ',', '"']) {
        return None;
    }
    let rest = rest.trim_start();
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find([',', ' ']).unwrap_or(rest.len());
        return Some((name.to_owned(), rest[..end].to_owned(), &rest[end..]));
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match c {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return Some((name.to_owned(), value, &quoted[at + 1..])),
            c => {
                value.push(c);
                escaped = false;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_registries_send() {
        let bearer =
            |realm: &str, service: Option<&str>| Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) });
        for (headers, wanted) in [
            (
                &[r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#][..],
                bearer("https://auth.docker.io/token", Some("registry.docker.io")),
            ),
            (&[r#"bearer  Realm = "https://x/" , error="invalid_token""#], bearer("https://x/", None)),
            (&[r#"Bearer realm=https://x/t,service=y"#], bearer("https://x/t", Some("y"))),
            (&[r#"Bearer realm="a\"b\\c",service="""#], bearer(r#"a"b\c"#, Some(""))),
            (&[r#"Basic realm="Registry, the \"best\"""#], Some(Challenge::Basic)),
            (&[r#"Basic realm="x", Bearer realm="y",service="z""#], bearer("y", Some("z"))),
            (&["Basic", r#"Bearer realm="y""#], bearer("y", None)),
            (&["Negotiate", "Basic realm=x"], Some(Challenge::Basic)),
            (&["Bearer"], None),
            (&[r#"Bearer realm="open"#], None),
            (&["", " , ,"], None),
            (&[], None),
        ] {
            assert_eq!(choose(headers.iter().copied()), wanted, "{headers:?}");
        }
    }
}
