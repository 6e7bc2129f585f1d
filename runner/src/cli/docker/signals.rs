//! Signals by name or number, as docker takes them.

use std::str::FromStr as _;

use nix::sys::signal::Signal;

use crate::exit_code::{ExitCode, Failure};

/// `KILL`, `SIGKILL`, `kill` or `9`.
pub(super) fn number(text: &str) -> Result<i32, Failure> {
    let wrong = || {
        Failure::could_not_run(format!("Invalid signal: {text}"))
            .in_front("Error response from daemon")
            .with_code(ExitCode::FUNCTION_FAILED)
    };
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=64).contains(&number) { Ok(number) } else { Err(wrong()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    Signal::from_str(&name).map(|signal| signal as i32).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, signal) in [("KILL", 9), ("SIGTERM", 15), ("int", 2), ("1", 1), ("usr1", 10)] {
            assert_eq!(number(text).unwrap(), signal, "{text}");
        }
        for text in ["0", "65", "NOPE", ""] {
            assert!(number(text).is_err(), "{text}");
        }
    }
}
