//! Where else a process holds a socket that is about to be replaced: under other numbers, and in epoll sets.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::thread;

use rustix::fs::{Mode, OFlags, RawDir, SeekFrom, fstat, major, minor, openat, readlinkat_raw, seek};

use super::caller::Folders;
use crate::sandbox::sys::{self, Registration};

/// A number under which a process holds a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) number: RawFd,
    pub(super) close_on_exec: bool,
}

/// What a process has of a socket.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// The numbers.
    pub(super) numbers: Vec<Place>,
    /// Registrations in epoll sets, each with the process's number of the set.
    pub(super) registrations: Vec<(RawFd, Registration)>,
}

/// Looks through the descriptors of a thread's process. Only its own: another process that has the same socket from a fork or a message keeps the old one.
pub(super) fn find(folders: &Folders, socket: BorrowedFd<'_>) -> io::Result<Places> {
    let status = fstat(socket)?;
    let link = format!("socket:[{}]", status.st_ino);
    let device = (major(status.st_dev) << 20) | minor(status.st_dev);
    let mut places = Places::default();
    let mut space = [MaybeUninit::uninit(); 4096];
    seek(&folders.links, SeekFrom::Start(0))?;
    let mut entries = RawDir::new(&folders.links, &mut space);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        // Beside them there are `.` and `..`.
        let Some(number) = number(entry.file_name()) else { continue };
        let mut target = [MaybeUninit::uninit(); 64];
        // What has been closed meanwhile is gone.
        let Ok((target, _)) = readlinkat_raw(&folders.links, entry.file_name(), &mut target) else { continue };
        if target == link.as_bytes() {
            places.numbers.push(Place { number, close_on_exec: closes_on_exec(folders, entry.file_name()) });
        } else if target == b"anon_inode:[eventpoll]" {
            let mut text = String::new();
            describe(folders, entry.file_name())?.read_to_string(&mut text)?;
            places.registrations.extend(registrations(&text, status.st_ino, device).map(|registration| (number, registration)));
        }
    }
    Ok(places)
}

fn describe(folders: &Folders, name: &CStr) -> io::Result<File> {
    Ok(openat(&folders.texts, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?.into())
}

fn number(name: &CStr) -> Option<RawFd> {
    name.to_str().ok()?.parse().ok()
}

/// proc_pid_fdinfo(5): the second line has the flags, in octal. What cannot be found out is taken for the usual.
fn closes_on_exec(folders: &Folders, name: &CStr) -> bool {
    let mut space = [0; 128];
    let read = describe(folders, name).and_then(|mut file| file.read(&mut space));
    read.ok().and_then(|length| flags(str::from_utf8(space.get(..length)?).ok()?)).is_none_or(|flags| flags & libc::O_CLOEXEC != 0)
}

fn flags(text: &str) -> Option<i32> {
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
    i32::from_str_radix(flags.trim(), 8).ok()
}

/// proc_pid_fdinfo(5): of a set, a line for each of its members: `tfd: 5 events: 19 data: 5 pos:0 ino:61af sdev:7`.
fn registrations(text: &str, inode: u64, device: u32) -> impl Iterator<Item = Registration> {
    text.lines().filter_map(move |line| {
        let field = |name: &str| {
            let (_, rest) = line.split_once(name)?;
            rest.split_whitespace().next()
        };
        let hexadecimal = |name| u64::from_str_radix(field(name)?, 16).ok();
        let number = field("tfd:")?.parse().ok()?;
        let registration = Registration { number, events: hexadecimal("events:")? as u32, data: hexadecimal("data:")? };
        (hexadecimal("ino:")? == inode && hexadecimal("sdev:")? == u64::from(device)).then_some(registration)
    })
}

/// Changes epoll sets from a thread with a table of descriptors of its own: a member is known by its number in the table of whoever adds it
/// (epoll_ctl(2), epoll(7): question 1).
#[derive(Debug)]
pub(super) struct Registrar {
    // Unbounded: whoever sends waits for the answer.
    jobs: Sender<Job>,
}

#[derive(Debug)]
struct Job {
    set: RawFd,
    socket: RawFd,
    operation: i32,
    registration: Registration,
    answer: SyncSender<io::Result<()>>,
}

impl Registrar {
    /// Starts the thread. It ends when the registrar is dropped.
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, received) = channel::<Job>();
        thread::Builder::new().name("epoll-sets".into()).spawn(move || {
            sys::block_all_signals();
            let alone = sys::leave_descriptor_table();
            for job in received {
                let result = match &alone {
                    Ok(()) => sys::register_elsewhere(job.set, job.socket, job.operation, job.registration),
                    Err(error) => Err(io::Error::from(error.kind())),
                };
                // Whoever asked waits.
                let _ = job.answer.send(result);
            }
        })?;
        Ok(Self { jobs })
    }

    /// Adds a socket to a set, or takes it out, under the number that the registration says.
    pub(super) fn change(&self, set: &OwnedFd, socket: BorrowedFd<'_>, operation: i32, registration: Registration) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let (answer, answered) = sync_channel(1);
        let job = Job { set: set.as_raw_fd(), socket: socket.as_raw_fd(), operation, registration, answer };
        self.jobs.send(job).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use rustix::event::epoll;

    use super::super::caller::Callers;

    use super::*;

    #[test]
    fn descriptions_of_descriptors_are_read() {
        assert_eq!(flags("pos:\t0\nflags:\t02000002\nmnt_id:\t11\n"), Some(libc::O_CLOEXEC | libc::O_RDWR));
        assert_eq!(flags("pos:\t0\n"), None);
        let text = "pos:\t0\nflags:\t02\ntfd:        5 events: 80000019 data: ffffffff00000005  pos:0 ino:61af sdev:7\ntfd:        6 events:       19 \
                    data:                6  pos:0 ino:61b0 sdev:7\n";
        let expected = Registration { number: 5, events: 0x8000_0019, data: 0xffff_ffff_0000_0005 };
        assert_eq!(registrations(text, 0x61af, 7).collect::<Vec<_>>(), [expected]);
        assert_eq!(registrations(text, 0x61af, 8).count(), 0);
    }

    #[test]
    fn a_socket_is_found_under_all_its_numbers_and_replaced_in_epoll_sets() {
        let (old, fresh) = (std::net::UdpSocket::bind("127.0.0.1:0").unwrap(), std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        let copy = old.try_clone().unwrap();
        let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        epoll::add(&set, &old, epoll::EventData::new_u64(7), epoll::EventFlags::IN).unwrap();
        let (caller, _) = Callers::default().copy(std::process::id() as i32, old.as_raw_fd()).unwrap();
        let find = |socket| find(caller.folders().unwrap(), socket);
        let found = find(old.as_fd()).unwrap();
        let mut numbers: Vec<RawFd> = found.numbers.iter().map(|place| place.number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [old.as_raw_fd(), copy.as_raw_fd()]);
        assert!(found.numbers.iter().all(|place| place.close_on_exec));
        let [(number, registration)] = found.registrations[..] else { panic!("{found:?}") };
        assert_eq!((number, registration.number, registration.data), (set.as_raw_fd(), old.as_raw_fd(), 7));

        let registrar = Registrar::start().unwrap();
        registrar.change(&set, old.as_fd(), libc::EPOLL_CTL_DEL, registration).unwrap();
        assert_eq!(find(old.as_fd()).unwrap().registrations, []);
        registrar.change(&set, fresh.as_fd(), libc::EPOLL_CTL_ADD, registration).unwrap();
        assert_eq!(find(fresh.as_fd()).unwrap().registrations, [(number, registration)]);
        // A wrong one is an error and not something worse; and the thread's table is free of all that went before.
        assert!(registrar.change(&set, fresh.as_fd(), libc::EPOLL_CTL_ADD, registration).is_err());
        for number in 0..5 {
            let registration = Registration { number, ..registration };
            registrar.change(&set, copy.as_fd(), libc::EPOLL_CTL_ADD, registration).unwrap();
        }
    }
}
