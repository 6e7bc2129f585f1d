//! A Dockerfile's text to its stages and steps. What we do not do is refused here, with the file's name and the line.
//!
//! Pure. The grammar is the crate `parse-dockerfile`'s; what it leaves to its users (flags, continued lines of shell text, words of the form `NAME=VALUE`)
//! is seen to here. <https://docs.docker.com/reference/dockerfile/>

use std::fmt;

use parse_dockerfile as grammar;

mod empty;
mod heredoc;
mod mount;
mod read;
mod steps;

pub use steps::{
    Addition, Arguments, CommandForm, ContentSource, CopyStep, Health, Instruction, Missing, Mount, MountKind, RunNetwork, RunStep,
    ShellText, Step, Writes,
};

/// A Dockerfile, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// How the file is called in messages.
    pub name: String,
    /// The character that escapes: `\`, or a backtick where a directive says so.
    pub escape: char,
    /// `ARG` before the first stage: names with their defaults.
    pub globals: Vec<(usize, String, Option<String>)>,
    /// The stages in their order; at least one.
    pub stages: Vec<Stage>,
}

/// One stage: from a `FROM` to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The line of its `FROM`.
    pub line: usize,
    /// Its `FROM` as it was written, on one line.
    pub text: String,
    /// What it starts from, variables not expanded.
    pub base: String,
    /// `--platform`, variables not expanded.
    pub platform: Option<String>,
    /// `AS`, in lower case.
    pub name: Option<String>,
    /// What follows.
    pub steps: Vec<Step>,
}

/// Why a Dockerfile cannot be built: where, what, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct DockerfileError {
    /// The file as it is called in messages.
    pub file: String,
    /// The line, from 1; 0 where no line is to blame.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
    /// What can be done about it.
    pub hint: Option<String>,
}

impl fmt::Display for DockerfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

/// What is wrong with an instruction, before it is known where that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong.
    pub what: String,
    /// What can be done about it.
    pub hint: Option<String>,
}

impl Wrong {
    /// Without a hint.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None }
    }

    /// With a hint.
    pub fn hint(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: Some(hint.into()) }
    }

    /// At a place.
    pub fn at(self, file: &str, line: usize) -> DockerfileError {
        DockerfileError { file: file.to_owned(), line, what: self.what, hint: self.hint }
    }
}

impl Dockerfile {
    /// Reads a Dockerfile that is called `name` in messages.
    pub fn parse(name: &str, text: &str) -> Result<Self, DockerfileError> {
        let (text, heredocs) = heredoc::take_out(&empty::mark(text));
        let wrong = |error: &grammar::Error| {
            let (what, hint) = (format!("{error:#}"), unknown(&format!("{error:#}")));
            Wrong { what, hint }.at(name, error.line())
        };
        let parsed = grammar::parse(&text).map_err(|error| wrong(&error))?;
        let reader =
            read::Reader::new(name, &text, &heredocs, parsed.parser_directives.escape.as_ref().map_or('\\', |escape| escape.value.value));
        let mut dockerfile = Self { name: name.to_owned(), escape: reader.escape(), globals: Vec::new(), stages: Vec::new() };
        for instruction in &parsed.instructions {
            match instruction {
                grammar::Instruction::From(from) => dockerfile.stages.push(reader.stage(from)?),
                grammar::Instruction::Arg(arg) if dockerfile.stages.is_empty() => {
                    let line = reader.line(arg.arg.span.start);
                    let args = read::arguments(&arg.arguments.value, reader.escape()).map_err(|wrong| wrong.at(name, line))?;
                    dockerfile.globals.extend(args.into_iter().map(|(name, value)| (line, name, value)));
                }
                instruction => {
                    let step = reader.step(instruction)?;
                    dockerfile.stages.last_mut().expect("the grammar has no instruction before `FROM` but `ARG`").steps.push(step);
                }
            }
        }
        Ok(dockerfile)
    }

    /// Reads the instructions that an image's `ONBUILD` left, to be carried out in the stage that starts from it.
    pub fn parse_triggers(name: &str, triggers: &[String]) -> Result<Vec<Step>, DockerfileError> {
        let text = triggers.iter().fold("FROM scratch\n".to_owned(), |text, trigger| text + trigger + "\n");
        Self::parse(name, &text).map(|parsed| parsed.stages.into_iter().flat_map(|stage| stage.steps).collect())
    }

    /// The stage that is built: the one of this name or number, else the last one.
    pub fn target(&self, wanted: Option<&str>) -> Result<usize, DockerfileError> {
        let Some(wanted) = wanted else { return Ok(self.stages.len() - 1) };
        let lower = wanted.to_lowercase();
        let by_number = || wanted.parse().ok().filter(|number| *number < self.stages.len());
        self.stages.iter().position(|stage| stage.name.as_deref() == Some(&lower)).or_else(by_number).ok_or_else(|| {
            let names: Vec<String> = self.stages.iter().filter_map(|stage| stage.name.as_ref()).map(|name| format!("`{name}`")).collect();
            let hint = if names.is_empty() {
                "no stage has a name: leave `--target` out".to_owned()
            } else {
                format!("there are {}", names.join(", "))
            };
            Wrong::hint(format!("`--target {wanted}` is no stage"), hint).at(&self.name, 0)
        })
    }
}

fn unknown(what: &str) -> Option<String> {
    what.starts_with("unknown instruction")
        .then(|| "if this line belongs to the instruction above, that has to end with a `\\`, or with a here-document's `<<EOF`".to_owned())
}

#[cfg(test)]
mod tests;
