//! Logging in and out: whether a registry takes a login, and where it is kept, as docker keeps it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::credentials::helper::{Helper, HelperError};
use super::credentials::{self, Credentials, CredentialsError, Logins};
use super::endpoint::{Ask, Endpoint, Purpose, Target};
use super::registries::{self, Places};
use super::{Notes, RegistryAccess, SourceError};
use crate::reference::RegistryReference;

/// A registry without a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry(RegistryReference);

/// Why a login was not checked, kept or forgotten.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The registry does not take it.
    #[error("registry `{registry}` does not take the login")]
    Check {
        /// The registry.
        registry: String,
        /// What it answered.
        source: SourceError,
    },
    /// The text is no registry.
    #[error("`{0}` is no registry")]
    Registry(String),
    /// A user's name with a colon cannot be told from the password.
    #[error("the user's name holds a colon")]
    User,
    /// The helper that should keep it.
    #[error("the login cannot be kept or forgotten")]
    Helper {
        /// Why.
        source: HelperError,
    },
    /// The file that should keep it is not one that we may write to.
    #[error("`{}` {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file cannot be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Where a login is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In the file itself, readable by its owner.
    InFile,
    /// With a credential helper.
    ByHelper(String),
}

/// Whether there was a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// It is gone.
    Yes,
    /// There was none.
    Nothing,
}

impl LoginError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Check { source: SourceError::Refused { .. }, .. } => Some("check user name and password".to_owned()),
            Self::Check { source, .. } => source.hint(),
            Self::Helper { .. } => Some("`credsStore` and `credHelpers` of docker's `config.json` name it".to_owned()),
            Self::Registry(_) => Some("write it as in an image's name: `HOST[:PORT]`; Docker Hub when none is given".to_owned()),
            _ => None,
        }
    }
}

impl Registry {
    /// A registry as it is written: `HOST[:PORT]`, perhaps with `https://` before and a path behind, as docker takes it.
    pub fn parse(text: &str) -> Result<Self, LoginError> {
        let host = credentials::normal(text);
        let host = host.split('/').next().unwrap_or_default();
        let bad = || LoginError::Registry(text.to_owned());
        let parsed: RegistryReference = format!("{host}/login/login").parse().map_err(|_| bad())?;
        if parsed.registry() == host { Ok(Self(parsed)) } else { Err(bad()) }
    }

    /// Its name, as in image references.
    pub fn name(&self) -> &str {
        self.0.registry()
    }
}

/// Asks the registry whether it takes a login.
pub async fn check(registry: &Registry, login: NewLogin<'_>, access: &RegistryAccess, notes: Notes<'_>) -> Result<(), LoginError> {
    let NewLogin { user, password } = login;
    if user.contains(':') {
        return Err(LoginError::User);
    }
    let refused = |source| LoginError::Check { registry: registry.name().to_owned(), source };
    let unreachable = |source| refused(SourceError::Unreachable { registry: registry.name().to_owned(), source });
    let Places { registry: place, .. } = registries::places(&registry.0, access, notes).map_err(unreachable)?;
    let endpoint = Endpoint::new(place, &Arc::new(access.clone()), Purpose::LogIn, notes);
    endpoint.use_login(user, password).await;
    endpoint.send(&Ask::get(Target::Api(String::new()), "its API")).await.map_err(refused)?;
    Ok(())
}

/// A user's name and what proves it.
#[derive(Clone, Copy)]
pub struct NewLogin<'l> {
    /// The name.
    pub user: &'l str,
    /// The password or access token.
    pub password: &'l str,
}

/// Whether pulls will use a login that was stored, or find another one before it.
pub async fn is_used(registry: &Registry, login: NewLogin<'_>, access: &RegistryAccess) -> bool {
    let logins = Logins { files: &access.logins, search_path: &access.search_path, helper_limit: access.patience.helper };
    let stored = Credentials::Password { user: login.user.to_owned(), password: login.password.to_owned() };
    logins.find(&registry.0, &|_| {}).await == Some(stored)
}

/// Keeps a login in docker's `config.json`, or with the helper that it names.
pub async fn store(registry: &Registry, login: NewLogin<'_>, file: &Path, access: &RegistryAccess) -> Result<Kept, LoginError> {
    let NewLogin { user, password } = login;
    let server = credentials::server(registry.name());
    let mut config = Config::read(file)?;
    let (entry, kept) = match keeper(file, registry)? {
        Some(name) => {
            let helper = Helper { name: &name, search_path: &access.search_path, limit: access.patience.helper };
            helper.store(&server, user, password).await.map_err(|source| LoginError::Helper { source })?;
            // An empty entry shows that there is a login, as docker has it.
            (json!({}), Kept::ByHelper(name))
        }
        None => (json!({"auth": STANDARD.encode(format!("{user}:{password}"))}), Kept::InFile),
    };
    config.auths()?.insert(server, entry);
    config.write()?;
    Ok(kept)
}

/// Forgets a login.
pub async fn forget(registry: &Registry, file: &Path, access: &RegistryAccess) -> Result<Forgotten, LoginError> {
    let mut config = Config::read(file)?;
    let auths = config.auths()?;
    let before = auths.len();
    auths.retain(|key, _| credentials::normal(key) != registry.name());
    let was_there = auths.len() < before;
    if let Some(name) = keeper(file, registry)? {
        let helper = Helper { name: &name, search_path: &access.search_path, limit: access.patience.helper };
        helper.erase(&credentials::server(registry.name())).await.map_err(|source| LoginError::Helper { source })?;
    }
    if !was_there {
        return Ok(Forgotten::Nothing);
    }
    config.write()?;
    Ok(Forgotten::Yes)
}

fn keeper(file: &Path, registry: &Registry) -> Result<Option<String>, LoginError> {
    let unusable = |error: CredentialsError| LoginError::Config { path: file.to_owned(), reason: error.to_string() };
    credentials::keeper(file, registry.name()).map_err(unusable)
}

/// Docker's `config.json`, with all that we do not know.
struct Config {
    path: PathBuf,
    fields: Map<String, Value>,
}

impl Config {
    fn read(path: &Path) -> Result<Self, LoginError> {
        let bad = |reason: String| LoginError::Config { path: path.to_owned(), reason };
        let text = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            text => text.map_err(|error| bad(format!("cannot be read: {error}")))?,
        };
        let fields = if text.trim_ascii().is_empty() {
            Map::new()
        } else {
            serde_json::from_slice(&text).map_err(|error| bad(format!("is malformed: {error}")))?
        };
        Ok(Self { path: path.to_owned(), fields })
    }

    fn auths(&mut self) -> Result<&mut Map<String, Value>, LoginError> {
        let path = self.path.clone();
        let auths = self.fields.entry("auths").or_insert_with(|| json!({}));
        auths.as_object_mut().ok_or_else(|| LoginError::Config { path, reason: "has `auths` that are no object".to_owned() })
    }

    /// Nobody sees half of it, and nobody else reads it. A link stays one.
    fn write(&self) -> Result<(), LoginError> {
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let failed = |source| LoginError::Write { path: target.clone(), source };
        let folder = target.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let unfinished = target.with_extension(format!("json.{}.tmp", std::process::id()));
        let written = self.write_to(&unfinished).and_then(|()| fs::rename(&unfinished, &target));
        if written.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        written.map_err(failed)
    }

    fn write_to(&self, path: &Path) -> io::Result<()> {
        // Not one that somebody else has put there.
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let mut text = serde_json::to_string_pretty(&self.fields)?;
        text.push('\n');
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }
}

#[cfg(test)]
mod tests;
