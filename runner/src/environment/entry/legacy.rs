//! Docker-lambda's images of the oldest runtimes. Their entrypoint is the language's own program with a client of the Runtime API in it, which starts
//! docker-lambda's server as a helper and finds it on a fixed port. It runs as it is; for the server we stand in ([`stand_in`]).

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::{Entry, EntryError, EntryRequest, Event, LEGACY_SERVER, choose_event, set_handler, text};
use crate::sandbox::MadeFile;

/// Reads standard input to its end; compiled by `build.rs`.
const STAND_IN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/mockserver"));

/// The kernel takes no longer argument (execve(2): MAX_ARG_STRLEN, with its NUL byte).
const LONGEST_ARGUMENT: usize = 128 * 1024 - 1;

/// A language's program, as it is known by a word of the entrypoint.
struct Family {
    word: &'static str,
    /// The handler when none is given.
    handler: Option<&'static str>,
    /// Flags of its own that take a value. Where there are some, flags stand before HANDLER.
    with_value: &'static [&'static str],
    /// A flag that may stand anywhere.
    anywhere: Option<&'static str>,
}

const FAMILIES: [Family; 5] = [
    Family { word: "awslambda/index.js", handler: Some("index.handler"), with_value: &[], anywhere: None },
    Family { word: "awslambda/bootstrap.py", handler: Some("lambda_function.lambda_handler"), with_value: &[], anywhere: None },
    Family { word: "LambdaJavaRTEntry-1.0.jar", handler: Some("index.Handler"), with_value: &[], anywhere: None },
    Family { word: "aws-lambda-go", handler: Some("handler"), with_value: &["delvePath", "delvePort", "delveAPI"], anywhere: None },
    Family { word: "MockBootstraps.dll", handler: None, with_value: &[], anywhere: Some("--debugger-spin-wait") },
];

const UNKNOWN: Family = Family { word: "", handler: None, with_value: &[], anywhere: None };

/// The file that is shown in place of docker-lambda's server.
pub fn stand_in() -> MadeFile {
    MadeFile { path: format!("/{LEGACY_SERVER}").into(), contents: STAND_IN.to_vec(), mode: 0o555 }
}

pub(super) fn entry(request: &EntryRequest<'_>) -> Result<Entry, EntryError> {
    let default: Vec<OsString> = request.image_cmd.iter().map(OsString::from).collect();
    let given = if request.arguments.is_empty() { default.as_slice() } else { request.arguments };
    let family = family(request.image_entrypoint);
    let (flags, positionals) = flags(family, given);
    let [handler, event] = match positionals[..] {
        [] => [None, None],
        [handler] => [Some(handler), None],
        [handler, event] => [Some(handler), Some(event)],
        [_, _, more, ..] => return Err(EntryError::TooManyArguments { argument: more.to_string_lossy().into_owned() }),
    };
    let handler = handler.map(text).transpose()?.filter(|handler| !handler.is_empty());
    let handler = handler.or_else(|| set_handler(&request.sources)).or_else(|| family.handler.map(str::to_owned));
    let mut argv = request.image_entrypoint.to_vec();
    for flag in flags {
        argv.push(text(flag)?);
    }
    if let Some(handler) = &handler {
        argv.push(handler.clone());
        argv.extend(event.and_then(shown));
    }
    // Here the variable is stronger than the argument: the server has it, and no arguments.
    let event = match request.sources.setting("AWS_LAMBDA_EVENT_BODY") {
        Some(body) => Event::Bytes(body.to_owned().into_vec()),
        None => choose_event(event.cloned(), &request.sources),
    };
    Ok(Entry::Legacy { argv, handler, event })
}

/// The event as an argument, for what reads its own command line or looks into the server's input. It does not count, and must do no harm: Python's programs
/// fail on text that their locale does not know.
fn shown(event: &OsString) -> Option<String> {
    event.to_str().filter(|event| *event != "-" && event.len() <= LONGEST_ARGUMENT && event.is_ascii()).map(str::to_owned)
}

fn family(entrypoint: &[String]) -> &'static Family {
    FAMILIES.iter().find(|family| entrypoint.iter().any(|word| word.ends_with(family.word))).unwrap_or(&UNKNOWN)
}

/// The family's own flags, and the words that are none.
fn flags<'a>(family: &Family, words: &'a [OsString]) -> (Vec<&'a OsString>, Vec<&'a OsString>) {
    let (mut flags, mut others): (Vec<_>, Vec<_>) = words.iter().partition(|word| family.anywhere.is_some_and(|flag| *word == flag));
    if !family.with_value.is_empty() {
        let mut count = 0;
        while let Some(word) = others.get(count).filter(|word| word.as_bytes().starts_with(b"-") && **word != "-") {
            let name = word.to_str().unwrap_or_default().trim_start_matches('-');
            count += if family.with_value.contains(&name) { 2 } else { 1 };
        }
        flags.extend(others.drain(..count.min(others.len())));
    }
    (flags, others)
}
