//! Canonical JSON as Notary signs it: members sorted, no space, and in strings nothing escaped but what must be.

use serde_json::Value;

/// The bytes that a value's signature is made over; `None` for numbers that are no integers, which have no canonical form.
pub(super) fn of(value: &Value) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    write(value, &mut bytes).then_some(bytes)
}

fn write(value: &Value, bytes: &mut Vec<u8>) -> bool {
    match value {
        Value::Null => bytes.extend_from_slice(b"null"),
        Value::Bool(value) => bytes.extend_from_slice(if *value { b"true" } else { b"false" }),
        Value::Number(number) if number.is_i64() || number.is_u64() => bytes.extend_from_slice(number.to_string().as_bytes()),
        Value::Number(_) => return false,
        Value::String(text) => write_string(text, bytes),
        Value::Array(items) => {
            bytes.push(b'[');
            for (number, item) in items.iter().enumerate() {
                if number > 0 {
                    bytes.push(b',');
                }
                if !write(item, bytes) {
                    return false;
                }
            }
            bytes.push(b']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| name.as_bytes());
            bytes.push(b'{');
            for (number, (name, value)) in sorted.into_iter().enumerate() {
                if number > 0 {
                    bytes.push(b',');
                }
                write_string(name, bytes);
                bytes.push(b':');
                if !write(value, bytes) {
                    return false;
                }
            }
            bytes.push(b'}');
        }
    }
    true
}

pub(super) fn write_string(text: &str, bytes: &mut Vec<u8>) {
    bytes.push(b'"');
    for c in text.chars() {
        match c {
            '"' | '\\' => bytes.extend([b'\\', c as u8]),
            // Notary escapes these two as JavaScript wants it, and no control characters.
            '\u{2028}' => bytes.extend_from_slice(b"\\u2028"),
            '\u{2029}' => bytes.extend_from_slice(b"\\u2029"),
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, wanted) in [
            (r#" { "b" : 1, "a" : [ true, null, -3 ] } "#, Some(r#"{"a":[true,null,-3],"b":1}"#)),
            (r#"{"é":"<&>\/","B":"\u0041\"\\"}"#, Some(r#"{"B":"A\"\\","é":"<&>/"}"#)),
            ("\"a\\tb\\u2028\"", Some("\"a\tb\\u2028\"")),
            (r#"{"a":{"d":{},"c":[]},"a2":18446744073709551615}"#, Some(r#"{"a":{"c":[],"d":{}},"a2":18446744073709551615}"#)),
            (r#"{"a":1,"a":2}"#, Some(r#"{"a":2}"#)),
            ("[1.5]", None),
            (r#"{"a":[1e3]}"#, None),
        ] {
            let found = of(&serde_json::from_str(text).unwrap()).map(|bytes| String::from_utf8(bytes).unwrap());
            assert_eq!(found.as_deref(), wanted, "{text}");
        }
    }
}
