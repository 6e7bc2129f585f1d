//! Where else a process holds a socket that is about to be replaced: under other numbers, and in epoll sets.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::thread;

use rustix::fs::{Mode, OFlags, RawDir, SeekFrom, fstat, major, minor, openat, readlinkat_raw, seek};
use rustix::path::DecInt;

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

/// What a search goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search<'a> {
    /// The thread whose process's descriptors are looked through.
    pub(super) thread: libc::pid_t,
    /// Their folders.
    pub(super) folders: &'a Folders,
    /// Our copy of the socket.
    pub(super) socket: BorrowedFd<'a>,
    /// The number that the thread called with.
    pub(super) number: RawFd,
}

impl Search<'_> {
    /// Looks through the descriptors of a thread's process. Only its own: another process that has the same socket from a fork or a message keeps the old one.
    pub(super) fn places(self) -> io::Result<Places> {
        self.by_comparison()?.map_or_else(|| self.by_links(), Ok)
    }

    /// Compares one after another, as long as it takes to have seen as many as there are; a third of the time that it takes to list them. `None`: the kernel does not
    /// compare (kcmp(2)) or does not tell how many there are (before Linux 6.2), or they are far apart.
    fn by_comparison(self) -> io::Result<Option<Places>> {
        const MOST_GAPS: usize = 32;
        let pids = (self.thread, std::process::id().cast_signed());
        let (mut seen, mut gaps) = (0, 0);
        let mut places = Places::default();
        for number in 0.. {
            // Others may be opened or closed meanwhile: it is the latest count that counts.
            if number > self.number && seen >= self.count()? {
                break;
            }
            match sys::is_same_file(pids, number, self.socket) {
                Ok(true) => places.numbers.push(self.place(number)),
                Ok(false) if sys::is_epoll_set(pids, number, self.socket) => self.search_set(number, &mut places)?,
                Ok(false) => {}
                Err(error) if error.raw_os_error() == Some(libc::EBADF) && gaps < MOST_GAPS => gaps += 1,
                Err(_) => return Ok(None),
            }
            seen = number as i64 + 1 - gaps as i64;
        }
        Ok(Some(places))
    }

    /// How many there are; more than can be if it is not told.
    fn count(self) -> io::Result<i64> {
        let count = fstat(&self.folders.links)?.st_size;
        Ok(if count == 0 { i64::MAX } else { count })
    }

    fn by_links(self) -> io::Result<Places> {
        let link = format!("socket:[{}]", fstat(self.socket)?.st_ino);
        let mut places = Places::default();
        let mut space = [MaybeUninit::uninit(); 4096];
        seek(&self.folders.links, SeekFrom::Start(0))?;
        let mut entries = RawDir::new(&self.folders.links, &mut space);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            // Beside them there are `.` and `..`.
            let Some(number) = number(entry.file_name()) else { continue };
            let mut target = [MaybeUninit::uninit(); 64];
            // What has been closed meanwhile is gone.
            let Ok((target, _)) = readlinkat_raw(&self.folders.links, entry.file_name(), &mut target) else { continue };
            if target == link.as_bytes() {
                places.numbers.push(self.place(number));
            } else if target == b"anon_inode:[eventpoll]" {
                self.search_set(number, &mut places)?;
            }
        }
        Ok(places)
    }

    /// Notes where the socket is in an epoll set.
    fn search_set(self, set: RawFd, places: &mut Places) -> io::Result<()> {
        let status = fstat(self.socket)?;
        let device = (major(status.st_dev) << 20) | minor(status.st_dev);
        // What has been closed meanwhile is gone.
        let Ok(mut file) = self.describe(set) else { return Ok(()) };
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        places.registrations.extend(registrations(&text, status.st_ino, device).map(|registration| (set, registration)));
        Ok(())
    }

    fn describe(self, number: RawFd) -> io::Result<File> {
        Ok(openat(&self.folders.texts, DecInt::new(number), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?.into())
    }

    /// proc_pid_fdinfo(5): the second line has the flags, in octal. What cannot be found out is taken for the usual.
    fn place(self, number: RawFd) -> Place {
        let mut space = [0; 128];
        let read = self.describe(number).and_then(|mut file| file.read(&mut space));
        let flags = read.ok().and_then(|length| flags(str::from_utf8(space.get(..length)?).ok()?));
        Place { number, close_on_exec: flags.is_none_or(|flags| flags & libc::O_CLOEXEC != 0) }
    }
}

fn number(name: &CStr) -> Option<RawFd> {
    name.to_str().ok()?.parse().ok()
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
        let (thread, folders, number) = (std::process::id() as i32, caller.folders().unwrap(), old.as_raw_fd());
        let search = |socket| Search { thread, folders, socket, number };
        let find = |socket| search(socket).by_links();
        let found = find(old.as_fd()).unwrap();
        let mut numbers: Vec<RawFd> = found.numbers.iter().map(|place| place.number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [old.as_raw_fd(), copy.as_raw_fd()]);
        assert!(found.numbers.iter().all(|place| place.close_on_exec));
        // None where the kernel does not compare; other tests open and close descriptors meanwhile.
        if let Some(mut compared) = search(old.as_fd()).by_comparison().unwrap() {
            compared.numbers.sort_unstable_by_key(|place| place.number);
            assert!(compared.numbers.iter().any(|place| place.number == number && place.close_on_exec));
            assert!(compared.registrations.iter().all(|found_by_comparison| found.registrations.contains(found_by_comparison)));
        }
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
