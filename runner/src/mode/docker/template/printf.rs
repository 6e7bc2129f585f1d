//! Go's `printf` over JSON: `%s`, `%v`, `%d`, `%q`, `%t`, `%x`, `%X` and `%%`, with width, precision and the flags `-` and `0`. What does not fit is told in the text,
//! as Go's package fmt has it.

use serde_json::Value;

use super::shown;

/// What stands between the percent sign and the verb.
#[derive(Default)]
struct Form {
    left: bool,
    zeros: bool,
    width: usize,
    precision: Option<usize>,
}

/// No column is wider.
pub(super) const WIDEST: usize = 1000;

/// A text with its verbs replaced by values.
pub(super) fn formatted(format: &str, values: &[Value]) -> String {
    let (mut text, mut rest, mut values) = (String::new(), format, values.iter());
    while let Some((before, after)) = rest.split_once('%') {
        text += before;
        let mut form = Form::default();
        let after = form.read(after);
        let Some(verb) = after.chars().next() else {
            return text + "%!(NOVERB)";
        };
        rest = &after[verb.len_utf8()..];
        if verb == '%' {
            text.push('%');
            continue;
        }
        text += &match values.next() {
            Some(value) => form.one(verb, value),
            None => format!("%!{verb}(MISSING)"),
        };
    }
    text += rest;
    let extra: Vec<String> = values.map(|value| format!("{}={}", kind(value), shown(value))).collect();
    if extra.is_empty() { text } else { text + &format!("%!(EXTRA {})", extra.join(", ")) }
}

impl Form {
    /// Reads flags, width and precision; gives what follows.
    fn read<'a>(&mut self, text: &'a str) -> &'a str {
        let flags = text.find(|c| !"-+# 0".contains(c)).unwrap_or(text.len());
        (self.left, self.zeros) = (text[..flags].contains('-'), text[..flags].contains('0'));
        let (width, text) = number(&text[flags..]);
        self.width = width.unwrap_or(0).min(WIDEST);
        match text.strip_prefix('.') {
            Some(text) => {
                let (precision, text) = number(text);
                self.precision = Some(precision.unwrap_or(0));
                text
            }
            None => text,
        }
    }

    fn one(&self, verb: char, value: &Value) -> String {
        let text = match (verb, value) {
            ('s', Value::String(_) | Value::Array(_) | Value::Object(_)) => self.cut(&shown(value)),
            ('v', Value::Null) => "<nil>".to_owned(),
            ('v', Value::String(text)) => self.cut(text),
            ('v', value) => shown(value),
            ('d', Value::Number(number)) if !number.is_f64() => number.to_string(),
            ('t', Value::Bool(value)) => value.to_string(),
            ('q', Value::String(text)) => Value::from(self.cut(text)).to_string(),
            ('x' | 'X', Value::Number(number)) if number.is_u64() => format!("{:x}", number.as_u64().unwrap_or_default()),
            ('x' | 'X', Value::String(text)) => self.cut(text).bytes().map(|byte| format!("{byte:02x}")).collect(),
            (_, Value::Null) => return format!("%!{verb}(<nil>)"),
            (_, value) => return format!("%!{verb}({}={})", kind(value), shown(value)),
        };
        let text = if verb == 'X' { text.to_uppercase() } else { text };
        let missing = self.width.saturating_sub(text.chars().count());
        match (self.left, self.zeros) {
            (true, _) => text + &" ".repeat(missing),
            (false, false) => " ".repeat(missing) + &text,
            (false, true) => match text.strip_prefix('-') {
                Some(digits) => format!("-{}{digits}", "0".repeat(missing)),
                None => "0".repeat(missing) + &text,
            },
        }
    }

    fn cut(&self, text: &str) -> String {
        text.chars().take(self.precision.unwrap_or(usize::MAX)).collect()
    }
}

fn number(text: &str) -> (Option<usize>, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (text[..end].parse().ok(), &text[end..])
}

/// The type that Go would name.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]string",
        Value::Object(_) => "map[string]interface {}",
    }
}
