//! What a batch was asked to be.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use super::RunConfig;

/// Many single executions of one function.
#[derive(Debug, Clone)]
pub struct BatchConfig {
    /// The function.
    pub run: RunConfig,
    /// Where the events come from.
    pub events: EventSource,
    /// How many run at once.
    pub jobs: NonZeroUsize,
    /// Whether an environment gets more than one event.
    pub reuse: Reuse,
    /// The part of the events that is run, if not all are.
    pub shard: Option<Shard>,
    /// Where a JUnit report is written.
    pub junit: Option<PathBuf>,
}

/// Where the events of a batch come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventSource {
    /// Standard input, an event a line.
    Stdin,
    /// A file with an event a line, or with one event; or a folder of files with one event each.
    Path(PathBuf),
}

/// Whether an environment gets more than one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Each event has one of its own.
    Fresh,
    /// They go on with the next event.
    Warm,
}

/// One of several parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// From 0 on.
    index: u64,
    /// How many there are.
    count: u64,
}

impl Shard {
    /// Whether something with this hash belongs to it.
    pub fn takes(self, hash: u64) -> bool {
        hash % self.count == self.index
    }
}

/// Why a text is no shard.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no shard: give a number and how many there are, from `1/4` to `4/4`")]
pub struct ParseShardError(String);

/// `I/N`, I from 1 on.
impl FromStr for Shard {
    type Err = ParseShardError;

    fn from_str(text: &str) -> Result<Self, ParseShardError> {
        let parsed = text.split_once('/').and_then(|(number, count)| Some((number.parse::<u64>().ok()?, count.parse::<u64>().ok()?)));
        match parsed {
            Some((number, count)) if (1..=count).contains(&number) => Ok(Self { index: number - 1, count }),
            _ => Err(ParseShardError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards() {
        for (text, hashes) in [("1/1", [true; 4]), ("1/3", [true, false, false, true]), ("3/3", [false, false, true, false])] {
            let shard: Shard = text.parse().unwrap();
            assert_eq!([0, 1, 2, 3].map(|hash| shard.takes(hash)), hashes, "{text}");
        }
        for text in ["", "1", "0/2", "3/2", "1/0", "-1/2", "a/b", "1/2/3", " 1/2"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
