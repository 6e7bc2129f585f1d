//! `docker run --rm` through us, under docker's name, beside real docker: what each adds to a program and to a function that run bare.
//!
//! `cargo bench --package tests --bench docker_run`, as root, for dockerd needs it

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tests::bench::{Figures, Variant, compare, verdict};
use tests::docker::Docker;
use tests::image::Layout;
use tests::{Fixture, place};

#[path = "bare_node.rs"]
mod bare_node;

const FUNCTION: &str = "lambci/lambda:nodejs12.x";

fn main() {
    let Some(fixture) = Fixture::new() else { return };
    let docker = match Docker::start(fixture.path()) {
        Ok(docker) => docker,
        Err(why) => {
            println!("no figures: {why}");
            return;
        }
    };
    let folder = fixture.path().join("name");
    fs::create_dir(&folder).expect("made");
    let name = folder.join("docker");
    symlink(place::undocked(), &name).expect("linked");
    let bench = Bench { name, fixture, docker };
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

    /// A function of docker-lambda's, answered once; under docker by the image's own server.
    fn function(&self) {
        let Some(archive) = self.function_archive() else {
            println!("no figures for a function: the image {FUNCTION} is not built (tests/images/mkimages.py build @ci)");
            return;
        };
        succeed(self.docker.command(&["load", "-i", &archive]));
        let images = fs::read_dir(self.fixture.cache().join("v1/images")).expect("a cache").flatten();
        let node =
            images.map(|image| image.path().join("rootfs/var/lang/bin/node")).find(|path| path.exists()).expect("the image has node");
        let client = bare_node::client(&node);
        let task = place::functions().join("nodejs");
        let volume = format!("{}:/var/task:ro,delegated", task.display());
        let run = ["run", "--rm", "--network", "host", "-v", &volume, FUNCTION, "index.handler", "{\"n\":1}"];
        let figures = compare(
            &format!("`docker run --rm --network host -v ...:/var/task {FUNCTION} index.handler`"),
            31,
            vec![
                Variant::timed("node with the image's runtime client alone", || bare_node::answer_once(&node, &client, &task)),
                Variant::timed("undocked as docker", || succeed(self.ours(&run))),
                Variant::timed("docker", || succeed(self.docker.command(&run))),
            ],
        );
        less(&figures);
    }

    /// The function's image as both are given it.
    fn function_archive(&self) -> Option<String> {
        let layout = place::images_layout();
        Layout::at(&layout).find(FUNCTION)?;
        let archive = self.fixture.path().join("function.tar").display().to_string();
        let image = format!("oci:{}:{FUNCTION}", layout.display());
        succeed(self.plain(&["pull", "-q", "--keep-blobs", &image]));
        succeed(self.plain(&["tag", &image, FUNCTION]));
        succeed(self.plain(&["save", "-q", "-o", &archive, FUNCTION]));
        Some(archive)
    }

    /// Ours under its own name, its output thrown away.
    fn plain(&self, arguments: &[&str]) -> Command {
        self.with_cache(Command::new(place::undocked()), arguments)
    }

    /// Ours under docker's name, its output thrown away.
    fn ours(&self, arguments: &[&str]) -> Command {
        self.with_cache(Command::new(&self.name), arguments)
    }

    fn with_cache(&self, mut command: Command, arguments: &[&str]) -> Command {
        command.env_clear().env("HOME", self.fixture.path().join("home")).env("UNDOCKED_CACHE", self.fixture.cache()).args(arguments);
        quiet(command)
    }
}

fn quiet(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn succeed(mut command: Command) {
    let status = command.status().expect("it starts");
    assert!(status.success(), "{command:?}: {status}");
}

/// How much less we add to the first variant than docker does.
fn less(figures: &[Figures]) {
    let over = |at: usize, of: fn(&Figures) -> f64| of(&figures[at]) - of(&figures[0]);
    for (what, of) in [
        ("minimum", (|figures| figures.min.as_secs_f64() * 1e3) as fn(&Figures) -> f64),
        ("median", |figures| figures.median.as_secs_f64() * 1e3),
    ] {
        println!("over the bare program, {what}: {:.2} ms, docker {:.2} ms", over(1, of), over(2, of));
        verdict(&format!("ours over docker's, {what}"), over(1, of) / over(2, of), 1.0 / 50.0, "");
    }
}
