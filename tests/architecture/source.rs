//! Rust sources as the architecture test reads them: without comments, strings and tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tests::place::project;

/// One source file.
pub struct Source {
    /// From the project's folder.
    path: PathBuf,
    text: String,
    /// Comments and the content of strings blanked out; what follows `#[cfg(test)] mod` cut off.
    code: String,
    /// Whether the whole file is unit tests.
    is_test: bool,
}

/// All Rust files of a crate.
pub fn sources(name: &str) -> Vec<Source> {
    let top = project();
    let mut found = Vec::new();
    let mut open = vec![top.join(name)];
    while let Some(folder) = open.pop() {
        for path in fs::read_dir(&folder).expect("a folder of sources").flatten().map(|entry| entry.path()) {
            let skipped = ["target", "images", "fuzz"].iter().any(|name| path.file_name().is_some_and(|found| found == *name));
            if path.is_dir() && !skipped {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source is text");
                let code = without_tests(&blank(&text)).to_owned();
                let path = path.strip_prefix(&top).expect("it is below").to_owned();
                let is_test = has_name_of_tests(&path);
                found.push(Source { path, text, code, is_test });
            }
        }
    }
    assert!(!found.is_empty(), "{name} has sources");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    let only_tests: BTreeSet<PathBuf> = found.iter().flat_map(Source::test_modules).collect();
    for source in &mut found {
        source.is_test |= source.path.ancestors().any(|path| only_tests.contains(&path.with_extension("")));
    }
    found
}

impl Source {
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Empty for a file of tests.
    pub fn code(&self) -> &str {
        if self.is_test() && !self.name().starts_with("tests/") { "" } else { &self.code }
    }

    pub fn is_test(&self) -> bool {
        self.is_test
    }

    /// Files, less their extension, that this one declares as modules for tests alone.
    fn test_modules(&self) -> Vec<PathBuf> {
        let folder = match self.path.file_stem() {
            Some(stem) if stem != "mod" && stem != "lib" && stem != "main" => self.path.with_extension(""),
            _ => self.path.parent().expect("a file lies in a folder").to_owned(),
        };
        let parts = self.text.split("#[cfg(test)]").skip(1);
        let declared = parts.filter_map(|after| Some(after.trim_start().strip_prefix("mod ")?.split_once([';', '{', ' '])?.0));
        declared.map(|name| folder.join(name)).collect()
    }

    pub fn all_lines(&self) -> usize {
        self.text.lines().count()
    }

    pub fn lines_without_tests(&self) -> usize {
        self.code().lines().count()
    }

    /// `sandbox` for `runner/src/sandbox/plan.rs` and for `runner/src/sandbox.rs`; none for the crate's roots.
    pub fn top_module(&self) -> Option<String> {
        let below = self.path.components().skip_while(|part| part.as_os_str() != "src").nth(1)?;
        let name = Path::new(below.as_os_str()).file_stem()?.to_string_lossy().into_owned();
        (name != "lib" && name != "main").then_some(name)
    }

    /// Modules of the crate's top, and other crates, that the code names.
    pub fn uses(&self) -> BTreeSet<String> {
        let code = self.code();
        let mut found = BTreeSet::new();
        // How many `super` lead to the crate's root.
        let folders = self.path.components().skip_while(|part| part.as_os_str() != "src").count() - 2;
        let depth = if self.path.ends_with("mod.rs") { folders } else { folders + 1 };
        for start in ["crate::".to_owned(), "super::".repeat(depth)] {
            for (at, _) in code.match_indices(&start) {
                // `super::super::x` is also found from its second word.
                let before = code[..at].chars().next_back();
                if before.is_some_and(|c| c == ':' || c.is_alphanumeric() || c == '_') {
                    continue;
                }
                found.extend(first_names(&code[at + start.len()..]));
            }
        }
        for name in ["seccomp", "rootfs_cache", "runner"] {
            let path = format!("{name}::");
            let named = code.match_indices(&path).any(|(at, _)| {
                let before = code[..at].chars().next_back();
                !before.is_some_and(|c| c == ':' || c.is_alphanumeric() || c == '_')
            });
            if named {
                found.insert(name.to_owned());
            }
        }
        found
    }

    pub fn has_word(&self, word: &str) -> bool {
        blank(&self.text).split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|found| found == word)
    }

    /// Functions with their length in lines, signature to closing brace; tests left out.
    pub fn functions(&self) -> Vec<(String, usize)> {
        functions_of(self.code())
    }

    /// Names of all functions, those of tests too.
    pub fn all_functions(&self) -> Vec<String> {
        functions_of(&blank(&self.text)).into_iter().map(|(name, _)| name).collect()
    }
}

/// `tests.rs` and `*_tests.rs`, and what lies in a crate's own `tests` folder.
fn has_name_of_tests(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let in_tests = path.components().skip(1).any(|part| part.as_os_str() == "tests");
    stem == "tests" || stem.ends_with("_tests") || in_tests
}

/// `a` from `a::b`, and `a` and `c` from `{a::b, c}`.
fn first_names(rest: &str) -> Vec<String> {
    let word = |text: &str| -> String { text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let Some(group) = rest.strip_prefix('{') else {
        return vec![word(rest)];
    };
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(word(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(word(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

fn functions_of(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let starts_word = !code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let rest = &code[at..];
        let Some(open) = rest.find(['{', ';']) else { continue };
        if !starts_word || name.is_empty() || rest[open..].starts_with(';') {
            continue;
        }
        let mut depth = 0;
        for (end, c) in rest[open..].char_indices() {
            depth += i32::from(c == '{') - i32::from(c == '}');
            if depth == 0 {
                found.push((name, rest[..open + end].lines().count()));
                break;
            }
        }
    }
    found
}

fn without_tests(code: &str) -> &str {
    let mut from = 0;
    while let Some(at) = code[from..].find("#[cfg(test)]") {
        let at = from + at;
        let after = code[at + "#[cfg(test)]".len()..].trim_start();
        // `mod tests;` names another file; an inline module is by custom the last thing in its own.
        if after.starts_with("mod ") && after.find('{').is_some_and(|open| !after[..open].contains(';')) {
            return &code[..at];
        }
        from = at + 1;
    }
    code
}

/// The same text with comments and the content of string and character literals made spaces; lines stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at..] {
            [b'/', b'/', ..] => at + bytes[at..].iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len() - at),
            [b'/', b'*', ..] => block_comment_end(bytes, at),
            [b'r', b'"' | b'#', ..] if !at.checked_sub(1).is_some_and(|before| is_word(bytes[before])) => raw_string_end(bytes, at),
            [b'"', ..] => string_end(bytes, at),
            [b'\'', b'\\', ..] => at + 2 + bytes[at + 2..].iter().skip(1).position(|byte| *byte == b'\'').map_or(1, |found| found + 2),
            [b'\'', _, b'\'', ..] => at + 3,
            _ => {
                at += 1;
                continue;
            }
        };
        for byte in &mut out[at..end.min(bytes.len())] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < bytes.len() {
        match bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

/// `start` itself when it is no raw string, such as `r#type`.
fn raw_string_end(bytes: &[u8], start: usize) -> usize {
    let hashes = bytes[start + 1..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(start + 1 + hashes) != Some(&b'"') {
        return start;
    }
    let mut closing = vec![b'"'];
    closing.resize(hashes + 1, b'#');
    let content = start + hashes + 2;
    let length = bytes[content..].windows(closing.len()).position(|window| window == closing.as_slice());
    length.map_or(bytes.len(), |length| content + length + closing.len())
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}
