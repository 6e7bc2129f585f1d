//! The modules for other languages, by their own tests, with real images and the libraries that `tests/clients/install.sh` installs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tests::real::{self, RealFunction};
use tests::{place, skip};

/// The module's folder.
fn module(name: &str) -> PathBuf {
    place::project().join("clients").join(name)
}

/// What tests of a module start with.
fn command(program: &str, function: &RealFunction, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("TMPDIR", home)
        .env("UNDOCKED_BIN", place::undocked())
        .env("UNDOCKED_CACHE", function.cache())
        .env("TEST_IMAGE", &function.reference)
        .stdin(Stdio::null());
    command
}

#[track_caller]
fn expect_success(output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}: {}{}", output.status, text(&output.stdout), text(&output.stderr));
}

/// An installed package of Python's; `None`, and counted as skipped, without it.
fn python_packages() -> Option<std::ffi::OsString> {
    let folders = ["modules", "python"].map(|folder| place::clients().join(folder));
    if skip::has_program("python3") && folders[0].join("pytest").is_dir() && folders[1].join("boto3").is_dir() {
        let paths = folders.into_iter().chain([module("python").join("src")]);
        return Some(std::env::join_paths(paths).expect("folders have no colons"));
    }
    skip::skip(skip::Lack::Providable, "pytest and boto3 are not installed (tests/clients/install.sh)");
    None
}

#[test]
fn npm_modules_own_tests() {
    if !skip::has_program("node") {
        tests::skip!("node is not installed");
    }
    let Some(function) = real::function("lambci/lambda:nodejs12.x") else { return };
    let handler = "exports.handler = async (event) => { if (event.fail) throw new Error(event.fail); return { got: event } }\n";
    function.file("index.js", handler);
    let home = place::scratch();
    let output = command("node", &function, home.path())
        .arg("--test")
        .arg(module("npm").join("test"))
        .env("TEST_CODE", function.fixture.task())
        .current_dir(home.path())
        .output()
        .expect("node starts");
    expect_success(&output);
}

/// The test of docker-lambda 0.15.3 itself cannot be committed here; this is what it expects of the arguments, in our words.
#[test]
fn npm_module_calls_docker_as_docker_lambda_does() {
    if !skip::has_program("node") {
        tests::skip!("node is not installed");
    }
    let script = r"
        const calls = []
        require('child_process').spawnSync = (...call) => { calls.push(call); return { status: 0, stdout: 'log\n{}\n\n' } }
        const run = require(process.argv[1])
        run()
        run({ dockerImage: 'i', handler: 'h', event: { a: 1 }, taskDir: '', cleanUp: false, dockerArgs: ['-m', '1.5G'], spawnOptions: { x: 1 } })
        run({ addEnvVars: true })
        console.log(JSON.stringify(calls))
    ";
    let task = place::scratch();
    let folder = task.path().to_str().expect("text");
    let output = Command::new("node").args(["-e", script]).arg(module("npm")).current_dir(task.path()).output().expect("node starts");
    expect_success(&output);
    let calls: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let volume = format!("{folder}:/var/task");
    let first = serde_json::json!(["docker", ["run", "-v", volume, "--rm", "lambci/lambda:nodejs4.3", "index.handler", "{}"], {"encoding": "utf8"}]);
    assert_eq!(calls[0], first);
    assert_eq!(calls[1], serde_json::json!(["docker", ["run", "-m", "1.5G", "i", "h", r#"{"a":1}"#], {"x": 1}]));
    let variables: Vec<&str> = calls[2][1].as_array().expect("arguments").iter().filter_map(|argument| argument.as_str()).collect();
    assert_eq!(variables.iter().filter(|argument| **argument == "-e").count(), 13);
    assert_eq!(variables[4..8], ["-e", "AWS_REGION", "-e", "AWS_DEFAULT_REGION"]);
}

#[test]
fn python_modules_own_tests() {
    let Some(packages) = python_packages() else { return };
    let Some(function) = real::function("lambda/python:3.11") else { return };
    let home = place::scratch();
    let output = command("python3", &function, home.path())
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp"])
        .arg(home.path().join("pytest"))
        .arg(module("python").join("tests"))
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(home.path())
        .output()
        .expect("python3 starts");
    expect_success(&output);
}
