//! Everybody who can make a root file system of an image in a registry, each with a folder of its own on the disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::{place, skip, wire};

use crate::disk::Disk;
use crate::{remove, usage};

const OURS: &str = "undocked pull, ordinary user";
pub const OURS_AS_ROOT: &str = "undocked pull, root";
/// Who owns nothing, on every machine.
const NOBODY: &str = "65534";

/// What a pull has cost.
pub struct Pulled {
    /// Seconds of processor time, daemons' included.
    pub cpu: f64,
    /// The client's own peak.
    pub peak_mb: f64,
}

/// One way to pull.
pub struct Peer<'a> {
    pub name: &'static str,
    /// Pulls into a place that holds nothing of the image; told the round.
    pub pull: Box<dyn FnMut(usize) -> Result<Pulled, String> + 'a>,
    /// Removes what that made.
    pub clean: Box<dyn FnMut(usize) + 'a>,
}

/// Makes a peer that pulls a reference into a folder, or says why it cannot.
type Maker<'a> = fn(&'a str, PathBuf) -> Result<Peer<'a>, String>;

pub fn is_ours(name: &str) -> bool {
    name == OURS || name == OURS_AS_ROOT
}

/// All that are installed and can run here, or those whose name holds one of `chosen`; the others are named with the reason.
pub fn all<'a>(reference: &'a str, disk: &Disk, chosen: &[String]) -> Vec<Peer<'a>> {
    let wanted = |name: &str| chosen.is_empty() || name.contains("undocked") || chosen.iter().any(|part| name.contains(part.as_str()));
    let makers: [(&str, Maker<'a>); 8] = [
        (OURS, ours),
        (OURS_AS_ROOT, ours_as_root),
        ("containerd", containerd),
        ("docker", docker),
        ("podman", podman),
        ("skopeo + umoci", skopeo_umoci),
        ("curl | tar xz", curl_tar),
        ("curl | bsdtar", curl_bsdtar),
    ];
    let mut peers = Vec::new();
    for (number, (name, make)) in makers.into_iter().enumerate().filter(|(_, (name, _))| wanted(name)) {
        let folder = disk.path().join(number.to_string());
        fs::create_dir(&folder).expect("the disk can be written to");
        match make(reference, folder) {
            Ok(peer) => peers.push(peer),
            Err(why) => println!("not beside us: {name}: {why}"),
        }
    }
    peers
}

fn quiet(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn needs(programs: &[&str]) -> Result<(), String> {
    match programs.iter().find(|program| !skip::has_program(program)) {
        Some(missing) => Err(format!("`{missing}` is not installed")),
        None => Ok(()),
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A peer that needs nothing but a new folder for each round.
fn in_folders<'a>(name: &'static str, folder: PathBuf, commands: impl Fn(&Path) -> Vec<Command> + 'a) -> Peer<'a> {
    let rounds = folder.clone();
    let pull = move |round: usize| {
        let folder = folder.join(round.to_string());
        fs::create_dir(&folder).map_err(|error| error.to_string())?;
        usage::run(commands(&folder), None)
    };
    Peer { name, pull: Box::new(pull), clean: Box::new(move |round| remove(&rounds.join(round.to_string()))) }
}

fn ours(reference: &str, folder: PathBuf) -> Result<Peer<'_>, String> {
    // What we may read, nobody may read, too.
    let program = folder.join("undocked");
    fs::copy(place::undocked(), &program).map_err(|error| error.to_string())?;
    Ok(in_folders(OURS, folder, move |folder| {
        let arguments = ["pull", "-q", reference];
        let mut command = if skip::is_root() {
            std::os::unix::fs::chown(folder, Some(65534), Some(65534)).expect("root gives away");
            let mut command = quiet("setpriv", &["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
            command.arg(&program);
            command
        } else {
            quiet(&text(&program), &[])
        };
        command.args(arguments).env("UNDOCKED_CACHE", folder.join("cache")).env("HOME", folder);
        vec![command]
    }))
}

fn ours_as_root(reference: &str, folder: PathBuf) -> Result<Peer<'_>, String> {
    if !skip::is_root() {
        return Err("this is no root".to_owned());
    }
    Ok(in_folders(OURS_AS_ROOT, folder, move |folder| {
        let mut command = quiet(&text(place::undocked()), &["pull", "-q", reference]);
        command.env("UNDOCKED_CACHE", folder.join("cache")).env("HOME", folder);
        vec![command]
    }))
}

/// A daemon of ours with folders of its own, ended with this value.
struct Daemon(Child);

impl Daemon {
    fn start(mut command: Command, log: &Path, is_up: impl Fn() -> bool) -> Result<Daemon, String> {
        let log_file = fs::File::create(log).map_err(|error| error.to_string())?;
        let daemon = Daemon(command.stderr(log_file).spawn().map_err(|error| error.to_string())?);
        let end = Instant::now() + Duration::from_secs(30);
        while !is_up() {
            if Instant::now() > end {
                let said = fs::read_to_string(log).unwrap_or_default();
                return Err(format!("it does not answer: {}", said.lines().last().unwrap_or_default()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(id) = i32::try_from(self.0.id()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGTERM);
        }
        let _ = self.0.wait();
    }
}

fn as_root() -> Result<(), String> {
    if skip::is_root() { Ok(()) } else { Err("it needs root".to_owned()) }
}

fn containerd(reference: &str, folder: PathBuf) -> Result<Peer<'_>, String> {
    needs(&["containerd", "ctr"])?;
    as_root()?;
    let state = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (socket, config) = (text(&state.path().join("socket")), state.path().join("config.toml"));
    let lines = format!(
        "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{socket}\"\n",
        text(&folder),
        text(&state.path().join("state")),
    );
    fs::write(&config, lines).map_err(|error| error.to_string())?;
    let ctr = move |arguments: &[&str]| {
        let mut command = quiet("ctr", &["-a", &socket, "-n", "bench"]);
        command.args(arguments);
        command
    };
    let is_up = || ctr(&["version"]).status().is_ok_and(|status| status.success());
    let daemon = Daemon::start(quiet("containerd", &["-c", &text(&config)]), &state.path().join("log"), is_up)?;
    let removing = ctr.clone();
    let pull = move |_| usage::run(vec![ctr(&["image", "pull", "--plain-http", reference])], Some(daemon.0.id()));
    let clean = move |_| {
        let _ = removing(&["image", "rm", "--sync", reference]).status();
        let _ = &state;
    };
    Ok(Peer { name: "containerd (ctr image pull)", pull: Box::new(pull), clean: Box::new(clean) })
}

fn docker(reference: &str, folder: PathBuf) -> Result<Peer<'_>, String> {
    needs(&["dockerd", "docker"])?;
    as_root()?;
    let state = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = |name: &str| text(&state.path().join(name));
    let socket = format!("unix://{}", path("socket"));
    let daemon = quiet(
        "dockerd",
        &[
            "--data-root",
            &text(&folder),
            "--exec-root",
            &path("exec"),
            "--pidfile",
            &path("pid"),
            "-H",
            &socket,
            "--iptables=false",
            "--bridge=none",
        ],
    );
    let docker = move |arguments: &[&str]| {
        let mut command = quiet("docker", &["-H", &socket]);
        command.args(arguments);
        command
    };
    let is_up = || docker(&["version"]).status().is_ok_and(|status| status.success());
    let daemon = Daemon::start(daemon, &state.path().join("log"), is_up)?;
    let removing = docker.clone();
    let pull = move |_| usage::run(vec![docker(&["pull", "-q", reference])], Some(daemon.0.id()));
    let clean = move |_| {
        let _ = removing(&["rmi", "-f", reference]).status();
        let _ = &state;
    };
    Ok(Peer { name: "docker pull", pull: Box::new(pull), clean: Box::new(clean) })
}

fn podman(reference: &str, folder: PathBuf) -> Result<Peer<'_>, String> {
    needs(&["podman"])?;
    as_root()?;
    Ok(in_folders("podman pull", folder, move |folder| {
        let (root, run) = (text(&folder.join("root")), text(&folder.join("run")));
        vec![quiet(
            "podman",
            &["--root", &root, "--runroot", &run, "--storage-driver", "overlay", "pull", "-q", "--tls-verify=false", reference],
        )]
    }))
}

fn skopeo_umoci(reference: &str, folder: PathBuf) -> Result<Peer<'_>, String> {
    needs(&["skopeo", "umoci"])?;
    Ok(in_folders("skopeo copy, umoci unpack", folder, move |folder| {
        let (layout, bundle) = (text(&folder.join("layout")), text(&folder.join("bundle")));
        let source = format!("docker://{reference}");
        let copy = quiet("skopeo", &["copy", "-q", "--src-tls-verify=false", &source, &format!("oci:{layout}:x")]);
        let rootless: &[&str] = if skip::is_root() { &[] } else { &["--rootless"] };
        let mut unpack = quiet("umoci", &["unpack", "--image", &format!("{layout}:x")]);
        unpack.args(rootless).arg(bundle);
        vec![copy, unpack]
    }))
}

fn curl_tar(reference: &str, folder: PathBuf) -> Result<Peer<'_>, String> {
    curl("curl \\| tar xz, layers in order", "tar", "tar xz -C", reference, folder)
}

fn curl_bsdtar(reference: &str, folder: PathBuf) -> Result<Peer<'_>, String> {
    curl("curl \\| bsdtar x, layers in order", "bsdtar", "bsdtar x -C", reference, folder)
}

/// Checks no digest, knows no whiteout: what is the least that can be done.
fn curl<'a>(name: &'static str, program: &str, unpack: &'static str, reference: &str, folder: PathBuf) -> Result<Peer<'a>, String> {
    needs(&["curl", program])?;
    let urls = blob_urls(reference)?;
    Ok(in_folders(name, folder, move |folder| {
        let pipe = |url: &String| format!("curl -sf {url} | {unpack} {}", text(folder));
        let pipes: Vec<String> = urls.iter().map(pipe).collect();
        vec![quiet("sh", &["-c", &pipes.join(" && ")])]
    }))
}

fn blob_urls(reference: &str) -> Result<Vec<String>, String> {
    let (host, name) = reference.split_once('/').ok_or("a reference has a host")?;
    let (repository, tag) = name.rsplit_once(':').ok_or("and a tag")?;
    let accept = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json";
    let get = |what: &str| -> Result<Value, String> {
        let path = format!("/v2/{repository}/manifests/{what}");
        let (_, _, body) = wire::request(host, "GET", &path, &[("Accept", accept)], b"").map_err(|error| error.to_string())?;
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    };
    let mut document = get(tag)?;
    if let Some(entries) = document["manifests"].as_array() {
        let ours = entries.iter().find(|entry| entry["platform"]["architecture"] == tests::image::own_architecture());
        document = get(ours.and_then(|entry| entry["digest"].as_str()).ok_or("no manifest for this platform")?)?;
    }
    let layers = document["layers"].as_array().ok_or("no layers")?;
    let url = |layer: &Value| Some(format!("http://{host}/v2/{repository}/blobs/{}", layer["digest"].as_str()?));
    Ok(layers.iter().filter_map(url).collect())
}
