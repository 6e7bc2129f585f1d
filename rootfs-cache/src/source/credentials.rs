//! Stored logins: docker's `config.json` and the `auth.json` of podman and skopeo, which have one form, and the credential helpers that they name.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::reference::RegistryReference;

pub(super) mod helper;

use helper::{Helper, HelperError};

/// How docker names Docker Hub in its files and to its helpers.
pub(super) const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// What proves who we are. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    /// A user name and password.
    Password { user: String, password: String },
    /// A token that is exchanged for others by OAuth.
    IdentityToken(String),
}

/// Why a stored login is not used. That is worth a note and no more: the image may be public.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialsError {
    #[error("cannot be read: {0}")]
    Read(io::Error),
    #[error("is malformed: {0}")]
    Malformed(serde_json::Error),
    #[error("has a login for `{0}` that is not `user:password` in base64")]
    Login(String),
    #[error("names a credential helper that gives nothing: {0}")]
    Helper(HelperError),
}

/// Where logins are looked for.
pub(super) struct Logins<'a> {
    pub(super) files: &'a [PathBuf],
    pub(super) search_path: &'a OsStr,
    pub(super) helper_limit: Duration,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    auths: HashMap<String, Auth>,
    #[serde(default)]
    creds_store: String,
    #[serde(default)]
    cred_helpers: HashMap<String, String>,
}

#[derive(Deserialize, Default)]
struct Auth {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    identitytoken: String,
    /// As people write them by hand, in place of `auth`.
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

impl Logins<'_> {
    /// The login for a repository: from the first file that has one. What is wrong with a file before it is told.
    pub(super) async fn find(&self, reference: &RegistryReference, note: &(dyn Fn(&str) + Send + Sync)) -> Option<Credentials> {
        for file in self.files {
            let without = |error: &CredentialsError| note(&format!("`{}` {error}: going on without it", file.display()));
            match self.of_file(file, reference, &without).await {
                Ok(None) => {}
                Ok(found) => return found,
                Err(error) => without(&error),
            }
        }
        None
    }

    /// A helper that is of no help hides nothing of what the file itself holds.
    async fn of_file(
        &self,
        file: &Path,
        reference: &RegistryReference,
        without: &(dyn Fn(&CredentialsError) + Send + Sync),
    ) -> Result<Option<Credentials>, CredentialsError> {
        let config = read(file)?;
        for name in config.helpers(reference.registry()) {
            let helper = Helper { name, search_path: self.search_path, limit: self.helper_limit };
            match helper.get(&server(reference.registry())).await {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(error) => without(&CredentialsError::Helper(error)),
            }
        }
        config.stored(reference)
    }
}

/// How a registry is named to helpers, and in files that we write.
pub(super) fn server(registry: &str) -> String {
    if registry == "docker.io" { DOCKER_HUB_KEY.to_owned() } else { registry.to_owned() }
}

/// The helper that keeps the logins of a registry, if the file names one.
pub(super) fn keeper(file: &Path, registry: &str) -> Result<Option<String>, CredentialsError> {
    Ok(read(file)?.helpers(registry).next().map(str::to_owned))
}

fn read(file: &Path) -> Result<Config, CredentialsError> {
    match std::fs::read(file) {
        Ok(text) if text.trim_ascii().is_empty() => Ok(Config::default()),
        Ok(text) => serde_json::from_slice(&text).map_err(CredentialsError::Malformed),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Config::default()),
        Err(error) => Err(CredentialsError::Read(error)),
    }
}

impl Config {
    /// The helpers to ask for a registry: its own, then that for all.
    fn helpers(&self, registry: &str) -> impl Iterator<Item = &str> {
        let own = self.cred_helpers.iter().find(|(key, _)| normal(key) == registry).map(|(_, name)| name.as_str());
        [own, Some(self.creds_store.as_str())].into_iter().flatten().filter(|name| !name.is_empty())
    }

    /// What the file itself holds: for the longest part of `registry/repository`.
    fn stored(&self, reference: &RegistryReference) -> Result<Option<Credentials>, CredentialsError> {
        let wanted = format!("{}/{}", reference.registry(), reference.repository());
        let best = self.auths.iter().filter(|(key, auth)| auth.is_some() && covers(&normal(key), &wanted));
        let Some((key, auth)) = best.max_by_key(|(key, _)| normal(key).len()) else { return Ok(None) };
        if !auth.identitytoken.is_empty() {
            return Ok(Some(Credentials::IdentityToken(auth.identitytoken.clone())));
        }
        if auth.auth.is_empty() {
            return Ok(Some(Credentials::Password { user: auth.username.clone(), password: auth.password.clone() }));
        }
        let login = STANDARD.decode(auth.auth.trim()).ok().and_then(|login| String::from_utf8(login).ok());
        let login = login.as_deref().and_then(|login| login.split_once(':'));
        // Docker pads passwords with NUL bytes in some versions.
        let login = login
            .map(|(user, password)| Credentials::Password { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() });
        login.map(Some).ok_or_else(|| CredentialsError::Login(key.clone()))
    }
}

impl Auth {
    fn is_some(&self) -> bool {
        !self.auth.is_empty() || !self.identitytoken.is_empty() || !self.username.is_empty()
    }
}

/// Docker writes `https://index.docker.io/v1/` for Docker Hub and `host` for others; older ones wrote URLs for all.
pub(super) fn normal(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key).trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    match key {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        key => key.to_owned(),
    }
}

fn covers(key: &str, wanted: &str) -> bool {
    wanted.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests;
