//! Output in any pieces, cut into lines.

use super::Source;

/// A longer line becomes several records, as it does on AWS.
const MAX_LINE_BYTES: usize = 256 * 1024;

/// The lines that writers have not ended yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The few writers there are.
    open: Vec<(Source, Vec<u8>)>,
}

impl Lines {
    /// The lines that end with these bytes, without their line feeds.
    pub(super) fn push(&mut self, source: &Source, bytes: &[u8]) -> Vec<Vec<u8>> {
        let at = self.open.iter().position(|(open, _)| open == source).unwrap_or_else(|| {
            self.open.push((source.clone(), Vec::new()));
            self.open.len() - 1
        });
        let open = &mut self.open[at].1;
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            for part in text.chunks(MAX_LINE_BYTES) {
                if open.len() + part.len() > MAX_LINE_BYTES {
                    lines.push(std::mem::take(open));
                }
                open.extend_from_slice(part);
            }
            if text.len() < piece.len() {
                lines.push(std::mem::take(open));
            }
        }
        lines
    }

    /// What has been begun and not ended by anybody.
    pub(super) fn end(&mut self) -> Vec<(Source, Vec<u8>)> {
        let mut ended = std::mem::take(&mut self.open);
        ended.retain(|(_, text)| !text.is_empty());
        ended
    }

    /// What has been begun and not ended by this one.
    pub(super) fn end_of(&mut self, source: &Source) -> Option<Vec<u8>> {
        let (_, text) = self.open.iter_mut().find(|(open, _)| open == source)?;
        Some(std::mem::take(text)).filter(|text| !text.is_empty())
    }
}

/// A text as pieces that are not too long for a record.
pub(super) fn pieces(text: &[u8]) -> Vec<Vec<u8>> {
    if text.is_empty() { vec![Vec::new()] } else { text.chunks(MAX_LINE_BYTES).map(<[u8]>::to_vec).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_in_any_pieces() {
        let extension = || Source::Extension { name: "e".to_owned() };
        let mut lines = Lines::default();
        for (source, bytes, ended) in [
            (Source::Function, &b"one"[..], &[][..]),
            (extension(), b"mine\n", &[&b"mine"[..]]),
            (Source::Function, b"", &[]),
            (Source::Function, b" line\r\n\nnext\nope", &[b"one line\r", b"", b"next"]),
            (Source::Function, b"n\n", &[b"open"]),
        ] {
            assert_eq!(lines.push(&source, bytes), ended, "{bytes:?}");
        }
        lines.push(&Source::Function, b"f");
        lines.push(&extension(), b"e");
        assert_eq!(lines.end_of(&extension()).unwrap(), b"e");
        assert_eq!(lines.end(), [(Source::Function, b"f".to_vec())]);
        assert_eq!(lines.end(), []);
    }

    #[test]
    fn long_lines_are_cut() {
        let mut lines = Lines::default();
        let mut all = lines.push(&Source::Function, &[b'x'; 2 * MAX_LINE_BYTES]);
        for _ in 0..3 {
            all.extend(lines.push(&Source::Function, &[b'y'; MAX_LINE_BYTES - 1]));
        }
        all.extend(lines.push(&Source::Function, b"z\n"));
        assert!(all.iter().all(|line| !line.is_empty() && line.len() <= MAX_LINE_BYTES));
        assert_eq!(all.iter().map(Vec::len).sum::<usize>(), 5 * MAX_LINE_BYTES - 2);
        assert_eq!(pieces(&[b'x'; MAX_LINE_BYTES + 1]).len(), 2);
        assert_eq!(pieces(b""), [b""]);
    }
}
