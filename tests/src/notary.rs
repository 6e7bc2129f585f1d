//! Debian's `notary-server` on loopback behind TLS, with its own client: what is signed here is signed by others' programs.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::real_registry::Guarded;
use crate::{place, skip};

/// Whether Notary is there; if not, the running test is counted as skipped.
pub fn is_installed() -> bool {
    let installed =
        ["notary", "notary-server"].iter().all(|name| Command::new("which").arg(name).output().is_ok_and(|found| found.status.success()));
    if !installed {
        skip::skip(skip::Lack::Providable, "notary is not installed (tests/images/setup.sh ci)");
    }
    installed
}

/// A trust server with an authority of its own, and a client with its keys.
pub struct Notary {
    /// Ends before its folder goes.
    _server: Guarded,
    folder: TempDir,
    port: u16,
}

impl Notary {
    /// An empty server. `None`, and counted as skipped, where the programs are not installed.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start() -> Option<Notary> {
        if !is_installed() {
            return None;
        }
        let folder = place::scratch();
        certify(folder.path());
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port is free").port();
            if let Some(server) = serve(folder.path(), port) {
                return Some(Notary { _server: server, folder, port });
            }
        }
        panic!("notary-server does not listen: {}", fs::read_to_string(folder.path().join("log")).unwrap_or_default());
    }

    /// `https://localhost:PORT`.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// The file of the authority that has signed the server's certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// Runs the client.
    ///
    /// # Panics
    /// When it fails.
    pub fn client(&self, arguments: &[&str]) -> Output {
        self.client_with("keys", arguments)
    }

    /// Runs the client with another folder of keys.
    ///
    /// # Panics
    /// When it fails.
    pub fn client_with(&self, keys: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new("notary");
        for role in ["ROOT", "TARGETS", "SNAPSHOT", "DELEGATION"] {
            command.env(format!("NOTARY_{role}_PASSPHRASE"), "throwaway");
        }
        command.args(["-s", &self.url(), "--tlscacert"]).arg(self.authority()).arg("-d").arg(self.folder.path().join(keys)).args(arguments);
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut started = started.expect("notary starts");
        // It asks whether a root is to be rotated, and nothing else.
        let _ = started.stdin.take().expect("it was asked for").write_all(b"yes\n");
        let output = started.wait_with_output().expect("it ends");
        assert!(output.status.success(), "notary {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// A new repository whose snapshot and timestamp the server signs, as docker makes it.
    pub fn init(&self, repository: &str) {
        self.client(&["init", repository]);
        self.client(&["key", "rotate", repository, "snapshot", "-r"]);
        self.client(&["publish", repository]);
    }

    /// Signs tags: their names, digests (`sha256:...`) and sizes.
    pub fn sign(&self, repository: &str, tags: &[(&str, &str, usize)]) {
        for (tag, digest, size) in tags {
            self.add(repository, (tag, digest, *size), None);
        }
        self.client(&["publish", repository]);
    }

    /// Has a tag signed with the next publication, by a role of its own if there is one.
    pub fn add(&self, repository: &str, (tag, digest, size): (&str, &str, usize), role: Option<&str>) {
        let hex = digest.trim_start_matches("sha256:");
        let size = size.to_string();
        let mut arguments = vec!["addhash", repository, tag, &size, "--sha256", hex];
        if let Some(role) = role {
            arguments.extend(["-r", role]);
        }
        self.client(&arguments);
    }

    /// Makes somebody with a key of their own who may sign everything.
    ///
    /// # Panics
    /// When a part of it fails.
    pub fn add_signer(&self, repository: &str, role: &str) {
        let name = role.replace('/', "-");
        let (key, certificate) = (self.folder.path().join(format!("{name}.key")), self.folder.path().join(format!("{name}.crt")));
        if !key.exists() {
            let ec = [
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "30",
                "-subj",
                "/CN=signer",
                "-keyout",
            ];
            openssl(self.folder.path(), &[&ec[..], &[&key.display().to_string(), "-out", &certificate.display().to_string()]].concat());
        }
        self.client(&["delegation", "add", repository, role, &certificate.display().to_string(), "--all-paths"]);
        self.client(&["key", "import", &key.display().to_string(), "--role", "user"]);
    }

    /// The documents of a repository as a new client gets them, by their names: `root`, `targets/releases`.
    pub fn documents(&self, repository: &str) -> BTreeMap<String, Vec<u8>> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let fresh = format!("reader-{}", COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        self.client_with(&fresh, &["list", repository]);
        let metadata = self.folder.path().join(fresh).join("tuf").join(repository).join("metadata");
        let mut documents = BTreeMap::new();
        collect(&metadata, "", &mut documents);
        documents
    }

    /// The environment with which docker's client finds the server, and the folder it keeps its own things in.
    ///
    /// # Panics
    /// When the folder cannot be filled.
    pub fn for_docker(&self, name: &str) -> Command {
        let config = self.folder.path().join(name);
        let certificates = config.join(format!("tls/localhost:{}", self.port));
        fs::create_dir_all(&certificates).expect("a fresh folder can be filled");
        fs::copy(self.authority(), certificates.join("ca.crt")).expect("copied");
        let mut command = Command::new("docker");
        command.env("DOCKER_CONTENT_TRUST_SERVER", self.url()).arg("--config").arg(config);
        command
    }
}

/// Writes documents into a folder, as a saved copy is.
///
/// # Panics
/// When it cannot be written.
pub fn save(documents: &BTreeMap<String, Vec<u8>>, folder: &Path) {
    for (name, bytes) in documents {
        let path = folder.join(format!("{name}.json"));
        fs::create_dir_all(path.parent().expect("it is below the folder")).expect("a folder of ours can be filled");
        fs::write(path, bytes).expect("written");
    }
}

fn collect(folder: &Path, below: &str, documents: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("the client keeps its documents") {
        let path = entry.expect("readable").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            collect(&path, &format!("{below}{name}/"), documents);
        } else {
            documents.insert(format!("{below}{name}"), fs::read(&path).expect("readable"));
        }
    }
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let made = Command::new("openssl").current_dir(folder).args(arguments).output().expect("openssl starts");
    assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
}

fn certify(folder: &Path) {
    fs::write(folder.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").expect("a fresh folder can be filled");
    let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    openssl(
        folder,
        &[&["req", "-x509", "-days", "30", "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.crt"], &ec[..]].concat(),
    );
    openssl(folder, &[&["req", "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"], &ec[..]].concat());
    let by_authority = ["x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30"];
    openssl(folder, &[&by_authority[..], &["-extfile", "names", "-out", "server.crt"]].concat());
}

fn serve(folder: &Path, port: u16) -> Option<Guarded> {
    let path = |name: &str| folder.join(name).display().to_string();
    let config = serde_json::json!({
        "server": {"http_addr": format!("127.0.0.1:{port}"), "tls_key_file": path("server.key"), "tls_cert_file": path("server.crt")},
        "trust_service": {"type": "local", "hostname": "", "port": "", "tls_ca_file": "", "key_algorithm": "ecdsa"},
        "logging": {"level": "error"},
        "storage": {"backend": "memory"},
    });
    fs::write(folder.join("server.json"), config.to_string()).expect("a fresh folder can be filled");
    let command = format!("exec notary-server -config {} >{} 2>&1", path("server.json"), path("log"));
    let (server, _) = Guarded::start(&["sh", "-c", &command]);
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(server);
        }
        std::thread::yield_now();
    }
    None
}
