//! What the words of an instruction mean: variables are expanded, quotes and escapes go, as docker's own small shell has it. Pure.
//!
//! <https://docs.docker.com/reference/dockerfile/#environment-replacement>

use super::dockerfile::Wrong;

/// Expands the variables of a word, and takes its quotes away. `value` knows what a variable holds.
pub fn expand(word: &str, escape: char, value: &dyn Fn(&str) -> Option<String>) -> Result<String, Wrong> {
    let mut words = Words { rest: word, escape, value };
    let expanded = words.until(None)?;
    debug_assert!(words.rest.is_empty());
    Ok(expanded)
}

/// Expands the variables of a text in which quotes mean nothing, such as a here-document.
pub fn expand_text(text: &str, escape: char, value: &dyn Fn(&str) -> Option<String>) -> Result<String, Wrong> {
    let mut words = Words { rest: text, escape, value };
    let mut out = String::new();
    while let Some(c) = words.take() {
        match c {
            '$' => words.variable(&mut out)?,
            c if c == escape && words.rest.starts_with('$') => out.extend(words.take()),
            c => out.push(c),
        }
    }
    Ok(out)
}

struct Words<'a> {
    rest: &'a str,
    escape: char,
    value: &'a dyn Fn(&str) -> Option<String>,
}

impl Words<'_> {
    fn take(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        Some(c)
    }

    /// Everything up to `end`, which is taken, too; or to the end of the word.
    fn until(&mut self, end: Option<char>) -> Result<String, Wrong> {
        let mut out = String::new();
        loop {
            match self.take() {
                None if end.is_none() => return Ok(out),
                None => return Err(Wrong::new("`${` without its `}`")),
                Some(c) if Some(c) == end => return Ok(out),
                Some('\'') => self.single_quoted(&mut out)?,
                Some('"') => self.double_quoted(&mut out)?,
                Some('$') => self.variable(&mut out)?,
                // At the very end it stands for itself.
                Some(c) if c == self.escape => out.push(self.take().unwrap_or(c)),
                Some(c) => out.push(c),
            }
        }
    }

    fn single_quoted(&mut self, out: &mut String) -> Result<(), Wrong> {
        let (inner, rest) = self.rest.split_once('\'').ok_or_else(|| Wrong::new("a single quote without its end"))?;
        out.push_str(inner);
        self.rest = rest;
        Ok(())
    }

    fn double_quoted(&mut self, out: &mut String) -> Result<(), Wrong> {
        loop {
            match self.take() {
                None => return Err(Wrong::new("a double quote without its end")),
                Some('"') => return Ok(()),
                Some('$') => self.variable(out)?,
                Some(c) if c == self.escape => match self.take() {
                    Some(next) if next == '"' || next == '$' || next == self.escape => out.push(next),
                    Some(next) => out.extend([c, next]),
                    None => return Err(Wrong::new("a double quote without its end")),
                },
                Some(c) => out.push(c),
            }
        }
    }

    /// What follows a `$`.
    fn variable(&mut self, out: &mut String) -> Result<(), Wrong> {
        if let Some(rest) = self.rest.strip_prefix('{') {
            self.rest = rest;
            return self.braced(out);
        }
        let name = self.name();
        if name.is_empty() {
            out.push('$');
        } else {
            out.push_str(&(self.value)(&name).unwrap_or_default());
        }
        Ok(())
    }

    /// A name, or one of the shell's own such as `$1` and `$@`.
    fn name(&mut self) -> String {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let special = self.rest.starts_with(|c: char| c.is_ascii_digit() || "@*#?-$!".contains(c));
        let length = if special { 1 } else { self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len()) };
        let (name, rest) = self.rest.split_at(length);
        self.rest = rest;
        name.to_owned()
    }

    fn braced(&mut self, out: &mut String) -> Result<(), Wrong> {
        let name = self.name();
        if name.is_empty() {
            return Err(Wrong::new("`${` without a name"));
        }
        let value = (self.value)(&name);
        let also_empty = self.rest.strip_prefix(':').map(|rest| self.rest = rest).is_some();
        let given = value.clone().filter(|value| !(also_empty && value.is_empty()));
        match self.take() {
            Some('}') if !also_empty => out.push_str(&value.unwrap_or_default()),
            Some('-') => {
                let default = self.until(Some('}'))?;
                out.push_str(&given.unwrap_or(default));
            }
            Some('+') => {
                let instead = self.until(Some('}'))?;
                out.push_str(if given.is_some() { &instead } else { "" });
            }
            Some('?') => {
                let message = self.until(Some('}'))?;
                let said = if message.is_empty() { "is not set".to_owned() } else { message };
                out.push_str(&given.ok_or_else(|| Wrong::new(format!("`{name}`: {said}")))?);
            }
            Some(other) => {
                let hint = "`${X}`, `${X:-default}`, `${X:+instead}` and `${X:?message}` are; a `RUN` has the whole shell";
                return Err(Wrong::hint(format!("`${{{name}{}{other}...}}` is not supported", if also_empty { ":" } else { "" }), hint));
            }
            None => return Err(Wrong::new("`${` without its `}`")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str) -> Option<String> {
        match name {
            "X" => Some("ex".to_owned()),
            "EMPTY" => Some(String::new()),
            "X_1" => Some("under".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn words_as_docker_reads_them() {
        let table = [
            ("plain", "plain"),
            ("$X", "ex"),
            ("a${X}b", "aexb"),
            ("$X_1/$X-1", "under/ex-1"),
            ("$NONE", ""),
            ("${X:-y}", "ex"),
            ("${NONE:-y}", "y"),
            ("${EMPTY:-y}", "y"),
            ("${EMPTY-y}", ""),
            ("${X:+z}", "z"),
            ("${NONE:+z}", ""),
            ("${EMPTY+z}", "z"),
            ("${NONE:-${X}/b}", "ex/b"),
            ("${NONE:-'a}b'}", "a}b"),
            ("${X:?said}", "ex"),
            ("'$X'", "$X"),
            ("\"$X y\"", "ex y"),
            ("\\$X", "$X"),
            ("\"\\$X \\\"q\\\" \\n\"", "$X \"q\" \\n"),
            ("a\\ b", "a b"),
            ("a\\", "a\\"),
            ("$", "$"),
            ("a$/b", "a$/b"),
            ("x\"y\"'z'", "xyz"),
            ("\u{e4}$X\u{f6}", "\u{e4}ex\u{f6}"),
        ];
        for (word, wanted) in table {
            assert_eq!(expand(word, '\\', &value).as_deref(), Ok(wanted), "{word}");
        }
        assert_eq!(expand("a` $X`", '`', &value).as_deref(), Ok("a ex`"));
        assert_eq!(expand_text("'$X' \\$X \\n \"", '\\', &value).as_deref(), Ok("'ex' $X \\n \""));
    }

    #[test]
    fn what_is_wrong_with_a_word() {
        for word in ["'a", "\"a", "${X", "${}", "${X:-a", "${X%y}", "${X:y}", "${NONE:?said}", "\"\\"] {
            assert!(expand(word, '\\', &value).is_err(), "{word}");
        }
    }
}
