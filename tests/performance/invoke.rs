//! Warm calls through the Invoke API, beside AWS's emulator where it is at hand (`UNDOCKED_EMULATOR`, or what `tests/clients/install.sh` fetched):
//! latency, throughput with eight clients, our own part of a call; memory and descriptors after many calls, with large payloads, with many functions.
//!
//! `cargo bench --package tests --bench invoke`

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::bench::verdict;
use tests::image::Layout;
use tests::leftovers::status_field;
use tests::serving::{Client, Serving};
use tests::{Fixture, place};

/// A small event, as most are.
const EVENT: &[u8] = br#"{"key1":"value1","key2":"value2","key3":"value3"}"#;

fn main() {
    let Some(fixture) = Fixture::new() else { return };
    fs::copy(place::echo(), fixture.task().join("bootstrap")).expect("the task folder is ours");
    provided(&fixture);
    python(&fixture);
    many_calls(&fixture);
    large_payloads(&fixture);
    many_functions(&fixture);
}

/// A process that is killed with this value.
struct Emulator {
    child: Child,
    address: String,
}

impl Emulator {
    fn start(mut command: Command) -> Emulator {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        // Its log is read as ours is.
        let (mut out, mut err) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
        thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        thread::spawn(move || std::io::copy(&mut err, &mut std::io::sink()));
        let address = command.get_args().skip_while(|word| *word != "--runtime-interface-emulator-address").nth(1).expect("an address");
        let address = address.to_string_lossy().into_owned();
        let begun = Instant::now();
        while TcpStream::connect(&address).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the emulator does not listen");
            thread::yield_now();
        }
        Emulator { child, address }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("loopback").port()
}

fn emulator_arguments(command: &mut Command) {
    for option in ["--runtime-interface-emulator-address", "--runtime-api-address"] {
        command.arg(option).arg(format!("127.0.0.1:{}", free_port()));
    }
}

/// Latencies of one client's calls, one after another.
struct Latencies<'a> {
    name: &'a str,
    client: Client,
    function: &'a str,
    times: Vec<Duration>,
}

impl<'a> Latencies<'a> {
    fn new(name: &'a str, address: &str, function: &'a str) -> Self {
        let mut client = Client::connect(address);
        for _ in 0..50 {
            client.invoke(function, EVENT);
        }
        Self { name, client, function, times: Vec::new() }
    }

    fn round(&mut self, calls: usize) {
        for _ in 0..calls {
            let start = Instant::now();
            let (status, body) = self.client.invoke(self.function, EVENT);
            self.times.push(start.elapsed());
            assert!(status == 200 && body.len() >= EVENT.len(), "{status}: {}", String::from_utf8_lossy(&body));
        }
    }

    fn figures(&mut self) -> (f64, f64) {
        self.times.sort();
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        (us(self.times[0]), us(self.times[self.times.len() / 2]))
    }
}

/// Interleaved: a hundred calls each, in turn.
fn compare(title: &str, rounds: usize, variants: &mut [Latencies<'_>]) -> Vec<(f64, f64)> {
    for _ in 0..rounds {
        variants.iter_mut().for_each(|variant| variant.round(100));
    }
    println!("\n{title} ({rounds} interleaved rounds of 100 calls)\n");
    println!("| variant | min us | median us | x first, min | x first, median |\n|---|---|---|---|---|");
    let figures: Vec<_> = variants.iter_mut().map(Latencies::figures).collect();
    for (variant, (min, median)) in variants.iter().zip(&figures) {
        println!("| {} | {min:.0} | {median:.0} | {:.2} | {:.2} |", variant.name, min / figures[0].0, median / figures[0].1);
    }
    figures
}

/// Calls a second of so many clients at once.
fn throughput(address: &str, function: &str, clients: usize, calls: usize) -> f64 {
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                (0..calls).for_each(|_| assert_eq!(client.invoke(function, EVENT).0, 200));
            });
        }
    });
    (clients * calls) as f64 / start.elapsed().as_secs_f64()
}

/// Two round trips of such bytes through a thread of this process: what both HTTP legs cost the kernel, whoever serves them.
fn two_round_trips() -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut bytes = [0; 1024];
        loop {
            match stream.read(&mut bytes)? {
                0 => return Ok::<_, std::io::Error>(()),
                length => stream.write_all(&bytes[..length])?,
            }
        }
    });
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_nodelay(true).expect("a TCP socket");
    let mut bytes = [0; 1024];
    let mut times: Vec<Duration> = (0..2000)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..2 {
                stream.write_all(&[b'x'; 300]).expect("sent");
                let _ = stream.read(&mut bytes).expect("received");
            }
            start.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e6
}

fn provided(fixture: &Fixture) {
    let ours = fixture.serve(&[]);
    let emulator = place::emulator().map(|path| {
        let mut command = Command::new(path);
        emulator_arguments(&mut command);
        Emulator::start({
            command.arg(place::echo()).arg("handler");
            command
        })
    });
    let mut variants = vec![Latencies::new("undocked serve, provided echo", ours.address(), "fn")];
    if let Some(emulator) = &emulator {
        variants.push(Latencies::new("AWS's emulator, the same echo", &emulator.address, "function"));
    }
    let figures = compare("A warm call, provided", 50, &mut variants);
    drop(variants);
    against("provided", &figures);
    let legs = two_round_trips();
    verdict("our own part of a call (less two round trips of a bare socket), median", figures[0].1 - legs, 150.0, "us");
    load("provided", ours.address(), emulator.as_ref());
    let _ = ours.end(Signal::SIGTERM);
}

fn against(what: &str, figures: &[(f64, f64)]) {
    match figures {
        [ours, theirs] => verdict(&format!("latency of {what} beside the emulator's, median"), ours.1 / theirs.1, 0.5, "x"),
        _ => println!("no emulator beside it"),
    }
}

fn load(what: &str, address: &str, emulator: Option<&Emulator>) {
    throughput(address, "fn", 8, 20);
    let ours = throughput(address, "fn", 8, 1000);
    println!("{what}: {ours:.0} calls a second with eight clients");
    if let Some(emulator) = emulator {
        // Two at once would end it.
        let theirs = throughput(&emulator.address, "function", 1, 2000);
        println!("{what}: {theirs:.0} calls a second of the emulator with one client");
        verdict(&format!("throughput of {what}, the emulator's share of it"), theirs / ours, 1.0 / 3.0, "x");
    }
}

/// An echo in Python 3.11, in the same image for both.
fn python(fixture: &Fixture) {
    const NAME: &str = "lambda/python:3.11";
    if Layout::at(&place::images_layout()).find(NAME).is_none() {
        println!("no figures for Python: the image {NAME} is not built (tests/images/mkimages.py build @ci)");
        return;
    }
    let image = format!("oci:{}:{NAME}", place::images_layout().display());
    let task = fixture.path().join("python");
    fs::create_dir(&task).expect("a fresh folder");
    fs::write(task.join("app.py"), "def handler(event, context):\n    return event\n").expect("written");
    let volume = format!("{}:/var/task:ro", task.display());
    fixture.undocked(&["pull", &image]).finish().expect_code(0);
    let ours = Serving::start(fixture.undocked(&["serve", "--listen", "127.0.0.1:0", "-v", &volume, &image, "app.handler"]));
    let emulator = place::emulator().map(|path| in_image(fixture, &path, &volume, &image));
    let mut variants = vec![Latencies::new("undocked serve, Python echo", ours.address(), "fn")];
    if let Some(emulator) = &emulator {
        variants.push(Latencies::new("AWS's emulator in the same image", &emulator.address, "function"));
    }
    let figures = compare("A warm call, Python 3.11", 20, &mut variants);
    drop(variants);
    against("Python", &figures);
    load("Python", ours.address(), emulator.as_ref());
    let _ = ours.end(Signal::SIGTERM);
}

/// The emulator as the image's plain command, on this machine's network so that nothing stands between. Under its own name it would be taken for a part
/// of the image that we take the place of.
fn in_image(fixture: &Fixture, path: &Path, volume: &str, image: &str) -> Emulator {
    let folder = fixture.path().join("emulator");
    fs::create_dir(&folder).expect("a fresh folder");
    fs::copy(path, folder.join("peer")).expect("copied");
    let mut command = Command::new(place::undocked());
    command.env_clear().env("HOME", fixture.path().join("home")).env("UNDOCKED_CACHE", fixture.cache());
    command.args(["docker", "run", "--network", "host", "-v", volume, "-v", &format!("{}:/opt:ro", folder.display())]);
    command.args(["--entrypoint", "/opt/peer", image]);
    emulator_arguments(&mut command);
    command.args(["/lambda-entrypoint.sh", "app.handler"]);
    Emulator::start(command)
}

fn kilobytes(serving: &Serving, field: &str) -> f64 {
    let text = status_field(serving.running().id(), field).expect("it runs");
    text.trim_end_matches(" kB").parse().expect("a number")
}

fn descriptors(serving: &Serving) -> usize {
    fs::read_dir(format!("/proc/{}/fd", serving.running().id())).expect("it runs").count()
}

fn many_calls(fixture: &Fixture) {
    const CALLS: usize = 100_000;
    let serving = fixture.serve(&[]);
    throughput(serving.address(), "fn", 8, 500);
    let (memory, open) = (kilobytes(&serving, "VmRSS:"), descriptors(&serving));
    throughput(serving.address(), "fn", 8, CALLS / 8);
    println!("\nAfter {CALLS} calls: {} descriptors more", descriptors(&serving) as i64 - open as i64);
    verdict("memory (RSS) more than before", (kilobytes(&serving, "VmRSS:") - memory) / 1e3, 2.0, "MB");
    let _ = serving.end(Signal::SIGTERM);
}

fn large_payloads(fixture: &Fixture) {
    let serving = fixture.serve(&[]);
    let event = [b"\"".as_slice(), &vec![b'x'; 6 * 1024 * 1024 - 2], b"\""].concat();
    let mut client = Client::connect(serving.address());
    for _ in 0..20 {
        let (status, body) = client.invoke("fn", &event);
        assert!(status == 200 && body == event, "{status}");
    }
    verdict("peak memory (VmHWM) with 6 MiB both ways", kilobytes(&serving, "VmHWM:") / 1e3, 40.0, "MB");
    let _ = serving.end(Signal::SIGTERM);
}

fn many_functions(fixture: &Fixture) {
    let image = fixture.image("provided");
    let table = |number: usize| {
        format!("[functions.f{number}]\nimage = \"{image}\"\nhandler = \"handler\"\ncode = \"{}\"\n", fixture.task().display())
    };
    let file = fixture.path().join("functions.toml");
    fs::write(&file, (0..100).map(table).collect::<String>()).expect("written");
    let serving = Serving::start(fixture.undocked(&["serve", "--listen", "127.0.0.1:0", "--config", &file.display().to_string()]));
    verdict("memory (RSS) with 100 functions, none started", kilobytes(&serving, "VmRSS:") / 1e3, 20.0, "MB");
    let _ = serving.end(Signal::SIGTERM);
}
