//! The Runtime API of 2018-06-01, seen from inside: paths, headers, states, refusals with their exact texts, sizes.

use serde_json::{Value, json};
use tests::{Fixture, Ran};

const ID: &str = "/2018-06-01/runtime/invocation/{id}";

/// Runs a script whose notes are its answer.
fn notes(fixture: &Fixture, script: &str) -> Value {
    fixture.invoke(&format!("{script}\nrespond-notes\nnext")).expect_code(0).json()
}

/// What the plain command that ran the script after the invocation printed: for what can be seen only once the answer is given.
fn printed(ran: &Ran) -> Value {
    let err = ran.err();
    let line = err.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("no notes in {err}"));
    serde_json::from_str(line).expect("notes are JSON")
}

#[track_caller]
fn expect(answer: &Value, status: u16, body: &str) {
    assert_eq!(answer["status"], status, "{answer}");
    assert_eq!(answer["body"], body, "{answer}");
}

#[test]
fn accepted_calls_answer_202_and_ok() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script(&format!("next\nhttp first POST {ID}/response {{}}\nprint-notes\nnext"));
    let first = printed(&fixture.run(&[], &[]).finish().expect_code(0))["first"].clone();
    expect(&first, 202, "{\"status\":\"OK\"}\n");
    assert_eq!(first["headers"]["content-type"], "application/json");
}

#[test]
fn an_error_and_an_init_error_are_accepted_alike() {
    let Some(fixture) = Fixture::new() else { return };
    let ran = fixture.invoke("next\nerror {\"errorMessage\":\"x\"}\nprint-notes\nnext").expect_code(1);
    expect(&printed(&ran)["error"], 202, "{\"status\":\"OK\"}\n");
    let ran = fixture.invoke("init-error {\"errorMessage\":\"x\"}\nprint-notes\nexit 1").expect_code(1);
    expect(&printed(&ran)["init-error"], 202, "{\"status\":\"OK\"}\n");
}

#[test]
fn next_carries_the_headers_of_aws() {
    let Some(fixture) = Fixture::new() else { return };
    let cognito = "AWS_LAMBDA_COGNITO_IDENTITY={\"cognitoIdentityId\":\"i\",\"cognitoIdentityPoolId\":\"p\"}";
    let options = ["-e", "AWS_LAMBDA_CLIENT_CONTEXT={\"custom\":{\"a\":1}}", "-e", cognito, "-e", "_X_AMZN_TRACE_ID=Root=1-2-3"];
    fixture.script("next\nnote-event\nrespond-notes\nnext");
    let headers = fixture.run(&options, &[]).finish().expect_code(0).json()["event-headers"].clone();
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["lambda-runtime-client-context"], "{\"custom\":{\"a\":1}}");
    assert_eq!(headers["lambda-runtime-cognito-identity"], "{\"cognitoIdentityId\":\"i\",\"cognitoIdentityPoolId\":\"p\"}");
    assert_eq!(headers["lambda-runtime-trace-id"], "Root=1-2-3");
    let id = headers["lambda-runtime-aws-request-id"].as_str().expect("text");
    assert_eq!((id.len(), id.matches('-').count()), (36, 4), "{id}");

    fixture.script("next\nnote-event\nrespond-notes\nnext");
    let headers = fixture.run(&[], &[]).finish().expect_code(0).json()["event-headers"].clone();
    for absent in
        ["lambda-runtime-client-context", "lambda-runtime-cognito-identity", "lambda-runtime-invocation-id", "docker-lambda-log-type"]
    {
        assert_eq!(headers[absent], Value::Null, "only headers with a value are sent: {absent}");
    }
    // The image's own constant.
    let start = if tests::place::isolation_is(&["in-place"]) { "Root=1-" } else { "Root=1-dc99d00f-" };
    assert!(headers["lambda-runtime-trace-id"].as_str().is_some_and(|id| id.starts_with(start)), "{headers}");
    let arn = headers["lambda-runtime-invoked-function-arn"].as_str().expect("text");
    let account = arn.strip_prefix("arn:aws:lambda:us-east-1:").and_then(|rest| rest.strip_suffix(":function:test")).expect("its form");
    assert!(!account.is_empty() && account.len() <= 12 && account.bytes().all(|byte| byte.is_ascii_digit()), "{arn}");
}

#[test]
fn ping_pongs() {
    let Some(fixture) = Fixture::new() else { return };
    let seen = notes(&fixture, "http ping GET /2018-06-01/ping\nnext");
    expect(&seen["ping"], 200, "pong");
    assert!(seen["ping"]["headers"]["content-type"].as_str().is_some_and(|kind| kind.starts_with("text/plain")));
}

#[test]
fn unknown_paths_are_404_and_wrong_methods_405_with_the_right_one() {
    let Some(fixture) = Fixture::new() else { return };
    let script = "http unknown GET /2018-06-01/runtime/nothing\nhttp top GET /\nhttp version GET /2019-01-01/runtime/invocation/next\n\
                  http restore GET /2018-06-01/runtime/restore/next\nhttp slash GET /2018-06-01/runtime/invocation/next/\n\
                  http post-next POST /2018-06-01/runtime/invocation/next x\nhttp get-response GET /2018-06-01/runtime/invocation/x/response\n\
                  http put-error PUT /2018-06-01/runtime/init/error x\nnext";
    let seen = notes(&fixture, script);
    for name in ["unknown", "top", "version", "restore", "slash"] {
        assert_eq!((&seen[name]["status"], &seen[name]["body"]), (&json!(404), &json!("404 page not found\n")), "{name}");
        assert!(seen[name]["headers"]["content-type"].as_str().is_some_and(|kind| kind.starts_with("text/plain")), "{name}");
    }
    for (name, allow) in [("post-next", "GET"), ("get-response", "POST"), ("put-error", "POST")] {
        assert_eq!(
            (&seen[name]["status"], &seen[name]["body"], &seen[name]["headers"]["allow"]),
            (&json!(405), &json!(""), &json!(allow)),
            "{name}"
        );
    }
}

const INVALID_ID: &str = "{\"errorMessage\":\"Invalid request ID\",\"errorType\":\"InvalidRequestID\"}\n";

fn transition(from: &str, to: &str) -> String {
    format!(
        "{{\"errorMessage\":\"State transition from {from} to {to} failed for runtime. Error: State transition is not allowed\",\"errorType\":\"InvalidStateTransition\"}}\n"
    )
}

#[test]
fn a13_a_wrong_id_is_400_and_the_right_one_still_good() {
    let Some(fixture) = Fixture::new() else { return };
    let other = "/2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000";
    let script =
        format!("http early POST {other}/response x\nnext\nhttp wrong POST {other}/response x\nhttp wrong-error POST {other}/error x");
    let seen = notes(&fixture, &script);
    for name in ["early", "wrong", "wrong-error"] {
        expect(&seen[name], 400, INVALID_ID);
    }
}

#[test]
fn a13_a_second_answer_is_403_with_the_exact_text() {
    let Some(fixture) = Fixture::new() else { return };
    let cases = [
        ("response", "response", "InvocationResponse"),
        ("response", "error", "InvocationErrorResponse"),
        ("error", "response", "InvocationResponse"),
        ("error", "error", "InvocationErrorResponse"),
    ];
    for (first, second, to) in cases {
        // The second call must come before `next`: the run ends with the invocation.
        let script = format!("next\nhttp first POST {ID}/{first} \"1\"\nhttp second POST {ID}/{second} \"2\"\nprint-notes\nnext");
        let ran = fixture.invoke(&script);
        assert_eq!(ran.code(), i32::from(first == "error"));
        assert_eq!(ran.out(), "\n\"1\"\n", "the first answer counts");
        let seen = printed(&ran);
        expect(&seen["first"], 202, "{\"status\":\"OK\"}\n");
        expect(&seen["second"], 403, &transition("RuntimeResponseSentState", to));
    }
}

#[test]
fn an_init_error_while_an_event_runs_is_403() {
    let Some(fixture) = Fixture::new() else { return };
    let seen = notes(&fixture, "next\ninit-error {\"errorMessage\":\"late\"}");
    expect(&seen["init-error"], 403, &transition("Running", "InitError"));
}

#[test]
fn next_without_an_answer_gives_the_same_event_again() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nnext\nnote-event\nrespond-notes\nnext");
    let ran = fixture.run(&[], &["h", "{\"same\":1}"]).finish().expect_code(0);
    let seen = ran.json();
    assert_eq!(seen["event-text"], "{\"same\":1}");
    let id = seen["event-headers"]["lambda-runtime-aws-request-id"].as_str().expect("text");
    assert!(ran.err().contains(&format!("START RequestId: {id} ")), "{}", ran.err());
    assert_eq!(ran.err().matches("START RequestId: ").count(), 1);
}

#[test]
fn a7_a_response_over_the_limit_is_413_with_the_exact_text() {
    let Some(fixture) = Fixture::new() else { return };
    let script = format!("next\nhttp-size big POST {ID}/response 6291557\nprint-notes\nnext");
    let ran = fixture.invoke(&script).expect_code(1);
    let body = "{\"errorMessage\":\"Exceeded maximum allowed payload size (6291556 bytes).\",\"errorType\":\"RequestEntityTooLarge\"}\n";
    expect(&printed(&ran)["big"], 413, body);
    assert_eq!(ran.json()["errorType"], "Function.ResponseSizeTooLarge");
}

#[test]
fn an_unknown_response_mode_is_400() {
    let Some(fixture) = Fixture::new() else { return };
    let script = format!("next\nheader Lambda-Runtime-Function-Response-Mode sideways\nhttp odd POST {ID}/response x\nprint-notes\nexit 1");
    let ran = fixture.invoke(&script).expect_code(1);
    expect(
        &printed(&ran)["odd"],
        400,
        "{\"errorMessage\":\"Invalid function response mode\",\"errorType\":\"InvalidFunctionResponseMode\"}\n",
    );
}

#[test]
fn the_content_type_of_an_answer_does_not_matter() {
    let Some(fixture) = Fixture::new() else { return };
    for kind in ["application/octet-stream", "text/html", ""] {
        let ran = fixture.invoke(&format!("next\nheader Content-Type {kind}\nrespond {{\"a\": 1}}\nnext")).expect_code(0);
        assert_eq!(ran.out(), "\n{\"a\":1}\n", "{kind:?}");
    }
}

#[test]
fn the_api_is_told_as_host_and_port_on_loopback() {
    let Some(fixture) = Fixture::new() else { return };
    let seen = notes(&fixture, "note-env env\nnext");
    let address = seen["env"]["AWS_LAMBDA_RUNTIME_API"].as_str().expect("text");
    let (host, port) = address.rsplit_once(':').expect("host:port");
    assert!(host == "127.0.0.1" && port.parse::<u16>().is_ok_and(|port| port > 0), "{address}");
}
