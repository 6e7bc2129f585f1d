//! Telemetry of an execution environment: what it says of itself and what is written in it, on the way to the extensions that subscribed.
//!
//! Each subscriber has a task that batches and delivers; what it is ahead of its extension is bounded, and beyond that records are dropped and
//! counted. So neither the function nor the environment ever waits for an extension. Until the Init phase is over everything is remembered, within
//! bounds, for whoever subscribes later.

mod delivery;
mod entry;
mod lines;
mod subscriber;
#[cfg(test)]
mod tests;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::log_frames::LogRecord;
use crate::lambda::{InitStatus, LogEvent, ReportStatus, TelemetryStream, TelemetrySubscription};
use crate::report::{Embed, LogFormat};

use entry::{Entry, Past};
use lines::Lines;
use subscriber::Subscriber;

/// Connects to a port of the sandbox's loopback.
pub type Connect = Arc<dyn Fn(u16) -> Connecting + Send + Sync>;

/// A connection on its way.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Who wrote something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The function with its runtime and its internal extensions.
    Function,
    /// An external extension.
    Extension {
        /// Its name.
        name: String,
    },
}

impl Source {
    fn stream(&self) -> TelemetryStream {
        match self {
            Self::Function => TelemetryStream::Function,
            Self::Extension { .. } => TelemetryStream::Extension,
        }
    }
}

/// The telemetry of one environment. Subscribers end when it is dropped.
pub struct Telemetry {
    connect: Connect,
    embed: Embed,
    /// What whoever subscribes now has to be told; none once nobody may.
    past: Option<Past>,
    lines: Lines,
    subscribers: Vec<Subscriber>,
    frozen: watch::Sender<bool>,
}

impl Telemetry {
    /// Telemetry that nobody has subscribed to yet. In a log in JSON, objects are embedded in their records.
    pub fn new(connect: Connect, format: LogFormat) -> Self {
        let embed = match format {
            LogFormat::Text => Embed::Nothing,
            LogFormat::Json { .. } => Embed::Objects,
        };
        let (frozen, _) = watch::channel(false);
        Self { connect, embed, past: Some(Past::default()), lines: Lines::default(), subscribers: Vec::new(), frozen }
    }

    /// Takes an event of the platform, at this time of day. What was written before it must have been given before it.
    pub fn event(&mut self, event: &LogEvent, now: Duration) {
        if !self.has_listeners() {
            return;
        }
        self.end_lines(now);
        self.take(Entry::Event { event: event.clone(), at: now });
        match event {
            LogEvent::InitReport { status: InitStatus::Success, .. } => self.past = None,
            // The runtime is gone, and extensions may follow it: what they are told about that must be with them before.
            LogEvent::Report { status: ReportStatus::Timeout | ReportStatus::Error(_), .. } => {
                self.subscribers.iter().for_each(|subscriber| drop(subscriber.flush()));
            }
            _ => {}
        }
    }

    /// Takes what was written, in any pieces: every line becomes a record.
    pub fn output(&mut self, source: &Source, bytes: &[u8], now: Duration) {
        if self.has_listeners() {
            for text in self.lines.push(source, bytes) {
                self.take(Entry::Output { stream: source.stream(), text, at: now });
            }
        }
    }

    /// Takes a framed record of the function, or a piece of one.
    pub(super) fn record(&mut self, record: &LogRecord, now: Duration) {
        if !self.has_listeners() {
            return;
        }
        // What was written before is a record of its own.
        if record.begins {
            self.end_line(&Source::Function, now);
        }
        let text = record.message.strip_suffix(b"\n").filter(|_| record.ends).unwrap_or(&record.message);
        for text in lines::pieces(text) {
            self.take(Entry::Output { stream: TelemetryStream::Function, text, at: record.at.unwrap_or(now) });
        }
    }

    /// Sends records to an extension from now on, and first of all those from before. In place of an earlier subscription of the same one, which has
    /// had those. Must be called within a tokio runtime.
    pub fn subscribe(&mut self, extension: &str, subscription: TelemetrySubscription) {
        let earlier = self.subscribers.iter().position(|subscriber| subscriber.extension() == extension);
        if earlier.is_some_and(|at| self.subscribers[at].is_of(&subscription)) {
            return;
        }
        let courier = delivery::Courier::new(Arc::clone(&self.connect), subscription.destination.clone(), self.frozen.subscribe());
        let subscriber = Subscriber::start(extension, subscription, self.embed, courier);
        match (earlier, &self.past) {
            (Some(at), _) => self.subscribers[at] = subscriber,
            (None, past) => {
                past.iter().flat_map(Past::entries).for_each(|entry| subscriber.push(&entry));
                self.subscribers.push(subscriber);
            }
        }
    }

    /// Whether anybody listens now or may later.
    fn has_listeners(&self) -> bool {
        self.past.is_some() || !self.subscribers.is_empty()
    }

    /// While the sandbox is frozen nothing is sent, and no time limit runs out.
    pub fn set_frozen(&mut self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// Whether anybody listens now.
    pub fn has_subscribers(&self) -> bool {
        !self.subscribers.is_empty()
    }

    /// Sends what is there, and waits until it has been taken, at most until `deadline`.
    pub async fn flush(&mut self, deadline: Instant, now: Duration) {
        self.sent(deadline, now).await;
    }

    /// The same, to be waited for by whoever gives out sockets meanwhile.
    pub fn sent(&mut self, deadline: Instant, now: Duration) -> impl Future<Output = ()> + Send + use<> {
        self.end_lines(now);
        let flushed: Vec<_> = self.subscribers.iter().filter_map(Subscriber::flush).collect();
        let all = async {
            for flushed in flushed {
                // One that has ended has nothing left.
                let _ = flushed.await;
            }
        };
        // Who is too slow has been given its time.
        async move { drop(tokio::time::timeout_at(deadline, all).await) }
    }

    /// Ends all subscriptions: the sandbox is gone. New ones may be made.
    pub fn end(&mut self) {
        self.subscribers.clear();
        self.lines = Lines::default();
        self.past = Some(Past::default());
        self.set_frozen(false);
    }

    fn end_lines(&mut self, now: Duration) {
        for (source, text) in self.lines.end() {
            self.take(Entry::Output { stream: source.stream(), text, at: now });
        }
    }

    fn end_line(&mut self, source: &Source, now: Duration) {
        if let Some(text) = self.lines.end_of(source) {
            self.take(Entry::Output { stream: source.stream(), text, at: now });
        }
    }

    fn take(&mut self, entry: Entry) {
        self.subscribers.iter().for_each(|subscriber| subscriber.push(&entry));
        if let Some(past) = &mut self.past {
            past.push(entry);
        }
    }
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").field("subscribers", &self.subscribers.len()).finish_non_exhaustive()
    }
}
