//! `undocked run` from its start to its end: with a function that does nothing, beside Docker where it starts, and with Node beside bare Node.
//!
//! `cargo bench --package tests --bench whole_run`

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tests::bench::{Variant, compare, verdict};
use tests::docker::Docker;
use tests::image::Layout;
use tests::{Fixture, place};

#[path = "bare_node.rs"]
mod bare_node;

fn main() {
    let Some(fixture) = Fixture::new() else { return };
    nothing(&fixture);
    node(&fixture);
}

/// A run as a user starts it, its output thrown away.
fn undocked(fixture: &Fixture, task: &Path, image: &str, rest: &[&str]) -> Command {
    let mut command = Command::new(place::undocked());
    command.env_clear().env("HOME", fixture.path().join("home")).env("UNDOCKED_CACHE", fixture.cache());
    command.args(["run", "-v", &format!("{}:/var/task:ro", task.display()), image]).args(rest);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn succeed(mut command: Command) {
    let status = command.status().expect("it starts");
    assert!(status.success(), "{command:?}: {status}");
}

fn nothing(fixture: &Fixture) {
    fs::write(fixture.task().join("script"), "next\nrespond null\nnext\n").expect("written");
    let image = fixture.image("provided");
    succeed(undocked(fixture, &fixture.task(), &image, &[]));
    let docker = Docker::start(fixture.path());
    let bare = || {
        let mut command = Command::new(place::nothing());
        command.stdin(Stdio::null());
        succeed(command);
    };
    let mut variants = vec![
        Variant::timed("bare posix_spawn of a program that does nothing", bare),
        Variant::timed("undocked run, provided, image cached", || succeed(undocked(fixture, &fixture.task(), &image, &[]))),
    ];
    if let Ok(docker) = &docker {
        let run = || succeed(docker.command(&["run", "--rm", "--network", "host", "nothing"]));
        variants.push(Variant::timed("docker run --rm --network host", run));
    }
    let figures = compare("A function that does nothing", if docker.is_ok() { 21 } else { 101 }, variants);
    verdict("whole process, minimum", figures[1].min.as_secs_f64() * 1e3, 5.0, "ms");
    if let Err(why) = &docker {
        println!("no Docker beside it: {why}");
    }
}

/// An echo in Node 12 of the image, beside the same binary started bare with the same function.
fn node(fixture: &Fixture) {
    const NAME: &str = "lambci/lambda:nodejs12.x";
    if Layout::at(&place::images_layout()).find(NAME).is_none() {
        println!("no figures for Node: the image {NAME} is not built (tests/images/mkimages.py build @ci)");
        return;
    }
    let image = format!("oci:{}:{NAME}", place::images_layout().display());
    let task = place::functions().join("nodejs");
    let event = "{\"n\":1}";
    succeed(undocked(fixture, &task, &image, &["index.handler", event]));
    let images = fs::read_dir(fixture.cache().join("v1/images")).expect("a cache").flatten();
    let node = images.map(|image| image.path().join("rootfs/var/lang/bin/node")).find(|path| path.exists()).expect("the image has node");
    let call = format!("require('{}/index.js').handler({event}, {{}}, (e, v) => console.log(JSON.stringify(v)))", task.display());
    let bare = |script: String| {
        let node = &node;
        move || {
            let mut command = Command::new(node);
            command.env_clear().args(["-e", &script]).stdin(Stdio::null()).stdout(Stdio::null());
            succeed(command);
        }
    };
    let client = bare_node::client(&node);
    let variants = vec![
        Variant::timed("bare node, the handler called once", bare(call.clone())),
        Variant::timed("bare node with the image's runtime client, against a Runtime API of this program", || {
            bare_node::answer_once(&node, &client, &task)
        }),
        Variant::timed("undocked run nodejs12.x", || succeed(undocked(fixture, &task, &image, &["index.handler", event]))),
    ];
    let figures = compare("An echo in Node 12", 31, variants);
    let over = |at: usize| (figures[2].min.as_secs_f64() - figures[at].min.as_secs_f64()) * 1e3;
    verdict("over bare node, minimum", over(0), 10.0, "ms");
    verdict("over bare node that also speaks to a Runtime API, minimum", over(1), 10.0, "ms");
}
