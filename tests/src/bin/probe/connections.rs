//! What a hostile function tries on a private network, and what an honest one must be able to do there. Each answers a JSON object of what came of it.
//!
//! `GATEWAY:PORT` of the arguments is a host's listener that may be reached, and echoes; other ports are of victims.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::notes::json_map;
use crate::system::{self, Word, call};
use crate::{give_up, outcome};

#[cfg(target_arch = "x86_64")]
mod number {
    pub const SOCKET: u64 = 41;
    pub const CONNECT: u64 = 42;
    pub const SENDTO: u64 = 44;
    pub const SENDMSG: u64 = 46;
    pub const RECVMSG: u64 = 47;
    pub const SHUTDOWN: u64 = 48;
    pub const BIND: u64 = 49;
    pub const LISTEN: u64 = 50;
    pub const SETSOCKOPT: u64 = 54;
    pub const EPOLL_CTL: u64 = 233;
    pub const EPOLL_PWAIT: u64 = 281;
    pub const EPOLL_CREATE1: u64 = 291;
    pub const DUP3: u64 = 292;
    pub const SENDMMSG: u64 = 307;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const EPOLL_CREATE1: u64 = 20;
    pub const EPOLL_CTL: u64 = 21;
    pub const EPOLL_PWAIT: u64 = 22;
    pub const DUP3: u64 = 24;
    pub const SOCKET: u64 = 198;
    pub const BIND: u64 = 200;
    pub const LISTEN: u64 = 201;
    pub const CONNECT: u64 = 203;
    pub const SENDTO: u64 = 206;
    pub const SETSOCKOPT: u64 = 208;
    pub const SHUTDOWN: u64 = 210;
    pub const SENDMSG: u64 = 211;
    pub const RECVMSG: u64 = 212;
    pub const SENDMMSG: u64 = 269;
}

use Word::{Bytes, Number, Room, Shared};

const AF_UNIX: u64 = 1;
const AF_INET: u64 = 2;
const STREAM: u64 = 1;
const NONBLOCKING: u64 = 0o4000;
const FAST_OPEN: u64 = 0x2000_0000;
const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 18, 111, 1);
const UNSPECIFIED: [u8; 16] = [0; 16];

/// What happened, by name.
type Seen = BTreeMap<String, String>;

/// Tries one thing.
pub fn attempt(what: &str, arguments: &[&str]) -> String {
    let ports: Vec<u16> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let mut seen = Seen::new();
    let tried = match (what, ports.as_slice()) {
        ("use-again", &[open, victim]) => use_again(&mut seen, open, victim),
        ("fast-open", &[victim]) => fast_open(&mut seen, victim),
        ("shut-down", &[silent]) => shut_down(&mut seen, silent),
        ("datagrams", &[victim]) => datagrams(&mut seen, victim),
        ("replace", &[open, victim, millis]) => replace(&mut seen, (open, victim), Duration::from_millis(millis.into())),
        ("change-address", &[open, victim, millis]) => change_address(&mut seen, (open, victim), Duration::from_millis(millis.into())),
        ("copies", &[open]) => copies(&mut seen, open),
        ("epoll", &[open]) => epoll(&mut seen, open),
        ("pass", &[open]) => pass(&mut seen, open),
        ("inside", []) => inside(&mut seen),
        ("echo-tcp", &[port]) => echo_tcp(&mut seen, port),
        ("echo-udp", &[port]) => echo_udp(&mut seen, port),
        ("exchange", &[port]) => exchange(&mut seen, arguments[0], port),
        ("by-name", &[port]) => by_name(&mut seen, arguments[0], port),
        ("times", &[port, count]) => times(&mut seen, arguments[0], port, count),
        ("throughput", &[port, mebibytes]) => throughput(&mut seen, arguments[0], port, mebibytes),
        _ => give_up(&format!("connections NAME {what}?")),
    };
    if let Err(error) = tried {
        seen.insert("error".to_owned(), system::errno_name(&error));
    }
    json_map(&seen)
}

fn note<T>(seen: &mut Seen, name: &str, result: io::Result<T>) {
    seen.insert(name.to_owned(), outcome(result));
}

/// `struct sockaddr_in`.
fn address(ip: Ipv4Addr, port: u16) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&(AF_INET as u16).to_ne_bytes());
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    bytes[4..8].copy_from_slice(&ip.octets());
    bytes
}

fn socket(family: u64, kind: u64) -> io::Result<OwnedFd> {
    let number = call(number::SOCKET, [Number(family), Number(kind), Number(0)])?;
    Ok(system::own(number as i32))
}

fn connect(socket: &impl AsRawFd, address: &[u8]) -> io::Result<u64> {
    call(number::CONNECT, [fd(socket), Bytes(address), Number(address.len() as u64)])
}

fn bind(socket: &impl AsRawFd, address: &[u8]) -> io::Result<u64> {
    call(number::BIND, [fd(socket), Bytes(address), Number(address.len() as u64)])
}

fn listen(socket: &impl AsRawFd) -> io::Result<u64> {
    call(number::LISTEN, [fd(socket), Number(8)])
}

fn set_option(socket: &impl AsRawFd, level: u64, name: u64, value: i32) -> io::Result<u64> {
    call(number::SETSOCKOPT, [fd(socket), Number(level), Number(name), Bytes(&value.to_ne_bytes()), Number(4)])
}

fn fd(socket: &impl AsRawFd) -> Word<'static> {
    Number(socket.as_raw_fd() as u64)
}

/// `echo` over a connection, to see that it is one.
fn echo(mut stream: impl Read + Write) -> io::Result<()> {
    stream.write_all(b"echo")?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    if answer == *b"echo" { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

fn to_gateway(port: u16) -> io::Result<TcpStream> {
    TcpStream::connect(SocketAddrV4::new(GATEWAY, port))
}

/// A connection of the host's, put to other uses.
fn use_again(seen: &mut Seen, open: u16, victim: u16) -> io::Result<()> {
    let loopback = address(Ipv4Addr::LOCALHOST, victim);
    let stream = to_gateway(open)?;
    note(seen, "undo", connect(&stream, &UNSPECIFIED));
    note(seen, "loopback", connect(&stream, &loopback));
    note(seen, "gateway", connect(&stream, &address(GATEWAY, victim)));
    note(seen, "same", connect(&stream, &address(GATEWAY, open)));
    note(seen, "bind", bind(&stream, &address(Ipv4Addr::UNSPECIFIED, 0)));
    note(seen, "listen", listen(&stream));
    // SO_DETACH_FILTER, SO_LOCK_FILTER
    note(seen, "filter", set_option(&stream, 1, 27, 0));
    note(seen, "lock", set_option(&stream, 1, 44, 0));
    note(seen, "echo", echo(&stream));
    Ok(())
}

/// Connecting without connect(2).
fn fast_open(seen: &mut Seen, victim: u16) -> io::Result<()> {
    for (name, ip) in [("loopback", Ipv4Addr::LOCALHOST), ("gateway", GATEWAY)] {
        let target = address(ip, victim);
        let fresh = socket(AF_INET, STREAM)?;
        let sent = call(number::SENDTO, [fd(&fresh), Bytes(b"x"), Number(1), Number(FAST_OPEN), Bytes(&target), Number(16)]);
        note(seen, &format!("{name} sendto"), sent);
        let vector = [b"x".as_ptr().expose_provenance() as u64, 1].map(u64::to_ne_bytes);
        let pointer = |bytes: &[u8]| bytes.as_ptr().expose_provenance() as u64;
        // struct msghdr in words; struct mmsghdr has a length behind it.
        let message = [pointer(&target), 16, pointer(vector.as_flattened()), 1, 0, 0, 0, 0].map(u64::to_ne_bytes);
        let message = message.as_flattened();
        note(seen, &format!("{name} sendmsg"), call(number::SENDMSG, [fd(&fresh), Bytes(message), Number(FAST_OPEN)]));
        note(seen, &format!("{name} sendmmsg"), call(number::SENDMMSG, [fd(&fresh), Bytes(message), Number(1), Number(FAST_OPEN)]));
    }
    let fresh = socket(AF_INET, STREAM)?;
    // TCP_FASTOPEN, TCP_FASTOPEN_CONNECT
    note(seen, "option", set_option(&fresh, 6, 23, 8));
    note(seen, "connect option", set_option(&fresh, 6, 30, 1));
    Ok(())
}

/// A connection of the host's that is given up while it is being made, which leaves a socket that could listen.
fn shut_down(seen: &mut Seen, silent: u16) -> io::Result<()> {
    let fresh = socket(AF_INET, STREAM | NONBLOCKING)?;
    note(seen, "connect", connect(&fresh, &address(GATEWAY, silent)));
    note(seen, "shutdown", call(number::SHUTDOWN, [fd(&fresh), Number(2)]));
    note(seen, "listen", listen(&fresh));
    note(seen, "bind", bind(&fresh, &address(Ipv4Addr::UNSPECIFIED, 0)));
    Ok(())
}

/// Datagrams to the host's loopback from a socket that has spoken with the outside.
fn datagrams(seen: &mut Seen, victim: u16) -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    note(seen, "connect", socket.connect((GATEWAY, victim)));
    note(seen, "send", socket.send(b"denied"));
    for ip in [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(127, 1, 2, 3), GATEWAY] {
        let target = address(ip, victim);
        let _ = call(number::SENDTO, [fd(&socket), Bytes(b"escape"), Number(6), Number(0), Bytes(&target), Number(16)]);
    }
    Ok(())
}

/// A second thread puts a connection of the host's where a unix socket was, between the check and the call. Counts what came of each call.
fn replace(seen: &mut Seen, (open, victim): (u16, u16), time: Duration) -> io::Result<()> {
    let (ours, stop) = (to_gateway(open)?, AtomicBool::new(false));
    // Where nothing else keeps a call from the victim it waits for an answer, which must not take for ever.
    ours.set_write_timeout(Some(Duration::from_millis(50)))?;
    let unix = socket(AF_UNIX, STREAM)?;
    let place = unix.try_clone()?;
    let mut counts = BTreeMap::<String, u64>::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for what in [ours.as_raw_fd(), unix.as_raw_fd()] {
                    let _ = call(number::DUP3, [Number(what as u64), fd(&place), Number(0)]);
                }
            }
        });
        let (loopback, any) = (address(Ipv4Addr::LOCALHOST, victim), address(Ipv4Addr::UNSPECIFIED, 0));
        let end = Instant::now() + time;
        while Instant::now() < end {
            for (name, result) in [
                ("connect", connect(&place, &loopback)),
                ("bind", bind(&place, &any)),
                ("listen", listen(&place)),
                ("undo", connect(&place, &UNSPECIFIED)),
                ("connect", connect(&place, &loopback)),
            ] {
                *counts.entry(format!("{name} {}", outcome(result))).or_default() += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    seen.extend(counts.into_iter().map(|(name, count)| (name, count.to_string())));
    Ok(())
}

/// A second thread changes the port that is asked for, again and again. Counts what came of it.
fn change_address(seen: &mut Seen, (open, victim): (u16, u16), time: Duration) -> io::Result<()> {
    let words = |port| -> Vec<u32> { address(GATEWAY, port).as_chunks::<4>().0.iter().map(|word| u32::from_ne_bytes(*word)).collect() };
    let (allowed, denied) = (words(open), words(victim));
    let shared: Vec<AtomicU32> = allowed.iter().copied().map(AtomicU32::new).collect();
    let stop = AtomicBool::new(false);
    let mut counts = BTreeMap::<String, u64>::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for word in [denied[0], allowed[0]] {
                    shared[0].store(word, Ordering::Relaxed);
                }
            }
        });
        let end = Instant::now() + time;
        while Instant::now() < end {
            let result = socket(AF_INET, STREAM).and_then(|fresh| call(number::CONNECT, [fd(&fresh), Shared(&shared), Number(16)]));
            *counts.entry(outcome(result)).or_default() += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    seen.extend(counts.into_iter().map(|(name, count)| (name, count.to_string())));
    Ok(())
}

/// Duplicates made before the connection was.
fn copies(seen: &mut Seen, open: u16) -> io::Result<()> {
    let fresh = socket(AF_INET, STREAM)?;
    let (first, second) = (fresh.try_clone()?, fresh.try_clone()?);
    connect(&fresh, &address(GATEWAY, open))?;
    for (name, copy) in [("first", first), ("second", second), ("itself", fresh)] {
        note(seen, name, echo(TcpStream::from(copy)));
    }
    Ok(())
}

/// A socket that was registered before it was connected: it is told of once it is, with what it was registered with, and of nothing that the old one
/// would be told of.
fn epoll(seen: &mut Seen, open: u16) -> io::Result<()> {
    const IN_OUT: u32 = 5;
    const EDGE: u32 = 1 << 31;
    for (name, events) in [("level", IN_OUT), ("edge", IN_OUT | EDGE)] {
        let set = system::own(call(number::EPOLL_CREATE1, [Number(0)])? as i32);
        let fresh = socket(AF_INET, STREAM | NONBLOCKING)?;
        let event = event(events, 0x1234_5678_9abc_def0);
        call(number::EPOLL_CTL, [fd(&set), Number(1), fd(&fresh), Bytes(&event)])?;
        // What an unconnected socket says: hung up.
        wait(&set, 0)?;
        let started = outcome(connect(&fresh, &address(GATEWAY, open)));
        seen.insert(format!("{name} connect"), started);
        seen.insert(format!("{name} writable"), wait(&set, 5000)?);
        let mut stream = TcpStream::from(fresh);
        stream.write_all(b"x")?;
        let mut told = String::new();
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end && !told.starts_with("5 ") && !told.starts_with("1 ") {
            told = wait(&set, 1000)?;
        }
        seen.insert(format!("{name} readable"), told);
        let removed = call(number::EPOLL_CTL, [fd(&set), Number(2), fd(&stream), Bytes(&event)]);
        note(seen, &format!("{name} removed"), removed);
    }
    Ok(())
}

/// `struct epoll_event`, which has no padding on one of the two.
fn event(events: u32, data: u64) -> Vec<u8> {
    let padding: &[u8] = if cfg!(target_arch = "x86_64") { &[] } else { &[0; 4] };
    [&events.to_ne_bytes(), padding, &data.to_ne_bytes()].concat()
}

/// The events and data of the one that is told of, in numbers.
fn wait(set: &OwnedFd, millis: u64) -> io::Result<String> {
    let mut told = event(0, 0);
    let length = told.len();
    let count = call(number::EPOLL_PWAIT, [fd(set), Room(&mut told), Number(1), Number(millis), Number(0), Number(0)])?;
    if count == 0 {
        return Ok("nothing".to_owned());
    }
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
    Ok(format!("{:x} {:x}", word(&told[..4]), word(&told[length - 8..])))
}

/// A connection handed on over a unix socket (SCM_RIGHTS).
fn pass(seen: &mut Seen, open: u16) -> io::Result<()> {
    let (left, right) = UnixStream::pair()?;
    let stream = to_gateway(open)?;
    let byte = [0_u8; 1];
    let mut room = [0_u8; 24];
    // struct cmsghdr: length, SOL_SOCKET, SCM_RIGHTS; then the descriptor.
    room[..8].copy_from_slice(&20_u64.to_ne_bytes());
    room[8..12].copy_from_slice(&1_i32.to_ne_bytes());
    room[12..16].copy_from_slice(&1_i32.to_ne_bytes());
    room[16..20].copy_from_slice(&stream.as_raw_fd().to_ne_bytes());
    let vector = [byte.as_ptr().expose_provenance() as u64, 1].map(u64::to_ne_bytes);
    let message = |control: *mut u8| {
        let words = [0, 0, vector.as_ptr().expose_provenance() as u64, 1, control.expose_provenance() as u64, 24, 0];
        words.map(u64::to_ne_bytes).concat()
    };
    note(seen, "sent", call(number::SENDMSG, [fd(&left), Bytes(&message(room.as_mut_ptr())), Number(0)]));
    drop(stream);
    room.fill(0);
    let mut header = message(room.as_mut_ptr());
    call(number::RECVMSG, [fd(&right), Room(&mut header), Number(0)])?;
    let number = room[16..20].try_into().map_or(-1, i32::from_ne_bytes);
    note(seen, "echo", echo(TcpStream::from(system::own(number))));
    Ok(())
}

/// Listens until one connection came and ended, and sends back what comes on it. Says on standard error when it may come.
fn echo_tcp(seen: &mut Seen, port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    eprintln!("listening");
    let (stream, _) = listener.accept()?;
    note(seen, "echo", io::copy(&mut &stream, &mut &stream));
    Ok(())
}

/// The same for datagrams, until one says `end`.
fn echo_udp(seen: &mut Seen, port: u16) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
    eprintln!("listening");
    let mut bytes = [0; 4096];
    loop {
        let (length, from) = socket.recv_from(&mut bytes)?;
        if bytes[..length] == *b"end" {
            return Ok(());
        }
        note(seen, "echo", socket.send_to(&bytes[..length], from));
    }
}

/// Sends a datagram to whom sends it back.
fn exchange(seen: &mut Seen, ip: &str, port: u16) -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut bytes = [0; 16];
    note(seen, "sent", socket.send_to(b"datagram", (ip, port)));
    let (length, from) = socket.recv_from(&mut bytes)?;
    seen.insert("received".to_owned(), format!("{} from {from}", String::from_utf8_lossy(&bytes[..length])));
    Ok(())
}

/// How long connecting takes, in nanoseconds: the quickest and the middle one, and all together with making and closing the socket.
fn times(seen: &mut Seen, ip: &str, port: u16, count: u16) -> io::Result<()> {
    let target = address(ip.parse().unwrap_or_else(|_| give_up("no address")), port);
    let start = Instant::now();
    let mut times = Vec::with_capacity(count.into());
    for _ in 0..count {
        let fresh = socket(AF_INET, STREAM)?;
        let begin = Instant::now();
        connect(&fresh, &target)?;
        times.push(begin.elapsed().as_nanos());
        // SO_LINGER, at once: else so many connections would use up the ports that there are.
        let linger = [1_i32, 0].map(i32::to_ne_bytes);
        call(number::SETSOCKOPT, [fd(&fresh), Number(1), Number(13), Bytes(linger.as_flattened()), Number(8)])?;
    }
    let all = start.elapsed().as_nanos();
    times.sort_unstable();
    for (name, value) in [("min", times[0]), ("median", times[times.len() / 2]), ("all", all)] {
        seen.insert(name.to_owned(), value.to_string());
    }
    Ok(())
}

/// How long it takes to send so much to a listener that reads it all and then answers one byte, in nanoseconds.
fn throughput(seen: &mut Seen, ip: &str, port: u16, mebibytes: u16) -> io::Result<()> {
    let mut stream = TcpStream::connect((ip, port))?;
    let block = vec![0; 1 << 20];
    let start = Instant::now();
    (0..mebibytes).try_for_each(|_| stream.write_all(&block))?;
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.read_exact(&mut [0])?;
    seen.insert("all".to_owned(), start.elapsed().as_nanos().to_string());
    Ok(())
}

/// Connects to an address and to the gateway before and after the name server was asked for a name.
fn by_name(seen: &mut Seen, ip: &str, port: u16) -> io::Result<()> {
    const QUESTION: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x04name\x04test\0\0\x01\0\x01";
    let mut connect = |when: &str| {
        note(seen, when, TcpStream::connect((ip, port)));
        note(seen, &format!("{when}, gateway"), TcpStream::connect((GATEWAY, port)));
    };
    connect("before");
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    socket.send_to(QUESTION, "198.18.111.53:53")?;
    socket.recv(&mut [0; 512])?;
    connect("after");
    Ok(())
}

/// What stays inside: TCP, UDP and unix sockets, among each other.
fn inside(seen: &mut Seen) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    let mut accepted = listener.accept()?.0;
    let serving = thread::spawn(move || {
        let mut bytes = [0; 4];
        accepted.read_exact(&mut bytes).and_then(|()| accepted.write_all(&bytes))
    });
    note(seen, "tcp", echo(stream));
    let _ = serving.join();
    let (one, other) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    other.set_read_timeout(Some(Duration::from_secs(5)))?;
    note(seen, "udp", one.send_to(b"x", other.local_addr()?).and_then(|_| other.recv(&mut [0; 4])));
    let path = "/tmp/listener";
    let listener = UnixListener::bind(path)?;
    let stream = UnixStream::connect(path)?;
    let mut accepted = listener.accept()?.0;
    let serving = thread::spawn(move || {
        let mut bytes = [0; 4];
        accepted.read_exact(&mut bytes).and_then(|()| accepted.write_all(&bytes))
    });
    note(seen, "unix", echo(stream));
    let _ = serving.join();
    Ok(())
}
