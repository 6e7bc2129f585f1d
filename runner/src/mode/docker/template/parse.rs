//! A template's text, made into nodes.

use serde_json::Value;

use super::{TemplateError, functions};

/// A piece of a template.
#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    Assign(String, Pipeline),
    If { condition: Pipeline, then: Vec<Node>, otherwise: Vec<Node> },
    With { value: Pipeline, then: Vec<Node>, otherwise: Vec<Node> },
    Range { key: Option<String>, value: Option<String>, over: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
}

/// Commands, each of which gets the value of the one before.
#[derive(Debug)]
pub(super) struct Pipeline(pub(super) Vec<Command>);

/// A function with its operands, or one operand.
#[derive(Debug)]
pub(super) struct Command(pub(super) Vec<Operand>);

#[derive(Debug)]
pub(super) enum Operand {
    Literal(Value),
    /// Fields of the dot.
    Field(Vec<String>),
    /// A variable, the root without a name, and fields of it.
    Variable(String, Vec<String>),
    Group(Pipeline, Vec<String>),
    Function(String),
}

/// What stands between braces, or outside of them.
#[derive(Debug)]
enum Token {
    Text(String),
    Action(String),
}

/// So many parentheses and blocks may be open at once, and no template has more of them.
const DEEPEST: usize = 1000;

pub(super) fn parse(text: &str) -> Result<Vec<Node>, TemplateError> {
    let opened = ["(", "{{"].into_iter().map(|opening| text.matches(opening).count());
    if opened.max() > Some(DEEPEST) {
        return Err(form("too many actions or parentheses".to_owned()));
    }
    let mut tokens = tokens(text)?.into_iter();
    let (nodes, end) = block(&mut tokens)?;
    match end {
        None => Ok(nodes),
        Some(end) => Err(form(format!("unexpected {{{{{end}}}}}"))),
    }
}

fn form(what: String) -> TemplateError {
    TemplateError::Form { what }
}

fn tokens(text: &str) -> Result<Vec<Token>, TemplateError> {
    let (mut tokens, mut rest, mut trims) = (Vec::new(), text, false);
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, after) = after.split_once("}}").ok_or_else(|| form("unclosed action".to_owned()))?;
        let trims_before = action.starts_with("- ");
        let mut before = before;
        if trims {
            before = before.trim_start();
        }
        if trims_before {
            before = before.trim_end();
        }
        tokens.push(Token::Text(before.to_owned()));
        let action = action.strip_prefix('-').filter(|_| trims_before).unwrap_or(action);
        trims = action.ends_with(" -");
        let action = action.strip_suffix('-').filter(|_| trims).unwrap_or(action).trim();
        if !action.starts_with("/*") {
            tokens.push(Token::Action(action.to_owned()));
        }
        rest = after;
    }
    tokens.push(Token::Text(if trims { rest.trim_start() } else { rest }.to_owned()));
    Ok(tokens)
}

/// Nodes up to an `end` or `else`, which is given back, or up to the end of all.
fn block(tokens: &mut impl Iterator<Item = Token>) -> Result<(Vec<Node>, Option<String>), TemplateError> {
    let mut nodes = Vec::new();
    while let Some(token) = tokens.next() {
        let action = match token {
            Token::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Token::Action(action) => action,
        };
        let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((&action, ""));
        match word {
            "end" | "else" => return Ok((nodes, Some(action))),
            "if" | "with" | "range" => nodes.push(nested(word, rest.trim(), tokens)?),
            _ => nodes.push(single(&action)?),
        }
    }
    Ok((nodes, None))
}

/// What has an `end`.
fn nested(word: &str, head: &str, tokens: &mut dyn Iterator<Item = Token>) -> Result<Node, TemplateError> {
    let mut tokens = tokens;
    let (then, end) = block(&mut tokens)?;
    let end = end.ok_or_else(|| form("unexpected EOF".to_owned()))?;
    let otherwise = match end.strip_prefix("else").map(str::trim) {
        None => Vec::new(),
        Some("") => match block(&mut tokens)? {
            (nodes, Some(end)) if end == "end" => nodes,
            _ => return Err(form("unexpected EOF".to_owned())),
        },
        Some(more) => {
            let (word, head) = more.split_once(char::is_whitespace).unwrap_or((more, ""));
            vec![nested(word, head.trim(), tokens)?]
        }
    };
    Ok(match word {
        "if" => Node::If { condition: pipeline(head)?, then, otherwise },
        "with" => Node::With { value: pipeline(head)?, then, otherwise },
        "range" => {
            let (names, over) = head.split_once(":=").map_or((None, head), |(names, over)| (Some(names), over));
            let names: Vec<String> = names
                .map(|names| names.split(',').map(|name| name.trim().trim_start_matches('$').to_owned()).collect())
                .unwrap_or_default();
            let (key, value) = match names.as_slice() {
                [] => (None, None),
                [value] => (None, Some(value.clone())),
                [key, value, ..] => (Some(key.clone()), Some(value.clone())),
            };
            Node::Range { key, value, over: pipeline(over)?, body: then, otherwise }
        }
        other => return Err(form(format!("unexpected <{other}> in else"))),
    })
}

fn single(action: &str) -> Result<Node, TemplateError> {
    if let Some((name, rest)) = action.split_once(":=")
        && let Some(name) = name.trim().strip_prefix('$')
        && name.chars().all(|c| c.is_alphanumeric() || c == '_')
    {
        return Ok(Node::Assign(name.to_owned(), pipeline(rest)?));
    }
    Ok(Node::Print(pipeline(action)?))
}

fn pipeline(text: &str) -> Result<Pipeline, TemplateError> {
    let mut rest = text.trim();
    let parsed = commands(&mut rest)?;
    if rest.is_empty() { Ok(parsed) } else { Err(form(format!("unexpected {rest:?} in operand"))) }
}

/// Commands up to a closing parenthesis or the end.
fn commands(rest: &mut &str) -> Result<Pipeline, TemplateError> {
    let (mut commands, mut operands) = (Vec::new(), Vec::new());
    loop {
        *rest = rest.trim_start();
        match rest.chars().next() {
            None | Some(')') => {
                commands.push(Command(operands));
                return Ok(Pipeline(commands));
            }
            Some('|') => {
                *rest = &rest[1..];
                commands.push(Command(std::mem::take(&mut operands)));
            }
            Some(_) => operands.push(operand(rest)?),
        }
    }
}

fn operand(rest: &mut &str) -> Result<Operand, TemplateError> {
    match rest.chars().next() {
        Some('(') => {
            *rest = &rest[1..];
            let inner = commands(rest)?;
            *rest = rest.strip_prefix(')').ok_or_else(|| form("unclosed left paren".to_owned()))?;
            Ok(Operand::Group(inner, fields(rest)?))
        }
        Some(quote @ ('"' | '`')) => {
            let end = closing(&rest[1..], quote).ok_or_else(|| form("unterminated quoted string".to_owned()))?;
            let inner = &rest[1..=end];
            let text = if quote == '"' { inner.replace("\\\"", "\"").replace("\\\\", "\\") } else { inner.to_owned() };
            *rest = &rest[end + 2..];
            Ok(Operand::Literal(text.into()))
        }
        Some('.') => Ok(Operand::Field(fields(rest)?)),
        Some('$') => {
            *rest = &rest[1..];
            Ok(Operand::Variable(word(rest).to_owned(), fields(rest)?))
        }
        Some('-' | '0'..='9') => {
            let end = rest[1..].find(|c: char| !c.is_ascii_digit() && c != '.').map_or(rest.len(), |end| end + 1);
            let number = rest[..end].parse::<Value>().map_err(|_| form(format!("bad number syntax: {:?}", &rest[..end])))?;
            *rest = &rest[end..];
            Ok(Operand::Literal(number))
        }
        _ => match word(rest) {
            "" => Err(form(format!("unexpected {rest:?} in command"))),
            "true" => Ok(Operand::Literal(true.into())),
            "false" => Ok(Operand::Literal(false.into())),
            "nil" => Ok(Operand::Literal(Value::Null)),
            name if functions::KNOWN.contains(&name) => Ok(Operand::Function(name.to_owned())),
            name => Err(TemplateError::Function { name: name.to_owned() }),
        },
    }
}

/// Where an unescaped quote ends a text.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let ends = c == quote && !escaped;
        escaped = c == '\\' && quote == '"' && !escaped;
        ends.then_some(at)
    })
}

fn word<'a>(rest: &mut &'a str) -> &'a str {
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    *rest = after;
    word
}

/// `.A.B`, or a lone dot for nothing more.
fn fields(rest: &mut &str) -> Result<Vec<String>, TemplateError> {
    let mut fields = Vec::new();
    while let Some(after) = rest.strip_prefix('.') {
        *rest = after;
        let name = word(rest);
        if name.is_empty() {
            break;
        }
        fields.push(name.to_owned());
    }
    Ok(fields)
}
