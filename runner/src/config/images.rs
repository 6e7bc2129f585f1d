//! What is done with the images of the cache: listing, removing, naming, saving, loading, pushing.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use rootfs_cache::export::ArchiveFormat;

use rootfs_cache::store::PruneScope;

use super::{ImageSource, Talk};

/// A list of the cache's images.
#[derive(Debug, Clone)]
pub struct ImagesConfig {
    /// The cache.
    pub source: ImageSource,
    /// In which form.
    pub listing: Listing,
    /// `reference=GLOB`, `dangling=true`, as docker has them.
    pub filters: Vec<String>,
    /// Only images of this repository, or of this repository and tag.
    pub repository: Option<String>,
}

/// The form of a list of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listing {
    /// A table for people.
    Table,
    /// One JSON array.
    Json,
    /// One digest a line.
    Digests,
    /// As docker lists them.
    Docker(DockerListing),
}

/// Docker's list of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerListing {
    /// What of each image.
    pub show: DockerShow,
    /// Whether the table has the column.
    pub digests: Digests,
    /// Of IDs.
    pub length: Length,
}

/// What docker's list shows of each image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerShow {
    /// A line of a table.
    Table,
    /// Its ID.
    Ids,
    /// What a template says.
    Format(String),
}

/// Whether docker's table has a column for digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digests {
    /// As `--digests` has it.
    Show,
    /// As docker has it otherwise.
    Hide,
}

/// How long IDs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Twelve digits.
    Truncated,
    /// The whole digest.
    Full,
}

/// Images to be held against what is known of them.
#[derive(Debug, Clone)]
pub struct VerifyConfig {
    /// References, IDs or digests; all images when there is none.
    pub images: Vec<String>,
    /// The cache.
    pub source: ImageSource,
}

/// What is to be removed because it is not needed any more.
#[derive(Debug, Clone)]
pub struct PruneConfig {
    /// How much.
    pub scope: PruneScope,
    /// What becomes of images that lock files name.
    pub locked: LockedImages,
    /// The cache, and the lock files.
    pub source: ImageSource,
}

/// What becomes of images that the user's and the project's lock files name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockedImages {
    /// They stay.
    Keep,
    /// They are like others.
    AsOthers,
}

/// How long something was not used: a whole number and a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age(pub Duration);

/// Why a text is no age.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no age")]
pub struct ParseAgeError(String);

impl FromStr for Age {
    type Err = ParseAgeError;

    fn from_str(text: &str) -> Result<Self, ParseAgeError> {
        let refused = || ParseAgeError(text.to_owned());
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(refused)?;
        let (number, unit) = text.split_at(unit_at);
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            "w" => 7 * 86_400,
            _ => return Err(refused()),
        };
        let whole = number.parse::<u64>().ok().and_then(|number| number.checked_mul(seconds)).ok_or_else(refused)?;
        Ok(Self(Duration::from_secs(whole)))
    }
}

/// Images to be removed from the cache.
#[derive(Debug, Clone)]
pub struct RemoveConfig {
    /// References, IDs or digests.
    pub images: Vec<String>,
    /// Whether an image found by its ID goes though it has several names.
    pub force: Force,
    /// The cache.
    pub source: ImageSource,
}

/// Whether something is done against advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// It is not.
    No,
    /// It is.
    Yes,
}

/// Another name for an image of the cache.
#[derive(Debug, Clone)]
pub struct TagConfig {
    /// Which image: a reference, an ID or a digest.
    pub image: String,
    /// Its other name.
    pub name: String,
    /// The cache.
    pub source: ImageSource,
}

/// Images to be brought in from an archive.
#[derive(Debug, Clone)]
pub struct LoadConfig {
    /// The archive.
    pub input: LoadInput,
    /// The cache.
    pub source: ImageSource,
    /// What is said.
    pub talk: Talk,
}

/// Where an archive is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadInput {
    /// Our stdin.
    Stdin,
    /// A file.
    File(PathBuf),
}

/// Images to be written to an archive.
#[derive(Debug, Clone)]
pub struct SaveConfig {
    /// References, IDs or digests.
    pub images: Vec<String>,
    /// Where to.
    pub output: SaveOutput,
    /// What kind of archive.
    pub format: ArchiveFormat,
    /// The cache, and how missing blobs are fetched.
    pub source: ImageSource,
    /// What is said.
    pub talk: Talk,
}

/// Where an archive is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SaveOutput {
    /// Our stdout, unless it is a terminal.
    Stdout,
    /// A file, which is there whole or not at all.
    File(PathBuf),
}

/// An image to be pushed.
#[derive(Debug, Clone)]
pub struct PushConfig {
    /// An image of the cache, or one in an OCI layout or an archive.
    pub image: String,
    /// Where to; by default where its name says.
    pub destination: Option<String>,
    /// The cache, and how registries are reached.
    pub source: ImageSource,
    /// What is said.
    pub talk: Talk,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("5m", 300), ("24h", 86_400), ("30d", 2_592_000), ("2w", 1_209_600)] {
            assert_eq!(text.parse(), Ok(Age(Duration::from_secs(seconds))), "{text}");
        }
        for text in ["", "d", "30", "-1d", "1.5d", "1 d", "1y", "99999999999999999999d", "9999999999999999999w"] {
            assert_eq!(text.parse::<Age>(), Err(ParseAgeError(text.to_owned())));
        }
    }
}
