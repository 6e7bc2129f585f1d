//! The grammar's instructions to our own.

use std::collections::BTreeMap;

use parse_dockerfile as grammar;

use super::heredoc::RunDocuments;
use super::steps::{Addition, Arguments, CommandForm, ContentSource, CopyStep, Health, Instruction, RunNetwork, RunStep, ShellText, Step};
use super::{DockerfileError, Stage, Wrong, empty, mount};

/// What is needed to read instructions of one text.
pub(super) struct Reader<'a> {
    name: &'a str,
    text: &'a str,
    heredocs: &'a BTreeMap<usize, RunDocuments>,
    escape: char,
}

impl<'a> Reader<'a> {
    pub(super) fn new(name: &'a str, text: &'a str, heredocs: &'a BTreeMap<usize, RunDocuments>, escape: char) -> Self {
        Self { name, text, heredocs, escape }
    }

    pub(super) fn escape(&self) -> char {
        self.escape
    }

    /// The line of an offset.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    pub(super) fn stage(&self, from: &grammar::FromInstruction<'_>) -> Result<Stage, DockerfileError> {
        let line = self.line(from.from.span.start);
        let wrong = |wrong: Wrong| wrong.at(self.name, line);
        let mut platform = None;
        for flag in &from.options {
            match &*flag.name.value {
                "platform" => platform = Some(flag_value(flag).map_err(wrong)?),
                _ => return Err(wrong(unknown_flag("FROM", flag))),
            }
        }
        let name = from.as_.as_ref().map(|(_, name)| name.value.to_lowercase());
        if let Some(name) = name.as_deref().filter(|name| !is_stage_name(name)) {
            return Err(wrong(Wrong::hint(format!("`{name}` is no name for a stage"), "a letter, then letters, digits, `.`, `_` and `-`")));
        }
        let end = from.as_.as_ref().map_or(from.image.span.end, |(_, name)| name.span.end);
        let text = self.one_line(from.from.span.start, end);
        Ok(Stage { line, text, base: from.image.value.clone().into_owned(), platform, name, steps: Vec::new() })
    }

    pub(super) fn step(&self, instruction: &grammar::Instruction<'_>) -> Result<Step, DockerfileError> {
        let start = start(instruction);
        let line = self.line(start);
        let end = self.instruction_end(start);
        let text = self.one_line(start, end);
        let instruction = self.instruction(instruction).map_err(|wrong| wrong.at(self.name, line))?;
        Ok(Step { line, text, instruction })
    }

    fn instruction(&self, instruction: &grammar::Instruction<'_>) -> Result<Instruction, Wrong> {
        Ok(match instruction {
            grammar::Instruction::Add(add) => Instruction::Copy(self.copy(Addition::Add, &add.options, &add.src, &add.dest)?),
            grammar::Instruction::Copy(copy) => Instruction::Copy(self.copy(Addition::Copy, &copy.options, &copy.src, &copy.dest)?),
            grammar::Instruction::Run(run) => Instruction::Run(self.run(run)?),
            grammar::Instruction::Env(env) => Instruction::Env(self.pairs("ENV", &env.arguments.value)?),
            grammar::Instruction::Label(label) => Instruction::Label(self.pairs("LABEL", &label.arguments.value)?),
            grammar::Instruction::Arg(arg) => Instruction::Arg(arguments(&arg.arguments.value, self.escape)?),
            grammar::Instruction::Workdir(workdir) => Instruction::Workdir(workdir.arguments.value.clone().into_owned()),
            grammar::Instruction::User(user) => Instruction::User(user.arguments.value.clone().into_owned()),
            grammar::Instruction::Cmd(cmd) => Instruction::Cmd(self.command(&cmd.arguments)),
            grammar::Instruction::Entrypoint(entrypoint) => Instruction::Entrypoint(self.command(&entrypoint.arguments)),
            grammar::Instruction::Expose(expose) => Instruction::Expose(owned(&expose.arguments)),
            grammar::Instruction::Shell(shell) => Instruction::Shell(owned(&shell.arguments)),
            grammar::Instruction::Volume(volume) => Instruction::Volume(match &volume.arguments {
                grammar::JsonOrStringArray::Json(words) => owned(&words.value),
                grammar::JsonOrStringArray::String(words) => owned(words),
            }),
            grammar::Instruction::Stopsignal(signal) => Instruction::StopSignal(signal.arguments.value.clone().into_owned()),
            grammar::Instruction::Healthcheck(check) => Instruction::Healthcheck(self.health(check)?),
            grammar::Instruction::Maintainer(maintainer) => Instruction::Maintainer(maintainer.name.value.clone().into_owned()),
            grammar::Instruction::Onbuild(onbuild) => self.onbuild(&onbuild.instruction)?,
            _ => return Err(Wrong::new("this instruction is not supported")),
        })
    }

    fn onbuild(&self, inner: &grammar::Instruction<'_>) -> Result<Instruction, Wrong> {
        let forbidden = match inner {
            grammar::Instruction::From(_) => Some("FROM"),
            grammar::Instruction::Maintainer(_) => Some("MAINTAINER"),
            grammar::Instruction::Onbuild(_) => Some("ONBUILD"),
            _ => None,
        };
        if let Some(forbidden) = forbidden {
            return Err(Wrong::new(format!("`ONBUILD {forbidden}` is not allowed")));
        }
        // What is wrong with it is said now and not to whoever builds upon the image.
        self.instruction(inner)?;
        let start = start(inner);
        Ok(Instruction::Onbuild(self.one_line(start, self.instruction_end(start))))
    }

    fn copy(
        &self,
        addition: Addition,
        flags: &[grammar::Flag<'_>],
        sources: &[grammar::Source<'_>],
        target: &grammar::UnescapedString<'_>,
    ) -> Result<CopyStep, Wrong> {
        let word = if addition == Addition::Add { "ADD" } else { "COPY" };
        let mut step = CopyStep {
            addition,
            from: None,
            chown: None,
            chmod: None,
            checksum: None,
            sources: Vec::new(),
            target: target.value.clone().into_owned(),
        };
        for flag in flags {
            match &*flag.name.value {
                "from" if addition == Addition::Copy => step.from = Some(flag_value(flag)?),
                "chown" => step.chown = Some(flag_value(flag)?),
                "chmod" => step.chmod = Some(flag_value(flag)?),
                "checksum" if addition == Addition::Add => step.checksum = Some(flag_value(flag)?),
                // Every layer here is made apart from those below it.
                "link" => {}
                "keep-git-dir" | "checksum" | "unpack" | "parents" | "exclude" => {
                    let hint = "leave it out; `.dockerignore` excludes files from the context";
                    return Err(Wrong::hint(format!("`{word} --{}` is not supported", flag.name.value), hint));
                }
                _ => return Err(unknown_flag(word, flag)),
            }
        }
        for source in sources {
            step.sources.push(match source {
                grammar::Source::Path(path) => ContentSource::Path(path.value.clone().into_owned()),
                grammar::Source::HereDoc(document) => self.here_text(document),
                _ => return Err(Wrong::new(format!("a source of {word} is of a form that is not supported"))),
            });
        }
        Ok(step)
    }

    fn here_text(&self, document: &grammar::HereDoc<'_>) -> ContentSource {
        // Its end follows what it holds.
        let name = self.text[document.span.end..].lines().next().unwrap_or_default().trim().to_owned();
        ContentSource::Text { name, text: empty::unmark(&document.value), expand: document.expand }
    }

    fn run(&self, run: &grammar::RunInstruction<'_>) -> Result<RunStep, Wrong> {
        let mut step =
            RunStep { command: ShellText::Command(self.command(&run.arguments)), mounts: Vec::new(), network: RunNetwork::Default };
        for flag in &run.options {
            match &*flag.name.value {
                "mount" => step.mounts.push(mount::read(&flag_value(flag)?)?),
                "network" => {
                    step.network = match &*flag_value(flag)? {
                        "default" => RunNetwork::Default,
                        "none" => RunNetwork::None,
                        "host" => RunNetwork::Host,
                        other => {
                            return Err(Wrong::hint(format!("`RUN --network={other}` is not supported"), "`default`, `none` or `host`"));
                        }
                    };
                }
                "security" => {
                    let hint = "leave it out: a command has no more rights here than the user who builds";
                    return Err(Wrong::hint("`RUN --security` is not supported", hint));
                }
                "device" => return Err(Wrong::hint("`RUN --device` is not supported", "leave it out: there are no devices")),
                _ => return Err(unknown_flag("RUN", flag)),
            }
        }
        if let Some(documents) = self.heredocs.get(&run.run.span.start) {
            step.command = with_documents(documents, self.escape);
        }
        Ok(step)
    }

    fn health(&self, check: &grammar::HealthcheckInstruction<'_>) -> Result<Health, Wrong> {
        let grammar::HealthcheckArguments::Cmd { arguments, .. } = &check.arguments else {
            return Ok(Health::None);
        };
        let mut options = Vec::new();
        for flag in &check.options {
            match &*flag.name.value {
                "interval" | "timeout" | "start-period" | "start-interval" | "retries" => {
                    options.push((flag.name.value.clone().into_owned(), flag_value(flag)?));
                }
                _ => return Err(unknown_flag("HEALTHCHECK", flag)),
            }
        }
        Ok(Health::Check(options, self.command(arguments)))
    }

    fn command(&self, command: &grammar::Command<'_>) -> CommandForm {
        match command {
            grammar::Command::Exec(words) => CommandForm::Exec(owned(&words.value)),
            grammar::Command::Shell(text) if empty::is_marked(text.value) => CommandForm::Exec(Vec::new()),
            grammar::Command::Shell(text) => CommandForm::Shell(empty::unmark(&join_lines(text.value, self.escape))),
            _ => CommandForm::Shell(String::new()),
        }
    }

    fn pairs(&self, word: &str, text: &str) -> Result<Arguments, Wrong> {
        let words = split(text, self.escape);
        // The old form: a name, and the rest of the line.
        if words.first().is_some_and(|first| !first.contains('=')) {
            let (name, value) =
                text.trim().split_once(char::is_whitespace).ok_or_else(|| Wrong::new(format!("{word} must have two arguments")))?;
            return Ok(vec![(name.to_owned(), value.trim_start().to_owned())]);
        }
        let pair = |pair: &String| match pair.split_once('=') {
            Some(("", _)) => Err(Wrong::new(format!("{word} names can not be blank"))),
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => {
                let hint = format!("`{word} NAME=VALUE NAME=VALUE`; a value with blanks stands in quotes");
                Err(Wrong::hint(format!("`{pair}` is not of the form NAME=VALUE"), hint))
            }
        };
        words.iter().map(pair).collect()
    }

    /// Up to the end of its last line; here-documents are blanks.
    fn instruction_end(&self, start: usize) -> usize {
        let mut end = start;
        for line in self.text[start..].split_inclusive('\n') {
            end += line.len();
            let is_comment = end - line.len() != start && line.trim_start().starts_with('#');
            if !is_comment && !line.trim_end().ends_with(self.escape) {
                break;
            }
        }
        end
    }

    fn one_line(&self, start: usize, end: usize) -> String {
        let joined = empty::unmark(&join_lines(&self.text[start..end], self.escape));
        joined.split('\n').next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// One document and nothing else is the script itself; any other goes to the shell as it was written.
fn with_documents(RunDocuments { line, documents }: &RunDocuments, escape: char) -> ShellText {
    if let [document] = &documents[..] {
        let operator: String = line.chars().filter(|c| !matches!(c, '"' | '\'' | '\\')).collect();
        if operator.strip_prefix("<<").map(|rest| rest.strip_prefix('-').unwrap_or(rest)) == Some(&document.name) {
            let text = empty::unmark(&document.text);
            let is_program = text.starts_with("#!");
            return if is_program { ShellText::Script(text) } else { ShellText::Command(CommandForm::Shell(text)) };
        }
    }
    let text = documents.iter().fold(join_lines(line, escape) + "\n", |text, document| text + &document.raw);
    ShellText::Command(CommandForm::Shell(empty::unmark(&text)))
}

fn start(instruction: &grammar::Instruction<'_>) -> usize {
    match instruction {
        grammar::Instruction::Add(it) => it.add.span.start,
        grammar::Instruction::Arg(it) => it.arg.span.start,
        grammar::Instruction::Cmd(it) => it.cmd.span.start,
        grammar::Instruction::Copy(it) => it.copy.span.start,
        grammar::Instruction::Entrypoint(it) => it.entrypoint.span.start,
        grammar::Instruction::Env(it) => it.env.span.start,
        grammar::Instruction::Expose(it) => it.expose.span.start,
        grammar::Instruction::From(it) => it.from.span.start,
        grammar::Instruction::Healthcheck(it) => it.healthcheck.span.start,
        grammar::Instruction::Label(it) => it.label.span.start,
        grammar::Instruction::Maintainer(it) => it.maintainer.span.start,
        grammar::Instruction::Onbuild(it) => it.onbuild.span.start,
        grammar::Instruction::Run(it) => it.run.span.start,
        grammar::Instruction::Shell(it) => it.shell.span.start,
        grammar::Instruction::Stopsignal(it) => it.stopsignal.span.start,
        grammar::Instruction::User(it) => it.user.span.start,
        grammar::Instruction::Volume(it) => it.volume.span.start,
        grammar::Instruction::Workdir(it) => it.workdir.span.start,
        _ => 0,
    }
}

fn owned(words: &[grammar::UnescapedString<'_>]) -> Vec<String> {
    words.iter().map(|word| word.value.clone().into_owned()).collect()
}

fn flag_value(flag: &grammar::Flag<'_>) -> Result<String, Wrong> {
    flag.value
        .as_ref()
        .map(|value| value.value.clone().into_owned())
        .ok_or_else(|| Wrong::new(format!("`--{}` has no value", flag.name.value)))
}

fn unknown_flag(word: &str, flag: &grammar::Flag<'_>) -> Wrong {
    Wrong::new(format!("`{word}` knows no option `--{}`", flag.name.value))
}

fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c))
}

/// `ARG`: `NAME`, `NAME=DEFAULT`, several of them.
pub(super) fn arguments(text: &str, escape: char) -> Result<Vec<(String, Option<String>)>, Wrong> {
    let argument = |word: &String| match word.split_once('=') {
        Some(("", _)) => Err(Wrong::new("ARG names can not be blank")),
        Some((name, value)) => Ok((name.to_owned(), Some(value.to_owned()))),
        None => Ok((word.clone(), None)),
    };
    split(text, escape).iter().map(argument).collect()
}

/// Splits at blanks that are neither quoted nor escaped; quotes and escapes stay.
fn split(text: &str, escape: char) -> Vec<String> {
    let mut words = vec![String::new()];
    let (mut quote, mut escaped) = (None, false);
    for c in text.chars() {
        match quote {
            _ if escaped => escaped = false,
            None if c.is_whitespace() => {
                words.push(String::new());
                continue;
            }
            None if matches!(c, '"' | '\'') => quote = Some(c),
            Some(open) if c == open => quote = None,
            None | Some('"') if c == escape => escaped = true,
            _ => {}
        }
        words.last_mut().expect("there is one from the start").push(c);
    }
    words.retain(|word| !word.is_empty());
    words
}

/// A shell text on several lines of the file: continued lines are joined as they are, comments and empty lines between them are left out.
fn join_lines(text: &str, escape: char) -> String {
    let mut joined = String::new();
    let mut continued = false;
    for line in text.lines() {
        if continued && (line.trim_start().starts_with('#') || line.trim().is_empty()) {
            continue;
        }
        match line.trim_end().strip_suffix(escape) {
            Some(part) => {
                joined.push_str(part);
                continued = true;
            }
            None => {
                joined.push_str(line);
                break;
            }
        }
    }
    joined.trim_end().to_owned()
}
