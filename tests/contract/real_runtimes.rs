//! The real language runtimes of `tests/images`, pulled from a real registry: lambci's images with their own bootstraps, AWS's with
//! `awslambdaric`.

use std::time::Duration;

use serde_json::{Value, json};
use tests::place;
use tests::real::{RealFunction, function};

const AWS_PYTHON: &str = "lambda/python:3.11";

/// A function of a few lines of Python in AWS's image.
fn python(code: &str) -> Option<RealFunction> {
    let found = function(AWS_PYTHON)?;
    found.file("app.py", code);
    Some(found)
}

/// Runs the echo function that comes with the images.
fn echo(image: &str, folder: &str, handler: &str) -> Option<Value> {
    let found = function(image)?;
    let run = found.run_folder(&place::functions().join(folder), &[], &[handler, "{\"n\":1,\"é\":\"日本\"}"]);
    let ran = run.finish().expect_code(0);
    let answer = ran.json();
    assert_eq!(answer["event"], json!({"n": 1, "é": "日本"}));
    assert!(ran.err().contains(&format!("START RequestId: {}", answer["id"].as_str().expect("text"))), "{}", ran.err());
    assert_eq!(answer["cwd"], "/var/task");
    found.fixture.expect_nothing_left();
    Some(answer)
}

#[test]
fn lambci_nodejs12_answers() {
    let Some(answer) = echo("lambci/lambda:nodejs12.x", "nodejs", "index.handler") else {
        return;
    };
    assert_eq!((&answer["runtime"], &answer["uid"], &answer["exe"]), (&json!("node v12.18.4"), &json!(496), &json!("/var/lang/bin/node")));
}

#[test]
fn lambci_python38_answers() {
    let Some(answer) = echo("lambci/lambda:python3.8", "python", "app.handler") else {
        return;
    };
    assert_eq!((&answer["uid"], &answer["exe"]), (&json!(496), &json!("/var/lang/bin/python3.8")));
}

#[test]
fn lambci_provided_answers_by_a_shell_and_curl() {
    let Some(answer) = echo("lambci/lambda:provided", "provided", "any.handler") else {
        return;
    };
    assert_eq!(answer["handler"], "any.handler");
}

#[test]
fn aws_provided_al2023_answers() {
    let Some(answer) = echo("lambda/provided:al2023", "provided", "any.handler") else {
        return;
    };
    assert_eq!(answer["handler"], "any.handler");
}

#[test]
fn a1_aws_python311_answers() {
    let Some(answer) = echo(AWS_PYTHON, "python", "app.handler") else {
        return;
    };
    assert!(answer["runtime"].as_str().is_some_and(|text| text.starts_with("python 3.11")), "{answer}");
}

#[test]
fn lambci_node_errors_keep_their_trace() {
    let Some(found) = function("lambci/lambda:nodejs12.x") else {
        return;
    };
    found.file("index.js", "exports.handler = async () => { throw new RangeError('<boom>') }\n");
    let ran = found.run(&[], &["index.handler"]).finish().expect_code(1);
    let error = ran.json();
    assert_eq!((&error["errorType"], &error["errorMessage"]), (&json!("RangeError"), &json!("<boom>")));
    assert!(error["trace"].is_array(), "lambci's server drops it, AWS does not: {error}");
    assert!(ran.out().contains("<boom>"), "no HTML escapes: {}", ran.out());
}

#[test]
fn lambci_node_exits_are_told() {
    let Some(found) = function("lambci/lambda:nodejs12.x") else {
        return;
    };
    found.file("index.js", "exports.handler = async event => { if (event.code !== undefined) process.exit(event.code); Promise.reject(new Error('unheard')) ; await new Promise(() => {}) }\n");
    let exited = found.run(&[], &["index.handler", "{\"code\":3}"]).finish().expect_code(1).json();
    assert_eq!(exited["errorType"], "Runtime.ExitError");
    // A runtime that posts an error and then exits: the error is the answer.
    let unheard = found.run(&[], &["index.handler", "{}"]).finish().expect_code(1).json();
    assert_eq!(unheard["errorMessage"], "unheard");
}

#[test]
fn p35_a_node_function_that_returns_nothing_is_null() {
    let Some(found) = function("lambci/lambda:nodejs12.x") else {
        return;
    };
    found.file("index.js", "exports.handler = async () => { console.log(process.cwd()) }\n");
    let ran = found.run(&[], &["index.handler"]).finish().expect_code(0);
    assert_eq!(ran.stdout, b"\nnull\n");
    assert!(ran.err().contains("/var/task"));
}

#[test]
fn a2_a_python_error_is_posted_with_its_four_keys() {
    let Some(found) = python("def handler(event, context):\n    raise ValueError('boom')\n") else {
        return;
    };
    let ran = found.run(&[], &["app.handler"]).finish().expect_code(1);
    let error = ran.json();
    let keys: Vec<&String> = error.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["errorMessage", "errorType", "requestId", "stackTrace"]);
    assert_eq!((&error["errorMessage"], &error["errorType"]), (&json!("boom"), &json!("ValueError")));
    assert!(ran.err().contains(&format!("END RequestId: {}\n", error["requestId"].as_str().expect("text"))));
    let trace = error["stackTrace"].as_array().expect("a list");
    assert!(trace.len() == 1 && trace[0].as_str().is_some_and(|line| line.contains("/var/task/app.py")), "{error}");
}

#[test]
fn a3_a_module_that_is_missing_fails_the_init() {
    let Some(found) = python("") else { return };
    let error = found.run(&[], &["nomod.h"]).finish().expect_code(1).json();
    let expected = json!({"errorMessage": "Unable to import module 'nomod': No module named 'nomod'",
        "errorType": "Runtime.ImportModuleError", "requestId": "", "stackTrace": []});
    assert_eq!(error, expected);
}

#[test]
fn a_handler_that_is_missing_in_its_module() {
    let Some(found) = python("x = 1\n") else { return };
    let error = found.run(&[], &["app.nope"]).finish().expect_code(1).json();
    assert_eq!(error["errorType"], "Runtime.HandlerNotFound");
}

#[test]
fn a4_an_exit_of_python_is_told_with_its_status() {
    let Some(found) = python("import os\ndef handler(event, context):\n    os._exit(7)\n") else {
        return;
    };
    let ran = found.run(&[], &["app.handler"]).finish().expect_code(1);
    let id = ran.err().split_once("START RequestId: ").expect("START").1.split(' ').next().expect("an id").to_owned();
    let expected = format!(
        "\n{{\"errorType\":\"Runtime.ExitError\",\"errorMessage\":\"RequestId: {id} Error: Runtime exited with error: exit status 7\"}}\n"
    );
    assert_eq!(ran.out(), expected);
}

#[test]
fn a5_a_python_function_past_its_timeout() {
    let Some(found) = python("import time\ndef handler(event, context):\n    time.sleep(3)\n") else {
        return;
    };
    let ran = found.run(&["--timeout", "1"], &["app.handler"]).finish().expect_code(1);
    assert_eq!(ran.json()["errorType"], "Sandbox.Timedout");
    assert!(ran.json()["errorMessage"].as_str().is_some_and(|text| text.ends_with(" Error: Task timed out after 1.00 seconds")));
    assert!(ran.took < Duration::from_secs(4), "{:?}", ran.took);
    found.fixture.expect_nothing_left();
}

#[test]
fn a6_a_python_function_sees_its_remaining_time() {
    let code = "import time\ndef handler(event, context):\n    time.sleep(1)\n    return context.get_remaining_time_in_millis()\n";
    let Some(found) = python(code) else { return };
    let left = found.run(&["--timeout", "3"], &["app.handler"]).finish().expect_code(0).json();
    assert!(left.as_i64().is_some_and(|left| (1500..=2100).contains(&left)), "{left}");
}

#[test]
fn a7_a_python_answer_of_6_mib_and_one_byte_too_many() {
    let Some(found) = python("def handler(event, context):\n    return 'a' * (event - 2)\n") else {
        return;
    };
    assert_eq!(found.run(&[], &["app.handler", "6291556"]).finish().expect_code(0).stdout.len(), 6_291_556 + 2);
    let error = found.run(&[], &["app.handler", "6291557"]).finish().expect_code(1).json();
    assert_eq!(error["errorType"], "Function.ResponseSizeTooLarge");
}

#[test]
fn a9_an_event_that_is_not_json_is_the_runtimes_to_refuse() {
    let Some(found) = python("def handler(event, context):\n    return event\n") else {
        return;
    };
    let error = found.run(&[], &["app.handler", "notjson"]).finish().expect_code(1).json();
    assert_eq!(error["errorType"], "Runtime.UnmarshalError");
}

#[test]
fn a16_the_whole_environment_of_a_python_function() {
    let Some(found) = python("import os\ndef handler(event, context):\n    return dict(os.environ)\n") else {
        return;
    };
    let options = [
        "-e",
        "X=4=4",
        "-e",
        "AWS_LAMBDA_FUNCTION_NAME=fn",
        "-m",
        "128m",
        "-e",
        "AWS_ACCESS_KEY_ID=k",
        "-e",
        "AWS_SECRET_ACCESS_KEY=s",
        "-e",
        "AWS_SESSION_TOKEN=t",
    ];
    let env = found.run(&options, &["app.handler"]).finish().expect_code(0).json();
    let expected = "TZ=:UTC LANG=en_US.UTF-8 X=4=4 _HANDLER=app.handler PATH=/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin \
        LD_LIBRARY_PATH=/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib \
        LAMBDA_TASK_ROOT=/var/task LAMBDA_RUNTIME_DIR=/var/runtime AWS_LAMBDA_FUNCTION_NAME=fn AWS_LAMBDA_FUNCTION_VERSION=$LATEST \
        AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128 AWS_LAMBDA_INITIALIZATION_TYPE=on-demand AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/fn \
        AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1 AWS_ACCESS_KEY_ID=k AWS_SECRET_ACCESS_KEY=s AWS_SESSION_TOKEN=t \
        AWS_XRAY_CONTEXT_MISSING=LOG_ERROR _AWS_XRAY_DAEMON_PORT=2000";
    for (name, value) in expected.split_whitespace().filter_map(|word| word.split_once('=')) {
        assert_eq!(env[name], value, "{name}");
    }
    let strange: Vec<&String> = env.as_object().expect("an object").keys().filter(|name| name.starts_with("_LAMBDA_")).collect();
    assert!(strange.is_empty(), "{strange:?}");
}

#[test]
fn a17_the_file_system_of_a_python_function() {
    let code = "import os\ndef handler(event, context):\n    out = {'cwd': os.getcwd()}\n    for path in event:\n        try:\n            open(path, 'w').write('x')\n\
                \x20           out[path] = 0\n        except OSError as error:\n            out[path] = error.errno\n    return out\n";
    let Some(found) = python(code) else { return };
    let answer =
        found.run(&[], &["app.handler", "[\"/var/task/x\",\"/opt/x\",\"/etc/x\",\"/x\",\"/tmp/x\"]"]).finish().expect_code(0).json();
    assert_eq!(answer, json!({"cwd": "/var/task", "/var/task/x": 30, "/opt/x": 30, "/etc/x": 30, "/x": 30, "/tmp/x": 0}));
}

#[test]
fn a18_the_identity_of_a_python_function() {
    let code = "import getpass, os, pwd, subprocess\ndef handler(event, context):\n    run = lambda *a: subprocess.run(a, capture_output=True, text=True).stdout.strip()\n\
                \x20   return [run('id', '-u'), run('id', '-g'), run('whoami'), getpass.getuser(), pwd.getpwuid(os.getuid()).pw_name,\n\
                \x20           [l.split()[1] for l in open('/proc/self/status') if l.startswith('CapEff')][0]]\n";
    let Some(found) = python(code) else { return };
    let [uid, gid, names @ .., capabilities] =
        &found.run(&[], &["app.handler"]).finish().expect_code(0).json().as_array().expect("a list").clone()[..]
    else {
        panic!("six values")
    };
    // The test image carries lambci's ids in its own passwd; without them they are 993:990.
    assert!([("993", "990"), ("496", "495")].iter().any(|(u, g)| uid == u && gid == g), "{uid} {gid}");
    assert!(names.iter().all(|name| name == "sbx_user1051"), "{names:?}");
    assert_eq!(capabilities, "0000000000000000");
}

#[test]
fn a22_the_entrypoint_of_aws_without_a_handler_exits_142() {
    let Some(found) = python("def handler(event, context):\n    return 1\n") else {
        return;
    };
    assert_eq!(found.run(&[], &["app.handler"]).finish().expect_code(0).result(), "1");
    let ran = found.run(&[], &[]).finish().expect_code(1);
    let error = ran.json();
    assert_eq!(error["errorType"], "Runtime.ExitError");
    assert!(error["errorMessage"].as_str().is_some_and(|text| text.ends_with("Runtime exited with error: exit status 142")), "{error}");
    assert!(ran.err().contains("entrypoint requires the handler name to be the first argument"), "{}", ran.err());
}

#[test]
fn an_image_function_with_the_handler_as_cmd_needs_no_argument() {
    let Some(found) = python("") else { return };
    // What a Dockerfile `FROM lambda/python` with `COPY` and `CMD` makes.
    let layout = tests::image::Layout::at(&place::images_layout());
    let image = layout.find(AWS_PYTHON).expect("found before").with("Cmd", json!(["fn.handler"]));
    let image = image
        .layer(tests::tar::Tar::new().file("var/task/fn.py", "def handler(e, c):\n    return 'from cmd'\n"), tests::image::Packing::Gzip);
    found.fixture.layout().add("app", &image);
    let ran = found.fixture.undocked(&["run", &found.fixture.image("app")]).finish().expect_code(0);
    assert_eq!(ran.result(), "\"from cmd\"");
}

#[test]
fn plain_commands_run_in_a_real_image() {
    let Some(found) = function(AWS_PYTHON) else { return };
    let ran = found.run(&["--entrypoint", "/bin/sh"], &["-c", "echo out; echo err >&2; exit 5"]).finish().expect_code(5);
    assert_eq!((ran.out().as_str(), ran.err().contains("err\n")), ("out\n", true));
    let ran = found.run(&["--entrypoint", "cat", "-i"], &[]).stdin("through\n").finish().expect_code(0);
    assert_eq!(ran.out(), "through\n");
}

#[test]
fn the_lower_layers_hidden_files_are_hidden() {
    let Some(found) = function("lambci/lambda:nodejs12.x") else {
        return;
    };
    let paths = "/var/runtime/stale /var/lang/bin/stale /etc/whiteout-me /etc/whiteout-dir";
    let script = format!("for p in {paths}; do [ -e $p ] && echo $p; done; echo end");
    assert_eq!(found.run(&["--entrypoint", "/bin/sh"], &["-c", &script]).finish().expect_code(0).out(), "end\n");
}
