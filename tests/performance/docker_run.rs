//! `docker run --rm` through us, under docker's name, beside real docker: what each adds to a program and to a function that run bare.
//!
//! `cargo bench --package tests --bench docker_run`, as root, for dockerd needs it

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tests::bench::{Figures, Variant, compare, verdict};
use tests::docker::Docker;
use tests::image::Layout;
use tests::{Fixture, place};

const FUNCTION: &str = "lambci/lambda:provided";

fn main() {
    let Some(fixture) = Fixture::new() else { return };
    let docker = match Docker::start(fixture.path()) {
        Ok(docker) => docker,
        Err(why) => {
            println!("no figures: {why}");
            return;
        }
    };
    let bench = Bench { name: fixture.path().join("docker"), fixture, docker };
    bench.program();
    bench.function();
}

struct Bench {
    fixture: Fixture,
    docker: Docker,
    /// Our program under docker's name.
    name: PathBuf,
}

impl Bench {
    /// Ours under docker's name, its output thrown away.
    fn ours(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.link());
        command.env_clear().env("HOME", self.fixture.path().join("home")).env("UNDOCKED_CACHE", self.fixture.cache()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn link(&self) -> PathBuf {
        let folder = self.fixture.path().join("name");
        let link = folder.join("docker");
        if !link.exists() {
            fs::create_dir(&folder).expect("made");
            symlink(place::undocked(), &link).expect("linked");
        }
        link
    }

    /// An image that docker made, with a program that does nothing.
    fn program(&self) {
        let archive = self.fixture.path().join("nothing.tar").display().to_string();
        succeed(self.docker.command(&["save", "-o", &archive, "nothing"]));
        succeed(self.ours(&["load", "-i", &archive]));
        for network in ["host", "none"] {
            let run = ["run", "--rm", "--network", network, "nothing"];
            let figures = compare(
                &format!("`docker run --rm --network {network}` of a program that does nothing"),
                31,
                vec![
                    Variant::timed("the program alone", || succeed(quiet(Command::new(place::nothing())))),
                    Variant::timed("undocked as docker", || succeed(self.ours(&run))),
                    Variant::timed("docker", || succeed(self.docker.command(&run))),
                ],
            );
            less(&figures);
        }
    }

    /// A function of docker-lambda's, answered once, in the image's own server under docker.
    fn function(&self) {
        let Some(archive) = self.function_archive() else {
            println!("no figures for a function: the image {FUNCTION} is not built (tests/images/mkimages.py build @ci)");
            return;
        };
        succeed(self.docker.command(&["load", "-i", &archive]));
        succeed(self.ours(&["load", "-i", &archive]));
        let task = place::functions().join("provided");
        let volume = format!("{}:/var/task:ro,delegated", task.display());
        let run = ["run", "--rm", "--network", "host", "-v", &volume, FUNCTION, "handler", "{}"];
        let figures = compare(
            "`docker run --rm` of a function",
            31,
            vec![
                Variant::timed("its bootstrap alone, until it finds no Runtime API", || {
                    let mut command = quiet(Command::new(task.join("bootstrap")));
                    let _ = command.env("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9").status().expect("it starts");
                }),
                Variant::timed("undocked as docker", || succeed(self.ours(&run))),
                Variant::timed("docker", || succeed(self.docker.command(&run))),
            ],
        );
        less(&figures);
    }

    fn function_archive(&self) -> Option<String> {
        let layout = place::images_layout();
        Layout::at(&layout).find(FUNCTION)?;
        let archive = self.fixture.path().join("function.tar").display().to_string();
        let image = format!("oci:{}:{FUNCTION}", layout.display());
        let mut pull = self.undocked(&["pull", "-q", "--keep-blobs", &image]);
        succeed_ref(&mut pull);
        succeed(self.undocked(&["tag", &image, FUNCTION]));
        succeed(self.undocked(&["save", "-q", "-o", &archive, FUNCTION]));
        Some(archive)
    }

    fn undocked(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(place::undocked());
        command.env_clear().env("HOME", self.fixture.path().join("home")).env("UNDOCKED_CACHE", self.fixture.cache()).args(arguments);
        quiet(command)
    }
}
