//! `logs` and `attach`: what a run wrote, and what it writes.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};

use super::detach_keys::{self, Typed};
use super::terminal::{self, Raw};
use super::{ends, find, of_daemon};
use crate::config::docker::{Lines, LogsAsked, Place};
use crate::exit_code::{ExitCode, Failure};
use crate::mode::async_runtime;
use crate::mode::signals::Signals;
use crate::records::Run;
use crate::records::control::{Answer, Order};
use crate::records::log::{LogLine, LogReader};

/// Between two looks at a log that grows.
const PAUSE: Duration = Duration::from_millis(10);

/// `docker logs`.
pub(super) fn run(asked: &LogsAsked, place: &Place) -> Result<ExitCode, Failure> {
    let run = find(&asked.run, place)?;
    let mut reader = LogReader::open(run.folder());
    let lines = Wanted::of(&asked.lines)?;
    let mut so_far = Vec::new();
    while let Some(line) = reader.next_line().map_err(Failure::could_not_run)? {
        if lines.has(&line) {
            so_far.push(line);
        }
    }
    let skipped = asked.lines.tail.map_or(0, |tail| so_far.len().saturating_sub(tail));
    for line in &so_far[skipped..] {
        write(line, asked.timestamps)?;
    }
    if asked.follow {
        follow(&run, reader, |line| if lines.has(line) { write(line, asked.timestamps) } else { Ok(()) })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Until the run ends, and all that it wrote was read.
fn follow(run: &Run, mut reader: LogReader, mut take: impl FnMut(&LogLine) -> Result<(), Failure>) -> Result<(), Failure> {
    loop {
        // In this order: what is written before the end is read after it.
        let goes_on = run.is_held().unwrap_or(false);
        let mut has_more = false;
        while let Some(line) = reader.next_line().map_err(Failure::could_not_run)? {
            take(&line)?;
            has_more = true;
        }
        if !goes_on {
            return Ok(());
        }
        if !has_more {
            thread::sleep(PAUSE);
        }
    }
}

/// `docker attach`: its output from now on; our signals are its own. The exit code is its.
pub(super) fn attach(name: &str, pass_signals: bool, input: bool, place: &Place) -> Result<ExitCode, Failure> {
    let run = find(name, place)?;
    if !run.is_held().map_err(of_daemon)? {
        let error = "cannot attach to a stopped container, start it first";
        return Err(Failure::could_not_run(error).with_code(ExitCode::FUNCTION_FAILED));
    }
    let reader = LogReader::at_end(run.folder());
    // Until it has ended, or we do.
    let _typing = if input && run.record.spec.interactive { Some(type_into(&run)?) } else { None };
    let signalled = run.clone();
    if pass_signals {
        let (ready, listens) = mpsc::channel();
        thread::spawn(move || pass_on(&signalled, &ready));
        // One that comes before that would end us alone.
        let _ = listens.recv();
    }
    follow(&run, reader, |line| write(line, false))?;
    Ok(ExitCode::from_status(run.state().map_or(0, |state| state.exit_code).into()))
}

/// Hands our input to it, through a pipe that ends with us. What is given back ends the terminal's raw mode. A function takes none: then keys are signals.
fn type_into(run: &Run) -> Result<Option<Raw>, Failure> {
    let (read, mut write) = std::io::pipe().map_err(Failure::could_not_run)?;
    let mut connection = ends::reach(run)?;
    connection.order(&Order::Input, &[read.as_fd()]).map_err(Failure::could_not_run)?;
    if let Answer::Refused(..) = connection.answer().map_err(Failure::could_not_run)? {
        return Ok(None);
    }
    let is_raw = run.record.spec.tty && terminal::is_one(std::io::stdin());
    let raw = if is_raw { Some(Raw::of(std::io::stdin()).map_err(Failure::could_not_run)?) } else { None };
    thread::spawn(move || {
        if !is_raw {
            let _ = std::io::copy(&mut std::io::stdin(), &mut write);
        } else if matches!(detach_keys::copy(std::io::stdin(), write), Ok(Typed::Keys)) {
            terminal::restore();
            let _ = std::io::stderr().write_all(b"read escape sequence\n");
            std::process::exit(ExitCode::FUNCTION_FAILED.number().into());
        }
    });
    Ok(raw)
}

fn pass_on(run: &Run, ready: &mpsc::Sender<()>) {
    let Ok(runtime) = async_runtime() else { return };
    runtime.block_on(async {
        let Ok(mut signals) = Signals::listen() else { return };
        let _ = ready.send(());
        loop {
            let signal = signals.next().await;
            let _ = ends::order(run, &Order::Signal(signal));
        }
    });
}

/// A reader that went away has seen enough: as docker's client, which a signal ends then, we say nothing of it.
fn write(line: &LogLine, timestamps: bool) -> Result<(), Failure> {
    let text = if timestamps { format!("{} {}", line.time, line.log) } else { line.log.clone() };
    let written = match line.stream.as_str() {
        "stderr" => std::io::stderr().write_all(text.as_bytes()),
        _ => {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
        }
    };
    if written.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
        terminal::restore();
        std::process::exit(ExitCode::from_signal(libc::SIGPIPE).number().into());
    }
    written.map_err(|error| Failure::could_not_run(format!("cannot write a log: {error}")).with_code(ExitCode::FUNCTION_FAILED))
}

/// Which lines are wanted by their time. Times of one form compare as texts.
struct Wanted {
    since: Option<String>,
    until: Option<String>,
}

impl Wanted {
    fn of(lines: &Lines) -> Result<Self, Failure> {
        let time = |text: &Option<String>| text.as_deref().map(time).transpose();
        Ok(Self { since: time(&lines.since)?, until: time(&lines.until)? })
    }

    fn has(&self, line: &LogLine) -> bool {
        self.since.as_ref().is_none_or(|since| line.time >= *since) && self.until.as_ref().is_none_or(|until| line.time <= *until)
    }
}

/// RFC 3339 or the first parts of it, which are of UTC, seconds since 1970, or a time back such as `10m` or `1h30m`.
fn time(text: &str) -> Result<String, Failure> {
    let written = |time: DateTime<Utc>| time.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true);
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(written(time.to_utc()));
    }
    if let Some(time) = text.parse::<f64>().ok().and_then(|seconds| DateTime::from_timestamp_millis((seconds * 1000.0) as i64)) {
        return Ok(written(time));
    }
    if let Some(time) = begun(text) {
        return Ok(written(time));
    }
    let back = back(text).ok_or_else(|| {
        Failure::could_not_run(format!("invalid value for \"since\": `{text}` is no time")).with_code(ExitCode::FUNCTION_FAILED)
    })?;
    Ok(written(DateTime::<Utc>::from(SystemTime::now() - back)))
}

/// A date, or a date and a time without a zone, as docker takes them.
fn begun(text: &str) -> Option<DateTime<Utc>> {
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00"));
    let date: chrono::NaiveDate = date.parse().ok()?;
    let time = match time.matches(':').count() {
        0 => chrono::NaiveTime::from_hms_opt(time.parse().ok()?, 0, 0)?,
        1 => chrono::NaiveTime::parse_from_str(time, "%H:%M").ok()?,
        _ => time.parse().ok()?,
    };
    Some(date.and_time(time).and_utc())
}

/// A duration as Go writes it.
pub(super) fn back(text: &str) -> Option<Duration> {
    let (mut rest, mut sum) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0)?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit = &rest[digits..];
        let end = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        sum += number
            * match &unit[..end] {
                "ns" => 1e-9,
                "us" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &unit[end..];
    }
    Duration::try_from_secs_f64(sum).ok().filter(|_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(time("2026-01-02T03:04:05Z").unwrap(), "2026-01-02T03:04:05.000000000Z");
        assert_eq!(time("0").unwrap(), "1970-01-01T00:00:00.000000000Z");
        assert!(time("5m").unwrap() < crate::records::now());
        assert!(time("soon").is_err());
        for (text, millis) in [("1h30m", Some(5_400_000)), ("1.5s", Some(1500)), ("10ms", Some(10)), ("5", None), ("", None), ("m", None)] {
            assert_eq!(back(text), millis.map(Duration::from_millis), "{text}");
        }
    }
}
