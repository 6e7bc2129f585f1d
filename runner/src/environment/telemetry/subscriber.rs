//! One subscriber: a bounded queue, and the task that makes batches of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::delivery::Courier;
use super::entry::Entry;
use crate::lambda::{LogEvent, TelemetryBuffering, TelemetryStream, TelemetrySubscription};
use crate::report::Embed;

/// How many batches' bytes may wait for an extension.
const BATCHES_AHEAD: usize = 4;
/// What a record needs beside its bytes.
const RECORD_BYTES: usize = 64;
/// AWS's sentence.
const TOO_SLOW: &str = "Consumer seems to have fallen behind as it has not acknowledged receipt of logs.";

/// A subscription, as the environment holds it. Its task ends when this is dropped.
#[derive(Debug)]
pub(super) struct Subscriber {
    extension: String,
    subscription: TelemetrySubscription,
    embed: Embed,
    /// Has no bound of its own, since records differ in size: [`Gauge::queued`] bounds it.
    queue: mpsc::UnboundedSender<Item>,
    gauge: Arc<Gauge>,
    _task: JoinSet<()>,
}

/// What both sides of a queue count.
#[derive(Debug, Default)]
struct Gauge {
    /// Bytes in the queue and in the batch that is being delivered.
    queued: AtomicUsize,
    dropped_records: AtomicU64,
    dropped_bytes: AtomicU64,
}

/// What is in a queue.
#[derive(Debug)]
enum Item {
    Record(String),
    /// Send at once what is there, then tell.
    Flush(oneshot::Sender<()>),
}

impl Subscriber {
    pub(super) fn start(extension: &str, subscription: TelemetrySubscription, embed: Embed, courier: Courier) -> Self {
        let (queue, items) = mpsc::unbounded_channel();
        let gauge = Arc::new(Gauge::default());
        let batches = Batches { items, carried: None, gauge: Arc::clone(&gauge), subscription: subscription.clone(), courier };
        let mut task = JoinSet::new();
        task.spawn(batches.run());
        Self { extension: extension.to_owned(), subscription, embed, queue, gauge, _task: task }
    }

    pub(super) fn extension(&self) -> &str {
        &self.extension
    }

    /// Whether this is what it subscribed to.
    pub(super) fn is_of(&self, subscription: &TelemetrySubscription) -> bool {
        self.subscription == *subscription
    }

    /// Queues an entry if it is wanted, or drops it if too much is waiting.
    pub(super) fn push(&self, entry: &Entry) {
        if !self.subscription.streams.contains(&entry.stream()) {
            return;
        }
        let Some(record) = entry.record(self.subscription.schema, self.embed) else { return };
        let bytes = weight(&record);
        let limit = BATCHES_AHEAD * to_usize(self.subscription.buffering.max_bytes);
        let queued = self.gauge.queued.load(Ordering::Relaxed);
        // One that is larger than all must have its chance, too.
        if queued > 0 && queued + bytes > limit {
            self.gauge.drop_records(1, record.len());
        } else {
            self.gauge.queued.fetch_add(bytes, Ordering::Relaxed);
            // The task ends only when this does.
            let _ = self.queue.send(Item::Record(record));
        }
    }

    /// Has sent what is there. The answer comes when it was taken or given up.
    pub(super) fn flush(&self) -> Option<oneshot::Receiver<()>> {
        let (done, flushed) = oneshot::channel();
        self.queue.send(Item::Flush(done)).ok().map(|()| flushed)
    }
}

impl Gauge {
    fn drop_records(&self, records: usize, bytes: usize) {
        self.dropped_records.fetch_add(records as u64, Ordering::Relaxed);
        self.dropped_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

fn weight(record: &str) -> usize {
    record.len() + RECORD_BYTES
}

fn to_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The task of a subscriber.
struct Batches {
    items: mpsc::UnboundedReceiver<Item>,
    /// A record that had no place in the last batch.
    carried: Option<String>,
    gauge: Arc<Gauge>,
    subscription: TelemetrySubscription,
    courier: Courier,
}

impl Batches {
    async fn run(mut self) {
        loop {
            let first = match self.carried.take() {
                Some(record) => record,
                None => match self.items.recv().await {
                    Some(Item::Record(record)) => record,
                    Some(Item::Flush(done)) => {
                        // Whoever waited may have given up.
                        let _ = done.send(());
                        continue;
                    }
                    None => return,
                },
            };
            let (batch, flushed) = self.fill(first).await;
            self.deliver(batch).await;
            if let Some(flushed) = flushed {
                let _ = flushed.send(());
            }
        }
    }

    /// Collects records until there are enough, they have waited long enough, or all are wanted at once.
    async fn fill(&mut self, first: String) -> (Vec<String>, Option<oneshot::Sender<()>>) {
        let TelemetryBuffering { max_items, max_bytes, timeout } = self.subscription.buffering;
        let (max_items, max_bytes) = (to_usize(max_items), to_usize(max_bytes));
        let deadline = Instant::now() + timeout;
        let mut bytes = first.len();
        let mut batch = vec![first];
        while batch.len() < max_items && bytes < max_bytes {
            match timeout_at(deadline, self.items.recv()).await {
                Ok(Some(Item::Record(record))) if bytes + record.len() > max_bytes => {
                    self.carried = Some(record);
                    break;
                }
                Ok(Some(Item::Record(record))) => {
                    bytes += record.len();
                    batch.push(record);
                }
                Ok(Some(Item::Flush(done))) => return (batch, Some(done)),
                Ok(None) | Err(_) => break,
            }
        }
        (batch, None)
    }

    async fn deliver(&mut self, mut batch: Vec<String>) {
        let held: usize = batch.iter().map(|record| weight(record)).sum();
        let (records, bytes) = (batch.len(), batch.iter().map(String::len).sum());
        let dropped = self.dropped();
        batch.extend(dropped.as_ref().and_then(|dropped| dropped.record(self.subscription.schema, Embed::Nothing)));
        if !self.courier.deliver(&batch).await {
            self.gauge.drop_records(records, bytes);
            if let Some(Entry::Event { event: LogEvent::LogsDropped { bytes, records, .. }, .. }) = dropped {
                self.gauge.dropped_records.fetch_add(records, Ordering::Relaxed);
                self.gauge.dropped_bytes.fetch_add(bytes, Ordering::Relaxed);
            }
        }
        self.gauge.queued.fetch_sub(held, Ordering::Relaxed);
    }

    /// What was dropped since this was last told, if it is wanted.
    fn dropped(&self) -> Option<Entry> {
        if !self.subscription.streams.contains(&TelemetryStream::Platform) {
            return None;
        }
        let records = self.gauge.dropped_records.swap(0, Ordering::Relaxed);
        let bytes = self.gauge.dropped_bytes.swap(0, Ordering::Relaxed);
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let reason = TOO_SLOW.to_owned();
        (records > 0).then_some(Entry::Event { event: LogEvent::LogsDropped { bytes, records, reason }, at })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::watch;

    use super::*;
    use crate::lambda::{TelemetryDestination, TelemetrySchema};

    fn batches(max_items: u32, max_bytes: u32) -> (Batches, mpsc::UnboundedSender<Item>) {
        let (queue, items) = mpsc::unbounded_channel();
        let subscription = TelemetrySubscription {
            schema: TelemetrySchema::Telemetry20221213,
            streams: vec![TelemetryStream::Platform],
            destination: TelemetryDestination::Tcp { port: 1 },
            buffering: TelemetryBuffering { max_items, max_bytes, timeout: Duration::from_millis(100) },
        };
        let courier =
            Courier::new(Arc::new(|_| Box::pin(std::future::pending())), subscription.destination.clone(), watch::channel(false).1);
        (Batches { items, carried: None, gauge: Arc::default(), subscription, courier }, queue)
    }

    fn queue_records(queue: &mpsc::UnboundedSender<Item>, records: &[&str]) {
        records.iter().for_each(|record| queue.send(Item::Record((*record).to_owned())).unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn batches_are_full_by_number_bytes_or_time() {
        let begun = Instant::now();
        let (mut by_number, queue) = batches(3, 1000);
        queue_records(&queue, &["b", "c", "d"]);
        assert_eq!(by_number.fill("a".to_owned()).await.0, ["a", "b", "c"]);

        let (mut by_bytes, queue) = batches(100, 10);
        queue_records(&queue, &["bbbb", "ccc", "d"]);
        assert_eq!(by_bytes.fill("aaaa".to_owned()).await.0, ["aaaa", "bbbb"]);
        assert_eq!(by_bytes.carried.take().unwrap(), "ccc");
        assert_eq!(by_bytes.fill("longer than all of it".to_owned()).await.0.len(), 1);
        assert_eq!(by_bytes.fill("123456789".to_owned()).await.0, ["123456789", "d"]);
        assert_eq!(begun.elapsed(), Duration::ZERO);

        let (mut by_time, queue) = batches(100, 1000);
        queue_records(&queue, &["b"]);
        assert_eq!(by_time.fill("a".to_owned()).await.0, ["a", "b"]);
        assert_eq!(begun.elapsed().as_millis(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flush_ends_a_batch() {
        let begun = Instant::now();
        let (mut batches, queue) = batches(100, 1000);
        let (done, flushed) = oneshot::channel();
        queue_records(&queue, &["b"]);
        queue.send(Item::Flush(done)).unwrap();
        queue_records(&queue, &["c"]);
        let (batch, waiting) = batches.fill("a".to_owned()).await;
        assert_eq!(batch, ["a", "b"]);
        waiting.unwrap().send(()).unwrap();
        flushed.await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
