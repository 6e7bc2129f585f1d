//! AWS's emulator beside us: the same runtime makes the same calls to both, and where the emulator is right, the answers are the same.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::leftovers::eventually;
use tests::{Fixture, place, skip, wire};

/// The emulator with the probe as its runtime, ended with this value.
struct Emulator {
    child: Child,
    address: String,
}

impl Emulator {
    fn start(fixture: &Fixture) -> Option<Emulator> {
        let Some(path) = place::emulator() else {
            skip::skip(skip::Lack::Providable, "AWS's emulator is not there (tests/clients/install.sh)");
            return None;
        };
        // Both held until both are known.
        let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("loopback has a free port"));
        let [address, runtime_api] = ports.map(|port| port.local_addr().expect("it is bound").to_string());
        let child = Command::new(path)
            .env_clear()
            .env("LAMBDA_TASK_ROOT", fixture.task())
            .env("AWS_LAMBDA_FUNCTION_TIMEOUT", "20")
            .args(["--runtime-interface-emulator-address", &address, "--runtime-api-address", &runtime_api])
            .arg(fixture.task().join("bootstrap"))
            .arg("handler")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the emulator starts");
        eventually(Duration::from_secs(20), "the emulator listens", || TcpStream::connect(&address).is_ok());
        Some(Emulator { child, address })
    }

    /// One that answers: on a busy machine somebody else may take a port of its before it does, and it says 502 then.
    fn start_well(fixture: &Fixture) -> Option<Emulator> {
        const TRIES: usize = 4;
        for _ in 0..TRIES {
            let emulator = Emulator::start(fixture)?;
            match emulator.ask("{}") {
                (200, answer) => {
                    assert_eq!(answer, b"1");
                    return Some(emulator);
                }
                (status, answer) => eprintln!("the emulator answered {status}: {}", String::from_utf8_lossy(&answer)),
            }
        }
        panic!("the emulator did not start well {TRIES} times");
    }

    fn ask(&self, event: &str) -> (u16, Vec<u8>) {
        let path = "/2015-03-31/functions/function/invocations";
        let (status, _, body) = wire::request(&self.address, "POST", path, &[], event.as_bytes()).expect("it answers");
        (status, body)
    }

    fn invoke(&self, event: &str) -> Value {
        let (status, body) = self.ask(event);
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&body)))
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end && self.child.try_wait().is_ok_and(|status| status.is_none()) {
            thread::yield_now();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What does not depend on the moment: statuses, bodies without ids, and the headers that say something.
fn compared(notes: &Value) -> Value {
    let plain = |name: &str, note: &Value| -> Value {
        let (Some(status), Some(body)) = (note.get("status"), note.get("body")) else { return note.clone() };
        let header = |header: &str| note.get("headers").and_then(|headers| headers.get(header)).cloned().unwrap_or(Value::Null);
        let mut body = body.as_str().unwrap_or_default().to_owned();
        // The emulator leaves this empty without a variable of its own.
        if name.starts_with("register") && *status == 200 {
            body = String::new();
        }
        // What its JSON library says.
        if name == "register-no-json" {
            body = body.split_once("errorType").map(|(_, rest)| rest.to_owned()).unwrap_or(body);
        }
        json!({"status": status, "body": body.trim_end(), "allow": header("allow"), "type": header("content-type")})
    };
    notes.as_object().expect("notes").iter().map(|(name, note)| (name.clone(), plain(name, note))).collect()
}

#[test]
fn calls_are_answered_as_by_awss_emulator() {
    const SCRIPT: &str = r#"
http ping GET /2018-06-01/ping
http ping-post POST /2018-06-01/ping x
http none GET /2018-06-01/none
http none-either GET /2019-01-01/runtime/invocation/next
http restore GET /2018-06-01/runtime/restore/next
http next-post POST /2018-06-01/runtime/invocation/next x
http early-response POST /2018-06-01/runtime/invocation/none/response x
http early-error POST /2018-06-01/runtime/invocation/none/error x
header Lambda-Extension-Name inner
http register-shutdown POST /2020-01-01/extension/register {"events":["SHUTDOWN"]}
header Lambda-Extension-Name inner
http register-unknown POST /2020-01-01/extension/register {"events":["FOO"]}
http register-nameless POST /2020-01-01/extension/register {"events":["INVOKE"]}
header Lambda-Extension-Name inner
http register-no-json POST /2020-01-01/extension/register nonsense
http event-next-nameless GET /2020-01-01/extension/event/next
header Lambda-Extension-Identifier nonsense
http event-next-nonsense GET /2020-01-01/extension/event/next
header Lambda-Extension-Identifier 12345678-1234-4234-8234-123456789012
http event-next-unknown GET /2020-01-01/extension/event/next
http register-get GET /2020-01-01/extension/register
next
header Lambda-Extension-Name late
http register-late POST /2020-01-01/extension/register {"events":["INVOKE"]}
http wrong-id POST /2018-06-01/runtime/invocation/12345678-1234-4234-8234-123456789012/response x
http init-error POST /2018-06-01/runtime/init/error {"errorMessage":"x","errorType":"y"}
respond 1
http twice POST /2018-06-01/runtime/invocation/{id}/response 2
http error-after POST /2018-06-01/runtime/invocation/{id}/error {"errorMessage":"x"}
next
respond-notes
next
"#;
    let Some(fixture) = Fixture::new() else { return };
    fixture.script(SCRIPT);
    let Some(emulator) = Emulator::start_well(&fixture) else { return };
    let theirs = compared(&emulator.invoke("{}"));
    let serving = fixture.serve(&[]);
    assert_eq!(serving.invoke(&[], b"{}").json(), json!(1));
    let ours = compared(&serving.invoke(&[], b"{}").json());
    for (name, answer) in theirs.as_object().expect("notes") {
        assert_eq!(&ours[name], answer, "{name}");
    }
    assert!(theirs.as_object().expect("notes").len() > 20, "{theirs}");
    drop(emulator);
    serving.end(Signal::SIGTERM).expect_code(0);
    fs::remove_file(fixture.task().join("script")).expect("it is ours");
}
