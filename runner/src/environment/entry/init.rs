//! Docker-lambda's `init`, a server that we stand in for: its flags, read as Go's `flag` package reads them, and what it would start.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use super::{Entry, EntryError, EntryRequest, TASK_BOOTSTRAPS, choose_event, positionals, set_handler, text};

/// Whether the entrypoint is that server: called `init`, and either where docker-lambda puts it or with its flag.
pub(super) fn is_server(entrypoint: &[String]) -> bool {
    let [program, flags @ ..] = entrypoint else { return false };
    let Some((folder, "init")) = program.rsplit_once('/') else {
        return false;
    };
    let in_place = |place| folder.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let has_its_flag = |flag: &String| matches!(name_and_value(flag), Some(("bootstrap", _)));
    ["/var/rapid", "/var/runtime"].into_iter().any(in_place) || flags.iter().any(has_its_flag)
}

pub(super) fn entry(request: &EntryRequest<'_>) -> Result<Entry, EntryError> {
    let default: Vec<OsString> = request.image_cmd.iter().map(OsString::from).collect();
    let given = if request.arguments.is_empty() { default.as_slice() } else { request.arguments };
    let line: Vec<OsString> = request.image_entrypoint.iter().skip(1).map(OsString::from).chain(given.iter().cloned()).collect();
    let mut flags = Flags { bootstrap: "/var/runtime/bootstrap".to_owned(), arguments: Vec::new() };
    let (handler, event) = positionals(flags.read(&line)?)?;
    let handler = handler.or_else(|| set_handler(&request.sources)).unwrap_or_else(|| "handler".to_owned());
    let candidates = std::iter::once(flags.bootstrap).chain(TASK_BOOTSTRAPS.map(str::to_owned)).collect();
    Ok(Entry::Bootstrap { candidates, arguments: flags.arguments, handler, event: choose_event(event, &request.sources) })
}

struct Flags {
    bootstrap: String,
    arguments: Vec<String>,
}

impl Flags {
    /// Reads flags up to the first word that is none, or behind `--`; returns what follows. A lone `-` is no flag.
    fn read<'a>(&mut self, line: &'a [OsString]) -> Result<&'a [OsString], EntryError> {
        let mut rest = line;
        while let [word, after @ ..] = rest
            && word.as_bytes().starts_with(b"-")
            && word != "-"
        {
            rest = after;
            if word == "--" {
                break;
            }
            let word = text(word)?;
            let unknown = || EntryError::UnknownFlag { flag: word.clone() };
            let (name, value) = name_and_value(&word).ok_or_else(unknown)?;
            match name {
                "enable-msg-logs" => continue,
                "bootstrap" | "bootstrap-args" => {}
                _ => return Err(unknown()),
            }
            let value = match (value, rest) {
                (Some(value), _) => value.to_owned(),
                (None, [value, after @ ..]) => {
                    rest = after;
                    text(value)?
                }
                (None, []) => return Err(EntryError::FlagValue { flag: word }),
            };
            if name == "bootstrap" {
                self.bootstrap = value;
            } else {
                self.arguments = serde_json::from_str(&value).map_err(|source| EntryError::BootstrapArguments { source })?;
            }
        }
        Ok(rest)
    }
}

fn name_and_value(flag: &str) -> Option<(&str, Option<&str>)> {
    let name = flag.strip_prefix("--").or_else(|| flag.strip_prefix('-'))?;
    Some(name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value))))
}
