//! Builds the programs that run inside the sandbox statically, so that they run in a root file system that holds nothing else.
//!
//! Cargo cannot link some binaries of a package statically and the rest not, so this calls the compiler itself; they have no dependencies.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src/bin");
    for (name, variable) in [("probe", "STATIC_PROBE"), ("nothing", "STATIC_NOTHING"), ("echo", "STATIC_ECHO")] {
        let output = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join(name);
        let status = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"))
            .args(["--edition", "2024", "--crate-name", name, "--target"])
            .arg(env::var_os("TARGET").expect("cargo sets TARGET"))
            .args(["-O", "-C", "target-feature=+crt-static", "-C", "relocation-model=static"])
            .args(["-C", "strip=symbols", "-C", "panic=abort", "-o"])
            .arg(&output)
            .arg(format!("src/bin/{name}.rs"))
            .status()
            .expect("rustc starts");
        assert!(status.success(), "{name} does not build statically (on Debian, libc6-dev has the static libc)");
        println!("cargo::rustc-env={variable}={}", output.display());
    }
}
