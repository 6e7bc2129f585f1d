//! Which range of a database is taken: pure.

use super::{COUNT, Caller};

/// The first id of the first range that has [`COUNT`] ids and neither the machine's root nor the caller's own id among them. Fails with whether there was
/// another one for this caller.
///
/// A line is `NAME-OR-UID:FIRST:COUNT` (subuid(5), subgid(5): there, too, it is the user). Others are left out, as shadow does.
pub(super) fn first_that_fits(database: &str, caller: &Caller, own: u32) -> Result<u32, bool> {
    let mut given = database.lines().filter_map(|line| range(line, caller)).peekable();
    let is_smaller = given.peek().is_some();
    given.find(|range| fits(*range, own)).map(|(first, _)| first).ok_or(is_smaller)
}

/// The (first id, count) of a line that is this caller's.
fn range(line: &str, caller: &Caller) -> Option<(u32, u32)> {
    let mut fields = line.split(':');
    let (Some(who), Some(first), Some(count), None) = (fields.next(), fields.next(), fields.next(), fields.next()) else { return None };
    if caller.is(who) { Some((first.parse().ok()?, count.parse().ok()?)) } else { None }
}

fn fits((first, count): (u32, u32), own: u32) -> bool {
    // The last id of all stands for none (user_namespaces(7)).
    let ends_in_time = first.checked_add(COUNT).is_some();
    count >= COUNT && first > 0 && ends_in_time && !(first..first.saturating_add(COUNT)).contains(&own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_fits_is_taken() {
        let caller = Caller { uid: 1001, name: Some("joe".into()) };
        for (text, expected) in [
            ("joe:100000:65536", Ok(100_000)),
            ("joe:100000:65535\n", Ok(100_000)),
            ("1001:300000:65536\njoe:100000:65536\n", Ok(300_000)),
            ("joey:1:65536\nalice:165536:65536\njoe:231072:65536\n", Ok(231_072)),
            ("joe:100000:1000\njoe:200000:131072\n", Ok(200_000)),
            ("joe:100000:65534", Err(true)),
            ("joe:0:65536", Err(true)),
            ("joe:1000:65536", Err(true)),
            ("joe:1002:65536", Ok(1002)),
            ("joe:4294901760:65536", Ok(4_294_901_760)),
            ("joe:4294901761:65536", Err(true)),
            ("joe:100000", Err(false)),
            ("joe:100000:65536:x", Err(false)),
            ("joe:-1:65536\njoe:x:65536\njoe::65536\n:100000:65536\n", Err(false)),
            ("# joe:100000:65536\n\n joe:100000:65536\n", Err(false)),
            ("10010:100000:65536\n", Err(false)),
            ("", Err(false)),
        ] {
            assert_eq!(first_that_fits(text, &caller, 1001), expected, "{text:?}");
        }
    }

    #[test]
    fn a_user_without_a_name_is_known_by_number() {
        let caller = Caller { uid: 7, name: None };
        assert_eq!(first_that_fits("joe:100000:65536\n7:200000:65536", &caller, 7), Ok(200_000));
    }
}
