//! The ways out of a private network that a naive supervisor leaves open (`docs/decisions/private-network.md`), tried from inside by the probe;
//! and what must work there all the same.
//!
//! A victim is a port on the host's loopback that no rule allows. It stands for all that a sandbox must not reach.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tests::skip::is_root;
use tests::weakened::notes_of;
use tests::{Fixture, Run, Weakened, place, skip, skip_for_this_user};

const LANDLOCK: &str = "confine file access (Landlock)";
/// The host's loopback as the sandbox sees it.
const GATEWAY: &str = "198.18.111.1";

/// The host's side.
struct Host {
    /// Echoes; may be reached.
    open: u16,
    accepted: Arc<AtomicU32>,
    victim: TcpListener,
    victim_datagrams: UdpSocket,
}

impl Host {
    fn new() -> Host {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let open = listener.local_addr().expect("bound").port();
        let accepted = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&accepted);
        // Ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counter.fetch_add(1, Ordering::Relaxed);
                thread::spawn(move || echo(stream));
            }
        });
        let victim = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let victim_datagrams = UdpSocket::bind(victim.local_addr().expect("bound")).expect("the port is free for datagrams, too");
        victim.set_nonblocking(true).expect("set");
        victim_datagrams.set_nonblocking(true).expect("set");
        Host { open, accepted, victim, victim_datagrams }
    }

    fn victim_port(&self) -> u16 {
        self.victim.local_addr().expect("bound").port()
    }

    #[track_caller]
    fn expect_untouched(&self) {
        assert!(self.victim.accept().is_err(), "the victim got a connection");
        assert!(self.victim_datagrams.recv(&mut [0; 64]).is_err(), "the victim got a datagram");
    }

    /// What the probe notes, where only the open port may be reached.
    fn seen(&self, fixture: &Fixture, attempt: &str) -> Value {
        let rule = format!("{GATEWAY}:{}", self.open);
        fixture.script(&format!("connections seen {attempt}\nnext\nrespond-notes\nnext"));
        let notes = fixture.run(&["--network", "private", "--allow-net", &rule], &[]).finish().expect_code(0).json();
        fixture.expect_nothing_left();
        notes["seen"].clone()
    }
}

fn echo(mut stream: TcpStream) {
    let mut bytes = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..length]).is_err() {
            return;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

#[test]
fn a_connection_of_the_hosts_is_neither_undone_nor_turned_nor_made_a_listener() {
    let Some(fixture) = Fixture::new() else { return };
    let host = Host::new();
    let mut seen = host.seen(&fixture, &format!("use-again {} {}", host.open, host.victim_port()));
    let filter = ["filter", "lock"].map(|name| seen.as_object_mut().and_then(|seen| seen.remove(name)));
    let expected = json!({
        "undo": "EINVAL", "loopback": "EISCONN", "gateway": "EISCONN", "same": "EISCONN", "bind": "EINVAL", "listen": "EINVAL", "echo": "ok",
    });
    assert_eq!(seen, expected);
    // Others may not be let attach any.
    if is_root() {
        assert_eq!(filter, [Some(json!("EPERM")), Some(json!("EPERM"))], "the filter stays where it is");
    }
    host.expect_untouched();
}

#[test]
fn fast_open_does_not_connect_past_the_supervisor() {
    let Some(fixture) = Fixture::new() else { return };
    let host = Host::new();
    let seen = host.seen(&fixture, &format!("fast-open {}", host.victim_port()));
    for (name, outcome) in seen.as_object().expect("an object") {
        assert_eq!(outcome, if name.contains("option") { "ENOPROTOOPT" } else { "EOPNOTSUPP" }, "{name}: {seen}");
    }
    host.expect_untouched();
}

#[test]
fn a_connection_given_up_while_it_is_made_cannot_listen() {
    let Some(fixture) = Fixture::new() else { return };
    let host = Host::new();
    // Its queue is full, so that nobody answers who connects.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = silent.local_addr().expect("bound");
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        waiting.push(stream);
    }
    let rule = format!("{GATEWAY}:{}", address.port());
    fixture.script(&format!("connections seen shut-down {}\nnext\nrespond-notes\nnext", address.port()));
    let notes = fixture.run(&["--network", "private", "--allow-net", &rule], &[]).finish().expect_code(0).json();
    assert_eq!(notes["seen"], json!({"connect": "EINPROGRESS", "shutdown": "ok", "listen": "EINVAL", "bind": "EINVAL"}));
    host.expect_untouched();
}

#[test]
fn datagrams_of_the_sandbox_do_not_reach_the_hosts_loopback() {
    let Some(fixture) = Fixture::new() else { return };
    let host = Host::new();
    host.seen(&fixture, &format!("datagrams {}", host.victim_port()));
    host.expect_untouched();
}

#[test]
fn a_socket_put_in_anothers_place_during_a_call_is_not_connected_bound_or_listened_on() {
    let Some(fixture) = Fixture::new() else { return };
    let host = Host::new();
    let seen = host.seen(&fixture, &format!("replace {} {} 4000", host.open, host.victim_port()));
    expect_no_call_went_through(&seen);
    host.expect_untouched();
}

/// Two walls: Landlock refuses what the kernel is told to go on with, and the socket's own filter lets nobody answer. From 6.18 on an ordinary user may attach
/// none to a TCP socket, so that Landlock stands alone: then the victim is reached.
#[test]
fn without_landlock_a_socket_put_in_anothers_place_gets_no_answer() {
    let Some(weakened) = Weakened::new() else { return };
    let host = Host::new();
    let rule = format!("{GATEWAY}:{}", host.open);
    let run = |without: &[&str]| {
        let options = [&["--private-network", "--allow-net", &rule], without].concat();
        let attempt = format!("connections seen replace {} {} 3000", host.open, host.victim_port());
        notes_of(&weakened.run_with(&options, &attempt))["seen"].clone()
    };
    // Only Landlock says EACCES here: where it does, that shows that the race is won at times.
    let held = run(&[]);
    expect_no_call_went_through(&held);
    let open = run(&["--without", LANDLOCK]);
    assert!(open.get("connect EACCES").is_none() && open.get("listen ok").is_none(), "{open}");
    if is_root() {
        assert!(open.get("connect ok").is_none(), "{open}");
        host.expect_untouched();
    } else if host.victim.accept().is_ok() {
        assert!(open.get("connect ok").is_some(), "{open}");
    }
}

#[track_caller]
fn expect_no_call_went_through(seen: &Value) {
    for call in ["connect ok", "bind ok", "listen ok", "error"] {
        assert!(seen.get(call).is_none(), "{seen}");
    }
    assert!(seen.get("listen EINVAL").is_some(), "{seen}");
}

#[test]
fn an_address_changed_after_the_check_is_not_connected_with() {
    let Some(fixture) = Fixture::new() else { return };
    let host = Host::new();
    let seen = host.seen(&fixture, &format!("change-address {} {} 2000", host.open, host.victim_port()));
    let count = |name: &str| seen[name].as_str().and_then(|count| count.parse::<u32>().ok()).unwrap_or(0);
    assert!(count("ok") > 0 && count("EACCES") > 0, "{seen}");
    assert_eq!(count("ok"), host.accepted.load(Ordering::Relaxed));
    host.expect_untouched();
}

#[test]
fn no_name_of_loopback_is_the_hosts_loopback() {
    let Some(fixture) = Fixture::new() else { return };
    let host = Host::new();
    let addresses =
        ["127.0.0.1", "127.9.9.9", "0.0.0.0", "198.18.111.2", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:0.0.0.0]", "[::127.0.0.1]"];
    let port = host.victim_port();
    let lines = addresses.iter().enumerate().map(|(index, address)| format!("connect {index} {address}:{port}\n")).collect::<String>();
    fixture.script(&format!("{lines}connect open {GATEWAY}:{}\nnext\nrespond-notes\nnext", host.open));
    // Without rules: the addresses themselves do not lead there.
    let notes = fixture.run(&["--network", "private"], &[]).finish().expect_code(0).json();
    assert_eq!(notes["open"], "ok");
    for (index, address) in addresses.iter().enumerate() {
        let outcome = &notes[index.to_string()];
        assert!(outcome == "ECONNREFUSED" || outcome == "ENETUNREACH", "{address}: {outcome}");
    }
    host.expect_untouched();
}

#[test]
fn instance_metadata_is_denied_unless_allowed_by_address() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("connect v4 169.254.169.254:80\nconnect mapped [::ffff:169.254.169.254]:80\nnext\nrespond-notes\nnext");
    let ran = fixture.run(&["--network", "private", "--log-net"], &[]).finish().expect_code(0);
    assert_eq!(ran.json(), json!({"v4": "EACCES", "mapped": "EACCES"}));
    assert!(ran.err().contains("169.254.169.254"), "{}", ran.err());
    // Without a route to it there is another error, and with one, perhaps, somebody who answers.
    fixture.script("connect v4 169.254.169.254:80\nnext\nrespond-notes\nnext");
    let options = ["--network", "private", "--allow-net", "169.254.169.254:80", "--timeout", "5"];
    let ran = fixture.run(&options, &[]).finish();
    assert!(!ran.out().contains("EACCES"), "{}", ran.out());
}

#[test]
fn copies_epoll_sets_and_messages_keep_working() {
    let Some(fixture) = Fixture::new() else { return };
    let host = Host::new();
    let seen = host.seen(&fixture, &format!("copies {}", host.open));
    assert_eq!(seen, json!({"first": "ok", "second": "ok", "itself": "ok"}));
    let seen = host.seen(&fixture, &format!("epoll {}", host.open));
    for mode in ["level", "edge"] {
        assert_eq!(seen[format!("{mode} connect")], "EINPROGRESS", "{seen}");
        // Writable, and nothing else: neither hung up nor an error; and then readable too.
        assert_eq!(seen[format!("{mode} writable")], "4 123456789abcdef0", "{seen}");
        assert_eq!(seen[format!("{mode} readable")], "5 123456789abcdef0", "{seen}");
        assert_eq!(seen[format!("{mode} removed")], "ok", "{seen}");
    }
    assert_eq!(host.seen(&fixture, &format!("pass {}", host.open)), json!({"sent": "ok", "echo": "ok"}));
    assert_eq!(host.seen(&fixture, "inside"), json!({"tcp": "ok", "udp": "ok", "unix": "ok"}));
    host.expect_untouched();
}

/// A rule by name opens what the host's name server answers for it; but not the host's loopback, whatever it answers.
#[test]
fn a_name_opens_the_addresses_that_its_name_server_gives() {
    const SERVER: &str = "127.0.0.153";
    if !is_root() {
        skip_for_this_user!("only root can listen on the port of name servers");
    }
    let Some(weakened) = Weakened::new() else { return };
    // An address of this machine that is not its loopback; nothing is sent.
    let own = UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.connect("192.0.2.1:9").map(|()| socket));
    let Some(SocketAddr::V4(own)) = own.ok().and_then(|socket| socket.local_addr().ok()) else { skip!("this machine has no address") };
    let server = UdpSocket::bind((SERVER, 53)).expect("the port is free");
    let answering = thread::spawn(move || answer(&server, *own.ip()));
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port is free");
    let file = weakened.path().join("resolv.conf");
    std::fs::write(&file, format!("nameserver {SERVER}\n")).expect("written");
    let options = ["--private-network", "--allow-net", "name.test", "--name-servers", file.to_str().expect("a path in UTF-8")];
    let port = listener.local_addr().expect("bound").port();
    let notes = notes_of(&weakened.run_with(&options, &format!("connections seen by-name {} {port}", own.ip())));
    answering.join().expect("it was asked");
    assert_eq!(notes["seen"], json!({"before": "EACCES", "before, gateway": "EACCES", "after": "ok", "after, gateway": "EACCES"}));
}

/// Answers one question by two addresses: this one, and the gateway's.
fn answer(server: &UdpSocket, address: Ipv4Addr) {
    let mut message = vec![0; 512];
    server.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
    let (length, from) = server.recv_from(&mut message).expect("a question");
    message.truncate(length);
    // An answer, and two records.
    message[2..4].copy_from_slice(&[0x81, 0x80]);
    message[6..8].copy_from_slice(&[0, 2]);
    for address in [address, GATEWAY.parse().expect("an address")] {
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4]);
        message.extend(address.octets());
    }
    server.send_to(&message, from).expect("sent");
}

#[test]
fn a_published_port_leads_inside_and_nowhere_else() {
    let Some(weakened) = Weakened::new() else { return };
    // Outside the range that the kernel takes ports from, lest our own attempts take it.
    let outside = 20_000 + (std::process::id() % 10_000) as u16;
    // Nobody listens inside: the connection ends, and the host is none the worse.
    let options = ["--private-network", "--publish", &format!("{outside}:9")];
    let words = weakened.words(&options, "sleep 3000");
    let running = thread::spawn(move || Run::new(place::weakened()).args(&words[1..]).current_dir("/").finish());
    let mut stream = loop {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, outside)) {
            Ok(stream) => break stream,
            Err(_) if !running.is_finished() => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    let ended = stream.read(&mut [0; 8]);
    assert!(matches!(ended, Ok(0)) || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset), "it is closed");
    running.join().expect("it ends").expect_code(0);
}
