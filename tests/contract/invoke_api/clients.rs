//! The Invoke API by the clients that people use. `tests/clients/install.sh` installs them, at the versions pinned there.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tests::{place, skip};

use super::fleet::{self, Server};

const CREDENTIALS: [(&str, &str); 5] = [
    ("AWS_ACCESS_KEY_ID", "test"),
    ("AWS_SECRET_ACCESS_KEY", "test"),
    ("AWS_DEFAULT_REGION", "us-east-1"),
    ("AWS_REGION", "us-east-1"),
    ("AWS_EC2_METADATA_DISABLED", "true"),
];

/// The program and where its packages are; `None`, and counted as skipped, where they are not installed.
fn client(program: &str, folder: &str, package: &str) -> Option<PathBuf> {
    let packages = place::clients().join(folder);
    if skip::has_program(program) && packages.join(package).is_dir() {
        return Some(packages);
    }
    skip::skip(skip::Lack::Providable, &format!("{package} for {program} is not installed (tests/clients/install.sh)"));
    None
}

/// Runs one of the scripts beside the pins, or a module; what it prints.
fn output(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let home = place::scratch();
    let output = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home.path())
        .envs(CREDENTIALS)
        .envs(variables.iter().copied())
        .current_dir(home.path())
        .stdin(Stdio::null())
        .output()
        .expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn script(program: &str, name: &str, server: &Server, variable: (&str, &str)) -> Value {
    let path = place::project().join("tests/clients").join(name);
    let (code, out, err) = output(program, &[path.to_str().expect("text"), &server.endpoint()], &[variable]);
    assert_eq!(code, Some(0), "{out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"))
}

fn boto3(server: &Server) -> Option<Value> {
    let packages = client("python3", "python", "boto3")?;
    Some(script("python3", "invoke.py", server, ("PYTHONPATH", packages.to_str().expect("text"))))
}

fn sdk(server: &Server) -> Option<Value> {
    let packages = client("node", "node", "node_modules/@aws-sdk/client-lambda")?;
    Some(script("node", "invoke.js", server, ("NODE_PATH", packages.join("node_modules").to_str().expect("text"))))
}

/// What all SDKs report, in one form.
fn expect_reports(found: &Value) {
    assert_eq!(found["echo"], json!({"status": 200, "payload": "{\"a\":1}", "error": null, "version": "$LATEST", "log": null}));
    assert_eq!(
        found["failed"],
        json!({"status": 200, "payload": fleet::ERROR, "error": "Unhandled", "version": "$LATEST", "log": fleet::LOG})
    );
    assert_eq!(found["no_payload"]["payload"], "{}");
    assert_eq!(found["event"]["status"], 202);
    assert_eq!(found["dry"]["status"], 204);
    let described: Value = serde_json::from_str(found["described"]["payload"].as_str().expect("text")).expect("JSON");
    assert_eq!(
        json!([described["name"], described["qualifier"], described["region"], described["client_context"]]),
        json!(["describe", "live", "us-east-1", "{\"custom\":{\"a\":1}}"])
    );
    let refusals = &found["refusals"];
    for (name, exception, part) in [
        ("missing", "ResourceNotFoundException", "Function not found: arn:aws:lambda:us-east-1:123456789012:function:missing:$LATEST"),
        ("elsewhere", "ResourceNotFoundException", "Functions from 'us-west-1' are not reachable in this region ('us-east-1')"),
        ("busy", "TooManyRequestsException", "Rate Exceeded."),
        ("broken", "ServiceException", "no sandbox"),
        ("not_json", "InvalidRequestContentException", "Could not parse request body into json"),
        ("conflict", "InvalidParameterValueException", "The derived qualifier from the function name does not match"),
        ("too_large", "RequestTooLargeException", "6291457 byte payload is too large for the RequestResponse invocation type"),
        ("event_too_large", "RequestTooLargeException", "1048577 byte payload is too large for the Event invocation type"),
        ("bad_name", "ValidationException", "at 'functionName' failed to satisfy constraint"),
        ("bad_context", "InvalidRequestContentException", "Client context must be a valid Base64-encoded JSON object."),
    ] {
        let refusal = &refusals[name];
        assert_eq!(refusal["name"], exception, "{name}: {refusal}");
        assert!(refusal["message"].as_str().is_some_and(|message| message.contains(part)), "{name}: {refusal}");
    }
    assert_eq!(refusals["busy"]["reason"], "ReservedFunctionConcurrentInvocationLimitExceeded");
    // The second part of each stream was made only when the client had the first.
    let complete = |error: Option<&str>, log: Option<&str>| json!({"error": error.map(|_| "Unhandled"), "details": error, "log": log});
    assert_eq!(found["stream"], json!({"parts": ["one,", "two"], "complete": complete(None, Some(fleet::LOG))}));
    assert_eq!(found["late_failure"], json!({"parts": ["one,", "two"], "complete": complete(Some(fleet::ERROR), None)}));
    assert_eq!(found["early_failure"], json!({"parts": [], "complete": complete(Some(fleet::ERROR), None)}));
    assert_eq!(found["buffered"], json!({"parts": ["[1,2]"], "complete": complete(None, None)}));
}

#[test]
fn boto3_sees_what_it_would_see_of_aws() {
    let server = Server::start();
    let Some(found) = boto3(&server) else { return };
    expect_reports(&found);
    // boto3 has a class for each, and names it so.
    for (name, refusal) in found["refusals"].as_object().expect("an object") {
        let class = if name == "bad_name" { "ClientError" } else { refusal["name"].as_str().expect("text") };
        assert_eq!(refusal["class"], class, "{name}: {refusal}");
    }
    assert_eq!(found["invoke_async"], 202);
}

#[test]
fn the_sdk_for_javascript_sees_what_it_would_see_of_aws() {
    let server = Server::start();
    let Some(found) = sdk(&server) else { return };
    expect_reports(&found);
}

#[test]
fn the_sdk_for_rust_sees_what_it_would_see_of_aws() {
    let Some(program) = place::rust_client("invoke") else {
        skip::skip(skip::Lack::Providable, "the SDK for Rust is not built (tests/clients/install.sh)");
        return;
    };
    let server = Server::start();
    let (code, out, err) = output(program.to_str().expect("text"), &[&server.endpoint()], &[]);
    assert_eq!(code, Some(0), "{out}{err}");
    expect_reports(&serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}")));
}

#[test]
fn awscli_invokes() {
    let server = Server::start();
    let Some(packages) = client("python3", "python", "awscli") else { return };
    let out = place::scratch();
    let file = out.path().join("out");
    let call = |arguments: &[&str]| {
        let endpoint = server.endpoint();
        let all = ["-m", "awscli", "--endpoint-url", &endpoint, "lambda", "invoke"].into_iter().chain(arguments.iter().copied());
        let all: Vec<&str> = all.chain([file.to_str().expect("text")]).collect();
        output("python3", &all, &[("PYTHONPATH", packages.to_str().expect("text"))])
    };
    let (code, told, err) = call(&["--function-name", "fail", "--payload", "{}", "--log-type", "Tail"]);
    assert_eq!(code, Some(0), "{err}");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(
        (&told["StatusCode"], &told["FunctionError"], &told["ExecutedVersion"]),
        (&200.into(), &"Unhandled".into(), &"$LATEST".into())
    );
    assert!(told["LogResult"].as_str().is_some_and(|log| log.starts_with("U1RBUlQg")), "{told}");
    assert_eq!(std::fs::read_to_string(&file).expect("written"), fleet::ERROR);
    let (code, _, err) = call(&["--function-name", "missing"]);
    assert_ne!(code, Some(0));
    assert!(
        err.contains("An error occurred (ResourceNotFoundException) when calling the Invoke operation: Function not found: arn:"),
        "{err}"
    );
}

#[test]
fn curl_invokes_as_in_every_tutorial() {
    if !skip::has_program("curl") {
        skip::skip(skip::Lack::Providable, "curl is not installed");
        return;
    }
    let server = Server::start();
    let folder = place::scratch();
    let call = |function: &str, bytes: usize| {
        let file = folder.path().join("event");
        std::fs::write(&file, format!("\"{}\"", "x".repeat(bytes - 2))).expect("written");
        let url = format!("{}/2015-03-31/functions/{function}/invocations", server.endpoint());
        output("curl", &["-sS", "-w", "%{http_code}", "--data-binary", &format!("@{}", file.display()), &url], &[])
    };
    let (code, told, err) = call("describe", 5);
    assert_eq!(code, Some(0), "{err}");
    assert!(told.ends_with("}200") && told.contains(r#""content_type":null"#) && told.contains(r#""payload":"\"xxx\"""#), "{told}");
    // It asks before it sends this much, and both answers are ones that it understands.
    let (code, told, err) = call("echo", 6_291_456);
    assert_eq!((code, told.len()), (Some(0), 6_291_456 + "200".len()), "{err}");
    let (code, told, err) = call("echo", 6_291_457);
    assert_eq!(code, Some(0), "{err}");
    assert!(told.ends_with("413") && told.contains("6291457 byte payload is too large"), "{told}");
}
