//! Where the binary under test, the probe, the images and scratch space are.
//!
//! All of it can be told by variables: a test binary may have been built by another user, in a place this one cannot reach.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

fn told(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The `undocked` binary of the profile this test was built with; built first, unless `UNDOCKED_BIN` names one.
///
/// # Panics
/// When it cannot be built.
pub fn undocked() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| told("UNDOCKED_BIN").unwrap_or_else(build_undocked))
}

fn build_undocked() -> PathBuf {
    // <target>/<profile>/deps/<test>
    let own = env::current_exe().expect("the kernel tells our own path");
    let profile_folder = own.ancestors().nth(2).expect("cargo puts tests into <profile>/deps");
    let release = profile_folder.ends_with("release");
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--package", "runner", "--bin", "undocked", "--target-dir"])
        .arg(profile_folder.parent().expect("a profile's folder lies in the target folder"))
        .args(release.then_some("--release"))
        .current_dir(project())
        .status()
        .expect("cargo starts");
    assert!(status.success(), "undocked does not build");
    profile_folder.join("undocked")
}

/// The program that starts sandboxes less some protections; cargo builds it with every test.
///
/// # Panics
/// When it is not where cargo puts it.
pub fn weakened() -> PathBuf {
    // <target>/<profile>/deps/<test>
    let beside = || env::current_exe().expect("the kernel tells our own path").ancestors().nth(2).map(|profile| profile.join("weakened"));
    told("UNDOCKED_WEAKENED").or_else(beside).expect("cargo puts tests into <profile>/deps")
}

/// The program that starts another one as on a machine that grants less.
///
/// # Panics
/// When it is not where cargo puts it.
pub fn degraded() -> PathBuf {
    // <target>/<profile>/deps/<test>
    let beside = || env::current_exe().expect("the kernel tells our own path").ancestors().nth(2).map(|profile| profile.join("degraded"));
    told("UNDOCKED_DEGRADED").or_else(beside).expect("cargo puts tests into <profile>/deps")
}

/// The isolation that every run of a test asks for, where a suite is run in another than the best one.
pub fn isolation() -> Option<String> {
    env::var("UNDOCKED_TESTS_ISOLATION").ok().filter(|isolation| !isolation.is_empty())
}

/// Whether it is one of these.
pub fn isolation_is(names: &[&str]) -> bool {
    isolation().is_some_and(|own| names.contains(&own.as_str()))
}

/// Whether a sandbox has mounts and processes of its own there.
pub fn has_namespaces() -> bool {
    !isolation_is(&["chroot", "in-place"])
}

/// How a write to what may only be read ends: at a mount's flag, or at Landlock.
pub fn refused_write() -> &'static str {
    if has_namespaces() { "EROFS" } else { "EACCES" }
}

/// The statically linked probe.
pub fn probe() -> PathBuf {
    told("UNDOCKED_PROBE").unwrap_or_else(|| PathBuf::from(env!("STATIC_PROBE")))
}

/// A statically linked program that does nothing.
pub fn nothing() -> PathBuf {
    PathBuf::from(env!("STATIC_NOTHING"))
}

/// A statically linked runtime that answers every event with itself.
pub fn echo() -> PathBuf {
    PathBuf::from(env!("STATIC_ECHO"))
}

/// AWS's emulator, out of the wheel that carries it, fetched by `tests/clients/install.sh`; none where that was not run.
pub fn emulator() -> Option<PathBuf> {
    let fetched = told("LAMBDA_IMAGES_CACHE").unwrap_or_else(|| PathBuf::from("/var/cache/lambda-images")).join("clients/aws-lambda-rie");
    told("UNDOCKED_EMULATOR").or(Some(fetched)).filter(|path| path.exists())
}

/// The project's folder.
pub fn project() -> PathBuf {
    told("UNDOCKED_PROJECT").unwrap_or_else(|| {
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        own.parent().expect("the tests lie in the project").to_owned()
    })
}

fn images_cache() -> PathBuf {
    told("LAMBDA_IMAGES_CACHE").unwrap_or_else(|| PathBuf::from("/var/cache/lambda-images"))
}

/// The OCI layout that `tests/images/mkimages.py` fills.
pub fn images_layout() -> PathBuf {
    images_cache().join("layout")
}

/// The clients of the Invoke API that `tests/clients/install.sh` installs.
pub fn clients() -> PathBuf {
    images_cache().join("clients")
}

/// A program of `tests/clients/rust`, which `tests/clients/install.sh` builds; none where that was not run.
pub fn rust_client(name: &str) -> Option<PathBuf> {
    Some(clients().join("rust").join(name)).filter(|path| path.exists())
}

/// Those of the echo functions that `tests/images/mkimages.py` compiles with their images.
pub fn compiled_functions() -> PathBuf {
    images_cache().join("functions")
}

/// The echo functions that come with the images.
pub fn functions() -> PathBuf {
    project().join("tests/images/functions")
}

/// A fresh folder, below `UNDOCKED_TESTS_TMP` if that is set.
///
/// # Panics
/// When there is no room for one.
pub fn scratch() -> TempDir {
    let made = match told("UNDOCKED_TESTS_TMP") {
        Some(parent) => TempDir::with_prefix_in("t-", parent),
        None => TempDir::with_prefix("undocked-test-"),
    };
    made.expect("a temporary folder can be made")
}
