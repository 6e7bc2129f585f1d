//! `host`: the machine's own userland as root, for `provided`, Python and Node functions, with no image at all.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use tests::{Fixture, Run, place, skip, skip_in_isolation};

/// A world without an image, for `host`.
fn fixture() -> Option<Fixture> {
    if place::isolation_is(&["chroot"]) {
        skip::skip(skip::Lack::OtherIsolation, "this machine's userland is not copied");
        return None;
    }
    skip::sandbox_can_run().then(Fixture::without_sandbox)
}

fn host(fixture: &Fixture, options: &[&str], rest: &[&str]) -> Run {
    fixture.run_image("host", options, rest)
}

fn file(fixture: &Fixture, name: &str, text: &str) {
    fs::write(fixture.task().join(name), text).expect("written");
}

/// Without a `bootstrap`, the handler's file decides which language it is.
fn only(fixture: &Fixture, name: &str, text: &str) {
    let _ = fs::remove_file(fixture.task().join("bootstrap"));
    file(fixture, name, text);
}

#[test]
fn a_bootstrap_in_the_task_folder_runs() {
    let Some(fixture) = fixture() else { return };
    fixture.script("note-cwd cwd\nnote-env env\nnext\nnote-event\nrespond-notes\nnext");
    let notes = host(&fixture, &[], &["my.handler", "{\"x\":1}"]).finish().expect_code(0).json();
    assert_eq!((&notes["cwd"], &notes["event-text"]), (&json!(fixture.task_inside()), &json!("{\"x\":1}")));
    assert_eq!((&notes["env"]["_HANDLER"], &notes["env"]["LAMBDA_TASK_ROOT"]), (&json!("my.handler"), &json!(fixture.task_inside())));
    fixture.expect_nothing_left();
}

#[test]
fn a_shell_bootstrap_has_the_machines_programs() {
    let Some(fixture) = fixture() else { return };
    // Bash speaks HTTP by itself: no curl is needed.
    let script = r#"#!/bin/bash
set -eu
host=${AWS_LAMBDA_RUNTIME_API%:*} port=${AWS_LAMBDA_RUNTIME_API#*:}
exec 3<>"/dev/tcp/$host/$port"
printf 'GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n' >&3
length=0 id=
while IFS= read -r line <&3; do
  line=${line%$'\r'}
  [ -z "$line" ] && break
  case ${line,,} in
  content-length:*) length=${line#*: } ;;
  lambda-runtime-aws-request-id:*) id=${line#*: } ;;
  esac
done
IFS= read -r -N "$length" event <&3
answer="{\"event\":$event,\"user\":\"$(id -un)\",\"uname\":\"$(uname -s)\"}"
printf 'POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: x\r\nContent-Length: %s\r\n\r\n%s' "$id" "${#answer}" "$answer" >&3
read -r status <&3
"#;
    let bootstrap = fixture.task().join("bootstrap");
    fs::write(&bootstrap, script).expect("written");
    fs::set_permissions(&bootstrap, fs::Permissions::from_mode(0o755)).expect("set");
    let answer = host(&fixture, &[], &["h", "{\"n\":1}"]).finish().expect_code(0).json();
    // Without a user namespace it has no name, or that of whoever runs undocked.
    let has_name = !place::isolation_is(&["root-without-userns", "in-place"]);
    assert!(answer["user"] == "sbx_user1051" || !has_name, "{answer}");
    assert_eq!((&answer["event"], &answer["uname"]), (&json!({"n": 1}), &json!("Linux")));
}

const PYTHON: &str = "import os
def handler(event, context):
    print('hello from python')
    return {'event': event, 'id': context.aws_request_id, 'name': context.function_name, 'cwd': os.getcwd(),
            'left': context.get_remaining_time_in_millis(), 'arn': context.invoked_function_arn}
def fails(event, context):
    raise ValueError('boom')
def exits(event, context):
    os._exit(7)
";

#[test]
fn python_functions_run_by_our_own_client() {
    let Some(fixture) = fixture() else { return };
    if !skip::has_program("python3") {
        tests::skip!("python3 is not installed");
    }
    only(&fixture, "app.py", PYTHON);
    let options = ["--timeout", "9", "-e", "AWS_LAMBDA_FUNCTION_NAME=fn"];
    let ran = host(&fixture, &options, &["app.handler", "{\"é\":[1,null]}"]).finish().expect_code(0);
    let answer = ran.json();
    assert_eq!(
        (&answer["event"], &answer["name"], &answer["cwd"]),
        (&json!({"é": [1, null]}), &json!("fn"), &json!(fixture.task_inside()))
    );
    assert!(answer["arn"].as_str().is_some_and(|arn| arn.ends_with(":function:fn")), "{answer}");
    assert!(answer["left"].as_i64().is_some_and(|left| (7000..=9000).contains(&left)), "{answer}");
    let id = answer["id"].as_str().expect("text");
    assert!(ran.err().contains(&format!("START RequestId: {id}")) && ran.err().contains("hello from python\n"), "{}", ran.err());
}

#[test]
fn python_functions_fail_as_under_awss_client() {
    let Some(fixture) = fixture() else { return };
    if !skip::has_program("python3") {
        tests::skip!("python3 is not installed");
    }
    only(&fixture, "app.py", PYTHON);
    file(&fixture, "imports.py", "import nomod\n");
    let error = |handler: &str| host(&fixture, &[], &[handler]).finish().expect_code(1).json();
    let raised = error("app.fails");
    assert_eq!((&raised["errorType"], &raised["errorMessage"]), (&json!("ValueError"), &json!("boom")));
    let trace = raised["stackTrace"].as_array().expect("a list");
    assert!(
        trace.len() == 1 && trace[0].as_str().is_some_and(|line| line.contains(&format!("{}/app.py", fixture.task_inside()))),
        "{raised}"
    );
    let missing = error("imports.h");
    assert_eq!(missing["errorType"], "Runtime.ImportModuleError");
    assert_eq!(missing["errorMessage"], "Unable to import module 'imports': No module named 'nomod'");
    assert_eq!(error("app.nope")["errorType"], "Runtime.HandlerNotFound");
    let exited = error("app.exits");
    assert!(exited["errorMessage"].as_str().is_some_and(|text| text.ends_with("Runtime exited with error: exit status 7")), "{exited}");
}

#[test]
fn node_functions_run_by_our_own_client() {
    let Some(fixture) = fixture() else { return };
    if !skip::has_program("node") {
        tests::skip!("node is not installed");
    }
    let code = "exports.handler = async (event, context) => { console.log('hello from node'); return { event, id: context.awsRequestId,\n\
                left: context.getRemainingTimeInMillis(), name: context.functionName, cwd: process.cwd() } }\n\
                exports.callback = (event, context, callback) => callback(null, 'called')\n\
                exports.fails = async () => { throw new RangeError('boom') }\n\
                exports.rejects = () => new Promise(() => { Promise.reject(new Error('unheard')) })\n";
    only(&fixture, "index.js", code);
    let ran = host(&fixture, &["--timeout", "9"], &["index.handler", "{\"a\":1}"]).finish().expect_code(0);
    let answer = ran.json();
    assert_eq!((&answer["event"], &answer["name"], &answer["cwd"]), (&json!({"a": 1}), &json!("test"), &json!(fixture.task_inside())));
    assert!(answer["left"].as_i64().is_some_and(|left| (6000..=9000).contains(&left)), "{answer}");
    assert!(ran.err().contains("hello from node"), "{}", ran.err());
    assert_eq!(host(&fixture, &[], &["index.callback"]).finish().expect_code(0).result(), "\"called\"");

    let error = host(&fixture, &[], &["index.fails"]).finish().expect_code(1).json();
    assert_eq!((&error["errorType"], &error["errorMessage"]), (&json!("RangeError"), &json!("boom")));
    assert!(error["trace"].is_array(), "{error}");
    let unheard = host(&fixture, &["--timeout", "5"], &["index.rejects"]).finish().expect_code(1).json();
    assert_eq!(unheard["errorType"], "Runtime.UnhandledPromiseRejection", "{unheard}");
    file(&fixture, "imports.js", "require('nomod')\n");
    let missing = host(&fixture, &[], &["imports.h"]).finish().expect_code(1).json();
    assert_eq!(missing["errorType"], "Runtime.ImportModuleError");
    let missing = host(&fixture, &[], &["index.nope"]).finish().expect_code(1).json();
    assert_eq!(missing["errorType"], "Runtime.HandlerNotFound");
}

#[test]
fn an_es_module_is_a_node_function_too() {
    let Some(fixture) = fixture() else { return };
    if !skip::has_program("node") {
        tests::skip!("node is not installed");
    }
    only(&fixture, "index.mjs", "export const handler = async event => ({ esm: event })\n");
    assert_eq!(host(&fixture, &[], &["index.handler", "1"]).finish().expect_code(0).json(), json!({"esm": 1}));
}

#[test]
fn what_of_the_machine_is_not_there() {
    skip_in_isolation!(["in-place"], "the machine is there; what of it may be opened is in `walls::in_place_...`");
    let Some(fixture) = fixture() else { return };
    let real_home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
    let own_home = fixture.path().join("home");
    fs::write(own_home.join("secret"), "s").expect("written");
    let absent = ["/run", "/var/run/docker.sock", "/run/docker.sock", "/etc/shadow", "/etc/ssh", "/sys/kernel", "/mnt", "/srv", "/boot"];
    let mut script: String = absent.iter().map(|path| format!("stat {path} {path}\n")).collect();
    script +=
        &format!("stat home {}/secret\nlist real-home {real_home}\nlist root /root\nlist homes /home\nlist tmp /tmp\n", own_home.display());
    script += "list top /\nread passwd /etc/passwd\nread resolv /etc/resolv.conf\nread hosts /etc/hosts\nlist dev /dev\n";
    script +=
        "write usr /usr/undocked-test y\nwrite etc /etc/undocked-test y\nwrite top-file /undocked-test y\nwrite bin /bin/undocked-test y\n";
    fixture.script(&format!("{script}next\nrespond-notes\nnext"));
    let notes = host(&fixture, &[], &[]).finish().expect_code(0).json();
    for path in absent {
        // `/run` may exist, empty.
        if path != "/run" {
            assert_eq!(notes[path], "ENOENT", "{path}");
        }
    }
    let empty =
        |name: &str| matches!(&notes[name], Value::String(text) if text == "ENOENT") || notes[name].as_array().is_some_and(Vec::is_empty);
    for name in ["root", "homes", "tmp"] {
        assert!(empty(name), "{name}: {}", notes[name]);
    }
    assert_eq!(notes["home"], "ENOENT");
    for name in ["usr", "etc", "top-file", "bin"] {
        assert!(notes[name] == "EROFS" || notes[name] == "EACCES", "{name}: {}", notes[name]);
    }
    let passwd = notes["passwd"].as_str().expect("text");
    assert!(passwd.contains("sbx_user1051") && passwd.lines().count() <= 4, "generated, not the machine's: {passwd}");
    let devices: Vec<&str> = notes["dev"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let allowed = ["fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"];
    assert!(devices.contains(&"null") && devices.iter().all(|name| allowed.contains(name)), "{devices:?}");
    assert!(!Path::new("/undocked-test").exists() && !Path::new("/usr/undocked-test").exists());
}

#[test]
fn a_task_folder_with_nothing_to_run_says_what_was_sought() {
    let Some(fixture) = fixture() else { return };
    fs::remove_file(fixture.task().join("bootstrap")).expect("it was there");
    let ran = host(&fixture, &[], &["app.handler"]).finish();
    assert!(ran.code() == 1 || ran.code() == 125, "{}", ran.code());
    let said = format!("{}{}", ran.out(), ran.err());
    assert!(said.contains("bootstrap") && !said.contains("panicked"), "{said}");
}
