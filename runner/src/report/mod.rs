//! Everything a run says: the function's log on stderr, and the forms its result takes on stdout.
//!
//! Takes typed events, one function per kind ([`text`]). Knows nothing of how they came about.

mod batch;
mod format;
mod junit;
mod payload;
mod record;
mod run_result;
mod sink;
mod tail;
mod text;

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::lambda::LogEvent;

pub use batch::{BatchEnd, BatchRecord, BatchSummary};
pub use format::{LogFormat, SystemLogLevel};
pub use junit::JUnitReport;
pub use payload::result_line;
pub use record::{Embed, RecordForm, output_record, platform_record};
pub use run_result::RunResult;

use sink::{Direct, Sink};
use tail::LogTail;

/// Whether the platform's lines are green.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// As docker-lambda writes them, for a terminal.
    Green,
    /// Bytes only, as in CloudWatch.
    Plain,
}

/// Which of the function's two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output; or both, where they share a pipe.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What happens to carriage returns in the function's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CarriageReturns {
    /// Each becomes a line feed, as docker-lambda does.
    ToLineFeeds,
    /// They stay (`DOCKER_LAMBDA_NO_MODIFY_LOGS`).
    Keep,
}

/// The log of a run, on its way to stderr. Keeps the last bytes of the present invocation's part.
#[derive(Debug)]
pub struct Report {
    sink: Sink,
    /// Where the function's standard output goes, if it is kept apart.
    stdout: Option<Sink>,
    format: LogFormat,
    color: Color,
    carriage_returns: CarriageReturns,
    tail: LogTail,
    /// Whether the function's output has left a line open.
    mid_line: bool,
    /// The same for the tail, which holds both streams.
    tail_mid_line: bool,
    /// Whether only notes are written, and the rest is in the tail alone.
    notes_only: bool,
}

impl Report {
    /// A report to our stderr.
    pub fn to_stderr(color: Color, carriage_returns: CarriageReturns) -> Self {
        Self::to_sink(Sink::standard(Direct::Stderr), color, carriage_returns)
    }

    /// A report to `writer`, which is written to by a thread of its own and may block.
    pub fn to_writer(writer: impl Write + Send + 'static, color: Color, carriage_returns: CarriageReturns) -> Self {
        Self::to_sink(Sink::new(Box::new(writer)), color, carriage_returns)
    }

    fn to_sink(sink: Sink, color: Color, carriage_returns: CarriageReturns) -> Self {
        Self {
            sink,
            stdout: None,
            format: LogFormat::Text,
            color,
            carriage_returns,
            tail: LogTail::default(),
            mid_line: false,
            tail_mid_line: false,
            notes_only: false,
        }
    }

    /// The same report with nothing but our own notes written; the log is in its [tail](Self::log_tail) alone.
    #[must_use]
    pub fn with_notes_only(self) -> Self {
        Self { notes_only: true, ..self }
    }

    /// The same report in another form.
    #[must_use]
    pub fn with_format(self, format: LogFormat) -> Self {
        Self { format, ..self }
    }

    /// The same report with the function's standard output apart from it, on ours.
    #[must_use]
    pub fn with_stdout(self) -> Self {
        Self { stdout: Some(Sink::standard(Direct::Stdout)), ..self }
    }

    /// A report of another environment to the same writers, with a tail of its own.
    pub fn sibling(&mut self) -> Self {
        let stdout = self.stdout.as_mut().map(Sink::share);
        Self {
            sink: self.sink.share(),
            stdout,
            format: self.format,
            color: self.color,
            carriage_returns: self.carriage_returns,
            tail: LogTail::default(),
            mid_line: false,
            tail_mid_line: false,
            notes_only: self.notes_only,
        }
    }

    /// Writes what an event of the platform has to say, if its form has that. It is taken at once, whether or not there is [room](Self::room).
    pub fn log(&mut self, event: &LogEvent) {
        let line = self.line(event);
        if line.is_some() {
            self.end_line();
        }
        if matches!(event, LogEvent::Start { .. }) {
            self.tail.restart();
            self.tail_mid_line = false;
        }
        let Some(line) = line else { return };
        self.tail.push(line.as_bytes());
        self.tail.push(b"\n");
        if self.notes_only {
            return;
        }
        self.sink.push(match (self.color, self.format) {
            (Color::Green, LogFormat::Text) if text::is_colored(event) => format!("\x1b[32m{line}\x1b[0m\n").into(),
            _ => (line + "\n").into(),
        });
    }

    fn line(&self, event: &LogEvent) -> Option<String> {
        match self.format {
            LogFormat::Text => text::line(event),
            LogFormat::Json { level } if SystemLogLevel::of(event) < level => None,
            LogFormat::Json { .. } => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                platform_record(event, now, RecordForm::Log)
            }
        }
    }

    /// Writes output of the function as it came, but for its carriage returns. Ask for [room](Self::room) first.
    pub fn output(&mut self, stream: OutputStream, mut bytes: Vec<u8>) {
        if self.carriage_returns == CarriageReturns::ToLineFeeds {
            bytes.iter_mut().filter(|byte| **byte == b'\r').for_each(|byte| *byte = b'\n');
        }
        self.write(stream, bytes);
    }

    fn write(&mut self, stream: OutputStream, bytes: Vec<u8>) {
        if let Some(last) = bytes.last() {
            self.tail_mid_line = *last != b'\n';
        }
        self.tail.push(&bytes);
        if self.notes_only {
            return;
        }
        match (stream, &mut self.stdout) {
            (OutputStream::Stdout, Some(stdout)) => stdout.push(Bytes::from(bytes)),
            _ => {
                if let Some(last) = bytes.last() {
                    self.mid_line = *last != b'\n';
                }
                self.sink.push(Bytes::from(bytes));
            }
        }
    }

    /// Writes a record of the function, which is an entry of the log however many lines it has, as it is. Ask for [room](Self::room) first.
    pub fn record(&mut self, stream: OutputStream, record: Vec<u8>) {
        self.end_line();
        self.write(stream, record);
    }

    /// Writes more of a [record](Self::record) that came in pieces.
    pub fn more_of_record(&mut self, stream: OutputStream, piece: Vec<u8>) {
        self.write(stream, piece);
    }

    /// Every line of the platform is a record of its own on Lambda, whatever the function wrote before.
    fn end_line(&mut self) {
        if std::mem::take(&mut self.tail_mid_line) {
            self.tail.push(b"\n");
        }
        if std::mem::take(&mut self.mid_line) {
            self.sink.push(Bytes::from_static(b"\n"));
        }
    }

    /// Writes a line of our own, which belongs to no invocation.
    pub fn note(&mut self, line: &str) {
        self.end_line();
        self.sink.push(format!("{line}\n").into());
    }

    /// Writes a line of our own that docker-lambda has in green.
    pub fn green(&mut self, line: &str) {
        match self.color {
            Color::Green => self.note(&format!("\x1b[32m{line}\x1b[0m")),
            Color::Plain => self.note(line),
        }
    }

    /// Whether more output can be taken without piling it up.
    pub fn has_room(&self) -> bool {
        self.sink.has_room() && self.stdout.as_ref().is_none_or(Sink::has_room)
    }

    /// Waits until there is room. May be dropped and called anew at any time.
    pub async fn room(&mut self) {
        self.sink.room().await;
        if let Some(stdout) = &mut self.stdout {
            stdout.room().await;
        }
    }

    /// Waits until all is written, or the reader has taken nothing for two seconds: it must not hold up the result for ever.
    pub async fn flush(&mut self) {
        self.sink.flush().await;
        if let Some(stdout) = &mut self.stdout {
            stdout.flush().await;
        }
    }

    /// The last 4096 bytes of the present invocation's log, from START on, without colour.
    pub fn log_tail(&self) -> Vec<u8> {
        self.tail.bytes()
    }
}

#[cfg(test)]
mod tests;
