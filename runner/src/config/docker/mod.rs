//! What is asked for under the face of docker: the runs, which are kept in records, and what is done with them afterwards.

use std::path::PathBuf;

mod asked;
mod spec;
mod ulimit;

pub use asked::{Copied, DockerCommand, ExecAsked, Filters, Lines, LogsAsked, ObjectKind, PsAsked, Show, Signalled, Stopped};
pub use spec::{Attached, MountSpec, Pulling, Restart, RestartPolicy, RunSpec, SpecError, Stream, VolumeSource};
pub use ulimit::{ParseUlimitError, Ulimit};

use super::{ImageSource, Talk};

/// The word behind `docker` by which this program is the supervisor of a run in the background.
pub const SUPERVISE: &str = "supervise-run";

/// Where everything lies that the face of docker works on.
#[derive(Debug, Clone)]
pub struct Place {
    /// The folder of run records; nothing when neither a variable nor a folder of this user's says where.
    pub records: Option<PathBuf>,
    /// The cache, and how images are found.
    pub images: ImageSource,
    /// Where named volumes lie; in the cache.
    pub volumes: Option<PathBuf>,
    /// What is said on stderr.
    pub talk: Talk,
}

impl Place {
    /// Where the networks lie that were made; in the cache.
    pub fn networks(&self) -> Option<PathBuf> {
        Some(self.images.cache.as_ref()?.join("networks"))
    }

    /// What is known of a network that was made, if its name can be one. Whether it is there is another matter.
    pub fn network(&self, name: &str) -> Option<PathBuf> {
        let is_name = name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '-'));
        Some(self.networks()?.join(Some(name).filter(|_| is_name)?))
    }
}
