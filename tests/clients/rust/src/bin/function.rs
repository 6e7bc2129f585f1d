//! A function of AWS's crate for Rust: what it does is what its handler is called.

use std::path::Path;
use std::time::Duration;

use lambda_runtime::streaming::{Body, Response, channel};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    match std::env::var("_HANDLER").unwrap_or_default().as_str() {
        "stream" => run(service_fn(stream)).await,
        _ => run(service_fn(echo)).await,
    }
}

async fn echo(event: LambdaEvent<Value>) -> Result<Value, Error> {
    if let Some(message) = event.payload["fail"].as_str() {
        return Err(Error::from(message.to_owned()));
    }
    println!("hello from rust");
    let context = event.context;
    Ok(json!({"event": event.payload, "id": context.request_id, "deadline": context.deadline, "arn": context.invoked_function_arn}))
}

/// The second part comes when a file is there, which whoever has the first one makes.
async fn stream(_: LambdaEvent<Value>) -> Result<Response<Body>, Error> {
    let (mut parts, body) = channel();
    tokio::spawn(async move {
        parts.send_data("one,".into()).await?;
        while !Path::new("/var/task/go").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        parts.send_data("two".into()).await
    });
    Ok(Response::from(body))
}
