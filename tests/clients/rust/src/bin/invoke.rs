//! Calls the functions of tests/contract/invoke_api/fleet.rs by the SDK for Rust, and prints what came of it as one JSON object.

use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_lambda::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_lambda::operation::invoke::{InvokeError, InvokeOutput};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvokeWithResponseStreamResponseEvent as StreamEvent;
use aws_sdk_lambda::types::{InvocationType, LogType};
use aws_sdk_lambda::{Client, Config};
use aws_smithy_http_client::Builder;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

/// What a call asks for beside the function.
#[derive(Default)]
struct More {
    payload: Option<Blob>,
    kind: Option<InvocationType>,
    log: Option<LogType>,
    context: Option<String>,
    qualifier: Option<String>,
}

impl More {
    fn payload(bytes: impl Into<Vec<u8>>) -> More {
        More { payload: Some(Blob::new(bytes)), ..More::default() }
    }
}

fn text(blob: Option<&Blob>) -> Value {
    blob.map_or(Value::Null, |blob| String::from_utf8_lossy(blob.as_ref()).into())
}

fn log(encoded: Option<&str>) -> Value {
    encoded.map_or(Value::Null, |encoded| String::from_utf8_lossy(&STANDARD.decode(encoded).unwrap_or_default()).into())
}

async fn call(client: &Client, function: &str, more: More) -> Result<InvokeOutput, SdkError<InvokeError>> {
    let call = client.invoke().function_name(function).set_payload(more.payload).set_invocation_type(more.kind);
    call.set_log_type(more.log).set_client_context(more.context).set_qualifier(more.qualifier).send().await
}

async fn invoke(client: &Client, function: &str, more: More) -> Result<Value, Failure> {
    let answer = call(client, function, more).await?;
    Ok(json!({
        "status": answer.status_code(),
        "payload": text(answer.payload()),
        "error": answer.function_error(),
        "version": answer.executed_version(),
        "log": log(answer.log_result()),
    }))
}

async fn refused(client: &Client, function: &str, more: More) -> Value {
    let error = match call(client, function, more).await {
        Ok(answer) => return json!({"answered": answer.status_code()}),
        Err(error) => error.into_service_error(),
    };
    let reason = match &error {
        InvokeError::TooManyRequestsException(error) => error.reason().map(|reason| reason.as_str().to_owned()),
        _ => None,
    };
    json!({"name": error.code(), "message": error.message(), "reason": reason})
}

async fn stream(client: &Client, function: &str, more: More) -> Result<Value, Failure> {
    let call = client.invoke_with_response_stream().function_name(function).set_payload(more.payload).set_log_type(more.log);
    let mut events = call.send().await?.event_stream;
    let (mut parts, mut complete) = (Vec::new(), Value::Null);
    while let Some(event) = events.recv().await? {
        match event {
            StreamEvent::PayloadChunk(chunk) => {
                parts.push(text(chunk.payload()));
                if parts.len() == 1 && function != "echo" {
                    invoke(client, "open", More::default()).await?;
                }
            }
            StreamEvent::InvokeComplete(told) => {
                complete = json!({"error": told.error_code(), "details": told.error_details(), "log": log(told.log_result())});
            }
            other => return Err(format!("{other:?}").into()),
        }
    }
    Ok(json!({"parts": parts, "complete": complete}))
}

async fn refusals(client: &Client) -> Value {
    let long = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    let event = More { kind: Some(InvocationType::Event), ..More::payload(long(1_048_577)) };
    let conflict = More { qualifier: Some("2".to_owned()), ..More::default() };
    let context = More { context: Some("?".to_owned()), ..More::default() };
    json!({
        "missing": refused(client, "missing", More::default()).await,
        "elsewhere": refused(client, "elsewhere", More::default()).await,
        "busy": refused(client, "busy", More::default()).await,
        "broken": refused(client, "broken", More::default()).await,
        "not_json": refused(client, "echo", More::payload("notjson")).await,
        "conflict": refused(client, "echo:1", conflict).await,
        "too_large": refused(client, "echo", More::payload(long(6_291_457))).await,
        "event_too_large": refused(client, "echo", event).await,
        "bad_name": refused(client, "e o", More::default()).await,
        "bad_context": refused(client, "echo", context).await,
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let endpoint = std::env::args().nth(1).ok_or("usage: invoke ENDPOINT")?;
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(endpoint)
        .http_client(Builder::new().build_http());
    let client = &Client::from_conf(config.build());
    let arn = "arn:aws:lambda:us-east-1:123456789012:function:describe";
    let tail = || More { log: Some(LogType::Tail), ..More::default() };
    let kind = |kind| More { kind: Some(kind), ..More::default() };
    let described = More { context: Some(STANDARD.encode(r#"{"custom":{"a":1}}"#)), qualifier: Some("live".to_owned()), ..More::default() };
    let found = json!({
        "echo": invoke(client, "echo", More::payload(r#"{"a":1}"#)).await?,
        "failed": invoke(client, "fail", tail()).await?,
        "no_payload": invoke(client, "echo", More::default()).await?,
        "event": invoke(client, "echo", kind(InvocationType::Event)).await?,
        "dry": invoke(client, "echo", kind(InvocationType::DryRun)).await?,
        "described": invoke(client, arn, described).await?,
        "refusals": refusals(client).await,
        "stream": stream(client, "stream", tail()).await?,
        "late_failure": stream(client, "late-failure", More::default()).await?,
        "early_failure": stream(client, "early-failure", More::default()).await?,
        "buffered": stream(client, "echo", More::payload("[1,2]")).await?,
    });
    println!("{found}");
    Ok(())
}
