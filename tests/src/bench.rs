//! Interleaved measuring: every variant once a round, so that a busy moment of the machine hits all of them alike; minimum and median.

use std::time::{Duration, Instant};

/// One thing to be measured.
pub struct Variant<'a> {
    /// As it is printed.
    pub name: String,
    action: Box<dyn FnMut() -> Duration + 'a>,
    times: Vec<Duration>,
}

impl<'a> Variant<'a> {
    /// Times an action from start to end.
    pub fn timed(name: impl Into<String>, mut action: impl FnMut() + 'a) -> Variant<'a> {
        Variant::new(name, move || {
            let start = Instant::now();
            action();
            start.elapsed()
        })
    }

    /// An action that says itself how long it took.
    pub fn new(name: impl Into<String>, action: impl FnMut() -> Duration + 'a) -> Variant<'a> {
        Variant { name: name.into(), action: Box::new(action), times: Vec::new() }
    }
}

/// Minimum and median.
#[derive(Clone, Copy)]
pub struct Figures {
    /// The quickest.
    pub min: Duration,
    /// The middle one.
    pub median: Duration,
}

/// Measures all variants and prints a table; ratios are to the first one. A round to warm up does not count.
///
/// # Panics
/// When there are no rounds.
pub fn compare(title: &str, rounds: usize, mut variants: Vec<Variant<'_>>) -> Vec<Figures> {
    for round in 0..=rounds {
        for variant in &mut variants {
            let time = (variant.action)();
            if round > 0 {
                variant.times.push(time);
            }
        }
    }
    println!("\n{title} ({rounds} interleaved rounds)\n");
    println!("| variant | min ms | median ms | x first, min | x first, median |\n|---|---|---|---|---|");
    let figures: Vec<Figures> = variants
        .iter_mut()
        .map(|variant| {
            variant.times.sort();
            Figures { min: variant.times[0], median: variant.times[variant.times.len() / 2] }
        })
        .collect();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    for (variant, found) in variants.iter().zip(&figures) {
        let (min, median) = (ms(found.min) / ms(figures[0].min), ms(found.median) / ms(figures[0].median));
        println!("| {} | {:.3} | {:.3} | {min:.2} | {median:.2} |", variant.name, ms(found.min), ms(found.median));
    }
    figures
}

/// Says whether a figure is reached; benchmarks report, they do not fail.
pub fn verdict(what: &str, value: f64, most: f64, unit: &str) {
    let word = if value <= most { "reached" } else { "NOT REACHED" };
    println!("{word}: {what}: {value:.2} {unit} (at most {most:.2})");
}
