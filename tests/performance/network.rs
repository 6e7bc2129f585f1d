//! Connections out of a private network beside the host's own: how long connecting takes, how many a second, and how fast an open one is.
//!
//! `cargo bench --package tests --bench network`

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tests::Weakened;
use tests::bench::{Figures, Variant, compare, verdict};
use tests::weakened::{notes_of, notes_of_host};

const ROUNDS: usize = 31;
/// Connections in one go.
const CONNECTIONS: u16 = 300;
const MEBIBYTES: u16 = 512;
const GATEWAY: &str = "198.18.111.1";
const LOOPBACK: &str = "127.0.0.1";

/// A listener that closes what it accepts, and one that reads to the end and answers a byte.
fn listeners() -> (u16, u16) {
    let bind = || TcpListener::bind((LOOPBACK, 0)).expect("a port is free");
    let (closing, reading) = (bind(), bind());
    let port = |listener: &TcpListener| listener.local_addr().expect("bound").port();
    let ports = (port(&closing), port(&reading));
    thread::spawn(move || closing.incoming().for_each(drop));
    thread::spawn(move || reading.incoming().flatten().for_each(read_all));
    ports
}

fn read_all(mut stream: TcpStream) {
    let mut buffer = vec![0; 1 << 20];
    while stream.read(&mut buffer).is_ok_and(|length| length > 0) {}
    let _ = stream.write_all(b"x");
}

fn nanoseconds(notes: &Value, name: &str) -> Duration {
    let value = notes["seen"][name].as_str().and_then(|value| value.parse().ok());
    Duration::from_nanos(value.unwrap_or_else(|| panic!("{notes}")))
}

fn main() {
    let weakened = Weakened::new().expect("sandboxes can run here");
    let (closing, reading) = listeners();
    let outside = |attempt: &str, ip: &str, rest: &str| notes_of_host(&format!("connections seen {attempt} {ip} {rest}"));
    let inside = |attempt: &str, ip: &str, rest: &str| {
        notes_of(&weakened.run_with(&["--private-network"], &format!("connections seen {attempt} {ip} {rest}")))
    };
    let rest = format!("{closing} {CONNECTIONS}");
    let measured = |name: &'static str| {
        let (rest, outside, inside) = (&rest, &outside, &inside);
        vec![
            Variant::new("the host's own", move || nanoseconds(&outside("times", LOOPBACK, rest), name)),
            Variant::new("out of a private network", move || nanoseconds(&inside("times", GATEWAY, rest), name)),
        ]
    };
    let more = |figures: &[Figures]| (figures[1].min.as_secs_f64() - figures[0].min.as_secs_f64()) * 1e6;
    let figures = compare("The quickest of 300 connections", ROUNDS, measured("min"));
    verdict("a connection, over the host's own, at best", more(&figures), 40.0, "us");
    let figures = compare("The middle one of 300 connections", ROUNDS, measured("median"));
    println!("over the host's own: {:.1} us", more(&figures));
    let figures = compare("300 connections, made and closed", ROUNDS, measured("all"));
    println!("a second: {:.0}, the host's own {:.0}", per_second(figures[1]), per_second(figures[0]));
    let rest = format!("{reading} {MEBIBYTES}");
    let figures = compare(
        "512 MiB over one connection",
        9,
        vec![
            Variant::new("the host's own", || nanoseconds(&outside("throughput", LOOPBACK, &rest), "all")),
            Variant::new("out of a private network", || nanoseconds(&inside("throughput", GATEWAY, &rest), "all")),
        ],
    );
    verdict("an open connection's time, beside the host's own", figures[1].min.as_secs_f64() / figures[0].min.as_secs_f64(), 1.05, "");
}

fn per_second(figures: Figures) -> f64 {
    f64::from(CONNECTIONS) / figures.median.as_secs_f64()
}
