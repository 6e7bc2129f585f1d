//! A registry in the test process that serves one image and can be told to do it wrongly.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::image::{Image, own_architecture, sha256};
use crate::wire::{Reply, Request, Server};

/// Media type of an OCI manifest.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The registry; it ends with this value.
pub struct BrokenRegistry {
    server: Server,
    seen: Arc<Mutex<Vec<Request>>>,
    /// The manifest's digest.
    pub manifest_digest: String,
    /// The layers' digests, from the bottom up.
    pub layer_digests: Vec<String>,
}

impl BrokenRegistry {
    /// Serves `image` as `team/app:1`. `fault` is asked first and answers in the registry's place when it likes; it also gets what the
    /// registry itself would say.
    ///
    /// # Panics
    /// When loopback has no free port.
    pub fn start(image: &Image, fault: impl Fn(&Request, &Reply) -> Option<Reply> + Send + Sync + 'static) -> BrokenRegistry {
        BrokenRegistry::serve(image, |_| {}, fault)
    }

    /// Serves `image` with a manifest that says something else, digests and all.
    pub fn edited(image: &Image, edit: impl FnOnce(&mut Value)) -> BrokenRegistry {
        BrokenRegistry::serve(image, edit, |_, _| None)
    }

    fn serve(
        image: &Image,
        edit: impl FnOnce(&mut Value),
        fault: impl Fn(&Request, &Reply) -> Option<Reply> + Send + Sync + 'static,
    ) -> BrokenRegistry {
        let config = image.config_blob(own_architecture());
        let mut manifest: Value = serde_json::from_slice(&image.manifest(&config)).expect("our own JSON");
        edit(&mut manifest);
        let manifest = manifest.to_string().into_bytes();
        let manifest_digest = sha256(&manifest);
        let layer_digests: Vec<String> = image.layers.iter().map(|layer| sha256(&layer.blob)).collect();
        let mut blobs: BTreeMap<String, Vec<u8>> =
            layer_digests.iter().cloned().zip(image.layers.iter().map(|layer| layer.blob.clone())).collect();
        blobs.insert(sha256(&config), config);
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (record, digest) = (Arc::clone(&seen), manifest_digest.clone());
        let server = Server::start(move |request| {
            record.lock().expect("no holder panics").push(request.clone());
            let honest = honest_reply(request, &manifest, &digest, &blobs);
            fault(request, &honest).unwrap_or(honest)
        });
        BrokenRegistry { server, seen, manifest_digest, layer_digests }
    }

    /// A reference to the image.
    pub fn reference(&self) -> String {
        format!("{}/team/app:1", self.server.address())
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.server.address()
    }

    /// All requests so far.
    ///
    /// # Panics
    /// When a serving thread has.
    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().expect("no holder panics").clone()
    }
}

fn honest_reply(request: &Request, manifest: &[u8], digest: &str, blobs: &BTreeMap<String, Vec<u8>>) -> Reply {
    let path = request.path.as_str();
    if path == "/v2/" {
        return Reply::new(200, "{}");
    }
    if path == "/v2/team/app/manifests/1" || path == format!("/v2/team/app/manifests/{digest}") {
        return Reply::new(200, manifest).header("Content-Type", MANIFEST).header("Docker-Content-Digest", digest);
    }
    match path.strip_prefix("/v2/team/app/blobs/").and_then(|wanted| blobs.get(wanted)) {
        Some(blob) => ranged(request, blob),
        None => Reply::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#)
            .header("Content-Type", "application/json"),
    }
}

fn ranged(request: &Request, blob: &[u8]) -> Reply {
    let start = request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse::<usize>().ok());
    match start {
        Some(start) if start > 0 && start < blob.len() => {
            Reply::new(206, &blob[start..]).header("Content-Range", format!("bytes {start}-{}/{}", blob.len() - 1, blob.len()))
        }
        _ => Reply::new(200, blob),
    }
}
