//! Checksums of what a layer's files held when they were written, so that damage can be told later. Kept beside the index; format in `docs/formats/cache.md`.

use std::io::{self, Write};

use zlib_rs::crc32::crc32;

const FIRST_LINE: &str = "undocked checks 1";

/// Length and CRC-32 of some bytes. Against decay, not against people: who may write to the cache may write these, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Check {
    pub(crate) bytes: u64,
    crc: u32,
}

impl Check {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.crc = crc32(self.crc, bytes);
        self.bytes += bytes.len() as u64;
    }

    fn of(bytes: &[u8]) -> Self {
        let mut check = Self::default();
        check.update(bytes);
        check
    }

    fn line(self, name: impl std::fmt::Display) -> String {
        format!("{name} {:08x} {}\n", self.crc, self.bytes)
    }

    fn read(line: &str) -> Option<(&str, Self)> {
        let mut words = line.split(' ');
        let (name, crc, bytes) = (words.next()?, words.next()?, words.next()?);
        Some((name, Self { crc: u32::from_str_radix(crc, 16).ok()?, bytes: bytes.parse().ok()? }))
    }
}

/// The checks of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Checks {
    /// Of the index.
    pub(crate) index: Check,
    /// Of the files, by number, in its order.
    files: Vec<(u64, Check)>,
}

impl Checks {
    /// Takes in a file with a higher number than any before.
    pub(crate) fn add(&mut self, number: u64, check: Check) {
        self.files.push((number, check));
    }

    /// Forgets files.
    pub(crate) fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        self.files.retain(|(number, _)| keep(*number));
    }

    pub(crate) fn file(&self, number: u64) -> Option<Check> {
        let place = self.files.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        Some(self.files[place].1)
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("{FIRST_LINE}\n{}", self.index.line("index"));
        text.extend(self.files.iter().map(|(number, check)| check.line(number)));
        let whole = Check::of(text.as_bytes());
        text + &whole.line("end")
    }

    /// Reads them back; `None` if they are damaged themselves.
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let before_end = text.strip_suffix('\n')?.rfind('\n')? + 1;
        let (text, end) = text.split_at(before_end);
        if Check::read(end.trim_end())? != ("end", Check::of(text.as_bytes())) {
            return None;
        }
        let mut lines = text.strip_prefix(FIRST_LINE)?.strip_prefix('\n')?.lines();
        let ("index", index) = Check::read(lines.next()?)? else { return None };
        let file = |line| Check::read(line).and_then(|(number, check)| Some((number.parse().ok()?, check)));
        Some(Self { index, files: lines.map(file).collect::<Option<_>>()? })
    }
}

/// Checks what is written through it.
pub(crate) struct Checked<W> {
    pub(crate) out: W,
    pub(crate) check: Check,
}

impl<W: Write> Write for Checked<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.out.write(bytes)?;
        self.check.update(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read_back() {
        let mut checks = Checks { index: Check::of(b"123456789"), files: Vec::new() };
        assert_eq!(checks.index.crc, 0xcbf4_3926, "the CRC-32 of everybody");
        for number in [0, 3, 17, 20] {
            checks.add(number, Check::of(&vec![1; number as usize]));
        }
        checks.retain(|number| number != 17);
        let text = checks.to_text();
        assert_eq!(Checks::read(text.as_bytes()).as_ref(), Some(&checks));
        assert_eq!((checks.file(3).map(|check| check.bytes), checks.file(17)), (Some(3), None));
        for cut in 0..text.len() {
            assert_eq!(Checks::read(&text.as_bytes()[..cut]), None, "cut after {cut}");
            let mut bent = text.clone().into_bytes();
            bent[cut] ^= 1;
            assert_eq!(Checks::read(&bent), None, "bent at {cut}");
        }
    }
}
