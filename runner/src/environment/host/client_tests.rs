//! Our runtime clients against a Runtime API of a few lines, under this machine's interpreters. Where one is missing its cases are skipped, and say so.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;

use super::client;
use super::interpreter::{Language, find};

/// What a client posted: the path behind `/runtime`, and the body.
type Post = (String, String);

const PYTHON: &str = r#"
import decimal, logging, os, sys
def echo(event, context):
    logging.warning("seen")
    return {"event": event, "id": context.aws_request_id, "arn": context.invoked_function_arn, "trace": os.environ["_X_AMZN_TRACE_ID"],
            "left": 0 < context.get_remaining_time_in_millis() <= 3000, "client": context.client_context, "who": context.identity.cognito_identity_id}
def fail(event, context):
    raise ValueError("boom")
def unmarshalable(event, context):
    return {1, 2}
def raw(event, context):
    return b"bytes"
def number(event, context):
    return decimal.Decimal("1.5")
"#;

const NODE: &str = r#"
exports.echo = async (event, context) => ({ event, id: context.awsRequestId, arn: context.invokedFunctionArn, trace: process.env._X_AMZN_TRACE_ID,
  left: context.getRemainingTimeInMillis() > 0 })
exports.callback = (event, context, callback) => { setTimeout(() => console.log('late'), 50); callback(null, event) }
exports.fail = async () => { throw new TypeError('boom') }
exports.text = (event, context, callback) => callback('just text')
exports.nothing = () => {}
exports.never = () => new Promise(() => {})
exports.circular = async () => { const a = {}; a.a = a; return a }
exports.rejection = async () => { Promise.reject(new Error('lost')); await new Promise((resolve) => setTimeout(resolve, 2000)) }
exports.uncaught = async () => { setTimeout(() => { throw new RangeError('out') }, 1); await new Promise((resolve) => setTimeout(resolve, 2000)) }
exports.inner = { handler: async () => 'inner' }
exports.number = 1
"#;

/// Answers one `next` with `event`; the second one ends the connection, and so the client.
fn serve(listener: &TcpListener, event: &str, posts: &mpsc::Sender<Post>) {
    let mut events = vec![event.to_owned()];
    for stream in listener.incoming() {
        let Ok(stream) = stream else { return };
        if converse(stream, &mut events, posts).is_none() {
            return;
        }
    }
}

fn converse(stream: TcpStream, events: &mut Vec<String>, posts: &mpsc::Sender<Post>) -> Option<()> {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).ok()? == 0 {
            return Some(());
        }
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if header.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let path = first.split(' ').nth(1)?;
        let path = path.strip_prefix("/2018-06-01/runtime").unwrap();
        let answer = if path == "/invocation/next" {
            let event = events.pop()?;
            let deadline = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() + 3000;
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: an-id\r\nLambda-Runtime-Deadline-Ms: {deadline}\r\n\
                 Lambda-Runtime-Invoked-Function-Arn: an-arn\r\nLambda-Runtime-Trace-Id: Root=1\r\nContent-Length: {}\r\n\r\n{event}",
                event.len()
            )
        } else {
            posts.send((path.to_owned(), String::from_utf8(body).unwrap())).unwrap();
            "HTTP/1.1 202 Accepted\r\nContent-Length: 16\r\n\r\n{\"status\":\"OK\"}\n".to_owned()
        };
        writer.write_all(answer.as_bytes()).ok()?;
    }
}

/// Runs a client with one event; what it posted first, its exit code and its log.
fn invoke(language: Language, folder: &Path, handler: &str, event: &str) -> Option<(Post, i32, String)> {
    let Ok(interpreter) = find(language, &std::env::var_os("PATH").unwrap_or_default()) else {
        eprintln!("skipped: no interpreter for {language:?}");
        return None;
    };
    let (name, text) = client(language);
    let client = folder.join(name);
    std::fs::write(&client, text).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, posts) = mpsc::channel();
    let event = event.to_owned();
    std::thread::spawn(move || serve(&listener, &event, &sender));
    let mut command = Command::new(interpreter.program);
    command.arg(&client).current_dir(folder).env_clear();
    command.envs([("AWS_LAMBDA_RUNTIME_API", address.as_str()), ("_HANDLER", handler), ("PYTHONDONTWRITEBYTECODE", "1")]);
    let output = command.env("LAMBDA_TASK_ROOT", folder).output().unwrap();
    let log = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    let post = posts.recv().unwrap_or_else(|_| panic!("{handler} posted nothing: {log}"));
    Some((post, output.status.code().unwrap(), log))
}

#[track_caller]
fn check(language: Language, folder: &Path, handler: &str, expected: (&str, &str)) {
    if let Some(((path, body), _, log)) = invoke(language, folder, handler, "{\"x\":1}") {
        assert!(path == expected.0 && body.contains(expected.1), "{handler}: {path} {body}\n{log}");
    }
}

#[test]
fn python_functions() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::create_dir(folder.join("sub")).unwrap();
    for (name, text) in [("app.py", PYTHON), ("sub/app.py", PYTHON), ("syntax.py", "def handler(:\n"), ("imports.py", "import nowhere\n")] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let (response, error, init) = ("/invocation/an-id/response", "/invocation/an-id/error", "/init/error");
    let echo = r#"{"event": {"x": 1}, "id": "an-id", "arn": "an-arn", "trace": "Root=1", "left": true, "client": null, "who": null}"#;
    for (handler, expected) in [
        ("app.echo", (response, echo)),
        ("sub/app.echo", (response, echo)),
        ("app.raw", (response, "bytes")),
        ("app.number", (response, "1.5")),
        ("app.fail", (error, r#"{"errorMessage": "boom", "errorType": "ValueError", "requestId": "an-id", "stackTrace": ["#)),
        ("app.unmarshalable", (error, r#""errorType": "Runtime.MarshalError""#)),
        (
            "none.h",
            (
                init,
                r#"{"errorMessage": "Unable to import module 'none': No module named 'none'", "errorType": "Runtime.ImportModuleError", "requestId": "", "stackTrace": []}"#,
            ),
        ),
        ("imports.h", (init, "Unable to import module 'imports': No module named 'nowhere'")),
        ("syntax.handler", (init, r#""errorType": "Runtime.UserCodeSyntaxError""#)),
        ("app.none", (init, "Handler 'none' missing on module 'app'")),
        ("app", (init, "Bad handler 'app': not enough values to unpack (expected 2, got 1)")),
        ("sys.exit", (init, "Cannot use built-in module sys as a handler module")),
    ] {
        check(Language::Python, folder, handler, expected);
    }
    if let Some(((_, body), _, log)) = invoke(Language::Python, folder, "app.echo", "not json") {
        assert!(body.contains("Runtime.UnmarshalError"), "{body}");
        assert!(log.starts_with("[ERROR] Runtime.UnmarshalError: Unable to unmarshal input: "), "{log}");
    }
    if let Some((_, code, log)) = invoke(Language::Python, folder, "app.echo", "{}") {
        assert!(log.starts_with("[WARNING]\t") && log.contains("Z\tan-id\tseen\n"), "{log}");
        assert_eq!(code, 1, "the connection was cut: {log}");
    }
}

#[test]
fn node_functions() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (name, text) in [
        ("app.js", NODE),
        ("module.mjs", "export const handler = async () => 'module'"),
        ("packaged/index.js", "export const handler = async () => 'packaged'"),
        ("packaged/package.json", "{\"type\":\"module\"}"),
        ("common.cjs", "exports.handler = async () => 'common'"),
        ("syntax.js", "exports.handler = ("),
        ("imports.js", "require('nowhere')"),
        ("throws.js", "throw new Error('at load')"),
        ("rejects.js", "Promise.reject(new Error('at load')); exports.handler = async () => 1"),
    ] {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let (response, error, init) = ("/invocation/an-id/response", "/invocation/an-id/error", "/init/error");
    for (handler, expected) in [
        ("app.echo", (response, r#"{"event":{"x":1},"id":"an-id","arn":"an-arn","trace":"Root=1","left":true}"#)),
        ("app.callback", (response, r#"{"x":1}"#)),
        ("app.nothing", (response, "null")),
        ("app.never", (response, "null")),
        ("app.inner.handler", (response, "\"inner\"")),
        ("module.handler", (response, "\"module\"")),
        ("packaged/index.handler", (response, "\"packaged\"")),
        ("common.handler", (response, "\"common\"")),
        ("app.fail", (error, r#"{"errorType":"TypeError","errorMessage":"boom","trace":["TypeError: boom","#)),
        ("app.text", (error, r#"{"errorType":"string","errorMessage":"just text","trace":[]}"#)),
        ("app.circular", (error, "Unable to stringify response body")),
        ("app.number", (init, "app.number is not a function")),
        ("app.none", (init, "app.none is undefined or not exported")),
        ("none.handler", (init, r#"{"errorType":"Runtime.ImportModuleError","errorMessage":"Error: Cannot find module 'none'"#)),
        ("imports.handler", (init, "Error: Cannot find module 'nowhere'")),
        ("syntax.handler", (init, r#""errorType":"Runtime.UserCodeSyntaxError""#)),
        ("throws.handler", (init, r#"{"errorType":"Error","errorMessage":"at load""#)),
        ("app", (init, "Bad handler")),
        ("../app.echo", (init, "is not a valid handler name")),
    ] {
        check(Language::Node, folder, handler, expected);
    }
    for (handler, path, error_type, code) in [
        ("app.rejection", error, "Runtime.UnhandledPromiseRejection", 128),
        ("app.uncaught", error, "RangeError", 129),
        ("rejects.handler", init, "Runtime.UnhandledPromiseRejection", 128),
    ] {
        if let Some((post, exit, log)) = invoke(Language::Node, folder, handler, "{}") {
            assert!(post.0 == path && post.1.contains(error_type) && exit == code, "{handler}: {post:?} {exit}\n{log}");
        }
    }
}
