//! The functions that docker adds to templates, and Go's own that are used.

use serde_json::Value;

use super::{TemplateError, is_true, printf, shown};

/// Every function that there is.
pub(super) const KNOWN: [&str; 23] = [
    "json", "index", "len", "join", "split", "upper", "lower", "title", "pad", "print", "println", "printf", "slice", "truncate", "eq",
    "ne", "lt", "le", "gt", "ge", "not", "and", "or",
];

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
        "printf" => printf::formatted(&text(0)?, &arguments[1..]).into(),
        "slice" => {
            let (first, ends) = arguments.split_first().ok_or_else(|| wrong("wrong number of args"))?;
            slice(first, ends).map_err(|what| wrong(&what))?
        }
        "truncate" => {
            text(0)?.chars().take(place(arguments.get(1)).ok_or_else(|| wrong("wrong number of args"))?).collect::<String>().into()
        }
        "eq" => {
            let (first, others) = arguments.split_first().ok_or_else(|| wrong("missing argument for comparison"))?;
            others.contains(first).into()
        }
        "ne" => (arguments.first() != arguments.get(1)).into(),
        "lt" | "le" | "gt" | "ge" => {
            let [first, second] = arguments else { return Err(wrong("wrong number of args")) };
            holds(name, order(first, second).ok_or_else(|| wrong("incompatible types for comparison"))?).into()
        }
        "pad" => {
            let count = |at| place(arguments.get(at)).ok_or_else(|| wrong("wrong number of args"));
            let blanks = |at| count(at).map(|count| " ".repeat(count.min(printf::WIDEST)));
            match text(0)? {
                text if text.is_empty() => text.into(),
                text => format!("{}{text}{}", blanks(1)?, blanks(2)?).into(),
            }
        }
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

/// Numbers by what they are worth, texts by their bytes; nothing else has an order.
fn order(one: &Value, other: &Value) -> Option<std::cmp::Ordering> {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => Some(one.cmp(&other)),
            _ => one.as_f64()?.partial_cmp(&other.as_f64()?),
        },
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        _ => None,
    }
}

fn holds(name: &str, order: std::cmp::Ordering) -> bool {
    match name {
        "lt" => order.is_lt(),
        "le" => order.is_le(),
        "gt" => order.is_gt(),
        _ => order.is_ge(),
    }
}

fn place(value: Option<&Value>) -> Option<usize> {
    usize::try_from(value?.as_i64()?).ok()
}

/// Go's `x[1:2]`, of a list or of a text's bytes.
fn slice(value: &Value, ends: &[Value]) -> Result<Value, String> {
    let length = match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        other => return Err(format!("can't slice item of type {other}")),
    };
    let end = |at: usize, usual: usize| match ends.get(at) {
        None => Ok(usual),
        Some(given) => place(Some(given)).filter(|end| *end <= length).ok_or_else(|| format!("index out of range: {}", shown(given))),
    };
    let (from, to) = (end(0, 0)?, end(1, length)?);
    if ends.len() > 2 {
        return Err(format!("too many slice indexes: {}", ends.len()));
    }
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(match value {
        Value::Array(items) => items[from..to].to_vec().into(),
        other => String::from_utf8_lossy(&shown(other).as_bytes()[from..to]).into_owned().into(),
    })
}

fn title(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
