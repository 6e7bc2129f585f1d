//! `--format`: the part of Go's text/template that tools use, over JSON. What is not here is refused by name.
//!
//! Fields, variables, `json`, `index`, `range`, `if`, `with`, `join`, `split`, `upper`, `lower`, `title`, `pad`, `len`, `slice`, `truncate`, `print`,
//! `println`, `printf`, `eq`, `ne`, `lt`, `le`, `gt`, `ge`, `and`, `or`, `not`.

use std::collections::BTreeMap;

use serde_json::Value;

mod functions;
mod parse;
mod printf;

use crate::exit_code::{ExitCode, Failure};
use parse::{Command, Node, Operand, Pipeline, parse};

/// Why a template cannot be used.
#[derive(Debug, thiserror::Error)]
pub(in crate::mode) enum TemplateError {
    /// Not the form of one.
    #[error("template parsing error: template: {what}")]
    Form { what: String },
    /// A function, or a keyword, that is not here.
    #[error("template parsing error: template: function \"{name}\" not defined")]
    Function { name: String },
    /// There is no such field.
    #[error("template: executing \"\" at <.{field}>: map has no entry for key \"{field}\"")]
    Field { field: String },
    /// An operand of the wrong kind.
    #[error("template: error calling {function}: {what}")]
    Call { function: String, what: String },
}

/// What a template makes of a value.
pub(super) fn render(format: &str, value: &Value) -> Result<String, TemplateError> {
    rendered(&parse(&unescaped(format))?, value, Labels::None)
}

fn rendered(nodes: &[Node], value: &Value, labels: Labels<'_>) -> Result<String, TemplateError> {
    let mut text = String::new();
    Scope { root: value, labels, variables: BTreeMap::new() }.nodes(nodes, value, &mut text)?;
    Ok(text)
}

/// What `.Label NAME` gives.
#[derive(Clone, Copy)]
enum Labels<'a> {
    /// No row of a list.
    None,
    /// The heading of a column, which is the last part of the name.
    Heading,
    /// The labels of what the row shows.
    Of(&'a BTreeMap<String, String>),
}

/// A row of a list.
#[derive(Debug, Default)]
pub(in crate::mode) struct Row {
    /// Its fields.
    pub(in crate::mode) fields: Value,
    /// Labels, each to be had by `.Label NAME`.
    pub(in crate::mode) labels: BTreeMap<String, String>,
}

impl From<Value> for Row {
    fn from(fields: Value) -> Self {
        Self { fields, labels: BTreeMap::new() }
    }
}

/// Rows by a template, one line each; with `table` in front, columns below headings. A template that is `json` alone gives objects.
pub(super) fn table(format: &str, headings: &[(&str, &str)], rows: impl Iterator<Item = impl Into<Row>>) -> Result<String, Failure> {
    lines(format, headings, rows).map_err(|error| {
        let text = match &error {
            // Lists and objects differ in docker, too.
            TemplateError::Form { what } => format!("failed to parse template: template: :1: {what}"),
            TemplateError::Function { name } => format!("failed to parse template: template: :1: function \"{name}\" not defined"),
            other => format!("failed to execute template: {other}"),
        };
        Failure::could_not_run(text).with_code(ExitCode::FUNCTION_FAILED)
    })
}

/// The same, with the error for others to tell.
pub(in crate::mode) fn lines(
    format: &str,
    headings: &[(&str, &str)],
    rows: impl Iterator<Item = impl Into<Row>>,
) -> Result<String, TemplateError> {
    let format = if format == "json" { "{{json .}}" } else { format };
    let (columns, is_table) = format.strip_prefix("table").map_or((format, false), |columns| (columns.trim_start_matches(' '), true));
    // Whether there is a row or not, the template is one.
    let nodes = parse(&unescaped(columns))?;
    let of_row = |row: Row| rendered(&nodes, &row.fields, Labels::Of(&row.labels));
    if !is_table {
        return rows.map(|row| of_row(row.into()).map(|line| line + "\n")).collect();
    }
    let heading = Value::Object(headings.iter().map(|(field, heading)| ((*field).to_owned(), Value::from(*heading))).collect());
    let heading = rendered(&nodes, &heading, Labels::Heading);
    let lines = std::iter::once(heading).chain(rows.map(|row| of_row(row.into()))).collect::<Result<Vec<_>, _>>()?;
    Ok(aligned(&lines))
}

/// Columns as Go's tabwriter makes them for docker: at least 10 wide, 3 apart, the last one as it is.
pub(super) fn aligned(lines: &[String]) -> String {
    let cells: Vec<Vec<&str>> = lines.iter().map(|line| line.split('\t').collect()).collect();
    let count = cells.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let inner = cells.iter().filter(|line| column + 1 < line.len());
        inner.map(|line| line[column].chars().count() + 3).max().unwrap_or(0).max(10)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let padded = |line: &Vec<&str>| {
        let last = line.len().saturating_sub(1);
        let cell = |(at, text): (usize, &&str)| if at == last { (*text).to_owned() } else { format!("{text:0$}", widths[at]) };
        line.iter().enumerate().map(cell).collect::<String>() + "\n"
    };
    cells.iter().map(padded).collect()
}

/// `\t` and `\n` as shells leave them.
fn unescaped(format: &str) -> String {
    format.replace("\\t", "\t").replace("\\n", "\n")
}

struct Scope<'a> {
    root: &'a Value,
    labels: Labels<'a>,
    variables: BTreeMap<String, Value>,
}

impl Scope<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value, out: &mut String) -> Result<(), TemplateError> {
        nodes.iter().try_for_each(|node| self.node(node, dot, out))
    }

    fn node(&mut self, node: &Node, dot: &Value, out: &mut String) -> Result<(), TemplateError> {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Print(pipeline) => out.push_str(&shown(&self.value(pipeline, dot)?)),
            Node::Assign(name, pipeline) => {
                let value = self.value(pipeline, dot)?;
                self.variables.insert(name.clone(), value);
            }
            Node::If { condition, then, otherwise } => {
                let holds = is_true(&self.value(condition, dot)?);
                self.nodes(if holds { then } else { otherwise }, dot, out)?;
            }
            Node::With { value, then, otherwise } => {
                let value = self.value(value, dot)?;
                if is_true(&value) {
                    self.nodes(then, &value, out)?;
                } else {
                    self.nodes(otherwise, dot, out)?;
                }
            }
            Node::Range { key, value, over, body, otherwise } => {
                let over = self.value(over, dot)?;
                let items: Vec<(Value, Value)> = match over {
                    Value::Array(items) => items.into_iter().enumerate().map(|(at, item)| (at.into(), item)).collect(),
                    Value::Object(items) => items.into_iter().map(|(key, item)| (key.into(), item)).collect(),
                    Value::Null => Vec::new(),
                    other => return Err(TemplateError::Call { function: "range".to_owned(), what: format!("can't iterate over {other}") }),
                };
                if items.is_empty() {
                    return self.nodes(otherwise, dot, out);
                }
                for (at, item) in items {
                    if let Some(key) = key {
                        self.variables.insert(key.clone(), at);
                    }
                    if let Some(value) = value {
                        self.variables.insert(value.clone(), item.clone());
                    }
                    self.nodes(body, &item, out)?;
                }
            }
        }
        Ok(())
    }

    fn value(&self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let mut passed = None;
        for command in &pipeline.0 {
            passed = Some(self.command(command, dot, passed)?);
        }
        Ok(passed.unwrap_or(Value::Null))
    }

    fn command(&self, command: &Command, dot: &Value, passed: Option<Value>) -> Result<Value, TemplateError> {
        let operands = |operands: &[Operand]| operands.iter().map(|operand| self.operand(operand, dot)).collect::<Result<Vec<_>, _>>();
        match command.0.as_slice() {
            [Operand::Function(name), arguments @ ..] => {
                let mut arguments = operands(arguments)?;
                arguments.extend(passed);
                functions::call(name, &arguments)
            }
            [single] => self.operand(single, dot),
            [Operand::Field(names), name] if names.as_slice() == ["Label"] && !matches!(self.labels, Labels::None) => {
                Ok(self.label(&shown(&self.operand(name, dot)?)).into())
            }
            [first, ..] => Err(TemplateError::Form { what: format!("can't give argument to non-function {first:?}") }),
            [] => Err(TemplateError::Form { what: "missing value for command".to_owned() }),
        }
    }

    fn label(&self, name: &str) -> String {
        match self.labels {
            Labels::None => String::new(),
            Labels::Heading => name.rsplit('.').next().unwrap_or_default().replace(['-', '_'], " "),
            Labels::Of(labels) => labels.get(name).cloned().unwrap_or_default(),
        }
    }

    fn operand(&self, operand: &Operand, dot: &Value) -> Result<Value, TemplateError> {
        let fields = |from: &Value, fields: &[String]| fields.iter().try_fold(from.clone(), |value, name| field(&value, name));
        match operand {
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Field(names) => fields(dot, names),
            Operand::Variable(name, names) if name.is_empty() => fields(self.root, names),
            Operand::Variable(name, names) => {
                let value =
                    self.variables.get(name).ok_or_else(|| TemplateError::Form { what: format!("undefined variable \"${name}\"") })?;
                fields(value, names)
            }
            Operand::Group(pipeline, names) => fields(&self.value(pipeline, dot)?, names),
            Operand::Function(name) => functions::call(name, &[]),
        }
    }
}

fn field(value: &Value, name: &str) -> Result<Value, TemplateError> {
    match value {
        Value::Object(fields) => fields.get(name).cloned().ok_or_else(|| TemplateError::Field { field: name.to_owned() }),
        // As of a nil map.
        Value::Null => Ok(Value::Null),
        _ => Err(TemplateError::Field { field: name.to_owned() }),
    }
}

/// Go's notion of what is not empty.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// As Go prints it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let pairs: Vec<_> = fields.iter().map(|(key, value)| format!("{key}:{}", shown(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_that_tools_use() {
        let value = json!({
            "Id": "abc", "State": {"Running": true, "ExitCode": 0}, "Empty": [], "Nothing": null,
            "NetworkSettings": {"Ports": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "49153"}]}, "Networks": {"bridge": {"Gateway": "10.0.2.2"}}},
            "Config": {"Env": ["A=1", "B=2"], "Labels": {"a": "b", "c.d": "e"}},
        });
        for (template, text) in [
            ("{{.Id}}", "abc"),
            ("{{ .State.Running }} {{.State.ExitCode}}", "true 0"),
            ("{{json .State}}", r#"{"ExitCode":0,"Running":true}"#),
            ("{{.State | json}}", r#"{"ExitCode":0,"Running":true}"#),
            (r#"{{(index (index .NetworkSettings.Ports "8080/tcp") 0).HostPort}}"#, "49153"),
            (r#"{{range $p, $conf := .NetworkSettings.Ports}}{{$p}} -> {{(index $conf 0).HostPort}}{{end}}"#, "8080/tcp -> 49153"),
            ("{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}", "10.0.2.2"),
            ("{{range .Config.Env}}{{println .}}{{end}}", "A=1\nB=2\n"),
            (r#"{{join .Config.Env ","}}"#, "A=1,B=2"),
            (r#"{{index .Config.Labels "c.d"}}"#, "e"),
            (r#"{{index .Config.Labels "none"}}|"#, "|"),
            ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
            ("{{if and .State.Running (not .Empty)}}a{{else if .Id}}b{{end}}", "a"),
            (r#"{{if eq .Id "x"}}a{{else if eq .Id "abc"}}b{{else}}c{{end}}"#, "b"),
            ("{{with .Nothing}}x{{else}}nothing{{end}}", "nothing"),
            ("{{.Nothing}}", "<no value>"),
            ("{{len .Config.Env}} {{upper .Id}} {{.Config.Env}}", "2 ABC [A=1 B=2]"),
            ("a {{- .Id -}} b", "aabcb"),
            (r#"{{$x := .Id}}{{$x}}{{"lit"}}{{/* gone */}}"#, "abclit"),
            (r"{{.Id}}\t{{.Id}}", "abc\tabc"),
            ("{{slice .Id 1}} {{slice .Id 0 2}} {{slice .Config.Env 1}}", "bc ab [B=2]"),
            ("{{truncate .Id 2}} {{truncate .Id 9}}", "ab abc"),
            ("{{pad .Id 1 2}}|{{pad \"\" 3 3}}|{{len (pad .Id 99999999999999 0)}}", " abc  ||1003"),
            (r#"{{printf "%s-%d %v" .Id .State.ExitCode .State.Running}}"#, "abc-0 true"),
            (r#"{{printf "%.2s|%-5s|%5s|%05d|%q|%%|%x" .Id .Id .Id 42 .Id .Id}}"#, "ab|abc  |  abc|00042|\"abc\"|%|616263"),
            (
                r#"{{.Id | printf "%s"}} {{printf "%d" .Id}} {{printf "%s"}} {{printf "x" 1}}"#,
                "abc %!d(string=abc) %!s(MISSING) x%!(EXTRA int=1)",
            ),
            (r#"{{printf "%t %5t %v" true false .Config.Env}}"#, "true false [A=1 B=2]"),
        ] {
            assert_eq!(render(template, &value).unwrap(), text, "{template}");
        }
        for (template, error) in [
            ("{{.Nope}}", "map has no entry for key \"Nope\""),
            ("{{html .Id}}", "function \"html\" not defined"),
            ("{{slice .Id 0 4}}", "index out of range: 4"),
            ("{{slice .Id 2 1}}", "invalid slice index: 2 > 1"),
            ("{{printf}}", "wrong number of args"),
            ("{{.Label \"a\"}}", "can't give argument to non-function"),
            ("{{.Id", "unclosed action"),
            ("{{range .Config.Env}}", "unexpected EOF"),
            ("{{end}}", "unexpected {{end}}"),
            ("{{template \"x\"}}", "function \"template\" not defined"),
        ] {
            let told = render(template, &value).unwrap_err().to_string();
            assert!(told.contains(error), "{template}: {told}");
        }
        for (opening, closing) in [("{{if .Id}}", "{{end}}"), ("{{((", "))}}")] {
            let deep = |count: usize| opening.repeat(count) + ".Id" + &closing.repeat(count);
            assert!(render(&deep(100_000), &value).unwrap_err().to_string().contains("too many"), "{opening}");
        }
    }

    #[test]
    fn tables_are_aligned_as_docker_aligns() {
        let rows = [json!({"A": "x", "B": "long enough text"}), json!({"A": "yyyyyyyyyyyy", "B": ""})];
        let text = table("table {{.A}}\t{{.B}}", &[("A", "FIRST"), ("B", "SECOND")], rows.into_iter()).unwrap();
        assert_eq!(text, "FIRST          SECOND\nx              long enough text\nyyyyyyyyyyyy   \n");
    }
}
