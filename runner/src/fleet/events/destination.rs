//! Delivery of letters: to a folder, an HTTP endpoint, a queue.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use serde::Serialize;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use super::record::{Letter, Message};
use crate::function::events::Destination;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a destination may take to answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Local queues look at the form of a signature and not at the signature; the real SQS refuses it.
const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=undocked/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=0000000000000000000000000000000000000000000000000000000000000000";

/// Why a letter was not delivered.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeliveryError {
    #[error("cannot write `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("`{0}` is not a URL")]
    Url(String),
    #[error("cannot make an HTTP client")]
    Client { source: reqwest::Error },
    #[error("cannot reach `{url}`")]
    Http { url: String, source: reqwest::Error },
    #[error("`{url}` answered {status}")]
    Status { url: String, status: u16 },
}

/// Delivers letters.
#[derive(Debug, Default)]
pub(super) struct Messenger {
    /// Made when it is needed: it reads all the machine's certificates.
    client: OnceCell<Client>,
}

impl Messenger {
    /// Delivers a letter. When this returns, it is there.
    pub(super) async fn deliver(&self, destination: &Destination, letter: Letter) -> Result<(), DeliveryError> {
        match destination {
            Destination::Folder(folder) => {
                let (folder, path) = (folder.clone(), folder.join(&letter.name));
                let written = spawn_blocking(move || write(&folder, &letter)).await.unwrap_or_else(|error| Err(io::Error::other(error)));
                written.map_err(|source| DeliveryError::Write { path, source })
            }
            Destination::Http(url) => {
                let url: Url = url.parse().map_err(|_| DeliveryError::Url(url.clone()))?;
                self.post(url, &[("content-type", "application/json")], letter.document).await
            }
            Destination::Sqs(queue) => {
                let mut endpoint: Url = queue.parse().map_err(|_| DeliveryError::Url(queue.clone()))?;
                endpoint.set_path("/");
                endpoint.set_query(None);
                let headers = [
                    ("content-type", "application/x-amz-json-1.0"),
                    ("x-amz-target", "AmazonSQS.SendMessage"),
                    ("authorization", AUTHORIZATION),
                ];
                self.post(endpoint, &headers, send_message(queue, &letter.message)).await
            }
        }
    }

    async fn post(&self, url: Url, headers: &[(&str, &str)], body: String) -> Result<(), DeliveryError> {
        let client = self.client.get_or_try_init(async || new_client()).await.map_err(|source| DeliveryError::Client { source })?;
        let mut request = client.post(url.clone()).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        // The error names the URL itself, with all that may be secret in its query.
        let sent = request.send().await.map_err(reqwest::Error::without_url);
        let shown = || format!("{}{}", url.origin().ascii_serialization(), url.path());
        let status = sent.map_err(|source| DeliveryError::Http { url: shown(), source })?.status();
        if status.is_success() { Ok(()) } else { Err(DeliveryError::Status { url: shown(), status: status.as_u16() }) }
    }
}

fn new_client() -> Result<Client, reqwest::Error> {
    // As for registries: an error only says that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIMEOUT)
        // A redirected POST becomes a GET, which delivers nothing.
        .redirect(Policy::none())
        .user_agent(concat!("undocked/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Writes a letter where nobody sees half of it, and returns when it is on the disk.
fn write(folder: &Path, letter: &Letter) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let unfinished = folder.join(format!(".{}.tmp", letter.name));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(letter.document.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&unfinished, folder.join(&letter.name))?;
    File::open(folder)?.sync_all()
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SendMessage<'a> {
    queue_url: &'a str,
    message_body: &'a str,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    message_attributes: serde_json::Map<String, serde_json::Value>,
}

fn send_message(queue_url: &str, message: &Message) -> String {
    let attributes = message
        .attributes
        .iter()
        .map(|(name, data_type, value)| ((*name).to_owned(), serde_json::json!({ "DataType": data_type, "StringValue": value })));
    let request = SendMessage { queue_url, message_body: &message.body, message_attributes: attributes.collect() };
    serde_json::to_string(&request).expect("texts are always JSON")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn letter() -> Letter {
        let attributes = vec![("RequestID", "String", "id".to_owned()), ("ErrorCode", "Number", "200".to_owned())];
        let message = Message { body: "{}".to_owned(), attributes };
        Letter { name: "name.json".to_owned(), document: "{\"version\":\"1.0\"}".to_owned(), message }
    }

    /// Takes one request whole, answers with this status, and returns it.
    async fn serve(listener: TcpListener, status: &str) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        let whole = |received: &[u8]| {
            let text = String::from_utf8_lossy(received).into_owned();
            let (head, body) = text.split_once("\r\n\r\n")?;
            let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok())?;
            (body.len() >= length).then_some(text.clone())
        };
        loop {
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).await.unwrap();
            assert_ne!(count, 0);
            received.extend_from_slice(&buffer[..count]);
            if let Some(text) = whole(&received) {
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nlocation: /other\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
                return text;
            }
        }
    }

    async fn listen() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        (listener, origin)
    }

    #[tokio::test]
    async fn folders_get_a_file_a_letter() {
        let folder = tempfile::tempdir().unwrap();
        let destination = Destination::Folder(folder.path().join("new/folder"));
        for _ in 0..2 {
            Messenger::default().deliver(&destination, letter()).await.unwrap();
        }
        let entries: Vec<_> = fs::read_dir(folder.path().join("new/folder")).unwrap().map(Result::unwrap).collect();
        assert_eq!(entries.len(), 1);
        assert_eq!(fs::read_to_string(entries[0].path()).unwrap(), "{\"version\":\"1.0\"}\n");
        assert_eq!(entries[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(folder.path().join("file"), "").unwrap();
        let error = Messenger::default().deliver(&Destination::Folder(folder.path().join("file/x")), letter()).await.unwrap_err();
        assert!(error.to_string().starts_with("cannot write `"), "{error}");
    }

    #[tokio::test]
    async fn endpoints_get_the_document() {
        let (listener, origin) = listen().await;
        let (destination, messenger) = (Destination::Http(format!("{origin}/hook?key=secret")), Messenger::default());
        let (request, delivered) = tokio::join!(serve(listener, "204 No Content"), messenger.deliver(&destination, letter()));
        delivered.unwrap();
        assert!(request.starts_with("POST /hook?key=secret HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("content-type: application/json\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\n{\"version\":\"1.0\"}"), "{request}");
    }

    #[tokio::test]
    async fn a_refusal_is_no_delivery_and_a_redirection_neither() {
        for status in ["500 Oh No", "404 Not Found", "302 Found"] {
            let (listener, origin) = listen().await;
            let (destination, messenger) = (Destination::Http(format!("{origin}/hook?key=secret")), Messenger::default());
            let (_, delivered) = tokio::join!(serve(listener, status), messenger.deliver(&destination, letter()));
            assert_eq!(delivered.unwrap_err().to_string(), format!("`{origin}/hook` answered {}", &status[..3]));
        }
        let (listener, origin) = listen().await;
        drop(listener);
        let error = Messenger::default().deliver(&Destination::Http(format!("{origin}/?key=secret")), letter()).await.unwrap_err();
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }

    #[tokio::test]
    async fn queues_get_the_message() {
        let (listener, origin) = listen().await;
        let queue = format!("{origin}/000000000000/failed");
        let (destination, messenger) = (Destination::Sqs(queue.clone()), Messenger::default());
        let (request, delivered) = tokio::join!(serve(listener, "200 OK"), messenger.deliver(&destination, letter()));
        delivered.unwrap();
        assert!(request.starts_with("POST / HTTP/1.1\r\n"), "{request}");
        for header in
            ["x-amz-target: AmazonSQS.SendMessage\r\n", "content-type: application/x-amz-json-1.0\r\n", "authorization: AWS4-HMAC-SHA256 "]
        {
            assert!(request.contains(header), "{request}");
        }
        let body = format!(
            r#"{{"QueueUrl":"{queue}","MessageBody":"{{}}","MessageAttributes":{{"ErrorCode":{{"DataType":"Number","StringValue":"200"}},"RequestID":{{"DataType":"String","StringValue":"id"}}}}}}"#
        );
        assert!(request.ends_with(&body), "{request}");
    }
}
