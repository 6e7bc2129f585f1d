//! What is signed in a repository, byte for byte as `docker trust inspect` prints it. Pure.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use rootfs_cache::trust::dct::SignedRepository;
use serde::Serialize;
use serde_json::ser::PrettyFormatter;

/// By whom something is signed that none but the repository's own key, or `targets/releases`, has signed.
const ADMIN: &str = "Repo Admin";
const RELEASES: &str = "targets/releases";
/// The narrowest column of a table, and what stands between columns at the least.
const COLUMN_MIN: usize = 10;
const PADDING: usize = 3;
/// As much of a key's id as docker shows in a table.
const SHORT_ID: usize = 12;

/// One image, as docker shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Shown {
    name: String,
    signed_tags: Vec<ShownTag>,
    signers: Vec<ShownSigner>,
    administrative_keys: Vec<ShownSigner>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ShownTag {
    signed_tag: String,
    digest: String,
    signers: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ShownSigner {
    name: String,
    keys: Vec<ShownKey>,
}

#[derive(Debug, Serialize)]
struct ShownKey {
    #[serde(rename = "ID")]
    id: String,
}

/// Whether a reference names a tag. Docker shows all tags of one that does not.
pub(super) fn has_tag(image: &str) -> bool {
    tag_of(image).is_some()
}

fn tag_of(image: &str) -> Option<&str> {
    if image.contains('@') {
        return None;
    }
    image.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| !tag.contains('/'))
}

impl Shown {
    /// `image` as it was written.
    pub(super) fn of(image: &str, signed: &SignedRepository) -> Self {
        let wanted = tag_of(image);
        let mut rows: BTreeMap<(&str, String), Vec<String>> = BTreeMap::new();
        for tag in signed.tags.iter().filter(|tag| wanted.is_none_or(|wanted| tag.tag == wanted)) {
            rows.entry((&tag.tag, tag.digest.hex())).or_default();
        }
        for other in &signed.others {
            if let Some(signers) = rows.get_mut(&(other.tag.as_str(), other.digest.hex())) {
                signers.push(signer_of(&other.role).to_owned());
            }
        }
        let mut signed_tags: Vec<ShownTag> = rows
            .into_iter()
            .map(|((tag, digest), mut signers)| {
                if signers.is_empty() {
                    signers.push(ADMIN.to_owned());
                }
                ShownTag { signed_tag: tag.to_owned(), digest, signers }
            })
            .collect();
        signed_tags.sort_by(|a, b| natural(&a.signed_tag, &b.signed_tag));
        let own = signed.signers.iter().filter(|signer| signer.role != RELEASES);
        let mut signers: Vec<ShownSigner> = own.map(|signer| ShownSigner::of(signer_of(&signer.role), &signer.keys)).collect();
        signers.sort_by(|a, b| b.name.cmp(&a.name));
        let administrative_keys = vec![ShownSigner::of("Root", &signed.root_keys), ShownSigner::of("Repository", &signed.repository_keys)];
        Self { name: image.to_owned(), signed_tags, signers, administrative_keys }
    }

    /// For people.
    pub(super) fn pretty(&self) -> String {
        let name = &self.name;
        let mut text = if self.signed_tags.is_empty() {
            format!("\nNo signatures for {name}\n\n")
        } else {
            let row = |tag: &ShownTag| [tag.signed_tag.clone(), tag.digest.clone(), tag.shown_signers()];
            let rows: Vec<[String; 3]> = self.signed_tags.iter().map(row).collect();
            format!("\nSignatures for {name}\n\n{}", table(["SIGNED TAG", "DIGEST", "SIGNERS"], &rows))
        };
        if !self.signers.is_empty() {
            let mut signers: Vec<&ShownSigner> = self.signers.iter().collect();
            signers.sort_by(|a, b| natural(&a.name, &b.name));
            let rows: Vec<[String; 2]> = signers.iter().map(|signer| [signer.name.clone(), signer.ids(SHORT_ID)]).collect();
            text += &format!("\nList of signers and their keys for {name}\n\n{}", table(["SIGNER", "KEYS"], &rows));
        }
        text += &format!("\nAdministrative keys for {name}\n\n");
        for keys in self.administrative_keys.iter().rev() {
            text += &format!("  {} Key:\t{}\n", keys.name, keys.ids(usize::MAX));
        }
        text
    }
}

impl ShownTag {
    fn shown_signers(&self) -> String {
        if self.signers == [ADMIN] {
            return format!("({ADMIN})");
        }
        let mut sorted = self.signers.clone();
        sorted.sort();
        sorted.join(", ")
    }
}

impl ShownSigner {
    fn of(name: &str, keys: &[rootfs_cache::trust::KeyId]) -> Self {
        Self { name: name.to_owned(), keys: keys.iter().map(|key| ShownKey { id: key.to_string() }).collect() }
    }

    fn ids(&self, length: usize) -> String {
        let mut ids: Vec<&str> = self.keys.iter().map(|key| &key.id[..key.id.len().min(length)]).collect();
        ids.sort_unstable();
        ids.join(", ")
    }
}

fn signer_of(role: &str) -> &str {
    role.strip_prefix("targets/").unwrap_or(role)
}

/// All images, for programs.
pub(super) fn json(all: &[Shown]) -> String {
    let mut bytes = Vec::new();
    let mut writer = serde_json::Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b"    "));
    all.serialize(&mut writer).expect("strings and lists have a form in JSON");
    let text = String::from_utf8(bytes).expect("JSON is text");
    // As Go writes it: none of these stands outside of strings.
    let escapes = [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")];
    escapes.into_iter().fold(text, |text, (c, escape)| text.replace(c, escape)) + "\n"
}

/// A table with columns as wide as their widest cell.
fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let head = head.map(str::to_owned);
    let all = || std::iter::once(&head).chain(rows);
    let width = |column: usize| all().map(|row| row[column].chars().count() + PADDING).max().unwrap_or(0).max(COLUMN_MIN);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in all() {
        for (column, cell) in row.iter().enumerate() {
            text += cell;
            if column + 1 < N {
                text.extend(std::iter::repeat_n(' ', widths[column] - cell.chars().count()));
            }
        }
        text.push('\n');
    }
    text
}

/// The order in which numbers within names count as numbers; digits come before anything else, and fewer leading zeroes first.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let (Some(first), Some(second)) = (a.first(), b.first()) else { return a.len().cmp(&b.len()) };
        let order = match (first.is_ascii_digit(), second.is_ascii_digit()) {
            (true, true) => {
                let ((zeroes_a, number_a, rest_a), (zeroes_b, number_b, rest_b)) = (number(a), number(b));
                (a, b) = (rest_a, rest_b);
                number_a.len().cmp(&number_b.len()).then(number_a.cmp(number_b)).then(zeroes_a.cmp(&zeroes_b))
            }
            (false, false) => {
                let order = first.cmp(second);
                (a, b) = (&a[1..], &b[1..]);
                order
            }
            (first, _) => return if first { Ordering::Less } else { Ordering::Greater },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Leading zeroes, the digits behind them, and the rest.
fn number(text: &[u8]) -> (usize, &[u8], &[u8]) {
    let zeroes = text.iter().take_while(|byte| **byte == b'0').count();
    let digits = text[zeroes..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    (zeroes, &text[zeroes..zeroes + digits], &text[zeroes + digits..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_their_order() {
        let sorted =
            ["1.x", "9", "10", "a", "a0b", "a00b", "a1", "a01", "a2", "a10", "a10b", "a10c", "ab", "b", "v9", "v10", "v10.2", "v10.10"];
        for (number, a) in sorted.iter().enumerate() {
            for (other, b) in sorted.iter().enumerate() {
                assert_eq!(natural(a, b), number.cmp(&other), "{a} {b}");
            }
        }
    }

    #[test]
    fn tags_of_references() {
        for (image, wanted) in [
            ("lambci/lambda", None),
            ("lambci/lambda:provided", Some("provided")),
            ("localhost:5000/lambda", None),
            ("localhost:5000/lambda:1", Some("1")),
            ("lambda@sha256:0", None),
        ] {
            assert_eq!(tag_of(image), wanted, "{image}");
        }
    }

    #[test]
    fn columns() {
        let rows = [["a".to_owned(), "b".to_owned()], ["longer name".to_owned(), "c".to_owned()]];
        assert_eq!(table(["A", "B"], &rows[..1]), "A         B\na         b\n");
        assert_eq!(table(["A", "B"], &rows), "A             B\na             b\nlonger name   c\n");
    }
}
