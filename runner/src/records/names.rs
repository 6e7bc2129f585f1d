//! Names of runs, given or made up, and ids.

use super::RecordsError;

const FIRST: [&str; 24] = [
    "amber", "brisk", "calm", "clever", "daring", "eager", "fair", "gentle", "happy", "idle", "jolly", "keen", "lively", "merry", "neat",
    "open", "proud", "quiet", "rapid", "sunny", "tidy", "upbeat", "vivid", "witty",
];
const SECOND: [&str; 24] = [
    "anchor", "beacon", "clipper", "dinghy", "ebb", "ferry", "galley", "harbor", "islet", "jetty", "keel", "lagoon", "mast", "nettle",
    "oar", "pier", "quay", "reef", "sail", "tide", "umiak", "vessel", "wharf", "yawl",
];

/// A name as docker takes it.
pub(super) fn checked(name: &str) -> Result<String, RecordsError> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let mut bytes = bare.bytes();
    let is_name = bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bare.len() > 1
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if is_name { Ok(bare.to_owned()) } else { Err(RecordsError::Name { name: name.to_owned() }) }
}

/// A name that nobody has.
pub(super) fn made_up(is_taken: impl Fn(&str) -> bool) -> String {
    let mut number = getrandom::u64().unwrap_or_default();
    loop {
        let mut pick = |words: &[&'static str; 24]| {
            let word = words[(number % 24) as usize];
            number /= 24;
            word
        };
        let pair = format!("{}_{}", pick(&FIRST), pick(&SECOND));
        if !is_taken(&pair) {
            return pair;
        }
        let longer = format!("{pair}{}", number % 1000);
        if !is_taken(&longer) {
            return longer;
        }
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    }
}

/// As docker's: 64 hex digits.
pub(super) fn id() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_names_are_free() {
        let taken = std::cell::RefCell::new(Vec::<String>::new());
        for _ in 0..700 {
            let name = made_up(|name| taken.borrow().iter().any(|other| other == name));
            assert_eq!(checked(&name).unwrap(), name);
            taken.borrow_mut().push(name);
        }
    }
}
