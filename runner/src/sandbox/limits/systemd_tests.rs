use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use super::*;

/// A bus of our own; `None`, with a word, where the program is missing.
fn bus() -> Option<(tempfile::TempDir, Child)> {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    let text = format!(
        "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\"\n \
         \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n<busconfig><type>session</type><listen>unix:path={}/bus</listen>\
         <auth>EXTERNAL</auth><policy context=\"default\"><allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/>\
         <allow own=\"*\"/></policy></busconfig>",
        folder.path().display()
    );
    fs::write(&config, text).unwrap();
    let daemon = Command::new("dbus-daemon")
        .args(["--nofork", "--print-address", &format!("--config-file={}", config.display())])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut daemon) = daemon else {
        eprintln!("skipped: dbus-daemon is not installed");
        return None;
    };
    // It listens once it has said where.
    let mut address = String::new();
    BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut address).unwrap();
    assert!(address.contains("unix:path="), "{address}");
    Some((folder, daemon))
}

/// Whole messages, as they are.
fn read_message(stream: &mut impl Read) -> Vec<u8> {
    let mut head = [0; 16];
    stream.read_exact(&mut head).unwrap();
    let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap()) as usize;
    let mut rest = vec![0; word(12).next_multiple_of(8) + word(4)];
    stream.read_exact(&mut rest).unwrap();
    [&head[..], &rest].concat()
}

fn contains(message: &[u8], part: &[u8]) -> bool {
    message.windows(part.len()).any(|window| window == part)
}

/// A systemd that knows one method: it tells the test what it was sent, and answers a job or an error.
fn systemd(bus: &Path, refuse: Option<&'static str>) -> mpsc::Receiver<Vec<u8>> {
    let mut stream = BufReader::new(UnixStream::connect(bus).unwrap());
    authenticate(&mut stream).unwrap();
    let driver = |serial, method| Call {
        serial,
        service: "org.freedesktop.DBus",
        object: "/org/freedesktop/DBus",
        interface: "org.freedesktop.DBus",
        method,
    };
    let mut name = Body::default();
    name.string("org.freedesktop.systemd1");
    name.word(0);
    let both = [driver(1, "Hello").message("", &Body::default()), driver(2, "RequestName").message("su", &name)].concat();
    stream.get_mut().write_all(&both).unwrap();
    while Answer::read(&mut stream).unwrap() != (Answer::Return { to: 2 }) {}
    let (sender, received) = mpsc::channel();
    thread::spawn(move || {
        let call = loop {
            let message = read_message(&mut stream);
            if contains(&message, b"StartTransientUnit") {
                break message;
            }
        };
        let sender_at = call.windows(2).position(|pair| pair == b":1").unwrap();
        let caller: String = call[sender_at..].iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect();
        let serial = u32::from_le_bytes(call[8..12].try_into().unwrap());
        let mut body = Body::default();
        body.string(refuse.unwrap_or("/org/freedesktop/systemd1/job/7"));
        let mut answer = Body(vec![b'l', if refuse.is_some() { 3 } else { 2 }, 0, 1]);
        answer.word(body.0.len() as u32);
        answer.word(3);
        answer.array(8, |fields| {
            if refuse.is_some() {
                fields.header_field(4, "s", |field| field.string("org.freedesktop.systemd1.UnitExists"));
            }
            fields.header_field(5, "u", |field| field.word(serial));
            fields.header_field(6, "s", |field| field.string(&caller));
            fields.header_field(8, "g", |field| field.signature(if refuse.is_some() { "s" } else { "o" }));
        });
        answer.align(8);
        answer.0.extend(&body.0);
        stream.get_mut().write_all(&answer.0).unwrap();
        sender.send(call).unwrap();
        // Stays on the bus until the test is over and the bus is gone.
        let _ = stream.read(&mut [0]);
    });
    received
}

#[test]
fn systemd_is_asked_for_a_delegated_scope_with_this_process_in_it() {
    let Some((folder, mut daemon)) = bus() else { return };
    let path = folder.path().join("bus");
    let received = systemd(&path, None);
    enter_scope(&path, "undocked-1.scope").unwrap();
    let call = received.recv_timeout(Duration::from_secs(10)).unwrap();
    for part in ["undocked-1.scope", "fail", "Delegate", "CollectMode", "inactive-or-failed", "PIDs", "ssa(sv)a(sa(sv))"] {
        assert!(contains(&call, part.as_bytes()), "{part}");
    }
    assert!(contains(&call, &std::process::id().to_le_bytes()));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn what_systemd_refuses_is_told_in_its_words() {
    let Some((folder, mut daemon)) = bus() else { return };
    let path = folder.path().join("bus");
    let received = systemd(&path, Some("Unit undocked-1.scope already exists."));
    let error = enter_scope(&path, "undocked-1.scope").unwrap_err();
    assert_eq!(error.to_string(), "systemd refused: Unit undocked-1.scope already exists.");
    received.recv_timeout(Duration::from_secs(10)).unwrap();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn without_a_systemd_on_the_bus_or_without_a_bus() {
    let nowhere = tempfile::tempdir().unwrap();
    assert!(matches!(enter_scope(&nowhere.path().join("bus"), "x.scope"), Err(ScopeError::Bus { .. })));
    let Some((folder, mut daemon)) = bus() else { return };
    assert!(matches!(enter_scope(&folder.path().join("bus"), "x.scope"), Err(ScopeError::Refused(_))));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

/// Somebody else listens there.
#[test]
fn nonsense_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus");
    let listener = UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || {
        for answer in [&b"REJECTED EXTERNAL\r\n"[..], b"OK 1234\r\nthis is no D-Bus message at all"] {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(answer).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            // All that is said must be taken before the socket is closed.
            let _ = io::copy(&mut stream, &mut io::sink());
        }
    });
    for _ in 0..2 {
        assert!(matches!(enter_scope(&path, "x.scope"), Err(ScopeError::Bus { .. })));
    }
    server.join().unwrap();
}

#[test]
fn headers_of_answers() {
    let mut fields = Body::default();
    fields.header_field(1, "o", |field| field.string("/a/path"));
    fields.header_field(8, "g", |field| field.signature("so"));
    fields.header_field(5, "u", |field| field.word(42));
    assert_eq!(reply_serial(&fields.0), Some(42));
    assert_eq!(reply_serial(&fields.0[..fields.0.len() - 2]), None);
    assert_eq!(reply_serial(&[]), None);
    assert_eq!(reply_serial(&[9, 1, b'x', 0, 0, 0]), None);
    assert_eq!(first_string(&[2, 0, 0, 0, b'o', b'k', 0]).as_deref(), Some("ok"));
    assert_eq!(first_string(&[9, 0, 0, 0, b'o']), None);
}
