//! A manifest, an index or a config, as a registry gives it.

use rootfs_cache::manifest::{Document, Manifest};
use rootfs_cache::reference::Platform;

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "manifest",
    run,
    seeds,
    words: &[
        "\"layers\":",
        "\"manifests\":[",
        "\"mediaType\":",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "sha256:../../x",
        "sha512:",
        "-1",
        "18446744073709551616",
        "1e400",
        "\\u0000",
        "[[[[[[[[",
        "{\"a\":",
        "unknown/unknown",
        "null",
    ],
    short_run: 3000,
};

fn seeds() -> Vec<Vec<u8>> {
    let digest = format!("sha256:{}", "a".repeat(64));
    let config = format!(r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":2}}"#);
    let layer =
        format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{digest}","size":3,"urls":["http://x"]}}"#);
    let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#);
    let entry = |platform: &str| {
        format!(r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":9,"platform":{platform}}}"#)
    };
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{},{},{}]}}"#,
        entry(r#"{"os":"linux","architecture":"amd64"}"#),
        entry(r#"{"os":"linux","architecture":"arm64","variant":"v8"}"#),
        entry(r#"{"os":"unknown","architecture":"unknown"}"#)
    );
    let image =
        format!(r#"{{"architecture":"amd64","os":"linux","config":{{"Env":["A=b"],"Cmd":["c"]}},"rootfs":{{"diff_ids":["{digest}"]}}}}"#);
    [manifest, index, image].map(String::into_bytes).into()
}

/// Refused, or something in which every digest is one, and whose parts lead nowhere but to what was asked for.
fn run(input: &[u8]) {
    let platform = Platform::of_host();
    match Document::from_json(input) {
        Ok(Document::Manifest(manifest)) => {
            assert!(manifest.layers.len() <= 500);
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                assert!(blob.digest.hex().len() == 64 && blob.digest.hex().bytes().all(|byte| byte.is_ascii_hexdigit()));
            }
        }
        Ok(Document::Index(index)) => drop(index.choose(&platform).map(|entry| entry.is_index())),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let manifest = Manifest::from_json(&seeds()[0]).expect("a seed is a manifest");
    if let Ok(config) = manifest.read_config(input, &platform) {
        assert_eq!(config.diff_ids.len(), manifest.layers.len());
    }
}
