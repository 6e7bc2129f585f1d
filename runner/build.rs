//! Compiles what undocked embeds: the sandbox's PID 1, the janitor of cgroups and the stand-in for docker-lambda's server (`init/`), static programs
//! without libraries, and the shipped seccomp policies.

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use seccomp::filter::{Filter, Instruction};
use seccomp::numbers::Architecture;
use seccomp::policy::Policy;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let output = PathBuf::from(variable("OUT_DIR"));
    println!("cargo::rerun-if-changed=init/programs.rs");
    for program in ["init", "janitor", "mockserver"] {
        compile(program, &output.join(program));
    }
    compile_filters(&output.join("filters.rs"));
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

/// Writes each shipped policy as a constant of BPF instructions for the architecture we are built for.
fn compile_filters(output: &Path) {
    let target = variable("CARGO_CFG_TARGET_ARCH");
    let known = Architecture::ALL.into_iter().find(|architecture| architecture.name() == target);
    let architecture = known.unwrap_or_else(|| panic!("no policy is written for {target}"));
    let mut text = String::new();
    let policies = [
        ("LAMBDA", "functions", Policy::lambda()),
        ("NETWORK", "a private network", Policy::network()),
        ("BUILD", "building", Policy::build()),
        ("BUILD_WITH_VOLUMES", "building where volumes may be written to", Policy::build_with_volumes()),
        ("BUILD_WITH_IDS", "building with a range of ids", Policy::build_with_ids()),
        ("BUILD_WITH_IDS_AND_VOLUMES", "the same where volumes may be written to", Policy::build_with_ids_and_volumes()),
    ];
    for (name, what, policy) in policies {
        let filter = Filter::compile(&policy, architecture).unwrap_or_else(|error| panic!("the policy for {what}: {error}"));
        let _ = writeln!(text, "/// The shipped policy for {what}.\nconst {name}: &[Instruction] = &[");
        for Instruction { code, jt, jf, k } in filter.instructions() {
            let _ = writeln!(text, "    Instruction {{ code: {code:#x}, jt: {jt}, jf: {jf}, k: {k:#x} }},");
        }
        text.push_str("];\n");
    }
    std::fs::write(output, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", output.display()));
}

fn compile(program: &str, output: &Path) {
    let source = format!("init/{program}.rs");
    println!("cargo::rerun-if-changed={source}");
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["--edition", "2024", "--crate-name", program, "--crate-type", "bin", "--target", &variable("TARGET")]);
    rustc.args([
        "-C",
        "panic=abort",
        "-C",
        "opt-level=s",
        "-C",
        "strip=symbols",
        "-C",
        "relocation-model=static",
        "-C",
        "target-feature=+crt-static",
    ]);
    rustc.args([
        "-C",
        "link-arg=-nostartfiles",
        "-C",
        "link-arg=-nostdlib",
        "-C",
        "link-arg=-static",
        "-C",
        "link-arg=-Wl,--build-id=none",
    ]);
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.args(["-C", &format!("linker={linker}")]);
    }
    rustc.arg("-o").arg(output).arg(&source);
    let status = rustc.status().unwrap_or_else(|error| panic!("cannot run rustc: {error}"));
    assert!(status.success(), "cannot compile {source}");
}
