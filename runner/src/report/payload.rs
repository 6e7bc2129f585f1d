//! A function's answer as one line of stdout: docker-lambda's framing, without its HTML escaping.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// What single execution writes to stdout: a line feed, the answer on one line, a line feed. JSON loses its white space and nothing else;
/// what is not JSON stays as it is; no answer is `null`.
pub fn result_line(payload: &[u8]) -> Vec<u8> {
    let result: Cow<'_, [u8]> = match compact_json(payload) {
        _ if payload.is_empty() => Cow::Borrowed(b"null"),
        Some(json) => Cow::Owned(json.into()),
        None => Cow::Borrowed(payload),
    };
    [b"\n", &*result, b"\n"].concat()
}

/// The same JSON without white space between its tokens: key order, duplicate keys, spelling of numbers and strings stay. `None` if it is no JSON.
pub(super) fn compact_json(payload: &[u8]) -> Option<String> {
    let json = serde_json::from_str::<&RawValue>(std::str::from_utf8(payload).ok()?).ok()?;
    let (mut in_string, mut escaped) = (false, false);
    let is_kept = |c: &char| {
        let space_between = !in_string && c.is_ascii_whitespace();
        match (*c, escaped) {
            ('"', false) => in_string = !in_string,
            ('\\', false) if in_string => {
                escaped = true;
                return true;
            }
            _ => {}
        }
        escaped = false;
        !space_between
    };
    Some(json.get().chars().filter(is_kept).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_on_one_line() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        for (payload, line) in [
            (r#"{"a":1}"#, r#"{"a":1}"#),
            ("{ \"b\" : 1.0,\n \"a\" : [ 1 ] }", r#"{"b":1.0,"a":[1]}"#),
            ("", "null"),
            ("null", "null"),
            (" \t\r\n{ } \n", "{}"),
            ("Hello from Lambda!", "Hello from Lambda!"),
            ("two\nlines", "two\nlines"),
            (" ", " "),
            (r#"{"a":1,"a":2}"#, r#"{"a":1,"a":2}"#),
            ("[1e5, 1.50, -0, 12345678901234567890123]", "[1e5,1.50,-0,12345678901234567890123]"),
            (r#"{ "html" : "<a href='x'>&</a>" }"#, r#"{"html":"<a href='x'>&</a>"}"#),
            (r#"[ " a \" b ", "\\", " c\\\" d " ]"#, r#"[" a \" b ","\\"," c\\\" d "]"#),
            (r#""\ud800 \u003c é 😀""#, r#""\ud800 \u003c é 😀""#),
            ("{\"a\": 1} x", "{\"a\": 1} x"),
            ("NaN", "NaN"),
            ("[1, ]", "[1, ]"),
            (&deep, &deep),
        ] {
            assert_eq!(result_line(payload.as_bytes()), format!("\n{line}\n").into_bytes(), "{payload}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_stay() {
        assert_eq!(result_line(b"[ \"\xff\" ]"), b"\n[ \"\xff\" ]\n");
    }
}
