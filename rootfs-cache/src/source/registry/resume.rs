//! A blob that goes on where it broke off. Its chunks are passed on as they come; whoever reads them hashes them, over all the pieces.

use bytes::{Buf, Bytes};
use futures_util::{Stream, stream};
use reqwest::header::{HeaderMap, HeaderValue, RANGE};
use reqwest::{Response, StatusCode};
use tokio::time::sleep;

use super::{Candidate, blob_path};
use crate::manifest::Descriptor;
use crate::source::endpoint::{Ask, Endpoint, Got};
use crate::source::patience::Failures;
use crate::source::{BlobFault, SizeSaidBy, SourceError};

/// What a connection must bring so that its break does not count: one that brings less may go on like this for ever.
const PROGRESS_BYTES: u64 = 64 << 10;

/// A blob under way.
pub(super) struct Resumed<'s, 'a> {
    endpoint: &'s Endpoint<'a>,
    /// Where it goes on when that place fails for good.
    others: &'s [Candidate<'a>],
    blob: Descriptor,
    /// The connection; none after it broke.
    body: Option<Response>,
    received: u64,
    /// Bytes of this connection that we have already.
    repeated: u64,
    /// Bytes that this connection brought.
    brought: u64,
    failures: Failures<'s>,
    ranges: Ranges,
}

/// What becomes of a blob after a break.
enum Going {
    On,
    /// With what the source said when it was asked for the rest.
    End(Option<SourceError>),
}

/// Whether parts of a blob can be had.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ranges {
    Wanted,
    /// The registry gave another part than the one wanted: only the whole can be trusted.
    Refused,
}

impl<'s, 'a> Resumed<'s, 'a> {
    pub(super) fn new(endpoint: &'s Endpoint<'a>, others: &'s [Candidate<'a>], blob: &Descriptor, body: Option<Response>) -> Self {
        let failures = Failures::none(&endpoint.access.patience);
        Self { endpoint, others, blob: blob.clone(), body, received: 0, repeated: 0, brought: 0, failures, ranges: Ranges::Wanted }
    }

    pub(super) fn into_stream(self) -> impl Stream<Item = Result<Bytes, BlobFault>> + Send + 's
    where
        'a: 's,
    {
        stream::unfold(self, |mut blob| async move {
            let next = blob.next().await.transpose()?;
            Some((next, blob))
        })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BlobFault> {
        loop {
            let broken = match &mut self.body {
                None if self.received == self.blob.size => return Ok(None),
                None => None,
                Some(body) => match body.chunk().await {
                    Ok(Some(chunk)) => match self.unrepeated(chunk) {
                        Some(chunk) => return Ok(Some(chunk)),
                        None => continue,
                    },
                    Ok(None) if self.received >= self.blob.size => return Ok(None),
                    Ok(None) => None,
                    Err(error) => Some(error.without_url()),
                },
            };
            self.body = None;
            // Others pass in a moment; this one has cost the patience of a whole connection.
            if broken.as_ref().is_some_and(reqwest::Error::is_timeout) {
                let (received, size) = (self.received, self.blob.size);
                (self.endpoint.notes)(&format!("{} fell silent after {received} of {size} bytes: trying again", self.endpoint.name()));
            }
            if self.brought >= PROGRESS_BYTES {
                self.failures.forget();
            }
            match self.go_on().await {
                Going::On => {}
                Going::End(Some(error)) => return Err(BlobFault::Source(error)),
                Going::End(None) => match broken {
                    Some(error) => return Err(BlobFault::Connection(std::io::Error::other(error))),
                    // It ended as if it were whole: the reader sees that it is not.
                    None => return Ok(None),
                },
            }
        }
    }

    /// After a break: another connection, here or elsewhere.
    async fn go_on(&mut self) -> Going {
        let error = match self.failures.add(None) {
            Some(wait) => {
                sleep(wait).await;
                match self.reopen().await {
                    Ok(()) => return Going::On,
                    Err(error) => Some(error),
                }
            }
            None => None,
        };
        let mut others = self.others.iter().enumerate();
        let Some((at, other)) = others.find(|(_, other)| other.is_asked(Endpoint::is_asked_for_digests)) else {
            return Going::End(error);
        };
        let why = error.map_or_else(|| "the connection broke".to_owned(), |error| error.to_string());
        (self.endpoint.notes)(&format!("{}: {why}: going on at {}", self.endpoint.name(), other.endpoint.name()));
        (self.endpoint, self.others) = (&other.endpoint, &self.others[at + 1..]);
        (self.failures, self.ranges) = (Failures::none(&self.endpoint.access.patience), Ranges::Wanted);
        Going::On
    }

    /// Counts a chunk; `None` if it brings nothing new.
    fn unrepeated(&mut self, mut chunk: Bytes) -> Option<Bytes> {
        let repeated = self.repeated.min(chunk.len() as u64);
        chunk.advance(repeated as usize);
        self.repeated -= repeated;
        self.received += chunk.len() as u64;
        self.brought += chunk.len() as u64;
        (!chunk.is_empty()).then_some(chunk)
    }

    /// Asks for what is missing; where a registry gives no parts, for all of it.
    async fn reopen(&mut self) -> Result<(), SourceError> {
        let accepts = [StatusCode::OK, StatusCode::PARTIAL_CONTENT, StatusCode::RANGE_NOT_SATISFIABLE];
        let wants_part = self.ranges == Ranges::Wanted && self.received > 0;
        let range = wants_part.then(|| HeaderValue::from_str(&format!("bytes={}-", self.received)).ok()).flatten();
        let headers = range.map(|range| (RANGE, range)).into_iter().collect::<HeaderMap>();
        let accepts = if headers.is_empty() { &accepts[..1] } else { &accepts[..] };
        let wanted = format!("blob {} of `{}`", self.blob.digest, self.endpoint.repository());
        let got = self.endpoint.send(&Ask { headers, accepts, ..Ask::get(blob_path(self.endpoint, &self.blob), &wanted) }).await?;
        self.brought = 0;
        match got.status {
            StatusCode::OK => {
                self.check_length(&got, 0)?;
                self.repeated = self.received;
                self.body = got.body;
            }
            StatusCode::PARTIAL_CONTENT
                if got.header("content-range").and_then(start_and_size) == Some((self.received, self.blob.size)) =>
            {
                self.check_length(&got, self.received)?;
                self.repeated = 0;
                self.body = got.body;
            }
            _ => self.ranges = Ranges::Refused,
        }
        Ok(())
    }

    fn check_length(&self, got: &Got, start: u64) -> Result<(), SourceError> {
        match got.content_length.map(|length| start + length).filter(|end| *end != self.blob.size) {
            None => Ok(()),
            Some(received) => {
                let Descriptor { digest, size, .. } = self.blob;
                Err(SourceError::Size {
                    place: self.endpoint.name(),
                    blob: digest,
                    received,
                    expected: size,
                    said_by: SizeSaidBy::Manifest,
                })
            }
        }
    }
}

/// Of `bytes START-END/SIZE`; a size that is not told (`*`) makes it useless, as does an end before the blob's.
fn start_and_size(content_range: &str) -> Option<(u64, u64)> {
    let (range, size) = content_range.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end, size): (u64, u64, u64) = (start.trim().parse().ok()?, end.trim().parse().ok()?, size.trim().parse().ok()?);
    (end.checked_add(1) == Some(size)).then_some((start, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        for (header, wanted) in [
            ("bytes 5-9/10", Some((5, 10))),
            (" bytes 0-9/10 ", Some((0, 10))),
            ("bytes 5-8/10", None),
            ("bytes 5-9/*", None),
            ("bytes */10", None),
            ("bytes 5-18446744073709551615/10", None),
            ("items 5-9/10", None),
            ("5-9/10", None),
            ("", None),
        ] {
            assert_eq!(start_and_size(header), wanted, "{header}");
        }
    }
}
