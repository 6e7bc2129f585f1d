//! Standard input, output and error of a program, as they are made outside.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd};

use super::outcome::prepare;
use super::{InnerIdentity, Input, LaunchError, Output, Stdio, sys};

/// The streams of one program.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Those that are the program's; none where it keeps ours.
    pub(super) given: [Option<OwnedFd>; 3],
    /// The read ends of standard output and error, where they are pipes.
    read: (Option<OwnedFd>, Option<OwnedFd>),
}

impl Streams {
    /// Opens them. `owner` are the host's ids of those inside, where these are not ours.
    pub(super) fn new(stdio: Stdio, owner: Option<InnerIdentity>) -> io::Result<Self> {
        let input = match stdio.input {
            Input::Null => Some(sys::above_standard(File::open("/dev/null")?.into())?),
            Input::Inherit => None,
        };
        let (output_read, output) = pipe_out(stdio.output, owner)?;
        let (error_read, error) = match (stdio.error, &output) {
            (Output::Joined, Some(output)) => (None, Some(sys::above_standard(output.try_clone()?)?)),
            (own, _) => pipe_out(own, owner)?,
        };
        Ok(Self { given: [input, output, error], read: (output_read, error_read) })
    }

    /// Opens them for a process that has none of ours.
    pub(super) fn open(stdio: Stdio, owner: Option<InnerIdentity>) -> Result<Self, LaunchError> {
        refuse_folders(stdio)?;
        let mut streams = Self::new(stdio, owner).map_err(prepare("make pipes"))?;
        let ours = [
            io::stdin().as_fd().try_clone_to_owned(),
            io::stdout().as_fd().try_clone_to_owned(),
            io::stderr().as_fd().try_clone_to_owned(),
        ];
        for (given, ours) in streams.given.iter_mut().zip(ours) {
            if given.is_none() {
                // What we do not have open it has not either.
                *given = ours.ok();
            }
        }
        Ok(streams)
    }

    /// What there is, by number.
    pub(super) fn places(&self) -> Vec<(RawFd, BorrowedFd<'_>)> {
        (0..).zip(&self.given).filter_map(|(number, given)| Some((number, given.as_ref()?.as_fd()))).collect()
    }

    /// The read ends of output and error; the program's own ends are closed here.
    pub(super) fn pipes(self) -> (Option<OwnedFd>, Option<OwnedFd>) {
        self.read
    }
}

/// A stream of ours that is a folder would be a way to all that lies beneath it, past every wall inside.
pub(super) fn refuse_folders(stdio: Stdio) -> Result<(), LaunchError> {
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    let inherited = [
        ("/dev/stdin", stdio.input == Input::Inherit, input.as_fd()),
        ("/dev/stdout", stdio.output == Output::Inherit, output.as_fd()),
        ("/dev/stderr", stdio.error != Output::Pipe, error.as_fd()),
    ];
    inherited.into_iter().filter(|(_, is_inherited, _)| *is_inherited).try_for_each(|(name, _, stream)| refuse_folder(name, stream))
}

/// The same for one descriptor, however it is called.
pub(super) fn refuse_folder(name: &str, descriptor: BorrowedFd<'_>) -> Result<(), LaunchError> {
    if nix::sys::stat::fstat(descriptor).is_ok_and(|status| status.st_mode & libc::S_IFMT == libc::S_IFDIR) {
        return Err(LaunchError::Source { path: name.into(), source: io::Error::from_raw_os_error(libc::EISDIR) });
    }
    Ok(())
}

/// Makes a pipe or terminal that was made for a program its own, so that it may open it again as `/dev/stdout`, as docker does. One that cannot be is used
/// all the same.
pub(super) fn give(stream: &OwnedFd, owner: Option<InnerIdentity>) {
    let is_pipe = nix::sys::stat::fstat(stream).is_ok_and(|status| status.st_mode & libc::S_IFMT == libc::S_IFIFO);
    if let Some(owner) = owner.filter(|_| is_pipe || stream.is_terminal()) {
        let _ = std::os::unix::fs::fchown(stream, Some(owner.uid), Some(owner.gid));
    }
}

/// The (read end, write end) of a pipe for an output stream, when one is wanted.
fn pipe_out(output: Output, owner: Option<InnerIdentity>) -> io::Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    if output != Output::Pipe {
        return Ok((None, None));
    }
    let (read, write) = sys::pipe()?;
    if let Some(owner) = owner {
        // So that the function may open it again as /dev/stdout.
        std::os::unix::fs::fchown(&write, Some(owner.uid), Some(owner.gid))?;
    }
    Ok((Some(read.into()), Some(write.into())))
}
