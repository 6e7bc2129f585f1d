//! Docker beside us, for benchmarks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::tar::Tar;
use crate::{place, skip};

/// A `dockerd` of our own with a throw-away folder and one image, ended with this value.
pub struct Docker {
    daemon: Child,
    socket: String,
    folder: PathBuf,
}

impl Docker {
    /// Starts it, with its folder below `folder` and an image `nothing` of the program that does nothing. `Err` says why it cannot.
    pub fn start(folder: &Path) -> Result<Docker, String> {
        if !skip::is_root() {
            return Err("dockerd needs root".to_owned());
        }
        if !skip::has_program("dockerd") || !skip::has_program("docker") {
            return Err("dockerd is not installed (Debian package docker.io)".to_owned());
        }
        let folder = folder.join("docker");
        fs::create_dir(&folder).map_err(|error| error.to_string())?;
        let path = |name: &str| folder.join(name).display().to_string();
        let socket = format!("unix://{}", path("socket"));
        let log = fs::File::create(path("log")).map_err(|error| error.to_string())?;
        let daemon = Command::new("dockerd")
            .args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid"), "-H", &socket])
            .args(["--iptables=false", "--bridge=none"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| error.to_string())?;
        let docker = Docker { daemon, socket, folder };
        docker.wait()?;
        docker.import()?;
        Ok(docker)
    }

    /// A command of `docker` for this daemon, its streams thrown away.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["-H", &self.socket]).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// What a command says.
    ///
    /// # Panics
    /// When it fails.
    pub fn said(&self, arguments: &[&str]) -> String {
        let output = self
            .command(arguments)
            .env("DOCKER_BUILDKIT", "0")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .expect("docker starts");
        assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn wait(&self) -> Result<(), String> {
        let end = Instant::now() + Duration::from_secs(30);
        while !self.command(&["version"]).status().is_ok_and(|status| status.success()) {
            if Instant::now() > end {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                return Err(format!("dockerd does not answer: {}", log.lines().last().unwrap_or_default()));
            }
        }
        Ok(())
    }

    fn import(&self) -> Result<(), String> {
        let program = fs::read(place::nothing()).map_err(|error| error.to_string())?;
        let tar = self.folder.join("image.tar");
        fs::write(&tar, Tar::new().folder("bin").program("bin/nothing", program).finish()).map_err(|error| error.to_string())?;
        let imported =
            self.command(&["import", "--change", "ENTRYPOINT [\"/bin/nothing\"]", &tar.display().to_string(), "nothing"]).status();
        let works = imported.is_ok_and(|status| status.success())
            && self.command(&["run", "--rm", "--network", "host", "nothing"]).status().is_ok_and(|status| status.success());
        if works { Ok(()) } else { Err("docker cannot run a container here".to_owned()) }
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if let Ok(id) = i32::try_from(self.daemon.id()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGTERM);
        }
        let _ = self.daemon.wait();
        let _ = Command::new("umount").arg(self.folder.join("exec/netns/default")).stderr(Stdio::null()).status();
    }
}
