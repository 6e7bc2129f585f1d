//! `--seccomp` and docker's spelling of it: which system-call filter a run has.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::sandbox::{Filter, FilterError, compile_filter, shipped_filter};

/// No policy needs more; a longer file is something else.
const MOST_BYTES: u64 = 1 << 20;

/// Why there is no filter for a run.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The policy's file.
    #[error("cannot read the seccomp policy `{}`", path.display())]
    Read {
        /// As given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What the file holds.
    #[error("cannot use the seccomp policy `{}`", path.display())]
    Policy {
        /// As given.
        path: PathBuf,
        /// Whether the file looks like a profile of docker's.
        is_json: bool,
        /// Why.
        source: FilterError,
    },
    /// A `--security-opt` that would take a protection away, or that we do not know.
    #[error("`--security-opt {0}` is not supported")]
    Option(String),
}

impl PolicyError {
    /// Whether the command line makes no sense, whatever there is on this machine.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Policy { .. })
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Read { .. } => "`--seccomp` takes a policy's file, or `off`".to_owned(),
            Self::Policy { is_json: true, .. } => {
                "this is a JSON profile, as docker takes it; a policy here is a text, and the shipped one grants what docker's default does: \
                 docs/formats/seccomp-policy.md"
                    .to_owned()
            }
            Self::Policy { .. } => "docs/formats/seccomp-policy.md has the form; seccomp/policies/lambda.policy is the shipped one".to_owned(),
            Self::Option(_) => "known are `seccomp=unconfined|builtin|FILE`, and `no-new-privileges`, which always holds".to_owned(),
        })
    }
}

/// The filter of a run: the shipped one, none for `off`, else that of a policy's file. Docker's options come first in `options`; the last word counts.
pub fn filter(seccomp: Option<&OsStr>, options: &[OsString]) -> Result<Option<Arc<Filter>>, PolicyError> {
    let mut chosen = None;
    for option in options {
        let refused = || PolicyError::Option(option.to_string_lossy().into_owned());
        let text = option.to_str().ok_or_else(refused)?;
        match text.split_once(['=', ':']).unwrap_or((text, "")) {
            ("seccomp", value) if !value.is_empty() => chosen = Some(value),
            ("no-new-privileges", "" | "true") | ("apparmor", "unconfined") | ("label", "disable") => {}
            _ => return Err(refused()),
        }
    }
    match (seccomp, chosen) {
        (Some(given), _) if given == "off" => Ok(None),
        (Some(given), _) => of_file(given.into()).map(Some),
        (None, Some("unconfined")) => Ok(None),
        (None, None | Some("builtin")) => Ok(Some(shipped_filter())),
        (None, Some(file)) => of_file(file.into()).map(Some),
    }
}

fn of_file(path: PathBuf) -> Result<Arc<Filter>, PolicyError> {
    let bytes = read(&path).map_err(|source| PolicyError::Read { path: path.clone(), source })?;
    let text = String::from_utf8_lossy(&bytes);
    let is_json = text.trim_start().starts_with('{');
    compile_filter(&text).map_err(|source| PolicyError::Policy { path, is_json, source })
}

fn read(path: &std::path::Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;

    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, OsString) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy");
        std::fs::write(&path, text).unwrap();
        (folder, path.into_os_string())
    }

    #[test]
    fn what_is_chosen() {
        let (_folder, path) = file("seccomp-policy 1\narchitectures x86_64 aarch64\ndefault allow # -\n");
        let docker = OsString::from(format!("seccomp={}", path.display()));
        let own = filter(Some(&path), &[]).unwrap().unwrap();
        assert!(own.instructions().len() < 10);
        let option = |text: &str| vec![OsString::from(text)];
        assert_eq!(filter(None, &[]).unwrap(), Some(shipped_filter()));
        assert_eq!(filter(Some("off".as_ref()), &[]).unwrap(), None);
        assert_eq!(filter(None, &option("seccomp=unconfined")).unwrap(), None);
        assert_eq!(filter(None, &option("seccomp:unconfined")).unwrap(), None);
        assert_eq!(filter(None, &option("seccomp=builtin")).unwrap(), Some(shipped_filter()));
        assert_eq!(filter(None, &[docker]).unwrap(), Some(own));
        for harmless in ["no-new-privileges", "no-new-privileges:true", "no-new-privileges=true", "apparmor=unconfined", "label=disable"] {
            assert_eq!(filter(None, &option(harmless)).unwrap(), Some(shipped_filter()), "{harmless}");
        }
        for harmful in ["no-new-privileges=false", "systempaths=unconfined", "seccomp", "seccomp=", "apparmor=mine", ""] {
            let error = filter(None, &option(harmful)).unwrap_err();
            assert_eq!(error.to_string(), format!("`--security-opt {harmful}` is not supported"));
        }
    }

    #[test]
    fn what_cannot_be_used_is_told_with_line_and_hint() {
        for (text, cause, hint) in [
            (
                "seccomp-policy 1\narchitectures x86_64 aarch64\ndefault allow # -\nerrno EPERM raed # -",
                "line 4: no system call is called `raed`",
                "lambda.policy",
            ),
            ("  {\"defaultAction\": 1}", "line 1: found", "JSON profile, as docker"),
            (
                "seccomp-policy 1\narchitectures x86_64 aarch64\ndefault allow # -\nnotify read # -",
                "`notify` has nobody to answer it",
                "lambda.policy",
            ),
        ] {
            let (_folder, path) = file(text);
            let error = filter(Some(&path), &[]).unwrap_err();
            let said = error.source().unwrap().to_string();
            assert!(said.contains(cause) && error.is_usage(), "{said}");
            assert!(error.hint().unwrap().contains(hint), "{text}");
        }
        assert!(matches!(filter(Some("/none/such".as_ref()), &[]), Err(PolicyError::Read { .. })));
        assert!(matches!(filter(Some("/dev/zero".as_ref()), &[]), Err(PolicyError::Read { .. })));
    }
}
