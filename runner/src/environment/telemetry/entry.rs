//! What subscribers are told, before it has the form that each of them wants; and what is remembered of it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::lambda::{LogEvent, TelemetrySchema, TelemetryStream};
use crate::report::{Embed, RecordForm, output_record, platform_record};

/// How much is remembered for subscribers to come.
const PAST_BYTES: usize = 1024 * 1024;
/// What an entry needs beside its text.
const ENTRY_BYTES: usize = 256;

/// One thing to tell.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    /// An event of the platform.
    Event {
        event: LogEvent,
        /// The time of day, since the Unix epoch.
        at: Duration,
    },
    /// Something that was written.
    Output {
        stream: TelemetryStream,
        text: Vec<u8>,
        /// The time of day, since the Unix epoch.
        at: Duration,
    },
}

impl Entry {
    pub(super) fn stream(&self) -> TelemetryStream {
        match self {
            Self::Event { .. } => TelemetryStream::Platform,
            Self::Output { stream, .. } => *stream,
        }
    }

    /// The entry as a record on one line; nothing where the schema does not know it.
    pub(super) fn record(&self, schema: TelemetrySchema, embed: Embed) -> Option<String> {
        match self {
            Self::Event { event, at } => platform_record(event, *at, RecordForm::Subscriber(schema)),
            Self::Output { stream, text, at } => Some(output_record(*stream, text, *at, embed)),
        }
    }

    fn bytes(&self) -> usize {
        ENTRY_BYTES
            + match self {
                Self::Event { .. } => 0,
                Self::Output { text, .. } => text.len(),
            }
    }
}

/// What was told until now, the oldest of it forgotten when it becomes too much.
#[derive(Debug, Default)]
pub(super) struct Past {
    entries: VecDeque<Entry>,
    bytes: usize,
    forgotten_records: u64,
    forgotten_bytes: u64,
    /// When the last one was forgotten.
    forgotten_at: Duration,
}

impl Past {
    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        while self.bytes > PAST_BYTES
            && let Some(oldest) = self.entries.pop_front()
        {
            self.bytes -= oldest.bytes();
            self.forgotten_records += 1;
            self.forgotten_bytes += oldest.bytes() as u64;
            self.forgotten_at = match oldest {
                Entry::Event { at, .. } | Entry::Output { at, .. } => at,
            };
        }
    }

    /// All of them in order, what was forgotten first of all.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        let forgotten = (self.forgotten_records > 0).then(|| Entry::Event {
            event: LogEvent::LogsDropped {
                bytes: self.forgotten_bytes,
                records: self.forgotten_records,
                reason: "Too much was logged before the subscription.".to_owned(),
            },
            at: self.forgotten_at,
        });
        forgotten.into_iter().chain(self.entries.iter().cloned())
    }
}
