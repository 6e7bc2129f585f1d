//! `undocked build` of AWS's example for Python beside `docker build` and `podman build`, where these start: cold with the base at hand, warm, and with a changed function.
//! What is built costs the same whoever builds: so `pip` alone stands beside the cold ones, and an example whose command does next to nothing.
//!
//! `cargo bench --package tests --bench build`

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tests::bench::{Variant, compare};
use tests::docker::Docker;
use tests::skip::has_program;
use tests::{Fixture, place};

const IMAGE: &str = "lambda/python:3.11";
/// What the image lacks of AWS's: a `pip`; and wheels for it, for there is no network here.
const BASE: &str = "ARG BASE\nFROM ${BASE}\nCOPY *.whl /wheels/\n\
                    RUN PYTHONPATH=$(echo /wheels/pip-*.whl) python3 -m pip install --no-index --find-links /wheels pip && \
                    printf '[global]\\nno-index = true\\nfind-links = /wheels\\n' > /etc/pip.conf\n";
const EXAMPLE: &str = "FROM bench-base\n\n# Copy requirements.txt\nCOPY requirements.txt ${LAMBDA_TASK_ROOT}\n\n# Install the specified packages\n\
                       RUN pip install -r requirements.txt\n\n# Copy function code\nCOPY lambda_function.py ${LAMBDA_TASK_ROOT}\n\n\
                       # Set the CMD to your handler\nCMD [ \"lambda_function.handler\" ]\n";
const WITHOUT_PIP: &str = "FROM bench-base\n\nCOPY requirements.txt ${LAMBDA_TASK_ROOT}\n\nRUN echo built > /etc/built\n\n\
                           COPY lambda_function.py ${LAMBDA_TASK_ROOT}\n\nCMD [ \"lambda_function.handler\" ]\n";

struct Bench {
    fixture: Fixture,
    context: PathBuf,
}

/// Who builds: a name, and a command that is given options.
type Peer<'a> = (&'a str, Box<dyn Fn(&[&str]) -> Command + 'a>);

fn main() {
    let Some(fixture) = Fixture::new() else { return };
    let context = fixture.path().join("context");
    fs::create_dir(&context).expect("made");
    let bench = Bench { fixture, context };
    if let Err(why) = bench.prepare() {
        println!("no figures for builds: {why}");
        return;
    }
    let docker = Docker::start(bench.fixture.path());
    let mut peers: Vec<Peer<'_>> = vec![("undocked", Box::new(|options| bench.undocked(options)))];
    match &docker {
        Ok(docker) => {
            succeed(docker.command(&["load", "-i", &bench.archive().display().to_string()]));
            let build = |options: &[&str]| {
                let mut command = docker.command(&["build", "--network", "host"]);
                command.env("DOCKER_BUILDKIT", "0").args(options);
                command
            };
            peers.push(("docker", Box::new(build)));
        }
        Err(why) => println!("no docker beside it: {why}"),
    }
    if has_program("podman") {
        succeed(bench.podman(&["load", "-i", &bench.archive().display().to_string()]));
        let build = |options: &[&str]| {
            let mut command = bench.podman(&["build", "--isolation", "chroot", "--layers"]);
            command.args(options);
            command
        };
        peers.push(("podman (chroot)", Box::new(build)));
    }
    bench.measure(&peers);
}

impl Bench {
    fn prepare(&self) -> Result<(), String> {
        let folder = "import ensurepip, os; print(os.path.join(os.path.dirname(ensurepip.__file__), '_bundled'))";
        let found = ["python3.11", "python3"].iter().find_map(|python| {
            let said = Command::new(python).args(["-c", folder]).output().ok().filter(|said| said.status.success())?;
            let folder = PathBuf::from(String::from_utf8(said.stdout).ok()?.trim());
            let wheels: Vec<PathBuf> = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
            let has =
                |name: &str| wheels.iter().any(|wheel| wheel.file_name().is_some_and(|found| found.to_string_lossy().starts_with(name)));
            (has("pip-") && has("setuptools-")).then_some(wheels)
        });
        let wheels = found.or_else(wheels_of_debian).ok_or("there are no wheels of pip and setuptools (Debian package python3-pip-whl)")?;
        let base = self.fixture.path().join("base");
        fs::create_dir(&base).map_err(|error| error.to_string())?;
        for wheel in wheels.iter().filter(|wheel| wheel.extension().is_some_and(|extension| extension == "whl")) {
            fs::copy(wheel, base.join(wheel.file_name().expect("it has a name"))).map_err(|error| error.to_string())?;
        }
        fs::write(base.join("Dockerfile"), BASE).map_err(|error| error.to_string())?;
        let image = format!("BASE=oci:{}:{IMAGE}", place::images_layout().display());
        let mut build = self.command(&["build", "-q", "-t", "bench-base", "--build-arg", &image]);
        build.arg(&base);
        if !build.status().is_ok_and(|status| status.success()) {
            return Err(format!("the image {IMAGE} is not built (tests/images/mkimages.py build @ci)"));
        }
        succeed(self.command(&["save", "-q", "-o", &self.archive().display().to_string(), "bench-base"]));
        fs::write(self.context.join("Dockerfile"), EXAMPLE).map_err(|error| error.to_string())?;
        fs::write(self.context.join("Dockerfile.without-pip"), WITHOUT_PIP).map_err(|error| error.to_string())?;
        fs::write(self.context.join("requirements.txt"), "setuptools\n").map_err(|error| error.to_string())?;
        fs::write(self.context.join("lambda_function.py"), "def handler(event, context):\n    return 1\n")
            .map_err(|error| error.to_string())
    }

    fn archive(&self) -> PathBuf {
        self.fixture.path().join("base.tar")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(place::undocked());
        command.env_clear().env("HOME", self.fixture.path().join("home")).env("UNDOCKED_CACHE", self.fixture.cache());
        silent(command.args(arguments));
        command
    }

    fn undocked(&self, options: &[&str]) -> Command {
        let mut command = self.command(&["build"]);
        command.args(options);
        command
    }

    fn podman(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("podman");
        let folder = |name: &str| self.fixture.path().join("podman").join(name);
        command.arg("--root").arg(folder("root")).arg("--runroot").arg(folder("run")).args(["--cgroup-manager", "cgroupfs"]);
        silent(command.args(arguments));
        command
    }

    fn measure(&self, peers: &[Peer<'_>]) {
        let build = |make: &dyn Fn(&[&str]) -> Command, options: &[&str], context: &Path| {
            let mut command = make(options);
            command.args(["-t", "bench"]).arg(context);
            succeed(command);
        };
        let cold = peers
            .iter()
            .map(|(name, make)| Variant::timed(format!("{name} build --no-cache"), move || build(make, &["--no-cache"], &self.context)));
        let volume = format!("{}:/var/task:ro", self.context.display());
        let run = ["run", "--entrypoint", "", "-v", &volume, "bench-base", "pip", "install", "-q", "-r", "requirements.txt"];
        let pip = Variant::timed("its pip alone, in our sandbox", || succeed(self.command(&run)));
        compare("AWS's Python example, base at hand", 5, cold.chain([pip]).collect());
        let small = peers.iter().map(|(name, make)| {
            let file = self.context.join("Dockerfile.without-pip").display().to_string();
            Variant::timed(format!("{name} build --no-cache"), move || build(make, &["--no-cache", "-f", &file], &self.context))
        });
        compare("the same with `echo` in place of pip", 7, small.collect());
        let warm = peers
            .iter()
            .map(|(name, make)| Variant::timed(format!("{name} build, nothing changed"), move || build(make, &[], &self.context)));
        compare("AWS's Python example, again", 15, warm.collect());
        let mut count = 0;
        let changed = peers.iter().map(|(name, make)| {
            let path = self.context.join("lambda_function.py");
            count += 1;
            let mut number = count * 1_000_000;
            Variant::timed(format!("{name} build, function changed"), move || {
                number += 1;
                fs::write(&path, format!("x = {number}\n")).expect("written");
                build(make, &[], &self.context);
            })
        });
        compare("AWS's Python example, another function", 9, changed.collect());
    }
}

fn wheels_of_debian() -> Option<Vec<PathBuf>> {
    let wheels: Vec<PathBuf> = fs::read_dir("/usr/share/python-wheels").ok()?.flatten().map(|entry| entry.path()).collect();
    (!wheels.is_empty()).then_some(wheels)
}

fn silent(command: &mut Command) {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
}

fn succeed(mut command: Command) {
    let status = command.status().expect("it starts");
    assert!(status.success(), "{command:?}: {status}");
}
