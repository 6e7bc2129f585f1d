//! Orders to a run that is alive: a Unix socket in its folder, on which its supervisor listens.
//!
//! An order is one line of JSON, with up to three descriptors beside its first byte; each answer is a line, too. See `docs/formats/run-record.md`.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

/// No order is longer: an environment and a command line fit.
const MOST_BYTES: usize = 8 << 20;

/// What is wanted of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// This signal, to its command.
    Signal(i32),
    /// Its end, as if its command had ended by this signal; it is not started again.
    End(i32),
    /// Not to be started again once it ends.
    StayEnded,
    /// Its processes stop.
    Pause,
    /// They go on.
    Resume,
    /// One more command, with the descriptors sent along as its standard streams.
    Exec(ExecOrder),
    /// What the descriptor sent along gives is typed into it.
    Input,
    /// Another size of its terminal: rows and columns.
    Resize(u16, u16),
    /// What runs inside, as the host sees it.
    Processes,
    /// A process that has the root that is seen inside, as the host sees it. A function's sandbox is started if there is none.
    Root,
}

/// One more command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOrder {
    /// The command line.
    pub command: Vec<String>,
    /// Variables beside the run's own.
    pub variables: Vec<(String, String)>,
    /// Another working directory.
    pub working_dir: Option<String>,
    /// Another user.
    pub user: Option<String>,
}

/// What a supervisor answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done; a command was started.
    Done,
    /// A command that was started has ended with this code.
    Ended(u8),
    /// It cannot be done: why, and docker's exit code for it.
    Refused(String, u8),
    /// What runs inside.
    Processes(Vec<u32>),
}

/// A connection, from either end.
#[derive(Debug)]
pub struct Connection {
    socket: UnixStream,
    reader: BufReader<UnixStream>,
}

/// Where a supervisor listens. The path goes through the folder's descriptor: a socket's address is short.
pub fn listen(folder: &Path) -> io::Result<UnixListener> {
    let handle = File::open(folder)?;
    let path = folder.join("control");
    let _ = std::fs::remove_file(&path);
    UnixListener::bind(format!("/proc/self/fd/{}/control", handle.as_raw_fd()))
}

/// A connection to the supervisor of a run.
pub fn connect(folder: &Path) -> io::Result<Connection> {
    let handle = File::open(folder)?;
    Connection::new(UnixStream::connect(format!("/proc/self/fd/{}/control", handle.as_raw_fd()))?)
}

impl Connection {
    /// Of a socket that was accepted.
    pub fn new(socket: UnixStream) -> io::Result<Self> {
        let reader = BufReader::new(socket.try_clone()?);
        Ok(Self { socket, reader })
    }

    /// Another hand on it, for answers.
    pub fn answerer(&self) -> io::Result<UnixStream> {
        self.socket.try_clone()
    }

    /// Sends an order.
    pub fn order(&mut self, order: &Order, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let sent = sendmsg(&self.socket, &[IoSlice::new(&line)], &mut ancillary, SendFlags::NOSIGNAL)?;
        self.socket.write_all(&line[sent..])
    }

    /// The next answer.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// The next order, with what came along; nothing at the end.
    pub fn receive(&mut self) -> io::Result<Option<(Order, Vec<OwnedFd>)>> {
        let (mut line, mut descriptors) = (Vec::new(), Vec::new());
        let mut bytes = [0; 4096];
        while line.last() != Some(&b'\n') {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let received = recvmsg(&self.socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    descriptors.extend(rights);
                }
            }
            if received.bytes == 0 {
                return Ok(None);
            }
            line.extend_from_slice(&bytes[..received.bytes]);
            if line.len() > MOST_BYTES {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        Ok(Some((serde_json::from_slice(&line)?, descriptors)))
    }
}

/// Answers.
pub fn tell(mut socket: &UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    socket.write_all(&line)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn orders_with_descriptors_and_answers() {
        let folder = tempfile::tempdir().unwrap();
        let listener = listen(folder.path()).unwrap();
        let mut client = connect(folder.path()).unwrap();
        let mut server = Connection::new(listener.accept().unwrap().0).unwrap();
        let (mut read, write) = io::pipe().unwrap();
        let order = Order::Exec(ExecOrder { command: vec!["x".repeat(10_000)], ..ExecOrder::default() });
        client.order(&order, &[write.as_fd()]).unwrap();
        drop(write);
        let (received, mut descriptors) = server.receive().unwrap().unwrap();
        assert_eq!(received, order);
        File::from(descriptors.remove(0)).write_all(b"hi").unwrap();
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hi");
        tell(&server.answerer().unwrap(), &Answer::Ended(3)).unwrap();
        assert_eq!(client.answer().unwrap(), Answer::Ended(3));
        drop(client);
        assert!(server.receive().unwrap().is_none());
    }
}
