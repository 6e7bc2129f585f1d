//! One file per thing that can be done: each brings the other modules together and decides nothing itself.

pub mod batch;
pub mod build;
pub mod call;
pub mod detach;
pub mod docker;
pub mod doctor;
pub mod images;
mod inside;
pub mod load;
pub mod lock;
pub mod login;
pub mod manual;
pub mod once;
mod progress;
pub mod pull;
pub mod push;
mod ready;
pub mod save;
pub mod serve;
pub mod shell;
mod signals;
mod stay_open;
pub mod tag;
pub mod trust;
mod underway;
mod work;
pub mod writable;

use std::io::Write;
use std::path::Path;

use rootfs_cache::store::{Cache, CacheError};

use crate::config::ImageSource;
use crate::exit_code::{ExitCode, Failure};

/// The folder of the cache.
fn cache_root(source: &ImageSource) -> Result<&Path, Failure> {
    let hint = || Some("set `UNDOCKED_CACHE` to a folder, or `HOME`".to_owned());
    source.cache.as_deref().ok_or_else(|| Failure::could_not_run("there is no place for a cache").with_hint(hint()))
}

/// Opens the cache that a command works on.
fn open_cache(source: &ImageSource) -> Result<Cache, Failure> {
    Cache::open(cache_root(source)?).map_err(in_cache)
}

fn in_cache(error: CacheError) -> Failure {
    let hint = error.hint();
    Failure::could_not_run(error).with_hint(hint)
}

/// Writes what was asked for to stdout. A reader that went away is an error: it did not get what it asked for.
fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::could_not_run(format!("cannot write to stdout: {error}")))
}

/// Removes a folder of ours in a user namespace of this process's own, as a run of ours asked for that.
pub fn remove_as_root_inside(name: &str) -> Result<ExitCode, Failure> {
    crate::sandbox::remove_as_root_inside(name).map(|()| ExitCode::SUCCESS).map_err(Failure::could_not_run)
}

/// A runtime for waiting on many things with one thread.
fn async_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Failure::could_not_run(format!("cannot wait for events: {error}")))
}
