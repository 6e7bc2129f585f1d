//! Wildcards in paths, by the rules of Go's `path/filepath.Match`, with which docker reads the sources of `COPY`. Pure.
//!
//! `*` any characters but `/`, `?` one of them, `[a-z]` and `[^a-z]` one of a class, `\` takes a character as it is. <https://pkg.go.dev/path/filepath#Match>

/// A pattern with a class that does not end, or an escape of nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a `[` without its `]`, or a `\\` at the end")]
pub struct BadPattern;

/// One piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Itself.
    Char(char),
    /// One character but `/`.
    One,
    /// Any number of characters but `/`.
    Many,
    /// Any number of characters; in `.dockerignore` alone.
    Deep,
    /// Begins `Folders`, which need not be there; in `.dockerignore` alone.
    NoFolder,
    /// Any number of folders, each with its slash; follows `NoFolder`.
    Folders,
    /// One of these ranges, or none of them.
    Class {
        /// Whether it is none of them.
        negated: bool,
        /// First and last of each range.
        ranges: Vec<(char, char)>,
    },
}

/// Whether a path is matched in whole.
pub fn matches(pattern: &str, path: &str) -> Result<bool, BadPattern> {
    Ok(all(&pieces(pattern)?, path))
}

/// Whether there is a wildcard in it.
pub fn has_wildcards(pattern: &str) -> bool {
    pattern.contains(['*', '?', '[', '\\'])
}

/// The pieces of a pattern.
pub(super) fn pieces(pattern: &str) -> Result<Vec<Piece>, BadPattern> {
    let mut chars = pattern.chars().peekable();
    let mut pieces = Vec::new();
    while let Some(c) = chars.next() {
        pieces.push(match c {
            '*' => Piece::Many,
            '?' => Piece::One,
            '\\' => Piece::Char(chars.next().ok_or(BadPattern)?),
            '[' => class(&mut chars)?,
            c => Piece::Char(c),
        });
    }
    Ok(pieces)
}

/// What follows a `[`.
pub(super) fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Piece, BadPattern> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
            return Ok(Piece::Class { negated, ranges });
        }
        let mut one = || match chars.next() {
            None | Some('-' | ']') => Err(BadPattern),
            Some('\\') => chars.next().ok_or(BadPattern),
            Some(c) => Ok(c),
        };
        let first = one()?;
        let last = if chars.next_if_eq(&'-').is_some() {
            match chars.next() {
                None | Some('-' | ']') => return Err(BadPattern),
                Some('\\') => chars.next().ok_or(BadPattern)?,
                Some(c) => c,
            }
        } else {
            first
        };
        ranges.push((first, last));
    }
}

/// Whether the pieces match all of `path`. Polynomial: each step goes through the path once, with all states at a time.
pub(super) fn all(pieces: &[Piece], path: &str) -> bool {
    // Which pieces may come next: a set, as patterns are short and paths, too.
    let mut states = vec![false; pieces.len() + 1];
    states[0] = true;
    close(pieces, &mut states);
    for c in path.chars() {
        let mut next = vec![false; pieces.len() + 1];
        for (at, piece) in pieces.iter().enumerate().filter(|(at, _)| states[*at]) {
            match piece {
                Piece::Many => next[at] |= c != '/',
                Piece::Deep => next[at] = true,
                Piece::NoFolder => {}
                Piece::Folders => {
                    next[at] = true;
                    next[at + 1] |= c == '/';
                }
                Piece::One => next[at + 1] |= c != '/',
                Piece::Char(wanted) => next[at + 1] |= c == *wanted,
                Piece::Class { negated, ranges } => {
                    let among = ranges.iter().any(|(first, last)| (*first..=*last).contains(&c));
                    next[at + 1] |= c != '/' && among != *negated;
                }
            }
        }
        close(pieces, &mut next);
        states = next;
    }
    states[pieces.len()]
}

fn close(pieces: &[Piece], states: &mut [bool]) {
    for (at, piece) in pieces.iter().enumerate() {
        if states[at] && matches!(piece, Piece::Many | Piece::Deep | Piece::NoFolder) {
            states[at + 1] = true;
        }
        if states[at] && *piece == Piece::NoFolder {
            states[at + 2] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of Go's own tests holds these, and some of ours.
    #[test]
    fn patterns_as_go_matches_them() {
        let table = [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a\u{263a}b", true),
            ("a[^a]b", "a\u{263a}b", true),
            ("[a-\u{3b6}]*", "\u{3b1}", true),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("[x\\-]", "z", false),
            ("*x", "xxx", true),
            ("", "", true),
        ];
        for (pattern, path, wanted) in table {
            assert_eq!(matches(pattern, path), Ok(wanted), "{pattern} {path}");
        }
        for bad in ["[]a]", "[-]", "[x-]", "[-x]", "a[", "[", "[^", "[a-b-c]", "\\", "[\\"] {
            assert_eq!(matches(bad, "a"), Err(BadPattern), "{bad}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = "*a".repeat(200) + "b";
        assert_eq!(matches(&pattern, &"a".repeat(2000)), Ok(false));
    }
}
