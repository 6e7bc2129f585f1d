//! Which build arguments there are, and what they hold: for the file, and within a stage.

use std::cell::RefCell;
use std::collections::BTreeSet;

use rootfs_cache::reference::Platform;

use crate::build::dockerfile::{Dockerfile, DockerfileError, Wrong};
use crate::build::words;

/// Arguments that need no `ARG`, and that neither keys nor histories tell of.
const PREDEFINED: [&str; 10] =
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY", "ftp_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"];

/// The build arguments.
pub(super) struct Scope {
    /// `--build-arg`.
    given: Vec<(String, String)>,
    /// What is known of the platform.
    platform: Vec<(String, String)>,
    /// `ARG` before the first stage.
    of_file: Vec<(String, Option<String>)>,
    /// `ARG` in the stage.
    of_stage: Vec<(String, Option<String>)>,
    asked_for: RefCell<BTreeSet<String>>,
}

impl Scope {
    pub(super) fn new(dockerfile: &Dockerfile, given: &[(String, String)], platform: &Platform) -> Result<Self, DockerfileError> {
        let host = Platform::of_host();
        let known = |prefix: &str, platform: &Platform| {
            let pair = |name: &str, value: &str| (format!("{prefix}{name}"), value.to_owned());
            let variant = platform.variant.clone().unwrap_or_default();
            [
                pair("PLATFORM", &platform.to_string()),
                pair("OS", "linux"),
                pair("ARCH", platform.architecture.as_str()),
                pair("VARIANT", &variant),
            ]
        };
        let platform = known("TARGET", platform).into_iter().chain(known("BUILD", &host)).collect();
        let mut scope = Self { given: given.to_vec(), platform, of_file: Vec::new(), of_stage: Vec::new(), asked_for: RefCell::default() };
        for (line, name, default) in &dockerfile.globals {
            let value = match (scope.given(name), default) {
                (Some(given), _) => Some(given),
                (None, Some(default)) => {
                    Some(scope.of_file(default, dockerfile.escape).map_err(|wrong| wrong.at(&dockerfile.name, *line))?)
                }
                (None, None) => scope.platform(name),
            };
            scope.of_file.push((name.clone(), value));
        }
        Ok(scope)
    }

    fn given(&self, name: &str) -> Option<String> {
        let given = find(&self.given, name).cloned();
        if given.is_some() {
            self.asked_for.borrow_mut().insert(name.to_owned());
        }
        given
    }

    fn platform(&self, name: &str) -> Option<String> {
        find(&self.platform, name).cloned()
    }

    /// Expands a word of a `FROM`.
    pub(super) fn of_file(&self, word: &str, escape: char) -> Result<String, Wrong> {
        words::expand(word, escape, &|name| find(&self.of_file, name).cloned().flatten().or_else(|| self.platform(name)))
    }

    /// A stage begins with no arguments.
    pub(super) fn enter_stage(&mut self) {
        self.of_stage.clear();
    }

    /// `ARG` in a stage: gives what it holds.
    pub(super) fn declare(&mut self, name: &str, default: Option<String>) -> Option<String> {
        let of_file = || find(&self.of_file, name).cloned().flatten();
        let value = self.given(name).or(default).or_else(of_file).or_else(|| self.platform(name));
        self.of_stage.retain(|(known, _)| known != name);
        self.of_stage.push((name.to_owned(), value.clone()));
        value
    }

    /// What an argument of the stage holds.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        find(&self.of_stage, name).cloned().flatten()
    }

    /// The arguments of the stage that hold something.
    pub(super) fn values(&self) -> Vec<(String, String)> {
        self.of_stage.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect()
    }

    /// The predefined ones that were given, for commands alone.
    pub(super) fn predefined(&self) -> Vec<(String, String)> {
        PREDEFINED.iter().filter_map(|name| Some(((*name).to_owned(), self.given(name)?))).collect()
    }

    /// Arguments that were given and that nothing asked for.
    pub(super) fn unused(&self) -> Vec<&str> {
        let asked_for = self.asked_for.borrow();
        let names = self.given.iter().map(|(name, _)| name.as_str());
        names.filter(|name| !asked_for.contains(*name) && !PREDEFINED.contains(name) && *name != "SOURCE_DATE_EPOCH").collect()
    }
}

fn find<'a, T>(pairs: &'a [(String, T)], name: &str) -> Option<&'a T> {
    pairs.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value)
}
