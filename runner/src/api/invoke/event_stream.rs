//! Frames of `application/vnd.amazon.eventstream`, the form in which a streamed answer goes to a client.
//!
//! A frame is its length, the length of its headers, the CRC of both, headers, payload, and the CRC of all before; numbers are big-endian.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::Crc;
use serde::Serialize;

/// The most that one frame carries, so that a large part costs no second copy of itself. SDKs take 16 MB and more.
pub(super) const MAX_CHUNK_BYTES: usize = 256 * 1024;

/// A header's value is text.
const STRING: u8 = 7;
const PRELUDE_BYTES: usize = 12;
const CRC_BYTES: usize = 4;

/// The end of an answer, for `InvokeComplete`.
#[derive(Debug, Default)]
pub(super) struct Completion {
    /// The error's JSON, if the function failed.
    pub(super) error: Option<Bytes>,
    /// The last bytes of the invocation's log, if they were asked for.
    pub(super) log_tail: Option<Vec<u8>>,
}

/// Bytes of the answer.
pub(super) fn payload_chunk(bytes: &[u8]) -> Bytes {
    frame("PayloadChunk", "application/octet-stream", bytes)
}

/// The end of the answer. As in `X-Amz-Function-Error`, the code tells no more than that the function failed; what it was is in the details.
pub(super) fn invoke_complete(completion: &Completion) -> Bytes {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Fields<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        error_code: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error_details: Option<std::borrow::Cow<'a, str>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        log_result: Option<String>,
    }
    let fields = Fields {
        error_code: completion.error.as_ref().map(|_| "Unhandled"),
        error_details: completion.error.as_deref().map(String::from_utf8_lossy),
        log_result: completion.log_tail.as_ref().map(|tail| BASE64.encode(tail)),
    };
    frame("InvokeComplete", "application/json", &serde_json::to_vec(&fields).expect("texts are always JSON"))
}

fn frame(event_type: &str, content_type: &str, payload: &[u8]) -> Bytes {
    let headers = [(":message-type", "event"), (":event-type", event_type), (":content-type", content_type)];
    let headers_length: usize = headers.iter().map(|(name, value)| 1 + name.len() + 1 + 2 + value.len()).sum();
    let length = PRELUDE_BYTES + headers_length + payload.len() + CRC_BYTES;
    let mut frame = BytesMut::with_capacity(length);
    frame.put_u32(u32::try_from(length).expect("payloads are megabytes"));
    frame.put_u32(u32::try_from(headers_length).expect("names of ours"));
    frame.put_u32(crc(&frame));
    for (name, value) in headers {
        frame.put_u8(u8::try_from(name.len()).expect("names of ours"));
        frame.put_slice(name.as_bytes());
        frame.put_u8(STRING);
        frame.put_u16(u16::try_from(value.len()).expect("values of ours"));
        frame.put_slice(value.as_bytes());
    }
    frame.put_slice(payload);
    frame.put_u32(crc(&frame));
    frame.freeze()
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a frame apart: event type, content type, payload.
    fn read(frame: &[u8]) -> (String, String, Vec<u8>) {
        let number = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
        assert_eq!(number(0) as usize, frame.len());
        assert_eq!(number(8), crc(&frame[..8]));
        assert_eq!(number(frame.len() - 4), crc(&frame[..frame.len() - 4]));
        let payload_at = 12 + number(4) as usize;
        let mut headers = &frame[12..payload_at];
        let mut found = Vec::new();
        while let [length, rest @ ..] = headers {
            let (name, rest) = rest.split_at(usize::from(*length));
            let [STRING, high, low, rest @ ..] = rest else { panic!("a text") };
            let (value, rest) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
            found.push((String::from_utf8(name.to_vec()).unwrap(), String::from_utf8(value.to_vec()).unwrap()));
            headers = rest;
        }
        let [(message_type, event), (event_type, kind), (content_type, media)] = &found[..] else { panic!("{found:?}") };
        assert_eq!([message_type, event, event_type, content_type], [":message-type", "event", ":event-type", ":content-type"]);
        (kind.clone(), media.clone(), frame[payload_at..frame.len() - 4].to_vec())
    }

    #[test]
    fn crcs_are_those_of_zlib() {
        assert_eq!(crc(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn chunks() {
        for bytes in [&b""[..], b"hello", &[0, 0xff, 0x80], &vec![b'x'; MAX_CHUNK_BYTES]] {
            let expected = ("PayloadChunk".to_owned(), "application/octet-stream".to_owned(), bytes.to_vec());
            assert_eq!(read(&payload_chunk(bytes)), expected);
        }
    }

    #[test]
    fn ends() {
        let error = Bytes::from_static(br#"{"errorMessage":"boom"}"#);
        for (error, log_tail, json) in [
            (None, None, "{}"),
            (None, Some(b"hi\n".to_vec()), r#"{"LogResult":"aGkK"}"#),
            (Some(error.clone()), None, r#"{"ErrorCode":"Unhandled","ErrorDetails":"{\"errorMessage\":\"boom\"}"}"#),
            (
                Some(error),
                Some(b"hi\n".to_vec()),
                r#"{"ErrorCode":"Unhandled","ErrorDetails":"{\"errorMessage\":\"boom\"}","LogResult":"aGkK"}"#,
            ),
        ] {
            let expected = ("InvokeComplete".to_owned(), "application/json".to_owned(), json.as_bytes().to_vec());
            assert_eq!(read(&invoke_complete(&Completion { error, log_tail })), expected);
        }
    }
}
