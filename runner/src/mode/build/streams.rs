//! Where the output of a build's commands goes: to our stderr, for stdout is for what was asked for.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;

use rustix::fs::MemfdFlags;
use rustix::stdio::{dup2_stderr, dup2_stdout, stderr, stdout};

use crate::config::Loudness;

/// Our streams as they were, while commands have others.
pub(super) struct Diverted {
    output: OwnedFd,
    /// With what the commands say, where that is not heard at once.
    quiet: Option<(OwnedFd, File)>,
}

impl Diverted {
    /// Puts stderr in the place of stdout, or a file in the place of both.
    pub(super) fn begin(loudness: Loudness) -> io::Result<Self> {
        // Kept from commands: they are closed when one is executed.
        let output = rustix::io::fcntl_dupfd_cloexec(stdout(), 3)?;
        if loudness == Loudness::Normal {
            dup2_stdout(stderr())?;
            return Ok(Self { output, quiet: None });
        }
        let error = rustix::io::fcntl_dupfd_cloexec(stderr(), 3)?;
        let file = File::from(rustix::fs::memfd_create("output", MemfdFlags::CLOEXEC)?);
        dup2_stdout(&file)?;
        dup2_stderr(&file)?;
        Ok(Self { output, quiet: Some((error, file)) })
    }

    /// Puts everything back; what was said quietly is told now where the command failed.
    pub(super) fn end(self, succeeded: bool) {
        // What was open cannot fail to be so again, and there is nowhere to tell it.
        let _ = dup2_stdout(&self.output);
        let Some((error, mut file)) = self.quiet else { return };
        let _ = dup2_stderr(&error);
        if !succeeded {
            let mut said = Vec::new();
            let _ = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut said));
            let _ = io::Write::write_all(&mut io::stderr(), &said);
        }
    }
}
