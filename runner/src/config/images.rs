//! What is done with the images of the cache: listing, removing, naming, saving, loading, pushing.

use std::path::PathBuf;

pub use rootfs_cache::export::ArchiveFormat;

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
