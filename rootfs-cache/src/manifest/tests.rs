use serde_json::{Value, json};

use super::*;

fn digest(n: u8) -> String {
    Digest::from_bytes([n; 32]).to_string()
}

fn descriptor(media_type: &str, n: u8) -> Value {
    json!({"mediaType": media_type, "digest": digest(n), "size": 10})
}

fn image(layers: Value) -> Value {
    json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(CONFIGS[1], 1), "layers": layers})
}

fn entry(n: u8, platform: Option<&str>) -> Value {
    let mut entry = descriptor(OCI_MANIFEST, n);
    if let Some(platform) = platform {
        let parts: Vec<&str> = platform.split('/').collect();
        entry["platform"] = json!({"os": parts[0], "architecture": parts[1], "variant": parts.get(2)});
    }
    entry
}

fn read(document: &Value) -> Result<Document, ManifestError> {
    Document::from_json(document.to_string().as_bytes())
}

#[test]
fn all_four_kinds_are_read() {
    let docker_layer = json!([descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", 2)]);
    let docker = json!({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": descriptor(CONFIGS[0], 1), "layers": docker_layer});
    for (document, is_index) in [
        (docker, false),
        (
            image(json!([
                descriptor("application/vnd.oci.image.layer.v1.tar+zstd", 2),
                descriptor("application/vnd.oci.image.layer.v1.tar", 3)
            ])),
            false,
        ),
        (json!({"schemaVersion": 2, "manifests": [entry(1, None)]}), true),
        (json!({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [entry(1, Some("linux/amd64"))]}), true),
    ] {
        assert_eq!(matches!(read(&document).unwrap(), Document::Index(_)), is_index, "{document}");
    }
}

#[test]
fn urls_are_ignored() {
    let mut layer = descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", 2);
    layer["urls"] = json!(["http://169.254.169.254/"]);
    assert!(matches!(read(&image(json!([layer]))), Ok(Document::Manifest(manifest)) if manifest.layers.len() == 1));
}

#[test]
fn faults() {
    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    let layer = || descriptor(gzip, 2);
    let with = |key: &str, value: Value| {
        let mut document = image(json!([layer()]));
        document[key] = value;
        document
    };
    let bad_digest = json!({"mediaType": gzip, "digest": "sha256:../../etc/passwd", "size": 1});
    let table = [
        (json!([]), "malformed"),
        (json!({"schemaVersion": 1, "fsLayers": []}), "schema 1"),
        (json!({"schemaVersion": 2}), "neither"),
        (with("mediaType", json!(OCI_INDEX)), "neither"),
        (with("manifests", json!([entry(1, None)])), "neither"),
        (image(json!([])), "lists 0 layers"),
        (image(json!(vec![layer(); 501])), "lists 501 layers"),
        (image(json!([bad_digest.clone()])), "malformed"),
        (image(json!([{"mediaType": gzip, "digest": digest(1), "size": -1}])), "malformed"),
        (with("config", bad_digest), "malformed"),
        (with("config", descriptor("application/vnd.cncf.helm.config.v1+json", 1)), "not an image's: its config"),
        (image(json!([descriptor("application/vnd.in-toto+json", 1)])), "not an image's: its layer"),
        (json!({"schemaVersion": 2, "manifests": []}), "lists 0 entries"),
    ];
    for (document, wanted) in table {
        let fault = read(&document).expect_err(&document.to_string()).to_string();
        assert!(fault.contains(wanted), "{document}: {fault}");
    }
}

#[test]
fn platform_choice() {
    let amd64 = "linux/amd64";
    let all = ["windows/amd64", "linux/arm64/v8", "linux/amd64/v3", "linux/amd64", "unknown/unknown", "linux/arm/v7"].map(Some);
    /// The entries' platforms, the one wanted, and which entry it gets or what is said.
    type Case<'a> = (&'a [Option<&'a str>], &'a str, Result<u8, &'a str>);
    let table: [Case<'_>; 10] = [
        (&all, amd64, Ok(3)),
        (&all, "linux/arm64", Ok(1)),
        (&all, "linux/amd64/v3", Ok(2)),
        (&all, "linux/amd64/v4", Ok(3)),
        (&[Some("linux/amd64/v3")], amd64, Err("`linux/amd64/v3`")),
        (&[None], amd64, Ok(0)),
        (&[None, Some("unknown/unknown")], amd64, Ok(0)),
        (&[None, None], amd64, Err("an unnamed platform")),
        (&[Some("unknown/unknown")], amd64, Err("no image for any platform")),
        (&[Some("linux/s390x"), Some("unknown/unknown")], amd64, Err("only for `linux/s390x`")),
    ];
    for (entries, wanted, outcome) in table {
        let manifests: Vec<Value> = entries.iter().zip(0..).map(|(platform, n)| entry(n, *platform)).collect();
        let Ok(Document::Index(index)) = read(&json!({"schemaVersion": 2, "manifests": manifests})) else { panic!() };
        match (index.choose(&wanted.parse().unwrap()), outcome) {
            (Ok(found), Ok(n)) => assert_eq!(found.descriptor.digest.to_string(), digest(n), "{entries:?} {wanted}"),
            (Err(fault), Err(part)) => assert!(fault.to_string().contains(part), "{fault}"),
            (found, outcome) => panic!("{entries:?} {wanted}: {found:?}, wanted {outcome:?}"),
        }
    }
}

#[test]
fn an_inner_index_comes_after_an_image() {
    let mut inner = entry(7, None);
    inner["mediaType"] = json!(OCI_INDEX);
    let of = |platform: &str| {
        let mut inner = entry(8, Some(platform));
        inner["mediaType"] = json!(OCI_INDEX);
        inner
    };
    for (entries, wanted) in [
        (json!([inner, entry(1, Some("linux/amd64"))]), 1),
        (json!([entry(1, Some("linux/arm64")), inner]), 7),
        (json!([entry(1, Some("linux/arm64")), of("linux/amd64")]), 8),
        (json!([of("linux/arm64"), inner]), 7),
    ] {
        let Ok(Document::Index(index)) = read(&json!({"schemaVersion": 2, "manifests": entries})) else { panic!() };
        assert_eq!(index.choose(&"linux/amd64".parse().unwrap()).unwrap().descriptor.digest.to_string(), digest(wanted));
    }
    let Ok(Document::Index(index)) = read(&json!({"schemaVersion": 2, "manifests": [of("linux/arm64")]})) else { panic!() };
    let fault = index.choose(&"linux/amd64".parse().unwrap()).unwrap_err().to_string();
    assert!(fault.ends_with("only for `linux/arm64`"), "{fault}");
}
