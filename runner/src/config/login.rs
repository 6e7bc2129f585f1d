//! Logging in to a registry and out of it.

use std::fmt;
use std::path::PathBuf;

use rootfs_cache::source::RegistryAccess;

use super::Talk;

/// A login.
#[derive(Debug, Clone)]
pub struct LoginConfig {
    /// The registry as given.
    pub registry: String,
    /// The user's name.
    pub user: String,
    /// What proves it.
    pub password: Password,
    /// The file that keeps it; nothing when neither a variable nor a home folder says where.
    pub file: Option<PathBuf>,
    /// How the registry is reached.
    pub access: RegistryAccess,
    /// What is said.
    pub talk: Talk,
}

/// Where a password comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// From standard input.
    Stdin,
    /// From the command line.
    Given(String),
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdin => "Stdin",
            Self::Given(_) => "Given(..)",
        })
    }
}

/// A login that is to be forgotten.
#[derive(Debug, Clone)]
pub struct LogoutConfig {
    /// The registry as given.
    pub registry: String,
    /// The file that keeps it; nothing when neither a variable nor a home folder says where.
    pub file: Option<PathBuf>,
    /// How the helper is found that keeps it.
    pub access: RegistryAccess,
}
