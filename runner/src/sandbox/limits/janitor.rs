//! Removes our cgroups when we end without doing so: a tiny program of its own (`init/janitor.rs`) that waits for the end of a pipe.

use std::io::{self, PipeWriter};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use super::hierarchy::Parent;
use crate::sandbox::sys;

/// The janitor, compiled by `build.rs`.
const JANITOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/janitor"));

/// The janitor of this process. It works when this is dropped, or when the process ends in whatever way.
#[derive(Debug)]
pub(super) struct Janitor {
    _our_end: PipeWriter,
}

impl Janitor {
    /// Starts it; it will remove cgroups whose names begin with `prefix`.
    pub(super) fn start(prefix: &str, parents: &[Parent]) -> io::Result<Self> {
        let program = sys::sealed_program(c"undocked-janitor", JANITOR)?;
        let (theirs, ours) = io::pipe()?;
        // The kernel looks the descriptor up before it closes it.
        let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
        command.arg0("undocked-janitor").arg(prefix);
        for parent in parents {
            command.arg(if parent.own_leaf { "leave" } else { "stay" }).arg(&parent.folder);
        }
        // A group of its own: what the terminal sends to ours is not meant for it.
        command.env_clear().current_dir("/").process_group(0).stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn()?;
        Ok(Self { _our_end: ours })
    }
}
