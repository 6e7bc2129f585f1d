//! Images made on the spot, as local OCI layouts.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::tar::Tar;

/// How a layer's tar is packed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// One gzip member.
    Gzip,
    /// Several gzip members, the last one empty, as parallel compressors write.
    GzipMembers,
    /// One zstd frame.
    Zstd,
}

/// An image layer: its packed bytes and what the manifest and the configuration say about it.
#[derive(Clone)]
pub struct ImageLayer {
    /// The blob.
    pub blob: Vec<u8>,
    /// Media type in the manifest.
    pub media_type: String,
    /// Digest of the unpacked tar.
    pub diff_id: String,
}

impl ImageLayer {
    /// Packs a tar.
    pub fn new(tar: Tar, packing: Packing) -> ImageLayer {
        let tar = tar.finish();
        ImageLayer::of_bytes(&tar, packing)
    }

    /// Packs bytes that need not be a proper tar.
    pub fn of_bytes(tar: &[u8], packing: Packing) -> ImageLayer {
        let (blob, suffix) = match packing {
            Packing::Plain => (tar.to_vec(), ""),
            Packing::Gzip => (gzip(tar), "+gzip"),
            Packing::GzipMembers => {
                let cut = tar.len() / 3 + 7;
                let members = [&tar[..cut], &tar[cut..2 * cut], &tar[2 * cut..], &[]];
                (members.into_iter().flat_map(gzip).collect(), "+gzip")
            }
            Packing::Zstd => (ruzstd::encoding::compress_to_vec(tar, ruzstd::encoding::CompressionLevel::Fastest), "+zstd"),
        };
        ImageLayer { blob, media_type: format!("application/vnd.oci.image.layer.v1.tar{suffix}"), diff_id: sha256(tar) }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

/// `sha256:` and 64 digits.
pub fn sha256(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// An image: layers and the `config` member of its configuration.
#[derive(Clone)]
pub struct Image {
    /// From the bottom up.
    pub layers: Vec<ImageLayer>,
    /// `Env`, `Entrypoint`, `Cmd`, `WorkingDir`, `User`.
    pub config: Value,
}

/// lambci's `provided`: entry point, user and the variables of its base.
pub fn lambci_config() -> Value {
    json!({
        "User": "sbx_user1051",
        "WorkingDir": "/var/task",
        "Entrypoint": ["/var/runtime/init"],
        "Env": [
            "PATH=/usr/local/bin:/usr/bin/:/bin:/opt/bin",
            "LD_LIBRARY_PATH=/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
            "LANG=en_US.UTF-8",
            "TZ=:UTC",
            "LAMBDA_TASK_ROOT=/var/task",
            "LAMBDA_RUNTIME_DIR=/var/runtime",
            "_LAMBDA_CONTROL_SOCKET=14",
            "_LAMBDA_SHARED_MEM_FD=11",
            "_LAMBDA_LOG_FD=9",
            "_LAMBDA_SB_ID=7",
            "_X_AMZN_TRACE_ID=Root=1-dc99d00f-c079a84d433534434534ef0d;Parent=91ed514f1e5c03b2;Sampled=1",
        ],
    })
}

/// What an Amazon Linux 1 image has of users: lambci's ids.
pub const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nsbx_user1051:x:496:495::/home/sbx_user1051:/sbin/nologin\n";

/// The folders of a Lambda image, with `/etc/passwd`; nothing that could run.
pub fn bare_root() -> Tar {
    Tar::new()
        .folder("etc")
        .file("etc/passwd", PASSWD)
        .file("etc/group", "root:x:0:\nsbx_user1051:x:495:\n")
        .folder("opt")
        .folder("var")
        .folder("var/task")
        .folder("var/runtime")
        // Its server, which must not be run: it is no program at all.
        .program("var/runtime/init", "this is not what answers\n")
        .folder("tmp")
}

impl Image {
    /// lambci's `provided`, with no program in it.
    pub fn provided() -> Image {
        Image { layers: vec![ImageLayer::new(bare_root(), Packing::Gzip)], config: lambci_config() }
    }

    /// With another layer on top.
    pub fn layer(mut self, tar: Tar, packing: Packing) -> Image {
        self.layers.push(ImageLayer::new(tar, packing));
        self
    }

    /// With a member of the configuration replaced.
    pub fn with(mut self, member: &str, value: Value) -> Image {
        self.config[member] = value;
        self
    }

    /// The image's configuration, as bytes of its blob.
    pub fn config_blob(&self, architecture: &str) -> Vec<u8> {
        let diff_ids: Vec<&str> = self.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let blob = json!({
            "architecture": architecture, "os": "linux", "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        blob.to_string().into_bytes()
    }

    /// An OCI manifest for it.
    pub fn manifest(&self, config_blob: &[u8]) -> Vec<u8> {
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| json!({"mediaType": layer.media_type, "digest": sha256(&layer.blob), "size": layer.blob.len()}))
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(config_blob), "size": config_blob.len()},
            "layers": layers,
        });
        manifest.to_string().into_bytes()
    }
}

/// The architecture as image configurations name it.
pub fn own_architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// An OCI layout folder.
pub struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// Makes an empty one.
    ///
    /// # Panics
    /// When the folder cannot be written.
    pub fn create(folder: &Path) -> Layout {
        fs::create_dir_all(folder.join("blobs/sha256")).expect("the layout's folder can be made");
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("it can be written");
        let layout = Layout { folder: folder.to_owned() };
        layout.write_index(&json!({"schemaVersion": 2, "manifests": []}));
        layout
    }

    /// One that exists already.
    pub fn at(folder: &Path) -> Layout {
        Layout { folder: folder.to_owned() }
    }

    fn write_index(&self, index: &Value) {
        fs::write(self.folder.join("index.json"), index.to_string()).expect("the index can be written");
    }

    /// Its index.
    ///
    /// # Panics
    /// When there is none.
    pub fn index(&self) -> Value {
        let text = fs::read(self.folder.join("index.json")).expect("a layout has an index");
        serde_json::from_slice(&text).expect("an index is JSON")
    }

    /// Where a blob lies.
    pub fn blob_path(&self, digest: &str) -> PathBuf {
        self.folder.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
    }

    /// A blob's bytes.
    ///
    /// # Panics
    /// When there is none.
    pub fn blob(&self, digest: &str) -> Vec<u8> {
        fs::read(self.blob_path(digest)).expect("the layout has the blob")
    }

    fn put(&self, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        fs::write(self.blob_path(&digest), bytes).expect("a blob can be written");
        digest
    }

    /// Adds an image under a name; gives the manifest's digest.
    pub fn add(&self, name: &str, image: &Image) -> String {
        for layer in &image.layers {
            self.put(&layer.blob);
        }
        let config = image.config_blob(own_architecture());
        self.put(&config);
        let manifest = image.manifest(&config);
        let digest = self.put(&manifest);
        self.name(name, &digest, manifest.len());
        digest
    }

    /// Adds a name for a manifest whose blob is here.
    ///
    /// # Panics
    /// When the index is none.
    pub fn name(&self, name: &str, manifest_digest: &str, size: usize) {
        let mut index = self.index();
        let entries = index["manifests"].as_array_mut().expect("an index has manifests");
        entries.push(json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest_digest, "size": size,
            "platform": {"architecture": own_architecture(), "os": "linux"},
            "annotations": {"org.opencontainers.image.ref.name": name},
        }));
        self.write_index(&index);
    }

    /// Reads back a named image. `None` if the layout or the name is not there.
    pub fn find(&self, name: &str) -> Option<Image> {
        let index: Value = serde_json::from_slice(&fs::read(self.folder.join("index.json")).ok()?).ok()?;
        let entry =
            index["manifests"].as_array()?.iter().find(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] == name)?;
        let manifest: Value = serde_json::from_slice(&self.blob(entry["digest"].as_str()?)).ok()?;
        let config: Value = serde_json::from_slice(&self.blob(manifest["config"]["digest"].as_str()?)).ok()?;
        let diff_ids = config["rootfs"]["diff_ids"].as_array()?;
        let layers = manifest["layers"].as_array()?.iter().zip(diff_ids).map(|(layer, diff_id)| ImageLayer {
            blob: self.blob(layer["digest"].as_str().expect("a descriptor has a digest")),
            media_type: layer["mediaType"].as_str().expect("a descriptor has a media type").to_owned(),
            diff_id: diff_id.as_str().expect("a diff ID is text").to_owned(),
        });
        Some(Image { layers: layers.collect(), config: config["config"].clone() })
    }
}
