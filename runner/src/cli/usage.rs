//! What clap has to say about a command line, in our own form: one line, a hint, exit code 2.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::exit_code::{ExitCode, Failure};

/// How reading the command line ends when it is not a command to carry out.
#[derive(Debug)]
pub enum Ended {
    /// Help or the version was asked for: print this on stdout, exit with 0.
    Text(String),
    /// The command line makes no sense.
    Wrong(Failure),
    /// The same, in words that others read: print this on stderr as it is.
    Said {
        /// The words.
        text: String,
        /// The exit code.
        code: ExitCode,
    },
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Wrong(failure)
    }
}

impl From<clap::Error> for Ended {
    fn from(error: clap::Error) -> Self {
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Self::Text(error.render().to_string()),
            _ => Self::Wrong(Failure::usage(sentence(&error)).with_hint(Some(hint(&error)))),
        }
    }
}

fn sentence(error: &clap::Error) -> String {
    let argument = context(error, ContextKind::InvalidArg).map(|argument| first_word(&argument).to_owned()).unwrap_or_default();
    let value = context(error, ContextKind::InvalidValue).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument if argument.starts_with('-') => format!("unknown option `{argument}`"),
        ErrorKind::UnknownArgument => format!("unexpected argument `{argument}`"),
        ErrorKind::InvalidSubcommand => format!("unknown command `{}`", context(error, ContextKind::InvalidSubcommand).unwrap_or_default()),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation if !value.is_empty() => format!("`{value}` is no value for `{argument}`"),
        ErrorKind::InvalidValue | ErrorKind::NoEquals => format!("`{argument}` needs a value"),
        ErrorKind::TooManyValues => format!("`{argument}` takes no value"),
        ErrorKind::MissingRequiredArgument => format!("`{}` is missing", argument.trim_matches(['<', '>', ','])),
        ErrorKind::InvalidUtf8 => "an argument is not UTF-8".to_owned(),
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "no command given".to_owned(),
        _ => {
            let text = error.render().to_string();
            text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
    }
}

fn hint(error: &clap::Error) -> String {
    let near = context(error, ContextKind::SuggestedArg).or_else(|| context(error, ContextKind::SuggestedSubcommand));
    let values = context(error, ContextKind::ValidValue);
    match (near, values) {
        (Some(near), _) => format!("did you mean `{near}`? `undocked --help` and `undocked run --help` list what there is"),
        (None, Some(values)) => format!("one of {values}"),
        (None, None) => "`undocked --help` and `undocked run --help` list what there is".to_owned(),
    }
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) if !texts.is_empty() => Some(texts.join(", ")),
        _ => None,
    }
}

/// `--memory <SIZE>` is how clap names an option; its name is enough.
fn first_word(text: &str) -> &str {
    text.split([' ', '[', '=']).next().unwrap_or(text).trim_end_matches('.').trim_matches(['<', '>'])
}
