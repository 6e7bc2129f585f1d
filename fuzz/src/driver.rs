//! Runs a target over its seeds and mutations of them. The same number gives the same inputs, everywhere.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use crate::Target;

/// How long a run is.
#[derive(Clone, Copy, Debug)]
pub enum Length {
    /// This many inputs.
    Inputs(u32),
    /// This long.
    Time(Duration),
}

/// Runs a target from a number on.
///
/// # Panics
/// As the target does, after saying which input it was.
pub fn run(target: &Target, number: u64, length: Length) -> u32 {
    let seeds = (target.seeds)();
    let mut random = Random(number ^ 0x9e37_79b9_7f4a_7c15);
    let started = Instant::now();
    let mut tried = 0;
    let goes_on = |tried: u32| match length {
        Length::Inputs(most) => tried < most,
        Length::Time(most) => started.elapsed() < most,
    };
    while goes_on(tried) {
        let input = match seeds.get(tried as usize) {
            Some(seed) => seed.clone(),
            None => random.mutated(&seeds, target.words),
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(&input))) {
            eprintln!("{}: input {tried} of number {number} breaks it: {}", target.name, input.escape_ascii());
            resume_unwind(panic);
        }
        tried += 1;
    }
    tried
}

/// xorshift64*: enough to choose by, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end.max(1)
    }

    /// A part of a text: anywhere, and mostly short.
    fn part(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let most = if self.below(4) == 0 { length } else { 16 };
        start..(start + self.below(most + 1)).min(length)
    }

    fn mutated(&mut self, seeds: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(6) {
            let place = self.below(input.len() + 1);
            match self.below(8) {
                0 if place < input.len() => input[place] ^= 1 << self.below(8),
                1 if place < input.len() => input[place] = [0, b' ', b'\n', b'/', b'9', 0x7f, 0x80, 0xff][self.below(8)],
                2 => drop(input.splice(place..place, words[self.below(words.len())].bytes())),
                3 => {
                    let part = self.part(input.len());
                    drop(input.splice(part, words[self.below(words.len())].bytes()));
                }
                4 => drop(input.drain(self.part(input.len()))),
                5 => {
                    let copy = input[self.part(input.len())].to_vec();
                    drop(input.splice(place..place, copy));
                }
                6 => {
                    let other = &seeds[self.below(seeds.len())];
                    let part = other[self.part(other.len())].to_vec();
                    drop(input.splice(place..place, part));
                }
                _ => input.push(self.next() as u8),
            }
        }
        input.truncate(1 << 16);
        input
    }
}
