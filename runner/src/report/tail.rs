//! The last bytes of an invocation's log, as Lambda returns them in `X-Amz-Log-Result`.

use std::collections::VecDeque;

/// How many bytes Lambda returns.
const TAIL_BYTES: usize = 4096;

/// A ring of the last [`TAIL_BYTES`] bytes.
#[derive(Debug, Default)]
pub(super) struct LogTail {
    bytes: VecDeque<u8>,
}

impl LogTail {
    /// Forgets what came before: an invocation begins.
    pub(super) fn restart(&mut self) {
        self.bytes.clear();
    }

    /// Appends bytes, forgetting the oldest.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let last = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        let surplus = (self.bytes.len() + last.len()).saturating_sub(TAIL_BYTES);
        self.bytes.drain(..surplus);
        self.bytes.extend(last);
    }

    /// The bytes in order.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.bytes.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_4096_bytes() {
        let all: Vec<u8> = (0..20_000_u32).map(|n| n as u8).collect();
        for chunk in [1, 7, 4095, 4096, 4097, 20_000] {
            let mut tail = LogTail::default();
            all.chunks(chunk).for_each(|bytes| tail.push(bytes));
            assert_eq!(tail.bytes(), all[all.len() - 4096..], "in chunks of {chunk}");
        }
    }

    #[test]
    fn restart_forgets() {
        let mut tail = LogTail::default();
        tail.push(b"init");
        tail.restart();
        tail.push(b"START");
        assert_eq!(tail.bytes(), b"START");
    }
}
