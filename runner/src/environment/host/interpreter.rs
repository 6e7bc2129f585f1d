//! Finds this machine's Python or Node: the real program behind links and version managers' shims, and the folder it needs to be whole.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::AccessFlags;

/// A language we have a runtime client for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    Python,
    Node,
}

impl Language {
    /// The names its interpreter goes by.
    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Python => &["python3", "python"],
            Self::Node => &["node", "nodejs"],
        }
    }

    /// What makes an interpreter print its own path.
    fn question(self) -> [&'static str; 2] {
        match self {
            Self::Python => {
                ["-c", "import os, sys; print(os.path.join(sys.base_exec_prefix, 'bin', 'python%d.%d' % sys.version_info[:2]))"]
            }
            Self::Node => ["-p", "process.execPath"],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Python => "Python",
            Self::Node => "Node",
        }
    }
}

/// An interpreter of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interpreter {
    /// The real path of the program.
    pub(super) program: PathBuf,
    /// The folder above its `bin`, where its library is.
    pub(super) prefix: PathBuf,
}

/// Why there is no interpreter.
#[derive(Debug, thiserror::Error)]
pub enum InterpreterError {
    /// Not installed, or not in `PATH`.
    #[error("no {language} interpreter ({names}) is in PATH")]
    NotFound {
        /// The language.
        language: &'static str,
        /// The names looked for.
        names: String,
    },
    /// A shim that does not lead to an interpreter.
    #[error("`{}` does not say which interpreter it stands for: {answer}", shim.display())]
    Shim {
        /// The script.
        shim: PathBuf,
        /// What it said instead.
        answer: String,
    },
    /// A shim that cannot be started.
    #[error("cannot run `{}`", shim.display())]
    Run {
        /// The script.
        shim: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl InterpreterError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some("install it, or run the function in an image that has it, such as `public.ecr.aws/lambda/python:3.12`".to_owned())
    }
}

/// The first interpreter on `search_path`.
pub(super) fn find(language: Language, search_path: &OsStr) -> Result<Interpreter, InterpreterError> {
    let folders = || std::env::split_paths(search_path).filter(|folder| folder.is_absolute());
    let candidates = language.programs().iter().flat_map(|name| folders().map(move |folder| folder.join(name)));
    let Some(program) = candidates.filter_map(|path| path.canonicalize().ok()).find(|path| is_program(path)) else {
        let names = language.programs().iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        return Err(InterpreterError::NotFound { language: language.name(), names });
    };
    let program = if is_script(&program) { ask(&program, language)? } else { program };
    let folder = program.parent().unwrap_or(Path::new("/"));
    let prefix = if folder.ends_with("bin") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(Interpreter { prefix: prefix.to_owned(), program })
}

fn is_program(path: &Path) -> bool {
    path.is_file() && nix::unistd::access(path, AccessFlags::X_OK).is_ok()
}

/// A version manager's shim is a script that chooses by files and variables of its own.
fn is_script(path: &Path) -> bool {
    let mut start = [0; 2];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && &start == b"#!"
}

fn ask(shim: &Path, language: Language) -> Result<PathBuf, InterpreterError> {
    let asked = Command::new(shim).args(language.question()).stdin(Stdio::null()).output();
    let output = asked.map_err(|source| InterpreterError::Run { shim: shim.to_owned(), source })?;
    let path = Path::new(OsStr::from_bytes(output.stdout.trim_ascii())).canonicalize();
    match path {
        Ok(path) if output.status.success() && is_program(&path) && !is_script(&path) => Ok(path),
        _ => {
            let answer = if output.stdout.is_empty() { output.stderr } else { output.stdout };
            Err(InterpreterError::Shim { shim: shim.to_owned(), answer: String::from_utf8_lossy(answer.trim_ascii()).into_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A file that is no script; it is never executed.
    fn program(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "\x7fELF").unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    fn shim(path: &Path, text: &str) {
        program(path);
        std::fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    }

    #[test]
    fn links_and_shims_are_followed() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        program(&root.join("versions/3/bin/python3.11"));
        std::fs::create_dir_all(root.join("bin")).unwrap();
        symlink(root.join("versions/3/bin/python3.11"), root.join("bin/python3")).unwrap();
        let real = Interpreter { program: root.join("versions/3/bin/python3.11"), prefix: root.join("versions/3") };
        assert_eq!(find(Language::Python, root.join("bin").as_os_str()).unwrap(), real);

        shim(&root.join("shims/python3"), &format!("echo {}", real.program.display()));
        let path = std::env::join_paths([root.join("none"), root.join("shims"), root.join("bin")]).unwrap();
        assert_eq!(find(Language::Python, &path).unwrap(), real);

        shim(&root.join("shims/node"), "echo no version is set >&2; exit 1");
        let error = find(Language::Node, &path).unwrap_err();
        assert!(error.to_string().ends_with("interpreter it stands for: no version is set"), "{error}");
        assert!(matches!(find(Language::Node, OsStr::new("relative:")), Err(InterpreterError::NotFound { .. })));
    }
}
