//! How functions are served, and the file that describes several of them: version 1 of `docs/formats/functions.md`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::RunConfig;
use crate::function::events::Destination;

/// Functions, served.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// The functions, each name once.
    pub functions: Vec<ServedFunction>,
    /// Which names they answer to.
    pub names: ServedNames,
    /// What happens to more invocations than may run at once.
    pub surplus: Surplus,
    /// Where the Invoke API listens.
    pub listen: Vec<SocketAddr>,
    /// Where the first function's URL listens.
    pub url: Option<SocketAddr>,
    /// How their environments are kept.
    pub keeping: Keeping,
    /// What becomes of queued events.
    pub events: EventsConfig,
    /// What ends it, beside signals.
    pub ending: Ending,
}

/// What ends a server, beside signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Nothing.
    Signals,
    /// The end of our standard input: a program that started us holds the other end, and is gone then, however it went.
    WithStdin,
}

/// One function, served.
#[derive(Debug, Clone)]
pub struct ServedFunction {
    /// What runs.
    pub run: RunConfig,
    /// How many of its invocations run at once.
    pub concurrency: NonZeroUsize,
}

/// Which names are answered to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServedNames {
    /// Any: there is one function.
    Any,
    /// The functions' own.
    Own,
}

/// What happens to more invocations than may run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surplus {
    /// They are refused (429).
    Refuse,
    /// They wait.
    Wait,
}

/// How execution environments are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// How long one stays without work.
    pub idle: Duration,
    /// What its processes do between events.
    pub between: BetweenEvents,
    /// What happens when the function's files change.
    pub changes: Changes,
}

/// What a function's processes do between events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BetweenEvents {
    /// They go on.
    GoOn,
    /// They are stopped, as on Lambda (`--freeze`).
    Freeze,
}

/// What happens when a function's files change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changes {
    /// Nothing.
    Ignore,
    /// Environments start anew (`--watch`).
    Restart,
}

/// What becomes of queued events.
#[derive(Debug, Clone, Default)]
pub struct EventsConfig {
    /// The folder that holds the queues of all servers; nothing when neither an option, a variable nor a home folder says where.
    pub folder: Option<PathBuf>,
    /// The file that describes the functions, if one does. A server finds its queue again by it, else by what it runs.
    pub described_by: Option<PathBuf>,
    /// How often an event is tried again after an error of the function; none for AWS's twice.
    pub retries: Option<u32>,
    /// How long after an error it is tried again; none for AWS's minute, and two.
    pub retry_delay: Option<Duration>,
    /// How old an event may get; none for AWS's six hours.
    pub max_age: Option<Duration>,
    /// Where a record goes when an event has failed for good.
    pub on_failure: Option<Destination>,
    /// Where a record goes when an event has been handled.
    pub on_success: Option<Destination>,
    /// Where an event goes that has failed for good.
    pub dead_letter: Option<Destination>,
}

/// Why a file of functions cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FunctionsError {
    /// It cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("`{}`", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: Box<toml::de::Error>,
    },
    /// A function of it is not what it should be.
    #[error("`{}`: function `{name}`", path.display())]
    Function {
        /// The file.
        path: PathBuf,
        /// The function's name.
        name: String,
        /// What is wrong with it.
        source: Box<toml::de::Error>,
    },
    /// Its functions are neither a table nor a list.
    #[error("`{}`: `functions` is neither a table nor a list of tables", path.display())]
    NoTable {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing in it.
    #[error("`{}` has no functions", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A function of a list without a name.
    #[error("`{}`: function number {number} has no `name`", path.display())]
    NoName {
        /// The file.
        path: PathBuf,
        /// Its place in the list, counted from 1.
        number: usize,
    },
    /// No client can say that name.
    #[error("`{}`: `{name}` is no name of a function", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// A name that is there twice.
    #[error("`{}`: there are two functions called `{name}`", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
}

impl FunctionsError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Form { .. } | Self::Function { .. } | Self::NoTable { .. } | Self::Empty { .. } | Self::NoName { .. } => Some(
                "one table a function: `[functions.NAME]` with `image`, `handler`, `code`; `docs/formats/functions.md` has all keys"
                    .to_owned(),
            ),
            Self::Name { .. } => Some("letters, digits, `-` and `_`, at most 64".to_owned()),
            Self::Read { .. } | Self::Twice { .. } => None,
        }
    }
}

/// No description of functions is larger.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A file of functions: a table of them by name, or a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    #[serde(alias = "function")]
    functions: Option<toml::Value>,
}

/// A function as such a file describes it. Paths are relative to the file's folder.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DescribedFunction {
    /// Its name.
    pub name: Option<String>,
    /// Its image, as after `undocked run`.
    pub image: String,
    /// Its handler.
    pub handler: Option<String>,
    /// The folder that becomes `/var/task`.
    pub code: Option<PathBuf>,
    /// The folders that make up `/opt`.
    #[serde(default)]
    pub layers: Vec<PathBuf>,
    /// Its variables.
    #[serde(default, alias = "environment")]
    pub env: BTreeMap<String, Scalar>,
    /// Its memory: whole megabytes, or a size with a unit.
    pub memory: Option<Scalar>,
    /// Its timeout in seconds.
    pub timeout: Option<Scalar>,
    /// How many of its invocations run at once.
    pub concurrency: Option<NonZeroUsize>,
}

/// A value written as text, number or truth.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// Text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
    /// True or false.
    Truth(bool),
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Integer(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
            Self::Truth(truth) => truth.fmt(f),
        }
    }
}

impl DescribedFunction {
    /// The memory as `--memory` takes it: a number alone is megabytes here, as Lambda has them.
    pub fn memory(&self) -> Option<String> {
        let text = self.memory.as_ref()?.to_string();
        Some(if text.bytes().all(|byte| byte.is_ascii_digit()) { format!("{text}m") } else { text })
    }
}

/// Reads a file of functions: each with its name, in the file's order or by name.
pub fn functions(path: &Path) -> Result<Vec<(String, DescribedFunction)>, FunctionsError> {
    let read = |source| FunctionsError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let length = File::open(path).map_err(read)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(read)?;
    if length as u64 > MAX_FILE_BYTES {
        return Err(read(io::Error::other("it is larger than a megabyte")));
    }
    let form = |source: toml::de::Error| FunctionsError::Form { path: path.to_owned(), source: source.into() };
    let file: Described = toml::from_str(&text).map_err(form)?;
    let described = |name: String, value: toml::Value| match value.try_into::<DescribedFunction>() {
        Ok(function) => Ok((name, function)),
        Err(source) => Err(FunctionsError::Function { path: path.to_owned(), name, source: source.into() }),
    };
    let functions: Vec<(String, DescribedFunction)> = match file.functions {
        Some(toml::Value::Table(named)) => named.into_iter().map(|(name, value)| described(name, value)).collect::<Result<_, _>>()?,
        Some(toml::Value::Array(listed)) => {
            let named = |(at, value): (usize, toml::Value)| match value.get("name").and_then(toml::Value::as_str).map(str::to_owned) {
                Some(name) => described(name, value),
                None => Err(FunctionsError::NoName { path: path.to_owned(), number: at + 1 }),
            };
            listed.into_iter().enumerate().map(named).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(FunctionsError::NoTable { path: path.to_owned() }),
        None => Vec::new(),
    };
    if functions.is_empty() {
        return Err(FunctionsError::Empty { path: path.to_owned() });
    }
    for (at, (name, _)) in functions.iter().enumerate() {
        let is_name = (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if !is_name {
            return Err(FunctionsError::Name { path: path.to_owned(), name: name.clone() });
        }
        if functions[..at].iter().any(|(other, _)| other == name) {
            return Err(FunctionsError::Twice { path: path.to_owned(), name: name.clone() });
        }
    }
    Ok(functions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, DescribedFunction)>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        functions(file.path()).map_err(|error| error.to_string().replace(&file.path().display().to_string(), "FILE"))
    }

    #[test]
    fn functions_by_name_and_as_a_list() {
        for text in [
            "[functions.a]\nimage = 'python3.12'\nmemory = 256\ntimeout = 1.5\nenv = { N = 1, T = true, S = 's' }",
            "[[functions]]\nname = 'a'\nimage = 'python3.12'\nmemory = '256'\ntimeout = '1.5'\nenv = { N = '1', T = 'true', S = 's' }",
            "[[function]]\nname = 'a'\nimage = 'python3.12'\nmemory = '256m'\ntimeout = 1.5\nenvironment = { N = 1, T = true, S = 's' }",
        ] {
            let functions = read(text).unwrap();
            let [(name, function)] = &functions[..] else { panic!("{text}") };
            assert_eq!((name.as_str(), function.image.as_str()), ("a", "python3.12"));
            assert_eq!(function.memory().as_deref(), Some("256m"));
            assert_eq!(function.timeout.as_ref().unwrap().to_string(), "1.5");
            let env: Vec<_> = function.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!(env, ["N=1", "S=s", "T=true"]);
        }
    }

    #[test]
    fn files_that_cannot_be_used() {
        for (text, error) in [
            ("", "`FILE` has no functions"),
            ("[functions]", "`FILE` has no functions"),
            ("[[functions]]\nimage = 'x'", "`FILE`: function number 1 has no `name`"),
            ("[[functions]]\nname='a'\nimage='x'\n[[functions]]\nname='a'\nimage='x'", "`FILE`: there are two functions called `a`"),
            ("[functions.a]\nimage = 'x'\nmemroy = 1", "`FILE`: function `a`"),
            ("function = 3", "`FILE`: `functions` is neither a table nor a list of tables"),
            ("functions = 1\nfuncs = 2", "`FILE`"),
            ("[functions.a]", "`FILE`: function `a`"),
            ("[functions.'a b']\nimage = 'x'", "`FILE`: `a b` is no name of a function"),
        ] {
            assert_eq!(read(text).unwrap_err(), error, "{text}");
        }
        assert!(matches!(functions(Path::new("/nonexistent")), Err(FunctionsError::Read { .. })));
    }
}
