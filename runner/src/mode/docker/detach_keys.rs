//! The keys that leave an attached run to itself: `^P`, then `^Q`, as docker has them where nothing else is said.

use std::io::{self, Read, Write};

const KEYS: [u8; 2] = [0x10, 0x11];

/// How the typing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Typed {
    /// There is nothing more, or nobody reads it.
    All,
    /// The keys came.
    Keys,
}

/// Hands on what is typed until the keys come. The first of them waits for what follows it.
pub(super) fn copy(mut from: impl Read, mut to: impl Write) -> io::Result<Typed> {
    let (mut bytes, mut held) = ([0; 4096], false);
    loop {
        let length = from.read(&mut bytes)?;
        if length == 0 {
            return Ok(Typed::All);
        }
        let mut rest = Vec::with_capacity(length + 1);
        for byte in &bytes[..length] {
            if held && *byte == KEYS[1] {
                to.write_all(&rest)?;
                return Ok(Typed::Keys);
            }
            if held {
                rest.push(KEYS[0]);
            }
            held = *byte == KEYS[0];
            if !held {
                rest.push(*byte);
            }
        }
        to.write_all(&rest)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_kept_and_all_else_is_handed_on() {
        for (typed, handed_on, end) in [
            (&[&b"a"[..], b"b"][..], &b"ab"[..], Typed::All),
            (&[b"a\x10\x11b"], b"a", Typed::Keys),
            (&[b"a\x10", b"\x11b"], b"a", Typed::Keys),
            (&[b"\x10", b"\x10\x11"], b"\x10", Typed::Keys),
            (&[b"\x10a\x11", b"\x11\x10b"], b"\x10a\x11\x11\x10b", Typed::All),
        ] {
            let pieces = typed.iter().fold(Box::new(io::empty()) as Box<dyn Read>, |all, piece| Box::new(all.chain(*piece)));
            let mut to = Vec::new();
            assert_eq!((copy(pieces, &mut to).unwrap(), &to[..]), (end, handed_on), "{typed:?}");
        }
    }
}
