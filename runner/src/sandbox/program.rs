//! What may be executed, and how it is chosen.

use std::ffi::CString;

use super::Command;
use super::plan::{PlanError, text};

/// One file that may be executed, with its arguments.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) path: CString,
    pub(crate) arguments: Vec<CString>,
}

/// How one is chosen among several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Search {
    /// The first that exists and is no folder; whether it can be executed is not asked.
    Existing,
    /// As `execvp`: go on after `ENOENT`, `ENOTDIR` and `EACCES`.
    Executable,
}

/// What to try, and how.
pub(super) fn candidates(command: &Command, environment: &[CString]) -> Result<(Vec<Candidate>, Search), PlanError> {
    match command {
        Command::FirstOf { candidates, arguments } => {
            let program = |path: &String| {
                let words = std::iter::once(path).chain(arguments);
                Ok(Candidate {
                    path: text(path.as_bytes())?,
                    arguments: words.map(|word| text(word.as_bytes())).collect::<Result<_, _>>()?,
                })
            };
            if candidates.is_empty() {
                return Err(PlanError::NoCommand);
            }
            Ok((candidates.iter().map(program).collect::<Result<_, _>>()?, Search::Existing))
        }
        Command::Line(words) => {
            let first = words.first().filter(|word| !word.is_empty()).ok_or(PlanError::NoCommand)?;
            let program = |path: String| {
                Ok(Candidate {
                    path: text(path.as_bytes())?,
                    arguments: words.iter().map(|word| text(word.as_bytes())).collect::<Result<_, _>>()?,
                })
            };
            let paths = if first.contains('/') { vec![first.clone()] } else { on_path(first, environment) };
            Ok((paths.into_iter().map(program).collect::<Result<_, _>>()?, Search::Executable))
        }
    }
}

/// Where `execvp` would look for `word`; an empty `PATH` entry is the working directory.
fn on_path(word: &str, environment: &[CString]) -> Vec<String> {
    let path = environment.iter().find_map(|variable| variable.to_str().ok()?.strip_prefix("PATH="));
    let path = path.unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    path.split(':').map(|folder| format!("{}/{word}", if folder.is_empty() { "." } else { folder.trim_end_matches('/') })).collect()
}
