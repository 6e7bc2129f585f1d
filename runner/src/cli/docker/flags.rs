//! Options as docker's own command line reads them: its rules for what may stand where, and its words for what is wrong.
//!
//! Which options a verb has is a table, so that those we do not carry out are told of by name; no library reads docker's forms (`--rm=false`, `-itv DIR`, a `-h` that is not
//! for help) and refuses in its words.

use crate::cli::usage::Ended;
use crate::exit_code::{ExitCode, Failure};

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing, or `=true` and `=false`.
    Nothing,
    /// A value.
    Value,
}

/// What becomes of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Means {
    /// It is carried out.
    Used,
    /// It changes nothing here, which is in `docs/docker.md`.
    Nothing,
    /// It is refused, for this reason.
    Refused(&'static str),
}

/// An option of a verb.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flag {
    pub(super) long: &'static str,
    pub(super) short: Option<char>,
    pub(super) takes: Takes,
    pub(super) means: Means,
}

/// One that is carried out.
pub(super) const fn flag(long: &'static str, short: Option<char>, takes: Takes) -> Flag {
    Flag { long, short, takes, means: Means::Used }
}

/// A verb with its options.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verb {
    /// As it is typed, such as `run` or `network ls`.
    pub(super) name: &'static str,
    /// What follows it, as its usage says.
    pub(super) usage: &'static str,
    pub(super) flags: &'static [Flag],
    /// Those of them that it has not.
    pub(super) lacks: &'static [&'static str],
    /// How many words there are beside the options.
    pub(super) words: (usize, Option<usize>),
    /// Whether options may stand behind words.
    pub(super) mixed: bool,
}

/// What was given.
#[derive(Debug)]
pub(super) struct Given {
    values: Vec<(&'static str, String)>,
    /// The words.
    pub(super) words: Vec<String>,
}

impl Given {
    /// Whether an option without a value is on.
    pub(super) fn is_on(&self, long: &str) -> bool {
        self.last(long).is_some_and(|value| value == "true")
    }

    /// The last value given.
    pub(super) fn last(&self, long: &str) -> Option<&str> {
        self.values.iter().rev().find(|(name, _)| *name == long).map(|(_, value)| value.as_str())
    }

    /// The last value given, to be kept.
    pub(super) fn text(&self, long: &str) -> Option<String> {
        self.last(long).map(str::to_owned)
    }

    /// All values given, in their order.
    pub(super) fn all<'a>(&'a self, long: &'a str) -> impl Iterator<Item = &'a str> {
        self.values.iter().filter(move |(name, _)| *name == long).map(|(_, value)| value.as_str())
    }

    /// All values given, to be kept.
    pub(super) fn texts(&self, long: &str) -> Vec<String> {
        self.all(long).map(str::to_owned).collect()
    }
}

impl Verb {
    fn own(&self) -> impl Iterator<Item = &'static Flag> {
        let lacks = self.lacks;
        self.flags.iter().filter(move |flag| !lacks.contains(&flag.long))
    }

    /// Reads what follows the verb.
    pub(super) fn read(&self, words: &[String]) -> Result<Given, Ended> {
        let mut given = Given { values: Vec::new(), words: Vec::new() };
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            if word == "--" {
                given.words.extend(rest.cloned());
                break;
            }
            if let Some(long) = word.strip_prefix("--") {
                self.long(long, &mut rest, &mut given)?;
            } else if word.starts_with('-') && word.len() > 1 {
                self.shorts(word, &mut rest, &mut given)?;
            } else {
                given.words.push(word.clone());
                if !self.mixed {
                    given.words.extend(rest.cloned());
                    break;
                }
            }
        }
        self.check_count(given.words.len())?;
        Ok(given)
    }

    fn long(&self, word: &str, rest: &mut std::slice::Iter<'_, String>, given: &mut Given) -> Result<(), Ended> {
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value.to_owned())));
        if name == "help" {
            return Err(Ended::Text(self.help()));
        }
        let flag = self.own().find(|flag| flag.long == name).ok_or_else(|| self.wrong(&format!("unknown flag: --{name}")))?;
        let value = match (flag.takes, value) {
            (_, Some(value)) => value,
            (Takes::Nothing, None) => "true".to_owned(),
            (Takes::Value, None) => rest.next().cloned().ok_or_else(|| self.wrong(&format!("flag needs an argument: --{name}")))?,
        };
        self.take(flag, value, given)
    }

    fn shorts(&self, word: &str, rest: &mut std::slice::Iter<'_, String>, given: &mut Given) -> Result<(), Ended> {
        let mut letters = word[1..].chars();
        while let Some(letter) = letters.next() {
            let flag = self.own().find(|flag| flag.short == Some(letter)).ok_or_else(|| match letter {
                'h' => Ended::Text(self.help()),
                _ => self.wrong(&format!("unknown shorthand flag: '{letter}' in {word}")),
            })?;
            let after = letters.as_str();
            let value = match flag.takes {
                Takes::Nothing => match after.strip_prefix('=') {
                    Some(value) => value.to_owned(),
                    None => {
                        self.take(flag, "true".to_owned(), given)?;
                        continue;
                    }
                },
                Takes::Value if !after.is_empty() => after.strip_prefix('=').unwrap_or(after).to_owned(),
                Takes::Value => rest.next().cloned().ok_or_else(|| self.wrong(&format!("flag needs an argument: '{letter}' in {word}")))?,
            };
            return self.take(flag, value, given);
        }
        Ok(())
    }

    fn take(&self, flag: &Flag, value: String, given: &mut Given) -> Result<(), Ended> {
        let value = match (flag.takes, value.as_str()) {
            (Takes::Value, _) => value,
            (Takes::Nothing, "true" | "1" | "t" | "T" | "TRUE" | "True") => "true".to_owned(),
            (Takes::Nothing, "false" | "0" | "f" | "F" | "FALSE" | "False") => "false".to_owned(),
            (Takes::Nothing, _) => {
                let name = flag.short.map_or_else(|| format!("--{}", flag.long), |short| format!("-{short}, --{}", flag.long));
                let error = format!("invalid argument {value:?} for {name:?} flag: strconv.ParseBool: parsing {value:?}: invalid syntax");
                return Err(self.wrong(&error));
            }
        };
        match flag.means {
            Means::Refused(reason) if value != "false" => {
                let error = format!("`docker {} --{}` is not supported: {reason}", self.name, flag.long);
                let hint = "docs/docker.md lists what there is and what there is not";
                Err(Failure::could_not_run(error).with_hint(Some(hint.to_owned())).into())
            }
            _ => {
                given.values.push((flag.long, value));
                Ok(())
            }
        }
    }

    fn check_count(&self, count: usize) -> Result<(), Ended> {
        let plural = |number: usize| if number == 1 { "argument" } else { "arguments" };
        let what = match self.words {
            (least, Some(most)) if least == most && count != least => {
                if least == 0 {
                    "accepts no arguments".to_owned()
                } else {
                    format!("requires {least} {}", plural(least))
                }
            }
            (least, _) if count < least => format!("requires at least {least} {}", plural(least)),
            (_, Some(most)) if count > most => format!("requires at most {most} {}", plural(most)),
            _ => return Ok(()),
        };
        let text = format!(
            "docker: 'docker {}' {what}\n\n{}\nSee 'docker {} --help' for more information\n",
            self.name,
            self.help_head(),
            self.name
        );
        Err(Ended::Said { text, code: ExitCode::FUNCTION_FAILED })
    }

    /// What is wrong with the command line, in docker's words.
    pub(super) fn wrong(&self, what: &str) -> Ended {
        let text = format!("{what}\n\n{}\nRun 'docker {} --help' for more information\n", self.help_head(), self.name);
        Ended::Said { text, code: ExitCode::COULD_NOT_RUN }
    }

    fn help_head(&self) -> String {
        format!("Usage:  docker {} {}\n", self.name, self.usage)
    }

    fn help(&self) -> String {
        let mut text = self.help_head();
        let used: Vec<&Flag> = self.own().filter(|flag| !matches!(flag.means, Means::Refused(_))).collect();
        if !used.is_empty() {
            text += "\nOptions:\n";
        }
        for flag in used {
            let short = flag.short.map_or("    ".to_owned(), |short| format!("-{short}, "));
            let value = if flag.takes == Takes::Value { " VALUE" } else { "" };
            let note = if flag.means == Means::Nothing { "  (changes nothing)" } else { "" };
            text += &format!("  {short}--{}{value}{note}\n", flag.long);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERB: Verb = Verb {
        name: "run",
        usage: "[OPTIONS] IMAGE",
        flags: &[
            flag("rm", None, Takes::Nothing),
            flag("interactive", Some('i'), Takes::Nothing),
            flag("tty", Some('t'), Takes::Nothing),
            flag("env", Some('e'), Takes::Value),
            flag("hostname", Some('h'), Takes::Value),
            Flag { long: "gpus", short: None, takes: Takes::Value, means: Means::Refused("there are none") },
        ],
        lacks: &[],
        words: (1, None),
        mixed: false,
    };

    fn read(words: &[&str]) -> Result<Given, Ended> {
        VERB.read(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn forms_of_docker() {
        for (words, env, on, rest) in [
            (&["-e", "A=1", "--env=B", "-eC=3", "img", "-e", "x"][..], &["A=1", "B", "C=3"][..], &[][..], &["img", "-e", "x"][..]),
            (&["-ite", "A", "img"], &["A"], &["interactive", "tty"], &["img"]),
            (&["-it=false", "--rm=1", "img"], &[], &["interactive", "rm"], &["img"]),
            (&["--rm", "--rm=false", "--", "-img"], &[], &[], &["-img"]),
            (&["-h", "name", "-e=D", "-"], &["D"], &[], &["-"]),
        ] {
            let given = read(words).unwrap();
            assert_eq!(given.all("env").collect::<Vec<_>>(), env, "{words:?}");
            let switched: Vec<_> = ["interactive", "rm", "tty"].into_iter().filter(|name| given.is_on(name)).collect();
            assert_eq!(switched, on, "{words:?}");
            assert_eq!(given.words, rest, "{words:?}");
        }
    }

    #[test]
    fn wrong_words_in_dockers_words() {
        for (words, start) in [
            (&["--foo", "x"][..], "unknown flag: --foo\n\nUsage:  docker run [OPTIONS] IMAGE\n\nRun 'docker run --help'"),
            (&["-z", "x"], "unknown shorthand flag: 'z' in -z\n"),
            (&["--env"], "flag needs an argument: --env\n"),
            (&["-e"], "flag needs an argument: 'e' in -e\n"),
            (&["--rm=x", "y"], "invalid argument \"x\" for \"--rm\" flag: strconv.ParseBool"),
            (&[], "docker: 'docker run' requires at least 1 argument\n\nUsage:"),
        ] {
            match read(words) {
                Err(Ended::Said { text, .. }) => assert!(text.starts_with(start), "{words:?}: {text}"),
                other => panic!("{words:?}: {other:?}"),
            }
        }
        match read(&["--gpus", "all", "x"]) {
            Err(Ended::Wrong(failure)) => {
                assert_eq!(failure.to_string(), "`docker run --gpus` is not supported: there are none");
                assert_eq!(failure.code().number(), 125);
            }
            other => panic!("{other:?}"),
        }
    }
}
