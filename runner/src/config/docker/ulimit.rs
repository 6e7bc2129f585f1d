//! `--ulimit`: a limit of the kernel's for each process of a plain command.

use std::str::FromStr;

use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};

/// Docker's names, and what the kernel knows by them.
const NAMES: [(&str, Resource); 15] = [
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// `NAME=SOFT[:HARD]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Docker's name for it.
    pub name: String,
    /// What a process may use; -1 for no limit.
    pub soft: i64,
    /// How far it may raise that; -1 for no limit.
    pub hard: i64,
}

/// What is no limit, in docker's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseUlimitError {
    /// Not of the form.
    #[error("invalid ulimit argument: {text}")]
    Form {
        /// As given.
        text: String,
    },
    /// No such limit.
    #[error("invalid ulimit type: {name}")]
    Name {
        /// As given.
        name: String,
    },
    /// More than may be.
    #[error("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")]
    Order {
        /// The soft limit.
        soft: i64,
        /// The hard one.
        hard: i64,
    },
}

impl FromStr for Ulimit {
    type Err = ParseUlimitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseUlimitError::Form { text: text.to_owned() };
        let (name, values) = text.split_once('=').ok_or_else(wrong)?;
        if NAMES.iter().all(|(own, _)| *own != name) {
            return Err(ParseUlimitError::Name { name: name.to_owned() });
        }
        let number = |text: &str| if text == "unlimited" { Some(-1) } else { text.parse::<i64>().ok().filter(|number| *number >= -1) };
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (soft, hard) = (number(soft).ok_or_else(wrong)?, number(hard).ok_or_else(wrong)?);
        if hard != -1 && (soft == -1 || soft > hard) {
            return Err(ParseUlimitError::Order { soft, hard });
        }
        Ok(Self { name: name.to_owned(), soft, hard })
    }
}

impl Ulimit {
    /// As the kernel takes it; nothing for a name that it does not know.
    pub fn limit(&self) -> Option<(Resource, Rlimit)> {
        let (_, resource) = NAMES.iter().find(|(name, _)| *name == self.name)?;
        let bound = |number: i64| u64::try_from(number).ok();
        Some((*resource, Rlimit { current: bound(self.soft), maximum: bound(self.hard) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_as_docker_has_them() {
        for (text, soft, hard) in
            [("nofile=64", 64, 64), ("nofile=64:128", 64, 128), ("core=0:-1", 0, -1), ("core=unlimited", -1, -1), ("fsize=0", 0, 0)]
        {
            let limit: Ulimit = text.parse().unwrap();
            assert_eq!((limit.soft, limit.hard), (soft, hard), "{text}");
            assert!(limit.limit().is_some(), "{text}");
        }
        for (text, said) in [
            ("nofile", "invalid ulimit argument: nofile"),
            ("nofile=x", "invalid ulimit argument: nofile=x"),
            ("nofile=-2", "invalid ulimit argument: nofile=-2"),
            ("files=1", "invalid ulimit type: files"),
            ("nofile=2:1", "ulimit soft limit must be less than or equal to hard limit: 2 > 1"),
            ("nofile=-1:1", "ulimit soft limit must be less than or equal to hard limit: -1 > 1"),
        ] {
            assert_eq!(text.parse::<Ulimit>().unwrap_err().to_string(), said);
        }
    }
}
