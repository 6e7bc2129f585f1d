//! The face of docker: `undocked docker …`, or this program under the name `docker`.
//!
//! What is said about a wrong command line is what docker says, since scripts read it; what is not carried out is refused by name.

use std::ffi::OsString;
use std::path::Path;

mod flags;
mod images;
mod mounts;
mod run;
mod run_flags;
mod signals;
mod verbs;
mod words;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use flags::Verb;
use rootfs_cache::pull::PullPolicy;

use super::args::{ColorWhen, RegistryArgs, TalkArgs};
use super::env::OwnEnvironment;
use super::run::{image_source, talk};
use super::usage::Ended;
use crate::config::docker::{DockerCommand, Place, SUPERVISE};
use crate::exit_code::{ExitCode, Failure};

/// Whether this program was started as docker, and if so with which words.
pub(super) fn words(line: &[OsString]) -> Option<&[OsString]> {
    let (program, words) = line.split_first()?;
    if Path::new(program).file_name().is_some_and(|name| name == "docker") {
        return Some(words);
    }
    words.split_first().filter(|(first, _)| *first == "docker").map(|(_, words)| words)
}

/// Verbs that our own command line has in docker's spelling; docker has most of them in groups, too.
const OURS: [(&str, &str); 5] = [
    ("build", "[OPTIONS] PATH | -"),
    ("login", "[OPTIONS] [SERVER]"),
    ("logout", "[SERVER]"),
    ("push", "[OPTIONS] NAME[:TAG]"),
    ("trust", "COMMAND"),
];

/// The same words for our own command line, where that has the verb as docker has it.
pub(super) fn as_ours(words: &[OsString]) -> Option<Vec<OsString>> {
    // Options for all verbs stand in front of these, too.
    let texts: Vec<String> = words.iter().map_while(|word| word.to_str().map(str::to_owned)).collect();
    let skipped = texts.len() - global(&texts).ok()?.len();
    let mut words = words[skipped..].to_vec();
    // `help VERB` is `VERB --help`.
    if words.len() > 1 && words[0] == "help" {
        words.remove(0);
        words.push("--help".into());
    }
    let words = words.as_slice();
    let grouped = words.first().is_some_and(|group| ["image", "builder", "buildx"].iter().any(|own| group == own));
    let words = if grouped { &words[1..] } else { words };
    // Buildx has a short name for it.
    if grouped && words.first().is_some_and(|verb| verb == "b") {
        return Some([OsString::from("undocked"), "build".into()].into_iter().chain(words[1..].iter().cloned()).collect());
    }
    let verb = words.first().filter(|verb| OURS.iter().any(|(own, _)| verb == own))?;
    Some([OsString::from("undocked"), verb.clone()].into_iter().chain(words[1..].iter().cloned()).collect())
}

/// Whether what is wrong with a verb of ours is told as docker does. What `trust` prints is docker's already, with codes of its own.
pub(super) fn tells_of(verb: &str) -> bool {
    matches!(verb, "build" | "login" | "logout" | "push")
}

/// What is wrong with the words of a verb of ours, as docker has it; `Ok` where docker has no words for it.
pub(super) fn wrong_words_of_ours(verb: &str, error: &clap::Error) -> Result<(), Ended> {
    let usage = OURS.iter().find(|(own, _)| *own == verb).map_or("", |(_, usage)| usage);
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(text)) => text.split(['=', ' ']).next().unwrap_or_default(),
        _ => "",
    };
    let takes_one = matches!(verb, "build" | "push");
    let (what, code) = match error.kind() {
        ErrorKind::UnknownArgument if argument.starts_with("--") => (format!("unknown flag: {argument}"), ExitCode::COULD_NOT_RUN),
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            let letter = argument.chars().nth(1).unwrap_or('-');
            (format!("unknown shorthand flag: '{letter}' in {argument}"), ExitCode::COULD_NOT_RUN)
        }
        ErrorKind::UnknownArgument | ErrorKind::MissingRequiredArgument if takes_one => {
            (format!("docker: 'docker {verb}' requires 1 argument"), ExitCode::FUNCTION_FAILED)
        }
        _ => return Ok(()),
    };
    let text = format!("{what}\n\nUsage:  docker {verb} {usage}\n\nRun 'docker {verb} --help' for more information\n");
    Err(Ended::Said { text, code })
}

/// What is wrong, under docker's name.
pub(super) fn as_docker_says(ended: Ended) -> Ended {
    match ended {
        Ended::Wrong(failure) => {
            let hint = failure.hint().map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
            // Docker has no code of its own for that.
            let code = if failure.code() == ExitCode::USAGE { ExitCode::FUNCTION_FAILED } else { failure.code() };
            Ended::Said { text: format!("docker: {failure}\n{hint}"), code }
        }
        ended => ended,
    }
}

/// Reads the words behind `docker`.
pub(super) fn read(words: &[OsString], own: &OwnEnvironment) -> Result<(DockerCommand, Place), Ended> {
    let words = words.iter().map(text).collect::<Result<Vec<_>, _>>()?;
    if let [first, id] = words.as_slice()
        && first == SUPERVISE
    {
        return Ok((DockerCommand::Supervise { id: id.clone() }, place(own)?));
    }
    let words = global(&words)?;
    if let [help, asked @ ..] = words
        && help == "help"
    {
        return Err(help_about(asked));
    }
    let (verb, rest) = words::find(words)?;
    let given = verb.read(rest)?;
    let place = place(own)?;
    Ok((verbs::command(verb, &given, own, &place)?, place))
}

/// `docker help [VERB]`.
fn help_about(asked: &[String]) -> Ended {
    if asked.is_empty() {
        return Ended::Text(words::help());
    }
    let help = words::find(asked).and_then(|(verb, _)| verb.read(&["--help".to_owned()]));
    match help {
        Err(ended @ Ended::Text(_)) => ended,
        _ => Ended::Said { text: format!("unknown help topic: {}\n", asked.join(" ")), code: ExitCode::FUNCTION_FAILED },
    }
}

fn text(word: &OsString) -> Result<String, Failure> {
    word.to_str().map(str::to_owned).ok_or_else(|| Failure::could_not_run(format!("the argument `{}` is not UTF-8", word.display())))
}

/// Options before the verb. There is no daemon that they could lead to.
fn global(words: &[String]) -> Result<&[String], Ended> {
    let mut rest = words;
    while let [word, after @ ..] = rest {
        let takes_value = match word.split('=').next().unwrap_or_default() {
            "--debug" | "-D" => false,
            "--log-level" | "-l" | "--config" => !word.contains('='),
            "--version" | "-v" => return Err(Ended::Text(format!("Docker version {}, undocked\n", words::VERSION))),
            "--help" | "-h" => return Err(Ended::Text(words::help())),
            // The one that there is.
            "--context" | "-c" if word.ends_with("=default") => false,
            "--context" | "-c" if after.first().is_some_and(|name| name == "default") => true,
            option @ ("--host" | "-H" | "--context" | "-c" | "--tls" | "--tlscacert" | "--tlscert" | "--tlskey" | "--tlsverify") => {
                let error = format!("`docker {option}` is not supported: there is no daemon, here or elsewhere");
                return Err(Failure::could_not_run(error).into());
            }
            option if option.starts_with('-') => {
                let text = format!(
                    "unknown flag: {option}\n\nUsage:  docker [OPTIONS] COMMAND [ARG...]\n\nRun 'docker --help' for more information\n"
                );
                return Err(Ended::Said { text, code: ExitCode::COULD_NOT_RUN });
            }
            _ => break,
        };
        rest = if takes_value { after.get(1..).unwrap_or_default() } else { after };
    }
    Ok(rest)
}

/// Where everything lies. Of our own variables these are the only ones that count.
fn place(own: &OwnEnvironment) -> Result<Place, Failure> {
    let images = image_source(RegistryArgs::none(), PullPolicy::Missing, own)?;
    let volumes = images.cache.as_ref().map(|cache| cache.join("volumes"));
    let said = talk(&TalkArgs { quiet: false, color: ColorWhen::Auto }, own);
    Ok(Place { records: own.records(), images, volumes, talk: said })
}

/// A number as an option's value.
fn number<T: std::str::FromStr>(verb: &Verb, name: &str, text: &str) -> Result<T, Ended> {
    let wrong = || {
        let short = verb.flags.iter().find(|flag| flag.long == name).and_then(|flag| flag.short);
        let shown = short.map_or_else(|| format!("--{name}"), |short| format!("-{short}, --{name}"));
        verb.wrong(&format!("invalid argument {text:?} for {shown:?} flag: strconv.ParseInt: parsing {text:?}: invalid syntax"))
    };
    text.parse().map_err(|_| wrong())
}
