//! `-e` and `--env-file`, as docker reads them, with names passed through from our own environment resolved.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::env::OwnEnvironment;

/// Why a variable given on the command line or in a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VariableError {
    /// There is nothing before the `=`, or nothing at all.
    #[error("`{}` names no variable", text.display())]
    NoName {
        /// What was given.
        text: OsString,
    },
    /// Docker refuses white space in names of an `--env-file`; others cannot be used by a program.
    #[error("the variable name `{}` holds white space, a NUL byte or bytes that are not UTF-8", name.display())]
    Name {
        /// What stands before the `=`.
        name: OsString,
    },
    /// A value cannot hold a NUL byte.
    #[error("the value of `{name}` holds a NUL byte")]
    Value {
        /// The variable.
        name: String,
    },
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line of the file is wrong.
    #[error("`{}`, line {line}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        source: Box<VariableError>,
    },
}

/// The variables of `files` and `flags`. A flag wins over a file, a later one over an earlier one; each name is there once.
pub fn given(flags: &[OsString], files: &[PathBuf], own: &OwnEnvironment) -> Result<Vec<(String, OsString)>, VariableError> {
    let mut variables = Vec::new();
    for path in files {
        read_file(path, own, &mut variables)?;
    }
    for flag in flags {
        add(&mut variables, assignment(flag, own)?);
    }
    Ok(variables)
}

fn add(variables: &mut Vec<(String, OsString)>, assignment: Option<(String, OsString)>) {
    let Some((name, value)) = assignment else { return };
    variables.retain(|(earlier, _)| *earlier != name);
    variables.push((name, value));
}

/// `NAME=VALUE`, or `NAME` with the value of our own variable; nothing when that is not set.
fn assignment(text: &OsStr, own: &OwnEnvironment) -> Result<Option<(String, OsString)>, VariableError> {
    let bytes = text.as_bytes();
    let (name, value) = match bytes.iter().position(|&byte| byte == b'=') {
        Some(equals) => (&bytes[..equals], Some(&bytes[equals + 1..])),
        None => (bytes, None),
    };
    if name.is_empty() {
        return Err(VariableError::NoName { text: text.to_owned() });
    }
    let name = std::str::from_utf8(name)
        .ok()
        .filter(|name| !name.contains(|character: char| character.is_whitespace() || character == '\0'))
        .ok_or_else(|| VariableError::Name { name: OsStr::from_bytes(name).to_owned() })?;
    let value = match value {
        Some(value) => OsStr::from_bytes(value),
        None => match own.get(OsStr::new(name)) {
            Some(value) => value,
            None => return Ok(None),
        },
    };
    if value.as_bytes().contains(&0) {
        return Err(VariableError::Value { name: name.to_owned() });
    }
    Ok(Some((name.to_owned(), value.to_owned())))
}

/// Docker's format: blank lines and lines starting with `#` are skipped, leading white space is cut, nothing is unquoted.
fn read_file(path: &Path, own: &OwnEnvironment, variables: &mut Vec<(String, OsString)>) -> Result<(), VariableError> {
    let contents = std::fs::read(path).map_err(|source| VariableError::Read { path: path.to_owned(), source })?;
    let contents = contents.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&contents);
    for (index, line) in contents.split(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let in_line = |source| VariableError::Line { path: path.to_owned(), line: index + 1, source: Box::new(source) };
        add(variables, assignment(OsStr::from_bytes(line), own).map_err(in_line)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> OwnEnvironment {
        [("SET", "from ours"), ("EMPTY", ""), ("SECRET", "never")].into()
    }

    fn flags(flags: &[&str]) -> Result<Vec<(String, String)>, String> {
        let flags: Vec<OsString> = flags.iter().map(Into::into).collect();
        shown(given(&flags, &[], &own()))
    }

    fn shown(result: Result<Vec<(String, OsString)>, VariableError>) -> Result<Vec<(String, String)>, String> {
        match result {
            Ok(variables) => Ok(variables.into_iter().map(|(name, value)| (name, value.into_string().unwrap())).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn flags_as_docker_reads_them() {
        for (given, expected) in [
            (&["A=1"][..], &[("A", "1")][..]),
            (&["X=4=4"], &[("X", "4=4")]),
            (&["A="], &[("A", "")]),
            (&["SET", "EMPTY", "UNSET"], &[("SET", "from ours"), ("EMPTY", "")]),
            (&["A=1", "B=2", "A=3"], &[("B", "2"), ("A", "3")]),
            (&["A=1", "UNSET", "A"], &[("A", "1")]),
            (&["A= spaces stay "], &[("A", " spaces stay ")]),
        ] {
            assert_eq!(flags(given), Ok(pairs(expected)), "{given:?}");
        }
        for wrong in ["", "=x", "a b=x", "a\tb"] {
            assert!(flags(&[wrong]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn files_as_docker_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let first = folder.path().join("first");
        std::fs::write(&first, "\u{feff}# comment\n\n  A=1\nB=\"quoted\"  \r\nSET\nUNSET\nC=a # b\n").unwrap();
        let second = folder.path().join("second");
        std::fs::write(&second, "A=2\nD=4").unwrap();
        let variables = given(&["D=flag".into()], &[first, second], &own());
        let expected = pairs(&[("B", "\"quoted\"  "), ("SET", "from ours"), ("C", "a # b"), ("A", "2"), ("D", "flag")]);
        assert_eq!(shown(variables), Ok(expected));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("env");
        std::fs::write(&path, "A=1\nb c=2\n").unwrap();
        let error = given(&[], std::slice::from_ref(&path), &own()).unwrap_err();
        assert_eq!(error.to_string(), format!("`{}`, line 2", path.display()));
        assert!(matches!(given(&[], &[folder.path().join("none")], &own()), Err(VariableError::Read { .. })));
    }
}
