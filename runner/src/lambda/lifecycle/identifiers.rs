//! Identifiers that nobody else has, from a seed that nobody else has.

use crate::lambda::RequestId;

/// A sequence of UUIDs. Given randomness once, it needs no more, so that whoever decides stays without side effects.
#[derive(Debug)]
pub struct Identifiers {
    words: [u64; 2],
}

impl Identifiers {
    /// The sequence that begins with these random bytes.
    pub fn from_seed(seed: [u8; 16]) -> Self {
        let seed = u128::from_ne_bytes(seed);
        Self { words: [seed as u64, (seed >> 64) as u64] }
    }

    /// The next one.
    pub(super) fn next(&mut self) -> String {
        let mut bytes = [0; 16];
        for (word, half) in self.words.iter_mut().zip(bytes.chunks_mut(8)) {
            half.copy_from_slice(&split_mix(word).to_be_bytes());
        }
        RequestId::from_random(bytes).to_string()
    }
}

/// SplitMix64: every state comes once in 2^64 steps, and what is given looks like no other.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_differ() {
        let mut seen: Vec<String> = [[0; 16], [1; 16]]
            .into_iter()
            .flat_map(|seed| {
                let mut identifiers = Identifiers::from_seed(seed);
                std::iter::repeat_with(move || identifiers.next()).take(100)
            })
            .collect();
        assert!(seen.iter().all(|text| text.len() == 36 && text.as_bytes()[14] == b'4'));
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 200);
    }
}
