//! Second resolution of a cached image, size of the binary, memory of the runner while a function runs.
//!
//! `cargo bench --package tests --bench footprint`

use std::fs;
use std::time::Instant;

use nix::sys::signal::Signal;
use rootfs_cache::pull::{PullOptions, lookup};
use rootfs_cache::reference::ImageReference;
use rootfs_cache::store::Cache;
use tests::bench::{Variant, compare, verdict};
use tests::leftovers::status_field;
use tests::{Fixture, place};

fn main() {
    let Some(fixture) = Fixture::new() else { return };
    let image = fixture.image("provided");
    fixture.undocked(&["pull", &image]).finish().expect_code(0);

    let reference: ImageReference = image.parse().expect("a sound reference");
    let resolve = || {
        let start = Instant::now();
        let cache = Cache::open(&fixture.cache()).expect("our own cache");
        let found = lookup(&cache, &reference, &PullOptions::default()).expect("it resolves");
        assert!(found.is_some(), "it is cached");
        start.elapsed()
    };
    let figures = compare("Second resolution of a cached image, cache opened each time", 1001, vec![Variant::new("lookup", resolve)]);
    verdict("second resolution, median", figures[0].median.as_secs_f64() * 1e3, 1.0, "ms");

    let size = fs::metadata(place::undocked()).expect("it is built").len();
    verdict("the binary", size as f64 / 1e6, 15.0, "MB");

    fixture.script("next\nerr waiting\\n\nhang");
    let running = fixture.run(&[], &[]).start();
    running.wait_for_stderr("waiting\n");
    let kilobytes = |field: &str| -> f64 {
        let text = status_field(running.id(), field).expect("it runs");
        text.trim_end_matches(" kB").parse().expect("a number")
    };
    verdict("the runner's memory while a function runs (RSS)", kilobytes("VmRSS:") / 1e3, 12.0, "MB");
    verdict("its peak", kilobytes("VmHWM:") / 1e3, 12.0, "MB");
    running.signal(Signal::SIGTERM);
    running.finish();
}
