//! What a run wrote: a file of lines as docker's `json-file` driver has them, `{"log":…,"stream":…,"time":…}`, of which there are never more than two files.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::now;

/// When the file is that large, the older one is thrown away and a new one begun.
const MOST_BYTES: u64 = 8 << 20;

/// One piece of output, a line in most cases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// What was written; what is no UTF-8 is replaced.
    pub log: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// When, in RFC 3339.
    pub time: String,
}

/// Writes a run's log. Clones write to the same one.
#[derive(Debug, Clone)]
pub struct LogWriter(Arc<Mutex<Writer>>);

#[derive(Debug)]
struct Writer {
    path: PathBuf,
    file: Option<File>,
    length: u64,
}

/// The newer file.
pub fn path(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn older(folder: &Path) -> PathBuf {
    folder.join("log.1")
}

impl LogWriter {
    /// Goes on with the log in a run's folder.
    pub fn open(folder: &Path) -> Self {
        let path = path(folder);
        let file = File::options().create(true).append(true).open(&path).ok();
        let length = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |found| found.len());
        Self(Arc::new(Mutex::new(Writer { path, file, length })))
    }

    /// Adds what was written to a stream. A log that cannot be written is none: the run goes on.
    pub fn add(&self, stream: &str, bytes: &[u8]) {
        let mut writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let time = now();
        let mut lines = Vec::with_capacity(bytes.len() + 128);
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            let line = LogLine { log: String::from_utf8_lossy(line).into_owned(), stream: stream.to_owned(), time: time.clone() };
            if serde_json::to_writer(&mut lines, &line).is_ok() {
                lines.push(b'\n');
            }
        }
        writer.write(&lines);
    }
}

impl Writer {
    fn write(&mut self, lines: &[u8]) {
        if self.length > MOST_BYTES
            && let Some(folder) = self.path.parent()
            && fs::rename(&self.path, older(folder)).is_ok()
        {
            self.file = File::options().create(true).append(true).open(&self.path).ok();
            self.length = 0;
        }
        if let Some(file) = &mut self.file
            && file.write_all(lines).is_ok()
        {
            self.length += lines.len() as u64;
        }
    }
}

/// Reads a run's log from its beginning, and what is added to it.
#[derive(Debug)]
pub struct LogReader {
    folder: PathBuf,
    current: Option<BufReader<File>>,
    /// What is there of a line that is not whole yet.
    part: Vec<u8>,
}

impl LogReader {
    /// Begins with the oldest line there is.
    pub fn open(folder: &Path) -> Self {
        let first = File::open(older(folder)).or_else(|_| File::open(path(folder)));
        Self { folder: folder.to_owned(), current: first.ok().map(BufReader::new), part: Vec::new() }
    }

    /// Begins with what will be added.
    pub fn at_end(folder: &Path) -> Self {
        let end = File::open(path(folder)).and_then(|mut file| file.seek(SeekFrom::End(0)).map(|_| file));
        Self { folder: folder.to_owned(), current: end.ok().map(BufReader::new), part: Vec::new() }
    }

    /// The next line, if there is one now.
    pub fn next_line(&mut self) -> io::Result<Option<LogLine>> {
        loop {
            let Some(reader) = &mut self.current else {
                self.current = File::open(path(&self.folder)).ok().map(BufReader::new);
                if self.current.is_none() {
                    return Ok(None);
                }
                continue;
            };
            reader.read_until(b'\n', &mut self.part)?;
            if self.part.ends_with(b"\n") {
                let line = serde_json::from_slice(&self.part);
                self.part.clear();
                match line {
                    Ok(line) => return Ok(Some(line)),
                    // What a full disk cut off.
                    Err(_) => continue,
                }
            }
            let here = reader.get_ref().metadata()?;
            match fs::metadata(path(&self.folder)) {
                Ok(newer) if newer.ino() != here.ino() => {
                    // What was added between the last read and the new file's beginning.
                    if reader.read_until(b'\n', &mut self.part)? == 0 {
                        self.part.clear();
                        self.current = None;
                    }
                }
                _ => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_while_it_grows() {
        let folder = tempfile::tempdir().unwrap();
        let log = LogWriter::open(folder.path());
        log.add("stdout", b"one\ntwo\n");
        let mut reader = LogReader::open(folder.path());
        let mut read = || reader.next_line().unwrap().map(|line| (line.stream, line.log));
        assert_eq!(read(), Some(("stdout".to_owned(), "one\n".to_owned())));
        assert_eq!(read(), Some(("stdout".to_owned(), "two\n".to_owned())));
        assert_eq!(read(), None);
        log.add("stderr", b"half");
        assert_eq!(read(), Some(("stderr".to_owned(), "half".to_owned())));
    }

    #[test]
    fn it_never_grows_beyond_two_files_and_a_reader_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let log = LogWriter::open(folder.path());
        let mut reader = LogReader::open(folder.path());
        let piece = vec![b'x'; 1 << 20];
        let mut read = 0;
        for _ in 0..40 {
            log.add("stdout", &piece);
            while reader.next_line().unwrap().is_some() {
                read += 1;
            }
        }
        assert_eq!(read, 40);
        let bytes: u64 = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes < 3 * MOST_BYTES, "{bytes}");
    }
}
