//! The events of a batch, one after another, read by a thread of their own: a pipe gives them whenever it likes.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rootfs_cache::digest::Digest;
use serde::de::IgnoredAny;
use tokio::sync::mpsc;

use crate::config::{EventSource, Shard};
use crate::exit_code::Failure;
use crate::lambda::MAX_PAYLOAD_BYTES;

/// One event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// Its number among all, from 0 on.
    pub(super) index: u64,
    /// Where it comes from.
    pub(super) id: String,
    /// Its bytes, or why it is none.
    pub(super) bytes: Result<Bytes, String>,
}

/// Events on their way.
pub(super) struct Events {
    /// How many there are, if that is known.
    pub(super) total: Option<u64>,
    /// They, or why there are no more of them. One in waiting is the most, since they may be large.
    pub(super) receiver: mpsc::Receiver<Result<Event, String>>,
}

/// Where they are read.
enum Source {
    Lines { name: String, reader: Box<dyn Read + Send> },
    Files(Vec<PathBuf>),
}

/// Opens the source and starts reading.
pub(super) fn open(source: &EventSource, shard: Option<Shard>) -> Result<Events, Failure> {
    let (source, total) = match source {
        EventSource::Stdin => (Source::Lines { name: "-".to_owned(), reader: Box::new(io::stdin()) }, None),
        EventSource::Path(path) => of_path(path).map_err(|error| {
            Failure::could_not_run(format!("cannot read events from `{}`: {error}", path.display()))
                .with_hint(Some("give a file, a folder of files `*.json`, or `-` for standard input".to_owned()))
        })?,
    };
    let (sender, receiver) = mpsc::channel(1);
    let reading = std::thread::Builder::new().name("events".to_owned()).spawn(move || {
        // What comes after the receiver has gone, nobody wants.
        let mut give =
            |event: Event, hashed: &[u8]| shard.is_some_and(|shard| !shard.takes(hash(hashed))) || sender.blocking_send(Ok(event)).is_ok();
        let read = match source {
            Source::Lines { name, reader } => lines(&name, reader, &mut give),
            Source::Files(files) => {
                of_files(&files, &mut give);
                Ok(())
            }
        };
        if let Err(error) = read {
            let _ = sender.blocking_send(Err(format!("cannot read on: {error}")));
        }
    });
    reading.map_err(Failure::could_not_run)?;
    Ok(Events { total: total.filter(|_| shard.is_none()), receiver })
}

fn of_path(path: &Path) -> io::Result<(Source, Option<u64>)> {
    if path.is_dir() {
        let names: Result<Vec<OsString>, _> = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name())).collect();
        let mut files: Vec<PathBuf> =
            names?.into_iter().map(|name| path.join(name)).filter(|file| is_json(file) && file.is_file()).collect();
        files.sort();
        let total = files.len() as u64;
        return Ok((Source::Files(files), Some(total)));
    }
    let file = File::open(path)?;
    if is_json(path) {
        return Ok((Source::Files(vec![path.to_owned()]), Some(1)));
    }
    Ok((Source::Lines { name: name(path), reader: Box::new(file) }, None))
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The first bytes of a digest, which is the same on every machine.
fn hash(bytes: &[u8]) -> u64 {
    u64::from_str_radix(&Digest::of(bytes).hex()[..16], 16).unwrap_or_default()
}

fn of_files(files: &[PathBuf], give: &mut impl FnMut(Event, &[u8]) -> bool) {
    for (index, path) in (0..).zip(files) {
        // No more than is looked at: a file may be a device.
        let read = File::open(path).and_then(|file| {
            let mut bytes = Vec::new();
            file.take(MAX_PAYLOAD_BYTES as u64 + 1).read_to_end(&mut bytes).map(|_| bytes)
        });
        let (bytes, problem) = match read {
            Ok(bytes) => (bytes, None),
            Err(error) => (Vec::new(), Some(format!("cannot read it: {error}"))),
        };
        let bytes = Bytes::from(bytes);
        let checked = problem.map_or_else(|| check(&bytes), Err);
        if !give(Event { index, id: name(path), bytes: checked.map(|()| bytes.clone()) }, &bytes) {
            return;
        }
    }
}

fn lines(name: &str, reader: impl Read, give: &mut impl FnMut(Event, &[u8]) -> bool) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(64 * 1024, reader);
    let mut index = 0;
    for number in 1_u64.. {
        let mut line = Vec::new();
        if reader.by_ref().take(MAX_PAYLOAD_BYTES as u64 + 2).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() > MAX_PAYLOAD_BYTES {
            reader.skip_until(b'\n')?;
        }
        let line = Bytes::from(line);
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let bytes = check(&line).map(|()| line.clone());
        if !give(Event { index, id: format!("{name}:{number}"), bytes }, &line) {
            return Ok(());
        }
        index += 1;
    }
    Ok(())
}

/// Lambda takes nothing else from clients, either.
fn check(event: &[u8]) -> Result<(), String> {
    if event.len() > MAX_PAYLOAD_BYTES {
        return Err(format!("larger than {MAX_PAYLOAD_BYTES} bytes, the most that Lambda takes"));
    }
    // What is skipped is not looked at byte by byte.
    let event = std::str::from_utf8(event).map_err(|error| format!("not JSON: {error}"))?;
    serde_json::from_str::<IgnoredAny>(event).map(drop).map_err(|error| format!("not JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_lines(text: &[u8]) -> Vec<(u64, String, Result<Vec<u8>, String>)> {
        let mut events = Vec::new();
        let mut give = |event: Event, _: &[u8]| {
            events.push((event.index, event.id, event.bytes.map(|bytes| bytes.to_vec())));
            true
        };
        lines("x.jsonl", text, &mut give).unwrap();
        events
    }

    #[test]
    fn lines_are_events_as_they_are() {
        let events = of_lines(b"{\"a\": 1}\n\n \t\r\n[2]\r\nnot json\n\"last\"");
        let ok = |index, id: &str, bytes: &[u8]| (index, id.to_owned(), Ok(bytes.to_vec()));
        assert_eq!(events[0], ok(0, "x.jsonl:1", b"{\"a\": 1}"));
        assert_eq!(events[1], ok(1, "x.jsonl:4", b"[2]\r"));
        assert!(matches!(&events[2], (2, id, Err(error)) if id == "x.jsonl:5" && error.starts_with("not JSON: ")), "{events:?}");
        assert_eq!(events[3], ok(3, "x.jsonl:6", b"\"last\""));
        let no_text = of_lines(b"\"\xff\"\n");
        assert!(matches!(&no_text[0].2, Err(error) if error.starts_with("not JSON: invalid utf-8")), "{no_text:?}");
        assert_eq!((events.len(), of_lines(b"")), (4, Vec::new()));
    }

    #[test]
    fn too_large_a_line_is_left_out_alone() {
        let mut text = vec![b'1'; MAX_PAYLOAD_BYTES];
        text.push(b'\n');
        text.extend(std::iter::repeat_n(b'2', 3 * MAX_PAYLOAD_BYTES));
        text.extend(b"\n3\n");
        let events = of_lines(&text);
        assert_eq!(events[0].2.as_ref().unwrap().len(), MAX_PAYLOAD_BYTES);
        assert!(events[1].2.as_ref().unwrap_err().starts_with("larger than "), "{:?}", events[1].1);
        assert_eq!(events[2], (2, "x.jsonl:3".to_owned(), Ok(b"3".to_vec())));
    }

    fn all(mut events: Events) -> Vec<Event> {
        std::iter::from_fn(|| events.receiver.blocking_recv()).map(Result::unwrap).collect()
    }

    #[test]
    fn folders_and_files() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("b.json", "2"), ("a.json", "{\n}\n"), ("c.json", "x"), ("other.txt", "no"), ("e.jsonl", "5\n6\n")] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        fs::create_dir(folder.path().join("d.json")).unwrap();
        let events = open(&EventSource::Path(folder.path().to_owned()), None).unwrap();
        assert_eq!(events.total, Some(3));
        let events = all(events);
        let ids: Vec<_> = events.iter().map(|event| (event.index, event.id.as_str(), event.bytes.is_ok())).collect();
        assert_eq!(ids, [(0, "a.json", true), (1, "b.json", true), (2, "c.json", false)]);
        assert_eq!(events[0].bytes.as_ref().unwrap(), "{\n}\n");
        for (name, count) in [("a.json", 1), ("e.jsonl", 2)] {
            assert_eq!(all(open(&EventSource::Path(folder.path().join(name)), None).unwrap()).len(), count, "{name}");
        }
        assert!(open(&EventSource::Path(folder.path().join("none")), None).is_err());
    }

    #[test]
    fn shards_share_out_every_event() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("e.jsonl");
        fs::write(&file, (0..100).map(|number| format!("{number}\n")).collect::<String>()).unwrap();
        let mut indexes = Vec::new();
        for shard in ["1/3", "2/3", "3/3"] {
            let events = all(open(&EventSource::Path(file.clone()), Some(shard.parse().unwrap())).unwrap());
            assert!(events.len() > 10, "{shard}: {}", events.len());
            indexes.extend(events.iter().map(|event| event.index));
        }
        indexes.sort_unstable();
        assert_eq!(indexes, (0..100).collect::<Vec<_>>());
        // The same everywhere, for ever.
        assert_eq!(hash(b"1"), 0x6b86_b273_ff34_fce1);
    }
}
