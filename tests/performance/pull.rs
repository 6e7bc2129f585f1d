//! A cold pull of a large image, from a registry on loopback to a root file system that may be run, beside every other tool that is installed.
//!
//! `tests/images/mkimages.py build large && cargo bench --package tests --bench pull [-- NAME...]`
//!
//! As root everything is stored on a fresh ext4 with a journal, on a loop device that bypasses the page cache; as an ordinary user on a tmpfs. Ours counts with
//! both digests checked and all of it synced to disk; the others as they are, and in another column with a sync after them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use tests::bench::verdict;
use tests::skip;

#[path = "pull/disk.rs"]
mod disk;
#[path = "pull/large.rs"]
mod large;
#[path = "pull/peers.rs"]
mod peers;
#[path = "pull/usage.rs"]
mod usage;

use disk::Disk;
use large::{IMAGE, Served};
use peers::{Peer, Pulled};

const ROUNDS: usize = 5;

/// What one variant has shown, round by round.
struct Measured {
    name: &'static str,
    wall: Vec<f64>,
    synced: Vec<f64>,
    cpu: Vec<f64>,
    peak_mb: f64,
}

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let Some(served) = Served::start() else { return };
    let disk = Disk::new();
    let reference = served.reference();
    let peers = peers::all(&reference, &disk, &chosen);
    let measured = measure(peers, &disk);
    print(&measured, &disk);
}

/// A round to warm up does not count: it brings programs and the registry's files into the page cache.
fn measure(mut peers: Vec<Peer>, disk: &Disk) -> Vec<Measured> {
    let named = |peer: &Peer| Measured { name: peer.name, wall: Vec::new(), synced: Vec::new(), cpu: Vec::new(), peak_mb: 0.0 };
    let mut measured: Vec<Measured> = peers.iter().map(named).collect();
    for round in 0..=ROUNDS {
        for (peer, measured) in peers.iter_mut().zip(&mut measured) {
            disk.sync();
            let start = Instant::now();
            let pulled = (peer.pull)(round);
            let wall = start.elapsed().as_secs_f64();
            disk.sync();
            let synced = start.elapsed().as_secs_f64();
            (peer.clean)(round);
            match pulled {
                Ok(Pulled { cpu, peak_mb }) if round > 0 => {
                    measured.wall.push(wall);
                    measured.synced.push(synced);
                    measured.cpu.push(cpu);
                    measured.peak_mb = measured.peak_mb.max(peak_mb);
                }
                Ok(_) => {}
                Err(why) => println!("{}: {why}", peer.name),
            }
        }
    }
    measured.retain(|measured| !measured.wall.is_empty());
    for column in measured.iter_mut().flat_map(|measured| [&mut measured.wall, &mut measured.synced, &mut measured.cpu]) {
        column.sort_by(f64::total_cmp);
    }
    measured
}

fn print(measured: &[Measured], disk: &Disk) {
    let Some(ours) = measured.iter().find(|measured| peers::is_ours(measured.name)) else { return };
    println!("\nCold pull of {IMAGE} onto {} ({ROUNDS} interleaved rounds, {} cores)\n", disk.kind(), cores());
    println!(
        "| | min s | median s | x ours, min | x ours, median | median with sync s | CPU s | peak RSS MB |\n|---|---|---|---|---|---|---|---|"
    );
    for one in measured {
        let (min, median) = (one.wall[0], middle(&one.wall));
        let rss = if one.peak_mb > 0.0 { format!("{:.0}", one.peak_mb) } else { "-".to_owned() };
        println!(
            "| {} | {min:.2} | {median:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {rss} |",
            one.name,
            min / ours.wall[0],
            median / middle(&ours.wall),
            middle(&one.synced),
            middle(&one.cpu),
        );
    }
    let is_bare = |one: &&Measured| one.name.starts_with("curl");
    let others = || measured.iter().filter(|one| !peers::is_ours(one.name));
    let image_tools: Vec<&Measured> = others().filter(|one| !is_bare(one)).collect();
    let bare: Vec<&Measured> = others().filter(is_bare).collect();
    for (whose, theirs) in [("the best image tool", image_tools), ("the best pipe of curl, which checks nothing", bare)] {
        let best = |of: fn(&Measured) -> f64| theirs.iter().map(|one| of(one)).min_by(f64::total_cmp);
        if let (Some(min), Some(median)) = (best(|one| one.wall[0]), best(|one| middle(&one.wall))) {
            verdict(&format!("ours over {whose}, minimum"), ours.wall[0] / min, 1.0 / 3.0, "");
            verdict(&format!("ours over {whose}, median"), middle(&ours.wall) / median, 1.0 / 3.0, "");
        }
    }
    verdict("peak RSS", ours.peak_mb, 60.0, "MB");
    if let Some(root) = measured.iter().find(|one| one.name == peers::OURS_AS_ROOT).filter(|_| skip::is_root()) {
        verdict("ordinary user over root, median", middle(&ours.wall) / middle(&root.wall), 1.05, "");
    }
}

fn middle(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Removes what a round has left, which may hold folders that say nobody may.
fn remove(path: &Path) {
    let _ = Command::new("chmod").args(["-R", "u+rwX"]).arg(path).stderr(Stdio::null()).status();
    let _ = fs::remove_dir_all(path);
}
