use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::reference::ImageReference;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn entry(digest: Digest, name: Option<&str>, architecture: Option<&str>) -> Value {
    let mut entry = json!({"mediaType": MANIFEST, "digest": digest, "size": 1});
    if let Some(name) = name {
        entry["annotations"] = json!({NAME: name});
    }
    if let Some(architecture) = architecture {
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
    }
    entry
}

/// A layout whose index has these entries, opened for a name.
fn layout(entries: &[Value], name: Option<&str>) -> (tempfile::TempDir, LayoutSource) {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("blobs/sha256")).unwrap();
    fs::write(directory.path().join("index.json"), json!({"schemaVersion": 2, "manifests": entries}).to_string()).unwrap();
    let text = format!("oci:{}{}", directory.path().display(), name.map(|name| format!(":{name}")).unwrap_or_default());
    let Ok(ImageReference::Layout(reference)) = text.parse() else { panic!("{text}") };
    (directory, LayoutSource::folder(&reference))
}

#[test]
fn names() {
    let digest = |n| Digest::from_bytes([n; 32]);
    let named = [
        entry(digest(1), Some("lambci/lambda:a"), None),
        entry(digest(2), Some("b"), Some("amd64")),
        entry(digest(3), Some("b"), Some("arm64")),
    ];
    let unnamed = [entry(digest(4), None, Some("arm64")), entry(digest(5), None, Some("amd64"))];
    /// Entries, the name asked for, and which digest it gets or what is said.
    type Case<'a> = (&'a [Value], Option<&'a str>, Result<u8, &'a str>);
    let table: [Case<'_>; 7] = [
        (&named, Some("lambci/lambda:a"), Ok(1)),
        (&named, Some("b"), Ok(2)),
        (&named, Some("c"), Err("has no image `c` (its names are `b`, `lambci/lambda:a`)")),
        (&named, None, Err("has no single image (its names are `b`, `lambci/lambda:a`)")),
        (&named[..1], None, Ok(1)),
        (&named[1..], None, Ok(2)),
        (&unnamed, None, Ok(5)),
    ];
    for (entries, name, wanted) in table {
        let (_directory, source) = layout(entries, name);
        match (source.current(&"linux/amd64".parse().unwrap()), wanted) {
            (Ok(found), Ok(n)) => assert_eq!(found, digest(n), "{name:?}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, wanted) => panic!("{name:?}: {found:?}, wanted {wanted:?}"),
        }
    }
}

#[test]
fn content_is_checked() {
    let wanted = Digest::of(b"{}");
    let (directory, source) = layout(&[entry(wanted, None, None)], None);
    assert!(matches!(source.manifest(&wanted), Err(SourceError::Local { .. })));
    let blob = directory.path().join("blobs/sha256").join(wanted.hex());
    fs::write(&blob, "{ }").unwrap();
    assert!(matches!(source.manifest(&wanted), Err(SourceError::Digest { .. })));
    fs::write(&blob, vec![b' '; 5 << 20]).unwrap();
    assert!(matches!(source.manifest(&wanted), Err(SourceError::TooLarge { .. })));
}

#[test]
fn a_directory_that_is_no_layout() {
    let directory = tempfile::tempdir().unwrap();
    let Ok(ImageReference::Layout(reference)) = format!("oci:{}", directory.path().display()).parse() else { panic!() };
    let error = LayoutSource::folder(&reference).current(&"linux/amd64".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains("index.json"), "{error}");
}
