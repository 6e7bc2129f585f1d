//! What a name server's answer says (RFC 1035, 4): pure, and strict, since strangers send it.

use std::net::IpAddr;

/// The addresses that an answer gives for the one name it was asked for, in small letters. Aliases count for the name asked for.
pub(super) fn addresses(message: &[u8]) -> Option<(String, Vec<IpAddr>)> {
    let word = |at: usize| Some(u16::from_be_bytes(*message.get(at..)?.first_chunk()?));
    let flags = word(2)?;
    let (answer, truncated, code) = (flags & 0x8000 != 0, flags & 0x0200 != 0, flags & 0x000f);
    if !answer || truncated || code != 0 || word(4)? != 1 {
        return None;
    }
    let (name, mut at) = read_name(message, 12)?;
    // Type and class of the question.
    at += 4;
    let mut found = Vec::new();
    for _ in 0..word(6)?.min(64) {
        let (_, head) = read_name(message, at)?;
        let (kind, class, length) = (word(head)?, word(head + 2)?, usize::from(word(head + 8)?));
        let data = message.get(head + 10..head + 10 + length)?;
        match (kind, class, length) {
            (1, 1, 4) => found.push(IpAddr::from(*data.first_chunk::<4>()?)),
            (28, 1, 16) => found.push(IpAddr::from(*data.first_chunk::<16>()?)),
            _ => {}
        }
        at = head + 10 + length;
    }
    Some((name, found))
}

/// A name, and where what follows it begins. Pointers lead backwards only, so that this ends.
fn read_name(message: &[u8], start: usize) -> Option<(String, usize)> {
    let (mut at, mut end, mut lowest) = (start, None, start);
    let mut name = String::new();
    loop {
        let length = usize::from(*message.get(at)?);
        match length {
            0 => return Some((name, end.unwrap_or(at + 1))),
            1..=63 => {
                let label = message.get(at + 1..at + 1 + length)?;
                // A dot within a label would make the name another one's.
                if !label.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'.') || name.len() + length > 254 {
                    return None;
                }
                if !name.is_empty() {
                    name.push('.');
                }
                name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
                at += 1 + length;
            }
            192..=255 => {
                let target = (length & 0x3f) << 8 | usize::from(*message.get(at + 1)?);
                if target >= lowest {
                    return None;
                }
                end = end.or(Some(at + 2));
                (at, lowest) = (target, target);
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(flags: u16, answers: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = vec![0x12, 0x34];
        for word in [flags, 1, answers.len() as u16, 0, 0] {
            message.extend(word.to_be_bytes());
        }
        message.extend(b"\x01A\x07example\x03com\0\0\x01\0\x01");
        for (kind, data) in answers {
            message.extend([0xc0, 12]);
            message.extend(kind.to_be_bytes());
            message.extend([0, 1, 0, 0, 0, 60]);
            message.extend((data.len() as u16).to_be_bytes());
            message.extend(*data);
        }
        message
    }

    #[test]
    fn addresses_belong_to_the_name_asked_for() {
        let answers: [(u16, &[u8]); 3] =
            [(5, b"\x01b\xc0\x0e"), (1, &[10, 0, 0, 1]), (28, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])];
        let (name, found) = addresses(&message(0x8180, &answers)).unwrap();
        assert_eq!(name, "a.example.com");
        assert_eq!(found, ["10.0.0.1".parse::<IpAddr>().unwrap(), "2001:db8::1".parse().unwrap()]);
    }

    #[test]
    fn questions_errors_and_nonsense_say_nothing() {
        assert_eq!(addresses(&message(0x0100, &[])), None);
        assert_eq!(addresses(&message(0x8183, &[])), None);
        assert_eq!(addresses(&message(0x8380, &[])), None);
        let mut looping = message(0x8180, &[]);
        looping.truncate(12);
        looping.extend([0xc0, 12, 0, 1, 0, 1]);
        assert_eq!(addresses(&looping), None);
        let mut dotted = message(0x8180, &[(1, &[10, 0, 0, 1])]);
        assert!(addresses(&dotted).is_some());
        dotted[18] = b'.';
        assert_eq!(addresses(&dotted), None);
    }

    proptest! {
        #[test]
        fn no_message_is_too_strange(message in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = addresses(&message);
        }

        #[test]
        fn no_damage_is_too_strange(at in 0_usize..80, byte in any::<u8>(), length in 0_usize..80) {
            let mut message = message(0x8180, &[(1, &[10, 0, 0, 1]), (1, &[10, 0, 0, 2])]);
            if let Some(place) = message.get_mut(at) {
                *place = byte;
            }
            message.truncate(length);
            let _ = addresses(&message);
        }
    }
}
