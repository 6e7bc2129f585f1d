//! From the text of a policy to its rules. Refuses whatever could not take effect, so that a slip is an error and not a hole.

use std::fmt::{self, Display};
use std::iter::Peekable;
use std::str::{FromStr, SplitAsciiWhitespace};

use thiserror::Error;

use super::{Action, ArgumentTest, Comparison, Errno, Policy, Rule};
use crate::numbers::{Architecture, SystemCall};

const VERSION_LINE: &str = "seccomp-policy 1";

/// Why a text is no policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParsePolicyError {
    /// Something else stands where a certain thing must.
    #[error("line {line}: found {found}, wanted {wanted}")]
    Unexpected {
        /// Counted from 1.
        line: usize,
        /// What stands there, in backticks, or where the text ended.
        found: String,
        /// What may stand there.
        wanted: String,
    },
    /// The name is no system call of any architecture we know.
    #[error("line {line}: no system call is called `{name}`")]
    UnknownSystemCall {
        /// Counted from 1.
        line: usize,
        /// The name as written.
        name: String,
    },
    /// A rule could never apply to this call, since an earlier one always does.
    #[error("line {line}: `{name}` is already decided by line {earlier}")]
    AlreadyDecided {
        /// Counted from 1.
        line: usize,
        /// The call.
        name: &'static str,
        /// The line that decides it.
        earlier: usize,
    },
    /// A test of an argument always gives the same answer.
    #[error("line {line}: `{test}` gives the same answer for every argument: the value has bits outside the mask, or the mask none")]
    Certain {
        /// Counted from 1.
        line: usize,
        /// The test as written.
        test: String,
    },
    /// A line does not say why it is there.
    #[error("line {line}: no reason; add `# why` at its end")]
    NoReason {
        /// Counted from 1.
        line: usize,
    },
}

impl FromStr for Policy {
    type Err = ParsePolicyError;

    fn from_str(text: &str) -> Result<Policy, ParsePolicyError> {
        let mut lines = text.lines().enumerate().map(|(index, text)| Line::new(index + 1, text)).filter(|line| !line.is_empty());
        let mut header = |wanted| lines.next().ok_or_else(|| unexpected(text.lines().count() + 1, "the end of the text", Quoted(wanted)));

        header(VERSION_LINE)?.version()?;
        let architectures = header("architectures")?.architectures()?;
        let default = header("default")?.default_action()?;
        let rules = lines.map(Line::rule).collect::<Result<Vec<_>, _>>()?;
        check_effect(&rules)?;
        Ok(Policy { architectures, default, rules })
    }
}

fn unexpected(line: usize, found: impl Display, wanted: impl Display) -> ParsePolicyError {
    ParsePolicyError::Unexpected { line, found: found.to_string(), wanted: wanted.to_string() }
}

/// A line with its comment split off, and how far it has been read.
struct Line<'t> {
    number: usize,
    statement: &'t str,
    words: Peekable<SplitAsciiWhitespace<'t>>,
    reason: &'t str,
}

impl<'t> Line<'t> {
    fn new(number: usize, text: &'t str) -> Line<'t> {
        let (statement, reason) = text.split_once('#').unwrap_or((text, ""));
        Line { number, statement: statement.trim(), words: statement.split_ascii_whitespace().peekable(), reason: reason.trim() }
    }

    fn is_empty(&self) -> bool {
        self.statement.is_empty()
    }

    fn version(self) -> Result<(), ParsePolicyError> {
        if self.statement != VERSION_LINE {
            return Err(unexpected(self.number, Quoted(self.statement), Quoted(VERSION_LINE)));
        }
        Ok(())
    }

    fn architectures(mut self) -> Result<Vec<Architecture>, ParsePolicyError> {
        self.word("architectures")?;
        let mut architectures = vec![self.architecture()?];
        while !self.at_end() {
            architectures.push(self.architecture()?);
        }
        Ok(architectures)
    }

    fn architecture(&mut self) -> Result<Architecture, ParsePolicyError> {
        let wanted = Listed(Architecture::ALL.map(Architecture::name));
        self.one_of(wanted, |word| Architecture::ALL.into_iter().find(|architecture| architecture.name() == word))
    }

    fn default_action(mut self) -> Result<Action, ParsePolicyError> {
        self.word("default")?;
        let action = self.action()?;
        if !self.at_end() {
            return self.one_of("the end of the line", |_| None);
        }
        self.reason()?;
        Ok(action)
    }

    /// `ACTION NAME... [if TEST [and TEST]...]`
    fn rule(mut self) -> Result<Rule, ParsePolicyError> {
        let action = self.action()?;
        let mut system_calls = vec![self.system_call()?];
        let mut tests = Vec::new();
        while !self.at_end() {
            if self.skip("if") {
                tests.push(self.test()?);
                while !self.at_end() {
                    self.word("and")?;
                    tests.push(self.test()?);
                }
            } else {
                system_calls.push(self.system_call()?);
            }
        }
        let reason = self.reason()?.to_owned();
        Ok(Rule { line: self.number, action, system_calls, tests, reason })
    }

    fn action(&mut self) -> Result<Action, ParsePolicyError> {
        let action = self.one_of("`allow`, `succeed`, `errno`, `notify` or `kill`", |word| match word {
            "allow" => Some(Some(Action::Allow)),
            "succeed" => Some(Some(Action::Succeed)),
            "notify" => Some(Some(Action::Notify)),
            "kill" => Some(Some(Action::Kill)),
            "errno" => Some(None),
            _ => None,
        })?;
        match action {
            Some(action) => Ok(action),
            None => self.errno().map(Action::Errno),
        }
    }

    fn errno(&mut self) -> Result<Errno, ParsePolicyError> {
        let wanted = Listed(Errno::NAMED.map(|(name, _)| name));
        self.one_of(wanted, |word| Errno::NAMED.into_iter().find_map(|(name, errno)| (name == word).then_some(errno)))
    }

    fn system_call(&mut self) -> Result<SystemCall, ParsePolicyError> {
        let line = self.number;
        let name = self.one_of("the name of a system call", Some)?;
        SystemCall::named(name).ok_or_else(|| ParsePolicyError::UnknownSystemCall { line, name: name.to_owned() })
    }

    /// `argN:BITS [& MASK] ==|!= VALUE`
    fn test(&mut self) -> Result<ArgumentTest, ParsePolicyError> {
        let written = self.words.clone();
        let (argument, all) = self.one_of("`arg0:32` to `arg5:32` or `arg0:64` to `arg5:64`", argument)?;
        let masked = self.skip("&");
        let mask = if masked { self.number(all)? } else { all };
        let comparison = self.one_of(if masked { "`==` or `!=`" } else { "`&`, `==` or `!=`" }, |word| match word {
            "==" => Some(Comparison::Equal),
            "!=" => Some(Comparison::NotEqual),
            _ => None,
        })?;
        let value = self.number(all)?;
        if mask == 0 || value & !mask != 0 {
            let words = if masked { 5 } else { 3 };
            let test = written.take(words).collect::<Vec<_>>().join(" ");
            return Err(ParsePolicyError::Certain { line: self.number, test });
        }
        Ok(ArgumentTest { argument, mask, comparison, value })
    }

    /// A number with no bit outside `all`.
    fn number(&mut self, all: u64) -> Result<u64, ParsePolicyError> {
        self.one_of(format_args!("a number from 0 to {all:#x}, decimal or with `0x`"), |word| {
            let (digits, radix) = word.strip_prefix("0x").map_or((word, 10), |digits| (digits, 16));
            let number = u64::from_str_radix(digits, radix);
            number.ok().filter(|number| *number <= all && !digits.starts_with('+'))
        })
    }

    fn reason(&self) -> Result<&'t str, ParsePolicyError> {
        if self.reason.is_empty() { Err(ParsePolicyError::NoReason { line: self.number }) } else { Ok(self.reason) }
    }

    fn at_end(&mut self) -> bool {
        self.words.peek().is_none()
    }

    /// Reads the next word if it is this one.
    fn skip(&mut self, word: &str) -> bool {
        self.words.next_if_eq(&word).is_some()
    }

    fn word(&mut self, wanted: &'static str) -> Result<(), ParsePolicyError> {
        self.one_of(Quoted(wanted), |word| (word == wanted).then_some(()))
    }

    fn one_of<T>(&mut self, wanted: impl Display, known: impl FnOnce(&'t str) -> Option<T>) -> Result<T, ParsePolicyError> {
        let Some(word) = self.words.next() else {
            return Err(unexpected(self.number, "the end of the line", wanted));
        };
        known(word).ok_or_else(|| unexpected(self.number, Quoted(word), wanted))
    }
}

/// Which argument, and all the bits of it that a test may look at.
fn argument(word: &str) -> Option<(u8, u64)> {
    let (index, bits) = word.strip_prefix("arg")?.split_once(':')?;
    let index = (0..6).find(|known| index == known.to_string())?;
    match bits {
        "32" => Some((index, u64::from(u32::MAX))),
        "64" => Some((index, u64::MAX)),
        _ => None,
    }
}

/// Refuses a rule when an earlier one, or an earlier name of its own, decides a call of it for good.
fn check_effect(rules: &[Rule]) -> Result<(), ParsePolicyError> {
    let mut mentions: Vec<(SystemCall, &Rule)> = Vec::new();
    for rule in rules {
        mentions.extend(rule.system_calls.iter().map(|call| (*call, rule)));
    }
    mentions.sort_by_key(|(call, _)| *call);
    for mentions in mentions.chunk_by(|(call, _), (next, _)| call == next) {
        for (index, (call, rule)) in mentions.iter().enumerate() {
            let decides = |(_, earlier): &&(SystemCall, &Rule)| earlier.tests.iter().all(|test| rule.tests.contains(test));
            if let Some((_, earlier)) = mentions[..index].iter().find(decides) {
                return Err(ParsePolicyError::AlreadyDecided { line: rule.line, name: call.name(), earlier: earlier.line });
            }
        }
    }
    Ok(())
}

/// Words of a policy inside a message.
struct Quoted<'t>(&'t str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

/// The words that may stand somewhere.
struct Listed<const N: usize>([&'static str; N]);

impl<const N: usize> Display for Listed<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.map(|word| Quoted(word).to_string()).join(", "))
    }
}
