//! A short run of each fuzz target, always the same. `FUZZ_SECONDS` makes it longer, `FUZZ_NUMBER` another one.

use std::env;
use std::time::Duration;

use fuzz::driver::{Length, run};

fn short_run(name: &str) {
    let told = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let target = fuzz::target(name);
    let length = told("FUZZ_SECONDS").map_or(Length::Inputs(target.short_run), |seconds| Length::Time(Duration::from_secs(seconds)));
    let number = told("FUZZ_NUMBER").unwrap_or(1);
    println!("{name}: {} inputs of number {number}", run(&target, number, length));
}

#[test]
fn seccomp_policies() {
    short_run("seccomp_policy");
}

#[test]
fn runtime_api_requests() {
    short_run("runtime_api");
}

#[test]
fn invoke_api_requests() {
    short_run("invoke_api");
}

#[test]
fn places_for_volumes_in_hostile_trees() {
    short_run("mount_places");
}

#[test]
fn layers() {
    short_run("layer");
}

#[test]
fn manifests() {
    short_run("manifest");
}

#[test]
fn lock_files() {
    short_run("lock_file");
}

#[test]
fn dockerfiles() {
    short_run("dockerfile");
}

#[test]
fn documents_of_trust() {
    short_run("trust_metadata");
}
