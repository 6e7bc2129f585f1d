//! Where the results of a batch go: stdout, a JUnit report, the summary, and a word on stderr.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::{mpsc, oneshot};

use crate::config::{BatchConfig, Loudness, Talk};
use crate::exit_code::Failure;
use crate::report::{BatchRecord, BatchSummary, JUnitReport};

/// Results that wait for stdout. Bounded: who reads slowly slows the batch down.
const LINES_AHEAD: usize = 16;
/// So many failures are told one by one.
const COMPLAINTS: u64 = 10;
/// Notes that are said once are remembered, up to so many.
const NOTES: usize = 256;

/// Takes results.
pub(super) struct Results {
    stdout: mpsc::Sender<Vec<u8>>,
    /// How writing to stdout has ended.
    written: oneshot::Receiver<io::Result<()>>,
    junit: Option<JUnitReport<BufWriter<File>>>,
    summary: BatchSummary,
    bar: ProgressBar,
    loudness: Loudness,
    started: Instant,
}

impl Results {
    /// Begins; `total` is how many are expected.
    pub(super) fn begin(config: &BatchConfig, total: Option<u64>, handler: &str) -> Result<Self, Failure> {
        let junit = config.junit.as_ref().map(|path| {
            let begun = File::create(path).and_then(|file| JUnitReport::begin(BufWriter::new(file), handler));
            begun.map_err(|error| Failure::could_not_run(format!("cannot write `{}`: {error}", path.display())))
        });
        let (stdout, lines) = mpsc::channel(LINES_AHEAD);
        let (done, written) = oneshot::channel();
        let writing = std::thread::Builder::new().name("results".to_owned()).spawn(move || done.send(write(lines)).is_ok());
        writing.map_err(Failure::could_not_run)?;
        Ok(Self {
            stdout,
            written,
            junit: junit.transpose()?,
            summary: BatchSummary::default(),
            bar: bar(config.run.talk, total),
            loudness: config.run.talk.loudness,
            started: Instant::now(),
        })
    }

    /// Where notes about environments go. All say the same: it is said once.
    pub(super) fn notes(&self) -> Notes {
        Notes { bar: self.bar.clone(), said: BTreeSet::new() }
    }

    /// Says something about the batch.
    pub(super) fn say(&self, line: &str) {
        say(&self.bar, line.as_bytes());
    }

    /// Takes the next one; may wait for the reader of stdout.
    pub(super) async fn take(&mut self, record: BatchRecord) -> Result<(), String> {
        self.summary.count(&record);
        if let Some(complaint) = record.complaint().filter(|_| self.loudness == Loudness::Normal) {
            match self.summary.failed() {
                ..=COMPLAINTS => self.say(&format!("undocked: {}: {complaint}\n", record.id)),
                count if count == COMPLAINTS + 1 => self.say("undocked: more events failed; their results say why\n"),
                _ => {}
            }
            self.bar.set_message(format!("{} failed", self.summary.failed()));
        }
        self.bar.inc(1);
        if let Some(junit) = &mut self.junit {
            junit.add(&record).map_err(|error| format!("cannot write the JUnit report: {error}"))?;
        }
        if self.stdout.send(record.to_json_line()).await.is_ok() {
            return Ok(());
        }
        let error = match (&mut self.written).await {
            Ok(Err(error)) => error.to_string(),
            Ok(Ok(())) | Err(_) => "it is closed".to_owned(),
        };
        Err(format!("cannot write to stdout: {error}"))
    }

    /// Ends it: waits until all is written.
    pub(super) async fn end(self) -> Result<BatchSummary, Failure> {
        self.bar.finish_and_clear();
        let took = self.started.elapsed();
        drop(self.stdout);
        if let Ok(Err(error)) = self.written.await {
            return Err(Failure::could_not_run(format!("cannot write to stdout: {error}")));
        }
        if let Some(junit) = self.junit {
            let ended = junit.end(&self.summary, took.as_secs_f64());
            ended.map_err(|error| Failure::could_not_run(format!("cannot write the JUnit report: {error}")))?;
        }
        if self.loudness == Loudness::Normal {
            let _ = io::stderr().write_all(self.summary.text(took).as_bytes());
        }
        Ok(self.summary)
    }
}

/// Writes lines as they come; what is slow to come is not kept back.
fn write(mut lines: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    let mut stdout = BufWriter::new(io::stdout().lock());
    while let Some(line) = lines.blocking_recv() {
        stdout.write_all(&line)?;
        if lines.is_empty() {
            stdout.flush()?;
        }
    }
    stdout.flush()
}

fn bar(talk: Talk, total: Option<u64>) -> ProgressBar {
    if talk.loudness == Loudness::Quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "[{bar:30}] {pos}/{len} events, {per_sec} {msg}"),
        None => (ProgressBar::no_length(), "{spinner} {pos} events, {per_sec} {msg}"),
    };
    bar.enable_steady_tick(Duration::from_millis(200));
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn say(bar: &ProgressBar, line: &[u8]) {
    // Nobody may be reading.
    bar.suspend(|| drop(io::stderr().write_all(line)));
}

/// A writer of lines that writes none twice.
pub(super) struct Notes {
    bar: ProgressBar,
    said: BTreeSet<Vec<u8>>,
}

impl Write for Notes {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.said.contains(line) {
            if self.said.len() < NOTES {
                self.said.insert(line.to_vec());
            }
            say(&self.bar, line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
