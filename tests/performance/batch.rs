//! `undocked batch`: what an event costs in a fresh environment that was opened ahead of it, beside a warm one; and how much of a first call is the
//! runtime's own, by the same runtime in the same image asking a bare server.
//!
//! `cargo bench --package tests --bench batch`

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::bench::verdict;
use tests::image::Layout;
use tests::{Fixture, place};

const NODE: &str = "lambda/nodejs:20";
const ROUNDS: usize = 3;

fn main() {
    let Some(fixture) = Fixture::new() else { return };
    fs::copy(place::echo(), fixture.task().join("bootstrap")).expect("the task folder is ours");
    let provided =
        Function { name: "provided, an echo in Rust", image: fixture.image("provided"), task: fixture.task().to_owned(), events: 200 };
    measure(&fixture, &provided);
    if Layout::at(&place::images_layout()).find(NODE).is_none() {
        println!("no figures for Node: the image {NODE} is not built (tests/images/mkimages.py build @ci)");
        return;
    }
    let task = fixture.path().join("node");
    fs::create_dir(&task).expect("a fresh folder");
    fs::write(task.join("index.js"), "exports.handler = async event => event\n").expect("written");
    let image = format!("oci:{}:{NODE}", place::images_layout().display());
    fixture.undocked(&["pull", &image]).finish().expect_code(0);
    let node = Function { name: "Node 20, an echo", image, task, events: 30 };
    let [fresh, warm] = measure(&fixture, &node);
    own_part(&fixture, &node, fresh - warm);
}

struct Function {
    name: &'static str,
    image: String,
    task: PathBuf,
    events: usize,
}

/// Milliseconds, as the reports have them.
#[derive(Default)]
struct Seen {
    durations: Vec<f64>,
    inits: Vec<f64>,
    walls: Vec<f64>,
}

/// At this share of the sorted values.
fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * share) as usize;
    values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn batch(fixture: &Fixture, function: &Function, options: &[&str], seen: &mut Seen) {
    let events = fixture.path().join("events.jsonl");
    fs::write(&events, "{\"key1\":\"value1\",\"key2\":\"value2\"}\n".repeat(function.events)).expect("written");
    let volume = format!("{}:/var/task:ro", function.task.display());
    let begun = Instant::now();
    let run = fixture.undocked(&["batch", "-v", &volume]).args(options).args(["-q", &function.image, "index.handler"]).arg(&events);
    let ran = run.finish().expect_code(0);
    seen.walls.push(begun.elapsed().as_secs_f64() * 1e3 / function.events as f64);
    for line in ran.out().lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let figure = |name: &str| line["report"][name].as_f64();
        seen.durations.extend(figure("durationMs"));
        seen.inits.extend(figure("initMs"));
    }
}

/// Medians of a fresh and a warm one, one at a time.
fn measure(fixture: &Fixture, function: &Function) -> [f64; 2] {
    let variants: [(&str, &[&str]); 4] = [
        ("fresh, -j 1", &["-j", "1"]),
        ("--warm, -j 1", &["-j", "1", "--warm"]),
        ("fresh, -j 2", &["-j", "2"]),
        ("--warm, -j 2", &["-j", "2", "--warm"]),
    ];
    let mut all: [Seen; 4] = Default::default();
    for _ in 0..ROUNDS {
        for ((_, options), seen) in variants.iter().zip(&mut all) {
            batch(fixture, function, options, seen);
        }
    }
    println!("\n{} ({ROUNDS} interleaved rounds of {} events)\n", function.name, function.events);
    println!("| variant | duration p50 ms | p99 ms | init p50 ms | wall time an event ms |\n|---|---|---|---|---|");
    let medians = all.each_mut().map(|seen| quantile(&mut seen.durations, 0.5));
    for ((name, _), seen) in variants.iter().zip(&mut all) {
        let [p50, p99] = [0.5, 0.99].map(|share| quantile(&mut seen.durations, share));
        let (init, wall) = (quantile(&mut seen.inits, 0.5), quantile(&mut seen.walls, 0.5));
        println!("| {name} | {p50:.2} | {p99:.2} | {init:.1} | {wall:.2} |");
    }
    verdict(&format!("{}: a fresh one beside a warm one, median", function.name), medians[0] / medians[1], 1.0, "x");
    [medians[0], medians[1]]
}

/// What the runtime itself needs more for its first event than for the next ones: nothing of ours answers it, and events come half a second after it is ready.
fn own_part(fixture: &Fixture, function: &Function, ours: f64) {
    let (mut first, mut later) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        let times = bare_server(fixture, function, 8);
        first.push(times[0]);
        later.extend_from_slice(&times[1..]);
    }
    let (first, later) = (quantile(&mut first, 0.5), quantile(&mut later, 0.5));
    println!("\nThe same runtime asking a bare server: first event {first:.2} ms, later ones {later:.2} ms (medians)");
    verdict("what a fresh one costs more than a warm one, less what the runtime's own first call does", ours - (first - later), 0.5, "ms");
}

/// Starts the runtime with a server that does no more than it must, and gives it so many events; milliseconds from each event to its answer.
fn bare_server(fixture: &Fixture, function: &Function, events: usize) -> Vec<f64> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    let volume = format!("{}:/var/task:ro", function.task.display());
    let script = format!("AWS_LAMBDA_RUNTIME_API={address} exec /lambda-entrypoint.sh index.handler");
    let mut command = plain(fixture);
    command.args(["run", "--network", "host", "-v", &volume, "--entrypoint", "/bin/sh", &function.image, "-c", &script]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let times = serve(&listener, events);
    // SIGTERM, so that its sandbox ends with it.
    let _ = Command::new("kill").arg(child.id().to_string()).status();
    let _ = child.wait();
    times
}

fn plain(fixture: &Fixture) -> Command {
    let mut command = Command::new(place::undocked());
    command.env_clear().env("HOME", fixture.path().join("home")).env("UNDOCKED_CACHE", fixture.cache());
    command
}

fn serve(listener: &TcpListener, events: usize) -> Vec<f64> {
    const EVENT: &str = r#"{"key1":"value1","key2":"value2"}"#;
    let (stream, _) = listener.accept().expect("it connects");
    stream.set_nodelay(true).expect("a TCP socket");
    let mut stream = BufReader::new(stream);
    let mut times = Vec::new();
    let mut given = Instant::now();
    loop {
        let asks = receive(&mut stream);
        if asks {
            if times.len() == events {
                return times;
            }
            // An event in a batch comes to a runtime that has been idle for a while, too.
            std::thread::sleep(Duration::from_millis(if times.is_empty() { 100 } else { 1 }));
            let deadline = u128::MAX >> 70;
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: 8476a536-e9f4-11e8-9739-2dfe598c3fcd\r\nLambda-Runtime-Deadline-Ms: {deadline}\r\nLambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:123456789012:function:test\r\nLambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0\r\nContent-Length: {}\r\n\r\n{EVENT}",
                EVENT.len()
            );
            given = Instant::now();
            send(stream.get_mut(), &head);
        } else {
            times.push(given.elapsed().as_secs_f64() * 1e3);
            send(
                stream.get_mut(),
                "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"status\":\"OK\"}\n",
            );
        }
    }
}

fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).expect("it listens");
}

/// Reads a request; whether it asks for an event.
fn receive(stream: &mut BufReader<TcpStream>) -> bool {
    let (mut first, mut length) = (String::new(), 0);
    stream.read_line(&mut first).expect("a request");
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).expect("a header");
        match line.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse().expect("a number"),
            Some((name, _)) if name.eq_ignore_ascii_case("transfer-encoding") => length = usize::MAX,
            Some(_) => {}
            None => break,
        }
    }
    if length == usize::MAX {
        read_chunks(stream);
    } else {
        stream.read_exact(&mut vec![0; length]).expect("a body");
    }
    first.starts_with("GET ")
}

fn read_chunks(stream: &mut BufReader<TcpStream>) {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).expect("a chunk");
        let size = usize::from_str_radix(line.trim(), 16).expect("a size");
        stream.read_exact(&mut vec![0; size + 2]).expect("its bytes");
        if size == 0 {
            return;
        }
    }
}
