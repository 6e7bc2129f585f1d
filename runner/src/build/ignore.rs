//! `.dockerignore`: which paths of the context are not there for a build. Pure.
//!
//! The rules are those of docker's pattern matcher: lines in their order, the last that matches decides, `!` takes back, `**` is any number of folders, and
//! a folder's pattern holds for all below it. <https://docs.docker.com/build/concepts/context/#dockerignore-files>

use super::pattern::{self, BadPattern, Piece};

/// What a `.dockerignore` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    takes_back: bool,
    pieces: Vec<Piece>,
}

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: `{pattern}` is no pattern")]
pub struct IgnoreError {
    /// Which line, from 1.
    pub line: usize,
    /// What stands there.
    pub pattern: String,
    /// What is wrong with it.
    pub source: BadPattern,
}

impl Ignore {
    /// Reads the file.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let mut rules = Vec::new();
        for (number, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            let (takes_back, rest) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest.trim()));
            let wrong = |source| IgnoreError { line: number + 1, pattern: line.to_owned(), source };
            let cleaned = clean(rest);
            if rest.is_empty() {
                if takes_back {
                    return Err(wrong(BadPattern));
                }
                continue;
            }
            rules.push(Rule { takes_back, pieces: pieces(&cleaned).map_err(wrong)? });
        }
        Ok(Self { rules })
    }

    /// Whether nothing is ignored.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a path, relative to the context and without `.` and `..`, is left out.
    pub fn leaves_out(&self, path: &str) -> bool {
        let mut out = false;
        for rule in &self.rules {
            // Any other could change nothing.
            if rule.takes_back == out && rule.matches(path) {
                out = !rule.takes_back;
            }
        }
        out
    }

    /// Whether something below a folder that is left out may be there.
    pub fn takes_something_back(&self) -> bool {
        self.rules.iter().any(|rule| rule.takes_back)
    }
}

impl Rule {
    /// Whether it is about the path, or about a folder around it.
    fn matches(&self, path: &str) -> bool {
        let folders = path.match_indices('/').map(|(end, _)| &path[..end]);
        folders.chain([path]).any(|path| pattern::all(&self.pieces, path))
    }
}

/// As Go cleans a path, then without the leading slash.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            // Above the root is the root.
            ".." if pattern.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

/// `**/` is any number of folders, `**` at the end everything. At the beginning, with no other wildcard behind it, `**x` is whatever ends with `x`.
fn pieces(pattern: &str) -> Result<Vec<Piece>, BadPattern> {
    if let Some(rest) = pattern.strip_prefix("**").filter(|rest| !rest.starts_with('/') && !pattern::has_wildcards(rest)) {
        return Ok([Piece::Deep].into_iter().chain(rest.chars().map(Piece::Char)).collect());
    }
    let mut chars = pattern.chars().peekable();
    let mut pieces = Vec::new();
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                if chars.peek().is_none() {
                    pieces.push(Piece::Deep);
                } else {
                    pieces.extend([Piece::NoFolder, Piece::Folders]);
                }
            }
            '*' => pieces.push(Piece::Many),
            '?' => pieces.push(Piece::One),
            '\\' => pieces.push(Piece::Char(chars.next().ok_or(BadPattern)?)),
            '[' => pieces.push(pattern::class(&mut chars)?),
            c => pieces.push(Piece::Char(c)),
        }
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_as_docker_leaves_them_out() {
        let table: &[(&str, &[&str], &[&str])] = &[
            ("", &[], &["a", "a/b"]),
            ("# a\n\nb\n", &["b", "b/c"], &["a", "# a", "xb"]),
            ("a", &["a", "a/b", "a/b/c"], &["b", "b/a", "ab"]),
            ("/a/", &["a", "a/b"], &["b/a"]),
            ("./a/../b", &["b"], &["a"]),
            ("  a  ", &["a"], &[]),
            ("*.md", &["a.md", "x.md/y"], &["a/b.md", "a.mdx"]),
            ("*/*.md", &["a/b.md"], &["b.md", "a/b/c.md"]),
            ("**/*.md", &["a.md", "a/b.md", "a/b/c.md"], &["a.mdx"]),
            ("**/node_modules", &["node_modules", "a/node_modules", "a/b/node_modules/c"], &["a/node_modules2", "xnode_modules"]),
            ("**", &["a", "a/b"], &[]),
            ("a/**", &["a/b", "a/b/c"], &["a", "b"]),
            ("a/**/b", &["a/b", "a/x/b", "a/x/y/b/c"], &["a/xb", "ab"]),
            ("**foo", &["foo", "xfoo", "a/xfoo"], &["foox"]),
            ("**/fo?", &["foo", "a/foo"], &["xfoo"]),
            ("a?c", &["abc"], &["a/c", "ac"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "x"]),
            ("*\n!a", &["b", "c/d"], &["a", "a/b"]),
            ("a\n!a/b\na/b/c", &["a", "a/x", "a/b/c"], &["a/b", "a/b/d"]),
            ("*.md\n!README*.md\nREADME-secret.md", &["x.md", "README-secret.md"], &["README.md", "README-x.md"]),
            ("!a\na", &["a"], &[]),
            ("**\n!**/keep", &["a", "a/b"], &["keep", "a/keep", "a/keep/x"]),
            ("\\*x", &["*x"], &["ax"]),
            ("\u{feff}a", &["a"], &[]),
            (".", &[], &["a"]),
        ];
        for (text, out, there) in table {
            let ignore = Ignore::parse(text).unwrap();
            for path in *out {
                assert!(ignore.leaves_out(path), "{text:?} leaves {path} out");
            }
            for path in *there {
                assert!(!ignore.leaves_out(path), "{text:?} does not leave {path} out");
            }
        }
    }

    #[test]
    fn lines_that_cannot_be_read() {
        for (text, line) in [("a\n!", 2), ("[", 1), ("a\nb\n[x-]", 3), ("! ", 1)] {
            assert_eq!(Ignore::parse(text).unwrap_err().line, line, "{text:?}");
        }
    }
}
