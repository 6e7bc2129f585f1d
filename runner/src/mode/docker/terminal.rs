//! Our own terminal while a run has one of its own: it hands every key on and paints what comes, and is as it was before at every end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::termios::{LocalModes, OptionalActions, Termios, Winsize, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::exit_code::{ExitCode, Failure};

/// The terminal that is not as it was, and how it was. One process has one.
static CHANGED: Mutex<Option<(OwnedFd, Termios)>> = Mutex::new(None);

/// Puts the terminal back, if it is changed. Every end comes by here, a panic, too.
pub fn restore() {
    if let Some((terminal, before)) = CHANGED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = tcsetattr(&terminal, OptionalActions::Now, &before);
    }
}

/// As long as this lives the terminal is raw.
#[derive(Debug)]
pub(super) struct Raw(());

impl Raw {
    pub(super) fn of(terminal: impl AsFd) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        *CHANGED.lock().unwrap_or_else(PoisonError::into_inner) = Some((terminal.as_fd().try_clone_to_owned()?, before));
        tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Self(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// A new terminal, as (ours, the run's), as large as `like` if that is one.
pub(super) fn open(like: Option<BorrowedFd<'_>>) -> io::Result<(OwnedFd, OwnedFd)> {
    let pair = nix::pty::openpty(None, None)?;
    let close_on_exec = |descriptor: &OwnedFd| rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC);
    close_on_exec(&pair.master)?;
    close_on_exec(&pair.slave)?;
    if let Some(like) = like {
        resize(like, pair.master.as_fd());
    }
    Ok((pair.master, pair.slave))
}

/// What is typed into `terminal` is not written to it.
pub(super) fn show_nothing_typed(terminal: BorrowedFd<'_>) -> io::Result<()> {
    let mut modes = tcgetattr(terminal)?;
    modes.local_modes.remove(LocalModes::ECHO);
    Ok(tcsetattr(terminal, OptionalActions::Now, &modes)?)
}

/// Makes `terminal` as large as `like`.
pub(super) fn resize(like: BorrowedFd<'_>, terminal: BorrowedFd<'_>) {
    if let Ok(size) = tcgetwinsize(like) {
        let _ = tcsetwinsize(terminal, size);
    }
}

/// Gives a terminal a size.
pub(super) fn set_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) {
    let _ = tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 });
}

/// Docker's words where our input has to be a terminal and is none.
pub(super) fn expect() -> Result<(), Failure> {
    if is_one(io::stdin()) {
        return Ok(());
    }
    Err(Failure::could_not_run("the input device is not a TTY").with_code(ExitCode::FUNCTION_FAILED))
}

/// Whether this is one.
pub(super) fn is_one(descriptor: impl AsFd) -> bool {
    isatty(descriptor)
}
