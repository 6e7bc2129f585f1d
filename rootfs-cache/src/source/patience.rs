//! When a failed request is sent again. Pure: time comes in as a value, and waiting is for others.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::access::Patience;

/// The failures of one request so far.
pub(super) struct Failures<'p> {
    patience: &'p Patience,
    count: u32,
}

impl<'p> Failures<'p> {
    pub(super) fn none(patience: &'p Patience) -> Self {
        Self { patience, count: 0 }
    }

    /// There has been progress: what failed before does not count any more.
    pub(super) fn forget(&mut self) {
        self.count = 0;
    }

    /// Counts a failure: how long to wait before the next try, or `None` if it is enough.
    pub(super) fn add(&mut self, asked_for: Option<Duration>) -> Option<Duration> {
        self.count += 1;
        if self.count >= self.patience.tries {
            return None;
        }
        match asked_for {
            // To come back earlier than that would only count against us.
            Some(asked_for) => (asked_for <= self.patience.longest).then_some(asked_for),
            None => {
                let full = self.patience.base.saturating_mul(1 << (self.count - 1).min(16)).min(self.patience.longest);
                Some(full.mul_f64(0.5 + 0.5 * random_share()))
            }
        }
    }
}

/// From 0 to 1, differently for everybody: those who failed together shall not come back together.
fn random_share() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    (random >> 11) as f64 / (1u64 << 53) as f64
}

/// What a `Retry-After` header asks for: seconds or a date, where a date counts from the answer's own `Date`, whatever our clock says.
pub(super) fn retry_after(header: &str, date: Option<&str>, now: DateTime<Utc>) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let then = http_date(header)?;
    let now = date.and_then(http_date).unwrap_or(now);
    Some((then - now).to_std().unwrap_or_default())
}

fn http_date(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc2822(text.trim()).ok().map(|date| date.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_vary_and_end() {
        let patience = Patience { base: Duration::from_millis(100), longest: Duration::from_millis(250), tries: 5, ..Patience::default() };
        let mut failures = Failures::none(&patience);
        for full in [100, 200, 250, 250] {
            let wait = failures.add(None).unwrap().as_millis();
            assert!((full / 2..=full).contains(&wait), "{wait} of {full}");
        }
        assert_eq!(failures.add(None), None);
        failures.forget();
        assert!(failures.add(None).unwrap() <= Duration::from_millis(100));
    }

    #[test]
    fn a_wait_that_is_asked_for_is_kept_or_too_long() {
        let patience = Patience { longest: Duration::from_secs(60), ..Patience::default() };
        for (asked_for, wanted) in [(0, Some(0)), (60, Some(60)), (61, None), (u64::MAX, None)] {
            let wait = Failures::none(&patience).add(Some(Duration::from_secs(asked_for)));
            assert_eq!(wait, wanted.map(Duration::from_secs), "{asked_for}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = DateTime::parse_from_rfc2822("Sun, 06 Nov 1994 08:49:37 GMT").unwrap().to_utc();
        for (header, date, wanted) in [
            ("7", None, Some(7)),
            (" 0 ", None, Some(0)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", None, Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", None, Some(0)),
            // Our clock is decades behind theirs.
            ("Fri, 27 Nov 2026 01:00:10 GMT", Some("Fri, 27 Nov 2026 01:00:00 GMT"), Some(10)),
            ("-1", None, None),
            ("soon", None, None),
            ("", None, None),
        ] {
            assert_eq!(retry_after(header, date, now), wanted.map(Duration::from_secs), "{header}");
        }
    }
}
