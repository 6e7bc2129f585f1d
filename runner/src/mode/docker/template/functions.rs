//! The functions that docker adds to templates, and Go's own that are used.

use serde_json::Value;

use super::{TemplateError, is_true, shown};

pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, TemplateError> {
    let wrong = |what: &str| TemplateError::Call { function: name.to_owned(), what: what.to_owned() };
    let text = |at: usize| arguments.get(at).map(shown).ok_or_else(|| wrong("wrong number of args"));
    Ok(match name {
        "json" => {
            serde_json::to_string(arguments.first().ok_or_else(|| wrong("wrong number of args"))?).map_err(|_| wrong("no JSON"))?.into()
        }
        "index" => {
            let (first, keys) = arguments.split_first().ok_or_else(|| wrong("wrong number of args"))?;
            keys.iter()
                .try_fold(first.clone(), |value, key| index(&value, key).ok_or_else(|| wrong(&format!("index of {}", shown(key)))))?
        }
        "len" => match arguments.first() {
            Some(Value::Array(items)) => items.len().into(),
            Some(Value::Object(fields)) => fields.len().into(),
            Some(Value::String(text)) => text.len().into(),
            _ => return Err(wrong("no length")),
        },
        "join" => match arguments.first() {
            Some(Value::Array(items)) => items.iter().map(shown).collect::<Vec<_>>().join(&text(1)?).into(),
            Some(Value::Null) => "".into(),
            _ => return Err(wrong("not a list")),
        },
        "split" => text(0)?.split(&text(1)?).map(Value::from).collect(),
        "upper" => text(0)?.to_uppercase().into(),
        "lower" => text(0)?.to_lowercase().into(),
        "title" => title(&text(0)?).into(),
        "print" => arguments.iter().map(shown).collect::<String>().into(),
        "println" => (arguments.iter().map(shown).collect::<Vec<_>>().join(" ") + "\n").into(),
        "eq" => {
            let (first, others) = arguments.split_first().ok_or_else(|| wrong("missing argument for comparison"))?;
            others.contains(first).into()
        }
        "ne" => (arguments.first() != arguments.get(1)).into(),
        "not" => (!arguments.first().is_some_and(is_true)).into(),
        "and" => arguments.iter().find(|value| !is_true(value)).or(arguments.last()).cloned().unwrap_or(Value::Null),
        "or" => arguments.iter().find(|value| is_true(value)).or(arguments.last()).cloned().unwrap_or(Value::Null),
        _ => return Err(TemplateError::Function { name: name.to_owned() }),
    })
}

/// A key that a map lacks gives what is empty; an index that a list lacks is an error.
fn index(value: &Value, key: &Value) -> Option<Value> {
    match value {
        Value::Object(fields) => Some(fields.get(key.as_str()?).cloned().unwrap_or_else(|| "".into())),
        Value::Array(items) => items.get(usize::try_from(key.as_i64()?).ok()?).cloned(),
        _ => None,
    }
}

fn title(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
