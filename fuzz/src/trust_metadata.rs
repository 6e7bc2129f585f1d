//! Documents of Docker Content Trust: refused, or they say nothing but what was signed.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use rootfs_cache::trust::dct::{DctOptions, signed_by};
use rootfs_cache::trust::{KeyId, SignedRepository, SignedTag, TrustMode};

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "trust_metadata",
    run,
    seeds,
    words: &[
        "root ",
        "targets ",
        "targets/releases ",
        "snapshot ",
        "timestamp ",
        "1.root ",
        "\"signed\":",
        "\"signatures\":[]",
        "\"threshold\":0",
        "\"threshold\":1",
        "\"keyids\":[]",
        "\"version\":1",
        "\"version\":18446744073709551615",
        "\"expires\":\"9999-12-31T23:59:59Z\"",
        "\"_type\":\"Targets\"",
        "\"targets\":{}",
        "\"delegations\":{\"keys\":{},\"roles\":[]}",
        "\"targets/../root\"",
        "\"method\":\"eddsa\"",
        "\\u0000",
        "1e9",
        "[[[[[[[[",
        "{\"a\":{\"a\":{\"a\":",
    ],
    short_run: 2000,
};

const REPOSITORY: &str = "localhost:5000/lambci/lambda";
/// What Debian's `notary` has written, a document a line behind its name.
const DOCUMENTS: &str = include_str!("trust_metadata/documents.txt");

fn seeds() -> Vec<Vec<u8>> {
    let some = |names: &[&str]| {
        let lines = DOCUMENTS.lines().filter(|line| names.iter().any(|name| line.starts_with(&format!("{name} "))));
        lines.flat_map(|line| [line, "\n"]).collect::<String>().into_bytes()
    };
    vec![DOCUMENTS.as_bytes().to_vec(), some(&["root", "targets"]), some(&["root", "targets", "targets/releases"]), some(&["root"])]
}

/// The documents of an input.
fn documents(data: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let line = |line: &[u8]| {
        let space = line.iter().position(|byte| *byte == b' ')?;
        Some((String::from_utf8(line[..space].to_vec()).ok()?, line[space + 1..].to_vec()))
    };
    data.split(|byte| *byte == b'\n').filter_map(line).collect()
}

fn check(data: &[u8], roots: Vec<KeyId>) -> Option<SignedRepository> {
    let options = DctOptions { mode: Some(TrustMode::Historical), roots, ..DctOptions::default() };
    let now = "2026-12-01T00:00:00Z".parse().expect("a time");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime needs nothing");
    runtime.block_on(signed_by(REPOSITORY, &documents(data), &options, now)).ok()
}

/// What was signed, and by which root.
fn original() -> &'static (Vec<KeyId>, Vec<SignedTag>) {
    static ORIGINAL: OnceLock<(Vec<KeyId>, Vec<SignedTag>)> = OnceLock::new();
    ORIGINAL.get_or_init(|| {
        let root = "a586eeba3e8cb8d83587374ee27941f29c04c28c4cfff664ec6a197f6c6d5d9e".parse().expect("a key id");
        let signed = check(DOCUMENTS.as_bytes(), vec![root]).expect("it is signed by that key");
        (signed.root_keys, signed.tags.into_iter().chain(signed.others).collect())
    })
}

fn run(data: &[u8]) {
    let (roots, tags) = original();
    let Some(read) = check(data, roots.clone()) else { return };
    assert_eq!(read.root_keys, *roots, "another root is trusted");
    for tag in read.tags.iter().chain(&read.others) {
        assert!(tags.contains(tag), "nobody has signed {tag:?}");
    }
}
