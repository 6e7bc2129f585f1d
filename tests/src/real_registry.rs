//! Debian's `docker-registry` on loopback, plain or behind bearer tokens, gone with the value or with this process, whichever comes first.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::{fs, thread};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::image::{Image, own_architecture, sha256};
use crate::{place, skip, wire};

/// A child that lives no longer than we do: a shell waits for the end of its input, kills the command and waits for it.
pub struct Guarded {
    shell: Child,
    /// Its end is what the shell waits for.
    input: Option<ChildStdin>,
}

impl Guarded {
    /// Starts a command; its output comes back as one stream.
    ///
    /// # Panics
    /// When there is no shell.
    pub fn start(command: &[&str]) -> (Guarded, impl Read + use<>) {
        let mut shell = Command::new("sh")
            .args(["-c", r#""$@" 2>&1 & read -r _; kill $!; wait"#, "sh"])
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts");
        let input = shell.stdin.take();
        let output = shell.stdout.take().expect("it was asked for");
        (Guarded { shell, input }, output)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.shell.wait();
    }
}

/// How an image is pushed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A plain Docker v2 schema 2 manifest, as the lambci images are.
    Docker,
    /// A Docker manifest list with an entry for each architecture.
    DockerList,
    /// An OCI index with an entry for each architecture.
    OciIndex,
}

/// Whether `docker-registry` is there; if not, the running test is counted as skipped.
pub fn is_installed() -> bool {
    let installed = skip::has_program("docker-registry");
    if !installed {
        skip::skip(skip::Lack::Providable, "docker-registry is not installed (tests/images/setup.sh ci)");
    }
    installed
}

/// A registry.
pub struct RealRegistry {
    address: String,
    token_address: Option<String>,
    /// Dropped in this order: the registry before the folder it writes to.
    _processes: Vec<Guarded>,
    own_store: Option<TempDir>,
    store: PathBuf,
}

impl RealRegistry {
    /// An empty one without login. `None`, and counted as skipped, where the program is not installed.
    pub fn start() -> Option<RealRegistry> {
        if !is_installed() {
            return None;
        }
        let store = place::scratch();
        let mut registry = RealRegistry::start_in(store.path());
        registry.own_store = Some(store);
        Some(registry)
    }

    /// One that keeps its data in a folder of the caller's.
    pub fn start_in(folder: &Path) -> RealRegistry {
        let (registry, address) = serve(folder, "plain", "", "");
        RealRegistry { address, token_address: None, _processes: vec![registry], store: folder.to_owned(), own_store: None }
    }

    /// The same store behind bearer tokens: anonymous callers may pull, `test` with the password `secret` too.
    ///
    /// # Panics
    /// When a part of it does not start.
    pub fn with_tokens(&self) -> RealRegistry {
        let store = self.store.as_path();
        let (key, certificate) = (store.join("token.key"), store.join("token.crt"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test-token-issuer", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .expect("openssl starts");
        assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
        let script = place::project().join("tests/images/token_server.py");
        let paths = [&script, &key, &certificate].map(|path| path.display().to_string());
        let (tokens, output) = Guarded::start(&["python3", &paths[0], "0", &paths[1], &paths[2]]);
        let mut port = String::new();
        BufReader::new(output).read_line(&mut port).expect("the token server says its port");
        let token_address = format!("127.0.0.1:{}", port.trim());
        let login = format!(
            "auth: {{token: {{realm: \"http://{token_address}/token\", service: test-registry, issuer: test-issuer, rootcertbundle: {}}}}}\n",
            certificate.display()
        );
        let (registry, address) = serve(store, "tokens", "", &login);
        let processes = vec![registry, tokens];
        RealRegistry { address, token_address: Some(token_address), _processes: processes, store: store.to_owned(), own_store: None }
    }

    /// The same store behind TLS, perhaps only for those who show a certificate of an authority.
    pub fn with_tls(&self, certificate: &Path, key: &Path, clients: Option<&Path>) -> RealRegistry {
        let clients = clients.map_or(String::new(), |authority| format!(", clientcas: [{}]", authority.display()));
        let tls = format!(", tls: {{certificate: {}, key: {}{clients}}}", certificate.display(), key.display());
        let (registry, address) = serve(&self.store, "tls", &tls, "");
        RealRegistry { address, token_address: None, _processes: vec![registry], store: self.store.clone(), own_store: None }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How many tokens the token server has given out, by kind.
    ///
    /// # Panics
    /// When there is none.
    pub fn token_counts(&self) -> Value {
        let address = self.token_address.as_ref().expect("a registry with tokens");
        let (_, _, body) = wire::request(address, "GET", "/stats", &[], b"").expect("the token server answers");
        serde_json::from_slice(&body).expect("counts are JSON")
    }

    /// Pushes an image; gives its reference.
    ///
    /// # Panics
    /// When the registry refuses it.
    pub fn push(&self, image: &Image, repository: &str, tag: &str, style: Style) -> String {
        for layer in &image.layers {
            self.push_blob(repository, &layer.blob);
        }
        match style {
            Style::Docker => {
                let manifest = self.manifest_for(image, repository, own_architecture(), style);
                self.push_manifest(repository, tag, &manifest);
            }
            Style::DockerList | Style::OciIndex => self.push_index(image, repository, tag, style),
        }
        format!("{}/{repository}:{tag}", self.address)
    }

    /// Pushes a manifest of any kind with its blobs; gives its digest.
    ///
    /// # Panics
    /// When the registry refuses it.
    pub fn attach(&self, repository: &str, tag: &str, manifest: &Value, blobs: &[&[u8]]) -> String {
        for blob in blobs {
            self.push_blob(repository, blob);
        }
        self.push_manifest(repository, tag, manifest);
        sha256(manifest.to_string().as_bytes())
    }

    /// What the registry has under a tag or digest.
    ///
    /// # Panics
    /// When it has nothing there.
    pub fn manifest(&self, repository: &str, name: &str) -> Vec<u8> {
        let kinds =
            ["docker.distribution.manifest.v2", "docker.distribution.manifest.list.v2", "oci.image.manifest.v1", "oci.image.index.v1"];
        let accept = kinds.map(|kind| format!("application/vnd.{kind}+json")).join(", ");
        let path = format!("/v2/{repository}/manifests/{name}");
        let (status, _, body) = wire::request(&self.address, "GET", &path, &[("Accept", &accept)], b"").expect("it answers");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        body
    }

    /// Removes a manifest.
    ///
    /// # Panics
    /// When the registry does not.
    pub fn remove(&self, repository: &str, digest: &str) {
        let path = format!("/v2/{repository}/manifests/{digest}");
        let (status, _, _) = wire::request(&self.address, "DELETE", &path, &[], b"").expect("it answers");
        assert_eq!(status, 202);
    }

    fn push_index(&self, image: &Image, repository: &str, tag: &str, style: Style) {
        // Ours comes last, so that taking the first entry is wrong.
        let others = if own_architecture() == "amd64" { "arm64" } else { "amd64" };
        let entries: Vec<Value> = [others, own_architecture()]
            .into_iter()
            .map(|architecture| {
                let manifest = self.manifest_for(image, repository, architecture, style);
                let bytes = manifest.to_string();
                let digest = sha256(bytes.as_bytes());
                self.push_manifest(repository, &digest, &manifest);
                json!({"mediaType": manifest["mediaType"], "digest": digest, "size": bytes.len(),
                       "platform": {"architecture": architecture, "os": "linux"}})
            })
            .collect();
        let media_type = match style {
            Style::OciIndex => "application/vnd.oci.image.index.v1+json",
            _ => "application/vnd.docker.distribution.manifest.list.v2+json",
        };
        self.push_manifest(repository, tag, &json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries}));
    }

    fn manifest_for(&self, image: &Image, repository: &str, architecture: &str, style: Style) -> Value {
        let config = image.config_blob(architecture);
        self.push_blob(repository, &config);
        let mut manifest: Value = serde_json::from_slice(&image.manifest(&config)).expect("our own JSON");
        if style != Style::OciIndex {
            manifest["mediaType"] = json!("application/vnd.docker.distribution.manifest.v2+json");
            manifest["config"]["mediaType"] = json!("application/vnd.docker.container.image.v1+json");
            for layer in manifest["layers"].as_array_mut().into_iter().flatten() {
                let gzip = layer["mediaType"].as_str().is_some_and(|media_type| media_type.ends_with("+gzip"));
                let suffix = if gzip { ".gzip" } else { "" };
                layer["mediaType"] = json!(format!("application/vnd.docker.image.rootfs.diff.tar{suffix}"));
            }
        }
        manifest
    }

    fn push_manifest(&self, repository: &str, tag: &str, manifest: &Value) {
        let media_type = manifest["mediaType"].as_str().expect("every manifest here has its type");
        let path = format!("/v2/{repository}/manifests/{tag}");
        let (status, _, body) =
            wire::request(&self.address, "PUT", &path, &[("Content-Type", media_type)], manifest.to_string().as_bytes())
                .expect("it answers");
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
    }

    fn push_blob(&self, repository: &str, blob: &[u8]) {
        let digest = sha256(blob);
        let (status, _, _) =
            wire::request(&self.address, "HEAD", &format!("/v2/{repository}/blobs/{digest}"), &[], b"").expect("the registry answers");
        if status == 200 {
            return;
        }
        let uploads = format!("/v2/{repository}/blobs/uploads/");
        let (status, headers, _) = wire::request(&self.address, "POST", &uploads, &[], b"").expect("the registry answers");
        assert_eq!(status, 202);
        let location = headers.get("location").expect("an upload has a place");
        let path = location.split_once("://").map_or(location.as_str(), |(_, rest)| &rest[rest.find('/').expect("an URL has a path")..]);
        let target = format!("{path}{}digest={digest}", if path.contains('?') { "&" } else { "?" });
        let kind = [("Content-Type", "application/octet-stream")];
        let (status, _, body) = wire::request(&self.address, "PUT", &target, &kind, blob).expect("the registry answers");
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
    }
}

fn serve(store: &Path, name: &str, tls: &str, login: &str) -> (Guarded, String) {
    let config = store.join(format!("{name}.yml"));
    let text = format!(
        "version: 0.1\nlog: {{level: info}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\nhttp: {{addr: \"127.0.0.1:0\", secret: throwaway{tls}}}\n{login}",
        store.join("data").display()
    );
    fs::write(&config, text).expect("a fresh folder can be filled");
    let (process, output) = Guarded::start(&["docker-registry", "serve", &config.display().to_string()]);
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    let mut said = Vec::new();
    let address = loop {
        let line = lines.next().unwrap_or_else(|| panic!("docker-registry ended: {said:?}"));
        if let Some((_, rest)) = line.split_once("listening on ") {
            break rest.split(['"', ',', ' ']).next().expect("split gives one part at least").to_owned();
        }
        said.push(line);
    };
    // What it says later goes nowhere, but it must not block on a full pipe.
    thread::spawn(move || lines.for_each(drop));
    (process, address)
}
