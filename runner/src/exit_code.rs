//! How a command of ours ends: the exit code, and what is said when it could not do its work.
//!
//! Knows nothing of what was run. `main` prints a [`Failure`] once; nobody else does.

use std::error::Error;
use std::fmt;

/// The exit code of the process, as docker users know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitCode(u8);

impl ExitCode {
    /// The function, or the command, did what was asked.
    pub const SUCCESS: Self = Self(0);
    /// The function failed: an error it reported, a time-out, a crash.
    pub const FUNCTION_FAILED: Self = Self(1);
    /// The command line or a setting makes no sense.
    pub const USAGE: Self = Self(2);
    /// What was to be a template is none (`docker inspect`).
    pub const NO_TEMPLATE: Self = Self(64);
    /// We could not run it.
    pub const COULD_NOT_RUN: Self = Self(125);
    /// A plain command exists and cannot be executed.
    pub const NOT_EXECUTABLE: Self = Self(126);
    /// A plain command does not exist.
    pub const NOT_FOUND: Self = Self(127);

    /// We were ended by this signal.
    pub fn from_signal(signal: i32) -> Self {
        Self(128_u8.wrapping_add(u8::try_from(signal & 0x7f).unwrap_or(0)))
    }

    /// A plain command ended with this status; the kernel keeps eight bits of it.
    pub fn from_status(status: i32) -> Self {
        Self(u8::try_from(status & 0xff).unwrap_or(u8::MAX))
    }

    /// The number the parent process sees.
    pub fn number(self) -> u8 {
        self.0
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        code.0.into()
    }
}

/// Why a command could not do its work: an error with its causes, the exit code, and a hint where we know one.
///
/// `Display` gives the one line after `undocked: `, causes joined by colons.
#[derive(Debug)]
pub struct Failure {
    error: Box<dyn Error>,
    hint: Option<String>,
    code: ExitCode,
}

impl Failure {
    /// A signal ended it before it was done.
    pub fn interrupted(signal: i32) -> Self {
        Self::could_not_run("interrupted").with_code(ExitCode::from_signal(signal))
    }

    /// The command line or a setting makes no sense: exit code 2.
    pub fn usage(error: impl Into<Box<dyn Error>>) -> Self {
        Self { error: error.into(), hint: None, code: ExitCode::USAGE }
    }

    /// The run was right and we could not do it: exit code 125.
    pub fn could_not_run(error: impl Into<Box<dyn Error>>) -> Self {
        Self { error: error.into(), hint: None, code: ExitCode::COULD_NOT_RUN }
    }

    /// The same failure with another exit code.
    #[must_use]
    pub fn with_code(self, code: ExitCode) -> Self {
        Self { code, ..self }
    }

    /// The same failure with what the user can do about it.
    #[must_use]
    pub fn with_hint(self, hint: Option<String>) -> Self {
        Self { hint: hint.or(self.hint), ..self }
    }

    /// The same failure with what it is about in front of it.
    #[must_use]
    pub fn in_front(self, about: &str) -> Self {
        Self { error: format!("{about}: {self}").into(), ..self }
    }

    /// The error, where it is of this kind and nothing was put in front of it.
    pub fn cause<E: Error + 'static>(&self) -> Option<&E> {
        self.error.downcast_ref()
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The exit code it ends with.
    pub fn code(&self) -> ExitCode {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain(self.error.as_ref()))
    }
}

/// An error and its causes on one line, joined by colons.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut last = error.to_string();
    let mut line = one_line(&last);
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Libraries often repeat their cause in their own text.
        if !last.ends_with(&text) {
            line = format!("{line}: {}", one_line(&text));
        }
        last = text;
        cause = error.source();
    }
    line
}

/// Without line feeds, and without the number that the standard library puts behind the kernel's words.
fn one_line(text: &str) -> String {
    let line = text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    match line.rsplit_once(" (os error ") {
        Some((words, number)) if number.trim_end_matches(')').bytes().all(|byte| byte.is_ascii_digit()) => words.to_owned(),
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("layer sha256:12: cannot write `etc/passwd`")]
    struct Outer {
        source: std::io::Error,
    }

    #[test]
    fn prints_the_chain_once_on_one_line() {
        let failure = Failure::could_not_run(Outer { source: std::io::Error::other("no space\nleft") });
        assert_eq!(failure.to_string(), "layer sha256:12: cannot write `etc/passwd`: no space; left");
        assert_eq!(failure.code().number(), 125);
        let of_kernel = Failure::could_not_run(std::io::Error::from_raw_os_error(libc::EACCES));
        assert_eq!(of_kernel.to_string(), "Permission denied");
        assert_eq!(Failure::usage("x: y").with_hint(Some("z".into())).hint(), Some("z"));
    }

    #[test]
    fn codes() {
        for (code, number) in [
            (ExitCode::from_signal(15), 143),
            (ExitCode::from_signal(2), 130),
            (ExitCode::from_status(256 + 7), 7),
            (ExitCode::from_status(-1), 255),
            (ExitCode::NOT_FOUND, 127),
        ] {
            assert_eq!(code.number(), number);
        }
    }
}
