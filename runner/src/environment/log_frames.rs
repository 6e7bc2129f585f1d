//! Framed log records, as runtimes write them to the descriptor that `_LAMBDA_TELEMETRY_LOG_FD` names.
//!
//! A frame is a type, a length, mostly a time, and a message, the numbers big-endian. What is no frame is output like any other: nothing is lost.

use std::time::Duration;

/// The largest record that is held; a longer one comes in pieces.
const MAX_RECORD_BYTES: usize = 1024 * 1024;
/// A length above this is no length.
const MAX_FRAME_BYTES: u32 = 64 * 1024 * 1024;
/// What every type begins with.
const MAGIC: [u8; 3] = [0xa5, 0x5a, 0x00];
/// The only type without a time, of runtimes before 2022.
const UNTIMED: u8 = 0x01;

/// Something a runtime logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Logged {
    /// A record: one entry of the log, however many lines it has.
    Record(LogRecord),
    /// Bytes outside of any frame.
    Plain(Vec<u8>),
}

/// One record, or a piece of a large one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogRecord {
    /// The message as it came.
    pub(super) message: Vec<u8>,
    /// When it was logged, since the Unix epoch, if the runtime said so.
    pub(super) at: Option<Duration>,
    /// Whether the record begins with it.
    pub(super) begins: bool,
    /// Whether the record ends with it.
    pub(super) ends: bool,
}

impl LogRecord {
    /// The message as it is logged: on lines of its own.
    pub(super) fn into_lines(mut self) -> Vec<u8> {
        if self.ends && !self.message.ends_with(b"\n") {
            self.message.push(b'\n');
        }
        self.message
    }
}

/// Takes frames apart as their bytes come.
#[derive(Debug, Default)]
pub(super) struct LogFrames {
    /// At most one record and one read beyond it.
    buffer: Vec<u8>,
    /// The record whose pieces are coming.
    open: Option<Open>,
}

/// A record that comes in pieces.
#[derive(Debug, Clone, Copy)]
struct Open {
    at: Option<Duration>,
    /// How many bytes are to come.
    missing: usize,
    /// Whether none has come.
    begins: bool,
}

/// What the buffer begins with.
enum Front {
    Frame(Head),
    /// So many bytes that are no frame.
    Plain(usize),
    /// Perhaps a frame; more has to come.
    Incomplete,
}

/// The head of a frame.
#[derive(Debug, Clone, Copy)]
struct Head {
    bytes: usize,
    length: usize,
    at: Option<Duration>,
}

impl LogFrames {
    /// Takes what was read, gives what is complete to `sink`.
    pub(super) fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(Logged)) {
        self.buffer.extend_from_slice(bytes);
        let mut taken = 0;
        while let Some(used) = self.step(taken, &mut sink) {
            taken += used;
        }
        self.buffer.drain(..taken);
    }

    /// The writer is gone: what it left unfinished is given to `sink`.
    pub(super) fn finish(&mut self, mut sink: impl FnMut(Logged)) {
        let mut message = std::mem::take(&mut self.buffer);
        let open = self.open.take();
        let (at, begins) = match (open, front(&message)) {
            (Some(open), _) => (open.at, open.begins),
            (None, Front::Frame(head)) => {
                message.drain(..head.bytes);
                (head.at, true)
            }
            (None, _) => {
                if !message.is_empty() {
                    sink(Logged::Plain(message));
                }
                return;
            }
        };
        sink(Logged::Record(LogRecord { message, at, begins, ends: true }));
    }

    /// Takes one thing from the buffer at `from`: how many bytes it was, or `None` if more must come first.
    fn step(&mut self, from: usize, sink: &mut impl FnMut(Logged)) -> Option<usize> {
        let rest = &self.buffer[from..];
        if let Some(open) = self.open {
            let piece = rest.len().min(open.missing).min(MAX_RECORD_BYTES);
            if piece == 0 {
                return None;
            }
            let ends = piece == open.missing;
            sink(Logged::Record(LogRecord { message: rest[..piece].to_vec(), at: open.at, begins: open.begins, ends }));
            self.open = (!ends).then_some(Open { missing: open.missing - piece, begins: false, ..open });
            return Some(piece);
        }
        match front(rest) {
            Front::Frame(head) if head.length > MAX_RECORD_BYTES => {
                self.open = Some(Open { at: head.at, missing: head.length, begins: true });
                Some(head.bytes)
            }
            Front::Frame(head) => {
                let end = head.bytes + head.length;
                let message = rest.get(head.bytes..end)?.to_vec();
                sink(Logged::Record(LogRecord { message, at: head.at, begins: true, ends: true }));
                Some(end)
            }
            Front::Plain(length) => {
                sink(Logged::Plain(rest[..length].to_vec()));
                Some(length)
            }
            Front::Incomplete => None,
        }
    }
}

fn front(bytes: &[u8]) -> Front {
    let Some(last) = bytes.len().checked_sub(1) else { return Front::Incomplete };
    if may_begin(bytes) {
        match head(bytes) {
            Some(Some(head)) => return Front::Frame(head),
            Some(None) => {}
            None => return Front::Incomplete,
        }
    }
    let next = (1..=last).find(|at| may_begin(&bytes[*at..]));
    Front::Plain(next.unwrap_or(bytes.len()))
}

/// Whether these bytes are a type of frame, or the beginning of one.
fn may_begin(bytes: &[u8]) -> bool {
    let length = bytes.len().min(MAGIC.len());
    bytes[..length] == MAGIC[..length] && bytes.get(MAGIC.len()).is_none_or(|low| is_type(*low))
}

/// The format in the low two bits (text and JSON), the level above them (none, trace to fatal).
fn is_type(low: u8) -> bool {
    low == UNTIMED || (matches!(low & 0b11, 0b10 | 0b11) && low >> 2 <= 6)
}

/// The head that begins here: `None` if it is not all there, `Some(None)` if it is none.
fn head(bytes: &[u8]) -> Option<Option<Head>> {
    let low = *bytes.get(MAGIC.len())?;
    let length = u32::from_be_bytes(bytes.get(4..8)?.try_into().ok()?);
    if length > MAX_FRAME_BYTES {
        return Some(None);
    }
    let (bytes, at) = match low {
        UNTIMED => (8, None),
        _ => {
            let micros = u64::from_be_bytes(bytes.get(8..16)?.try_into().ok()?);
            (16, (micros > 0).then_some(Duration::from_micros(micros)))
        }
    };
    Some(Some(Head { bytes, length: usize::try_from(length).ok()?, at }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u32, micros: u64, message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap();
        [&kind.to_be_bytes()[..], &length.to_be_bytes(), &micros.to_be_bytes(), message].concat()
    }

    fn record(message: &[u8], micros: u64) -> Logged {
        Logged::Record(LogRecord { message: message.to_vec(), at: Some(Duration::from_micros(micros)), begins: true, ends: true })
    }

    fn plain(bytes: &[u8]) -> Logged {
        Logged::Plain(bytes.to_vec())
    }

    /// What comes of reads of `size` bytes, with adjoining pieces joined.
    fn parsed(bytes: &[u8], size: usize) -> Vec<Logged> {
        let mut frames = LogFrames::default();
        let mut all = Vec::new();
        let mut take = |logged| match (all.last_mut(), logged) {
            (Some(Logged::Plain(before)), Logged::Plain(more)) => before.extend(more),
            (Some(Logged::Record(before)), Logged::Record(more)) if !before.ends => {
                before.message.extend(more.message);
                before.ends = more.ends;
            }
            (_, logged) => all.push(logged),
        };
        for read in bytes.chunks(size) {
            frames.push(read, &mut take);
        }
        frames.finish(&mut take);
        all
    }

    #[test]
    fn frames_of_all_types() {
        for kind in [0xa55a_0002, 0xa55a_0003, 0xa55a_0006, 0xa55a_000b, 0xa55a_000e, 0xa55a_0013, 0xa55a_0016, 0xa55a_001a, 0xa55a_001b] {
            for size in [1, 3, 1000] {
                let bytes = [frame(kind, 1_700_000_000_000_001, b"one\ntwo"), frame(kind, 5, b"")].concat();
                let expected = [record(b"one\ntwo", 1_700_000_000_000_001), record(b"", 5)];
                assert_eq!(parsed(&bytes, size), expected, "{kind:x} in reads of {size}");
            }
        }
        let untimed = [&0xa55a_0001_u32.to_be_bytes()[..], &3_u32.to_be_bytes(), b"old"].concat();
        assert_eq!(parsed(&untimed, 2), [Logged::Record(LogRecord { message: b"old".to_vec(), at: None, begins: true, ends: true })]);
    }

    #[test]
    fn records_become_lines() {
        for (message, ends, lines) in
            [(&b"x"[..], true, &b"x\n"[..]), (b"x\n", true, b"x\n"), (b"a\nb", true, b"a\nb\n"), (b"", true, b"\n"), (b"x", false, b"x")]
        {
            assert_eq!(LogRecord { message: message.to_vec(), at: None, begins: true, ends }.into_lines(), lines);
        }
    }

    #[test]
    fn what_is_no_frame_stays() {
        let good = frame(0xa55a_0003, 7, b"good");
        for junk in
            [&b"plain text\n"[..], b"\xa5", b"\xa5\x5a\x00\x04", b"\xa5\x5a\x00\x03\xff\xff\xff\xff", b"\xa5\xa5\x5a\xa5\x5a\x01", b"\x00"]
        {
            for size in [1, 2, 5, 1000] {
                let bytes = [junk, &good, junk].concat();
                assert_eq!(parsed(&bytes, size), [plain(junk), record(b"good", 7), plain(junk)], "{junk:x?} in reads of {size}");
            }
        }
    }

    #[test]
    fn unfinished_frames_are_records_of_what_came() {
        let bytes = frame(0xa55a_0003, 7, b"cut off");
        assert_eq!(parsed(&bytes[..20], 64), [record(b"cut ", 7)]);
        assert_eq!(parsed(&bytes[..9], 64), [plain(&bytes[..9])]);
        assert_eq!(parsed(b"", 1), []);
    }

    #[test]
    fn large_records_come_in_pieces() {
        let message: Vec<u8> = (0..2 * MAX_RECORD_BYTES + 5).map(|i| (i % 251) as u8).collect();
        let bytes = [frame(0xa55a_0003, 7, &message), frame(0xa55a_0003, 8, b"next")].concat();
        for size in [16 * 1024, bytes.len()] {
            let mut frames = LogFrames::default();
            let (mut joined, mut held) = (Vec::new(), 0);
            for read in bytes.chunks(size) {
                frames.push(read, |logged| match logged {
                    Logged::Record(record) => joined.extend(record.into_lines()),
                    Logged::Plain(plain) => panic!("{} plain bytes", plain.len()),
                });
                held = held.max(frames.buffer.len());
            }
            assert_eq!(joined, [&message, &b"\nnext\n"[..]].concat());
            assert!(held <= MAX_RECORD_BYTES + size, "{held}");
        }
    }

    proptest! {
        #[test]
        fn no_byte_outside_of_frames_is_lost(bytes in proptest::collection::vec(prop_oneof![Just(0xa5_u8), Just(0x5a), Just(0), Just(3), any::<u8>()], 0..400), size in 1_usize..50) {
            let all = parsed(&bytes, size);
            prop_assert_eq!(&all, &parsed(&bytes, bytes.len().max(1)));
            let lengths = all.iter().map(|logged| match logged {
                Logged::Record(record) => record.message.len() + if record.at.is_some() { 16 } else { 8 },
                Logged::Plain(plain) => plain.len(),
            });
            let total: usize = lengths.sum();
            // A frame with the time zero has none, which the sum above cannot see.
            prop_assert!(total <= bytes.len() && total + 8 * all.len() >= bytes.len());
        }
    }
}
