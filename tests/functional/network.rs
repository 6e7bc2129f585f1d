//! The network options of `undocked run` as a user has them, with real bytes: what is reached from inside and from outside, and what is said of it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tests::names::NameServer;
use tests::run::{Ran, Running};
use tests::skip::is_root;
use tests::{Fixture, skip, skip_for_this_user};

/// The host's loopback as a private network has it.
const GATEWAY: &str = "198.18.111.1";
const PROBE: &str = "/var/task/bootstrap";
const NEVER: Duration = Duration::from_secs(10);

/// A port of the host's loopback where somebody listens.
fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = listener.local_addr().expect("bound").port();
    (listener, port)
}

/// A port that nobody has: outside the range that the kernel takes ports from, lest a test's own connection take it.
fn free_port(index: u16) -> u16 {
    20_000 + (std::process::id() % 1000) as u16 * 10 + index
}

/// Runs a script as a function, and gives its notes.
fn notes(fixture: &Fixture, options: &[&str], script: &str) -> (Value, Ran) {
    fixture.script(&format!("{script}\nnext\nrespond-notes\nnext"));
    let ran = fixture.run(options, &[]).finish().expect_code(0);
    fixture.expect_nothing_left();
    (ran.json(), ran)
}

/// Runs a script as a plain command, and gives its notes.
fn plain_notes(fixture: &Fixture, options: &[&str], script: &str) -> (Value, Ran) {
    let options = [options, &["--entrypoint", PROBE]].concat();
    let line = fixture.marked(script).lines().collect::<Vec<_>>().join(" ; ") + " ; print-notes";
    let ran = fixture.run(&options, &["--line", &line]).finish().expect_code(0);
    fixture.expect_nothing_left();
    let notes = serde_json::from_slice(&ran.stdout).expect("notes on standard output");
    (notes, ran)
}

/// What a TCP port echoes. The end is sent only after that: who listens may end with it, and takes along what is still under way.
fn echoed(port: u16, bytes: &[u8]) -> Vec<u8> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the published port takes connections");
    stream.set_read_timeout(Some(NEVER)).expect("set");
    let mut back = vec![0; bytes.len()];
    thread::scope(|scope| {
        scope.spawn(|| (&stream).write_all(bytes).expect("sent"));
        (&stream).read_exact(&mut back).expect("as much comes back");
    });
    stream.shutdown(std::net::Shutdown::Write).expect("shut down");
    assert_eq!((&stream).read(&mut [0]).expect("it ends"), 0, "and no more");
    back
}

/// A function that listens on a port inside until it has echoed one connection.
fn echoing(fixture: &Fixture, options: &[&str], protocol: &str, inside: u16) -> Running {
    fixture.script(&format!("connections served echo-{protocol} {inside}\nnext\nrespond-notes\nnext"));
    let running = fixture.run(options, &[]).start();
    running.wait_for_stderr("listening");
    running
}

#[test]
fn a_published_tcp_port_carries_bytes_both_ways() {
    let Some(fixture) = Fixture::new() else { return };
    // More than any buffer on the way takes.
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    let (first, second) = (free_port(6), free_port(7));
    for (network, outside, publish) in [
        ("private", free_port(0), format!("127.0.0.1:{}:8080", free_port(0))),
        ("none", free_port(0), format!("127.0.0.1:{}:8080", free_port(0))),
        ("private", second, format!("127.0.0.1:{first}-{second}:8079-8080")),
    ] {
        let options = ["--network", network, "-p", &publish];
        let running = echoing(&fixture, &options, "tcp", 8080);
        assert!(echoed(outside, &bytes) == bytes, "{network}: all bytes, in order");
        assert_eq!(running.finish().expect_code(0).json(), json!({"served": {"echo": "ok"}}));
    }
    fixture.expect_nothing_left();
}

#[test]
fn a_published_udp_port_carries_datagrams_both_ways() {
    let Some(fixture) = Fixture::new() else { return };
    let outside = free_port(1);
    let running = echoing(&fixture, &["-p", &format!("{outside}:5353/udp")], "udp", 5353);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    socket.set_read_timeout(Some(NEVER)).expect("set");
    socket.send_to(b"datagram", (Ipv4Addr::LOCALHOST, outside)).expect("sent");
    let mut bytes = [0; 16];
    let (length, from) = socket.recv_from(&mut bytes).expect("answered");
    assert_eq!((&bytes[..length], from), (&b"datagram"[..], SocketAddr::from((Ipv4Addr::LOCALHOST, outside))));
    // Who listens may end, and take along what is still under way, only now.
    socket.send_to(b"end", (Ipv4Addr::LOCALHOST, outside)).expect("sent");
    assert_eq!(running.finish().expect_code(0).json(), json!({"served": {"echo": "ok"}}));
    fixture.expect_nothing_left();
}

/// `-p INSIDE` takes any free port, and says which.
#[test]
fn a_port_that_is_chosen_for_us_is_said() {
    let Some(fixture) = Fixture::new() else { return };
    let options = ["--entrypoint", PROBE, "-p", "127.0.0.1::8080"];
    let line = fixture.marked("connections served echo-tcp 8080").lines().collect::<Vec<_>>().join(" ; ") + " ; print-notes";
    let running = fixture.run(&options, &["--line", &line]).start();
    running.wait_for_stderr("listening");
    running.wait_for_stderr(" leads to port 8080 inside");
    let said = running.stderr_so_far();
    let line = said.lines().find_map(|line| line.split_once(" leads to port 8080 inside")).expect("said").0;
    let address = line.rsplit(' ').next().and_then(|address| address.parse::<SocketAddr>().ok()).expect("an address");
    assert_eq!(echoed(address.port(), b"hello"), b"hello");
    assert!(running.finish().expect_code(0).out().contains(r#""echo":"ok""#));
    fixture.expect_nothing_left();
}

#[test]
fn what_means_nothing_on_the_hosts_network_is_said() {
    let Some(fixture) = Fixture::new() else { return };
    let port = free_port(5).to_string();
    for (option, says) in [(&["-p", &port][..], "`-p` changes nothing"), (&["--log-net"], "`--log-net` tells nothing")] {
        let options = [&["--network", "host"], option].concat();
        for (_, ran) in [notes(&fixture, &options, ""), plain_notes(&fixture, &options, "note-pid pid")] {
            assert_eq!(ran.err().matches(says).count(), 1, "{}", ran.err());
        }
    }
    for network in ["host", "none"] {
        fixture.run(&["--network", network, "--deny-net", "1.2.3.4"], &[]).finish().expect_code(2);
    }
}

#[test]
fn a_port_in_use_is_an_error_before_anything_runs() {
    let Some(fixture) = Fixture::new() else { return };
    let (_held, port) = listener();
    fixture.script("next\nrespond-notes\nnext");
    let options = ["-p", &format!("127.0.0.1:{port}:8080")];
    fixture.run(&options, &[]).finish().expect_code(125).expect_err(&format!("cannot publish 127.0.0.1:{port}"));
    fixture.expect_nothing_left();
}

#[test]
fn host_docker_internal_and_host_gateway_lead_to_the_hosts_loopback() {
    let Some(fixture) = Fixture::new() else { return };
    let (_held, port) = listener();
    let echo = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    let datagrams = echo.local_addr().expect("bound").port();
    let serving = thread::spawn(move || {
        let mut bytes = [0; 16];
        echo.set_read_timeout(Some(NEVER)).expect("set");
        let (length, from) = echo.recv_from(&mut bytes).expect("a datagram comes");
        echo.send_to(&bytes[..length], from).expect("sent back");
    });
    let script = format!(
        "connect docker host.docker.internal:{port}\nconnect mine me.example:{port}\nconnect itself lambda:{port}\nconnections udp exchange {GATEWAY} {datagrams}"
    );
    let (seen, _) = notes(&fixture, &["--add-host", "me.example:host-gateway"], &script);
    let received = format!("datagram from {GATEWAY}:{datagrams}");
    assert_eq!(seen, json!({"docker": "ok", "mine": "ok", "itself": "ECONNREFUSED", "udp": {"sent": "ok", "received": received}}));
    serving.join().expect("served");
    let (seen, _) = plain_notes(&fixture, &["--add-host", "me.example=host-gateway"], &format!("connect mine me.example:{port}"));
    assert_eq!(seen["mine"], "ok");
}

#[test]
fn etc_hosts_of_each_network() {
    let Some(fixture) = Fixture::new() else { return };
    let add = ["--add-host", "db:10.0.0.9", "--add-host", "me:host-gateway"];
    for (network, holds, lacks) in [
        (
            "private",
            &["127.0.0.1\tlocalhost", "10.0.0.9\tdb", "198.18.111.1\tme", "198.18.111.1\thost.docker.internal", "198.18.111.2\tlambda"][..],
            "127.0.0.1\tme",
        ),
        ("none", &["127.0.0.1\tlocalhost", "10.0.0.9\tdb"], "host.docker.internal"),
        ("host", &["10.0.0.9\tdb", "127.0.0.1\tme"], "198.18.111."),
    ] {
        let options = [&["--network", network][..], &add].concat();
        let of_function = notes(&fixture, &options, "read hosts /etc/hosts").0;
        let of_command = plain_notes(&fixture, &options, "read hosts /etc/hosts").0;
        for seen in [of_function, of_command] {
            let text = seen["hosts"].as_str().expect("it can be read");
            let lines: Vec<&str> = text.lines().collect();
            let holds = holds.iter().chain(&["127.0.0.1\tsandbox.localdomain", "127.0.0.1\tsandbox"]);
            assert!(holds.into_iter().all(|line| lines.contains(line)), "{network}: {text}");
            assert!(!text.contains(lacks), "{network}: {text}");
        }
    }
}

#[test]
fn log_net_says_every_connection_and_what_became_of_it() {
    let Some(fixture) = Fixture::new() else { return };
    let (_held, port) = listener();
    let script = format!("connect open {GATEWAY}:{port}\nconnect closed 192.0.2.1:443\nconnect inside 127.0.0.1:1");
    let options = ["--log-net", "--deny-net", "192.0.2.0/24"];
    for (seen, ran) in [notes(&fixture, &options, &script), plain_notes(&fixture, &options, &script)] {
        assert_eq!((&seen["open"], &seen["closed"], &seen["inside"]), (&json!("ok"), &json!("EACCES"), &json!("ECONNREFUSED")));
        let said = ran.err();
        for line in [format!("undocked: tcp {GATEWAY}:{port} allowed"), "undocked: tcp 192.0.2.1:443 denied".to_owned()] {
            assert_eq!(said.lines().filter(|said| **said == line).count(), 1, "{line}: {said}");
        }
        assert!(!said.contains("127.0.0.1:1 "), "what stays inside is nobody's: {said}");
    }
    let (_, ran) = notes(&fixture, &["--deny-net", "192.0.2.0/24"], &script);
    assert!(!ran.err().contains(GATEWAY), "{}", ran.err());
}

#[test]
fn rules_by_address_network_and_name() {
    let Some(fixture) = Fixture::new() else { return };
    let ((_one, open), (_other, other)) = (listener(), listener());
    let script = format!("connect open {GATEWAY}:{open}\nconnect other {GATEWAY}:{other}\nconnect far 192.0.2.1:9");
    let (address, name) = (format!("{GATEWAY}:{open}"), format!("host.docker.internal:{open}"));
    // With an allowing rule nothing else is allowed; a denying one wins.
    for (options, expected) in [
        (&["--allow-net", address.as_str()][..], ["ok", "EACCES", "EACCES"]),
        (&["--allow-net", "198.18.111.0/24"], ["ok", "ok", "EACCES"]),
        (&["--allow-net", &name], ["ok", "EACCES", "EACCES"]),
        (&["--deny-net", &address, "--deny-net", "192.0.2.0/24"], ["EACCES", "ok", "EACCES"]),
        (&["--deny-net", "host.docker.internal", "--deny-net", "192.0.2.1"], ["EACCES", "EACCES", "EACCES"]),
        (&["--allow-net", "198.18.111.0/24", "--deny-net", &name], ["EACCES", "ok", "EACCES"]),
    ] {
        let (seen, _) = notes(&fixture, options, &script);
        assert_eq!(seen, json!({"open": expected[0], "other": expected[1], "far": expected[2]}), "{options:?}");
        let (seen, _) = plain_notes(&fixture, options, &script);
        assert_eq!([&seen["open"], &seen["other"], &seen["far"]], expected, "{options:?}");
    }
}

/// A name server on the host's loopback, as `resolv.conf` names it: it is asked from inside by an address of the sandbox's own, and what it answers decides
/// what a rule by name covers.
#[test]
fn rules_by_names_of_a_name_server() {
    let Some(fixture) = Fixture::new() else { return };
    if !is_root() {
        skip_for_this_user!("only root may listen on port 53 and lay a file over /etc/resolv.conf");
    }
    let Some(names) = NameServer::start() else { skip!("this machine has no address but those of its loopback") };
    let own = names.own;
    let held = TcpListener::bind((own, 0)).expect("a port is free");
    let port = held.local_addr().expect("bound").port();
    let shell = names.shell(fixture.path());
    let script = format!("read resolv /etc/resolv.conf\nconnect open open.example:{port}\nconnect closed closed.example:80");
    fixture.script(&format!("{script}\nnext\nrespond-notes\nnext"));
    let allow = format!("open.example:{port}");
    for rules in [["--allow-net", &allow], ["--allow-net", "*.example"], ["--deny-net", "closed.example"]] {
        let closed_too = rules[1] == "*.example";
        let deny = if closed_too { &["--deny-net", "closed.example"][..] } else { &[] };
        let ran = fixture.run_by_shell(&shell, &[&rules[..], deny].concat(), &[]).finish().expect_code(0);
        let seen = ran.json();
        assert_eq!((&seen["open"], &seen["closed"]), (&json!("ok"), &json!("EACCES")), "{rules:?}: {seen}");
        assert!(seen["resolv"].as_str().is_some_and(|text| text.contains("nameserver 198.18.111.53")), "{seen}");
    }
    fixture.expect_nothing_left();
}

#[test]
fn the_runtime_api_is_on_the_sandboxs_own_port_9001() {
    let Some(fixture) = Fixture::new() else { return };
    for options in [&[][..], &["--network", "private"], &["--network", "none"]] {
        let (seen, _) = notes(&fixture, options, "note-env env\nconnect api 127.0.0.1:9001\nhttp ping GET /2018-06-01/ping");
        assert_eq!(seen["env"]["AWS_LAMBDA_RUNTIME_API"], "127.0.0.1:9001", "{options:?}");
        assert_eq!((&seen["api"], &seen["ping"]["status"]), (&json!("ok"), &json!(200)), "{options:?}");
    }
}

/// Each has a loopback of its own: the same ports, and none of them on the host.
#[test]
fn two_sandboxes_at_once_have_the_same_ports() {
    let Some(fixture) = Fixture::new() else { return };
    let ports = [free_port(2), free_port(3)];
    let running = ports.map(|port| echoing(&fixture, &["-p", &format!("127.0.0.1:{port}:8080")], "tcp", 8080));
    assert!(TcpStream::connect("127.0.0.1:8080").is_err(), "the port inside is not one of the host's");
    for (port, text) in ports.into_iter().zip(["one", "other"]) {
        assert_eq!(echoed(port, text.as_bytes()), text.as_bytes());
    }
    for running in running {
        assert_eq!(running.finish().expect_code(0).json(), json!({"served": {"echo": "ok"}}));
    }
    fixture.expect_nothing_left();
}

#[test]
fn with_no_network_there_is_no_way_out() {
    let Some(fixture) = Fixture::new() else { return };
    let (held, port) = listener();
    held.set_nonblocking(true).expect("set");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    socket.set_nonblocking(true).expect("set");
    let datagrams = socket.local_addr().expect("bound").port();
    let script = format!(
        "connect gateway {GATEWAY}:{port}\nconnect loopback 127.0.0.1:{port}\nconnect far 192.0.2.1:80\nconnect name host.docker.internal:{port}\nconnections inside inside\nconnections udp exchange {GATEWAY} {datagrams}"
    );
    for (seen, _) in [notes(&fixture, &["--network", "none"], &script), plain_notes(&fixture, &["--network", "none"], &script)] {
        for place in ["gateway", "loopback", "far", "name"] {
            assert_ne!(seen[place], "ok", "{seen}");
        }
        assert!(seen["udp"].get("received").is_none() && socket.recv(&mut [0; 16]).is_err(), "{seen}");
        assert_eq!(seen["inside"], json!({"tcp": "ok", "udp": "ok", "unix": "ok"}), "its own loopback is there");
    }
    let came = held.accept();
    assert!(came.is_err(), "somebody came: {came:?}");
}

/// On the host's loopback everybody could ask the Runtime API. Only the sandbox that it belongs to is answered.
#[test]
fn with_the_hosts_network_the_runtime_api_answers_its_own_sandbox_alone() {
    let Some(fixture) = Fixture::new() else { return };
    let wake = free_port(4);
    fixture.script(&format!(
        "note-env env\nprint-notes\nhttp own GET /2018-06-01/ping\nconnections served echo-tcp {wake}\nhttp after GET /2018-06-01/ping\nnext\nrespond-notes\nnext"
    ));
    let running = fixture.run(&["--network", "host"], &[]).start();
    running.wait_for_stderr("listening");
    let said = running.stderr_so_far();
    let api = said.split_once(r#""AWS_LAMBDA_RUNTIME_API":""#).and_then(|(_, rest)| rest.split_once('"')).expect("the notes are there").0;
    // Another process of the host's.
    let mut stream = TcpStream::connect(api).expect("it listens on the host's loopback");
    stream.set_read_timeout(Some(NEVER)).expect("set");
    let _ = stream.write_all(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n");
    let answered = stream.read(&mut [0; 64]);
    assert!(
        matches!(answered, Ok(0)) || answered.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset),
        "{answered:?}"
    );
    // Another sandbox.
    let address = format!("AWS_LAMBDA_RUNTIME_API={api}");
    let options = ["--network", "host", "-e", &address, "--entrypoint", PROBE];
    let line = format!("connect reached {api} ; http other GET /2018-06-01/ping ; print-notes");
    let other: Value = serde_json::from_slice(&fixture.run(&options, &["--line", &line]).finish().expect_code(0).stdout).expect("notes");
    assert_eq!((&other["reached"], &other["other"]["status"]), (&json!("ok"), &json!(0)), "{other}");
    assert_eq!(echoed(wake, b"go on"), b"go on", "what listens inside is on the host's own loopback");
    let own = running.finish().expect_code(0).json();
    assert_eq!((&own["own"]["status"], &own["after"]["status"]), (&json!(200), &json!(200)), "{own}");
    fixture.expect_nothing_left();
}
