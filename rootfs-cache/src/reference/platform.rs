//! The platform an image is wanted for.

use std::fmt;
use std::str::FromStr;

use super::{ParseReferenceError, is_component};

/// A processor architecture Lambda has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Architecture {
    /// x86_64.
    Amd64,
    /// aarch64.
    Arm64,
}

impl Architecture {
    /// The name in manifests and configs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The variant every processor of the architecture has; naming it says nothing.
    fn baseline(self) -> &'static str {
        match self {
            Self::Amd64 => "v1",
            Self::Arm64 => "v8",
        }
    }
}

/// The platform an image is wanted for. The operating system is Linux. Shown as `linux/amd64`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    /// The processor.
    pub architecture: Architecture,
    /// A variant above the baseline, as `v3` in `linux/amd64/v3`.
    pub variant: Option<String>,
}

impl Platform {
    /// The platform this program runs on.
    pub fn of_host() -> Self {
        let architecture = if cfg!(target_arch = "aarch64") { Architecture::Arm64 } else { Architecture::Amd64 };
        Self { architecture, variant: None }
    }

    /// A platform as manifests describe it, or none for another than ours. `arm64/v8` and `amd64/v1` are plain `arm64` and `amd64`.
    pub fn from_parts(os: &str, architecture: &str, variant: Option<&str>) -> Option<Self> {
        let architecture = match architecture {
            "amd64" | "x86_64" | "x86-64" => Architecture::Amd64,
            "arm64" | "aarch64" => Architecture::Arm64,
            _ => return None,
        };
        let variant = variant.filter(|variant| !variant.is_empty() && *variant != architecture.baseline()).map(str::to_owned);
        (os == "linux").then_some(Self { architecture, variant })
    }
}

impl FromStr for Platform {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, ParseReferenceError> {
        let parts: Vec<&str> = text.split('/').collect();
        let platform = match parts[..] {
            [architecture] => Self::from_parts("linux", architecture, None),
            [os, architecture] => Self::from_parts(os, architecture, None),
            [os, architecture, variant] if is_component(variant) => Self::from_parts(os, architecture, Some(variant)),
            _ => None,
        };
        platform.ok_or_else(|| ParseReferenceError::Platform(text.to_owned()))
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linux/{}", self.architecture.as_str())?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}
