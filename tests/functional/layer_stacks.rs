//! Layers made at random, unpacked by undocked, and what others make of them: a real overlay mount of layers that Python unpacked, and umoci where it is installed.
//!
//! `UNDOCKED_TESTS_SEED=N` begins with that seed, `UNDOCKED_TESTS_STACKS=N` tries that many; a failure says its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tests::image::{Image, ImageLayer, Layout, Packing, lambci_config};
use tests::skip::{self, has_program, is_root};
use tests::tar::{Header, Tar, kind};
use tests::{Fixture, place};

const STACKS: u64 = 8;
/// What a header has room for in a path.
const FIELD: usize = 100;

/// xorshift64*: the same stack for the same seed, on every machine.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).expect("31 bits") % sides
    }

    fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }
}

/// A layer under construction: what it has said of which path.
#[derive(Default)]
struct Layer {
    tar: Tar,
    folders: BTreeSet<String>,
    files: Vec<String>,
    others: BTreeSet<String>,
}

impl Layer {
    fn has(&self, path: &str) -> bool {
        self.folders.contains(path) || self.others.contains(path) || self.files.iter().any(|file| file == path)
    }

    fn add(&mut self, header: Header, path: &str, data: &[u8], dice: &mut Dice) {
        let header = header.mtime(dice.one_of(&[0, 951_782_400, 1_600_000_000, 4_000_000_000]));
        let mut tar = std::mem::take(&mut self.tar);
        let link = String::from_utf8(header.link.clone()).expect("names here are text");
        let (has_long_path, has_long_link) = (path.len() > FIELD, link.len() > FIELD);
        // Whatever does not fit into a header's field stands in a record before it, in one of two ways.
        if dice.below(2) == 0 {
            for (kind, long, text) in [(kind::GNU_LONG_LINK, has_long_link, &link[..]), (kind::GNU_LONG_NAME, has_long_path, path)] {
                if long {
                    tar = tar.entry(&Header::new(kind, "././@LongLink"), format!("{text}\0").as_bytes());
                }
            }
        } else {
            let mut records = Vec::new();
            records.extend(has_long_path.then_some(("path", path)));
            records.extend(has_long_link.then_some(("linkpath", &link[..])));
            if matches!(header.kind, kind::FILE | kind::FOLDER) && !path.contains(".wh.") && dice.below(3) == 0 {
                records.push(("SCHILY.xattr.user.test", dice.one_of(&["", "value", "with = and \u{e9}"])));
            }
            if !records.is_empty() {
                tar = tar.pax(&records);
            }
        }
        self.tar = tar.entry(&header, data);
    }

    /// All folders above a path, and whether they could be.
    fn parents(&mut self, path: &str, dice: &mut Dice) -> bool {
        let parents: Vec<&str> = path.match_indices('/').map(|(at, _)| &path[..at]).collect();
        for parent in parents {
            if self.folders.contains(parent) {
                continue;
            }
            if self.has(parent) {
                return false;
            }
            self.folders.insert(parent.to_owned());
            let header = Header::new(kind::FOLDER, parent).mode(dice.one_of(&[0o755, 0o750, 0o1777, 0o700]));
            self.add(header, parent, b"", dice);
        }
        true
    }
}

/// One layer more over what is seen so far; `seen` says of each path whether it is a folder.
fn layer(dice: &mut Dice, seen: &mut BTreeMap<String, bool>) -> Tar {
    const NAMES: [&str; 9] =
        ["a", "b", "c", "d e", "\u{e9}", ".hidden", "-x", "wh", "a-name-that-is-so-long-that-with-others-of-its-kind-it-fits-no-header"];
    let mut layer = Layer::default();
    for _ in 0..3 + dice.below(14) {
        let depth = if dice.below(12) == 0 { 12 + dice.below(12) } else { 1 + dice.below(3) };
        let path = (0..depth).map(|_| dice.one_of(&NAMES)).collect::<Vec<_>>().join("/");
        if layer.has(&path) || !layer.parents(&path, dice) {
            continue;
        }
        let known: Vec<String> = seen.keys().filter(|known| !layer.has(known)).cloned().collect();
        match dice.below(8) {
            0..=2 => {
                let content = vec![b'a' + u8::try_from(dice.below(26)).expect("a letter"); dice.below(3000)];
                let header = Header::new(kind::FILE, &path).mode(dice.one_of(&[0o644, 0o600, 0o755, 0o444, 0o4755]));
                layer.add(header, &path, &content, dice);
                layer.files.push(path);
            }
            3 => {
                let header = Header::new(kind::FOLDER, &path).mode(dice.one_of(&[0o755, 0o711, 0o2755]));
                layer.add(header, &path, b"", dice);
                layer.folders.insert(path);
            }
            4 => {
                let long = "far/".repeat(40);
                let header = Header::new(kind::SYMLINK, &path).mode(0o777).link(dice.one_of(&["a", "../b", "/c/d e", "nowhere", &long]));
                layer.add(header, &path, b"", dice);
                layer.others.insert(path);
            }
            5 if !layer.files.is_empty() => {
                let target = dice.one_of(&layer.files);
                layer.add(Header::new(kind::HARD_LINK, &path).link(&target), &path, b"", dice);
                layer.files.push(path);
            }
            6 if !known.is_empty() => hide(&mut layer, dice, &known),
            _ => empty(&mut layer, dice, seen),
        }
    }
    // What is seen is only a guess at what may be hidden next; the references say what is right.
    seen.extend(layer.folders.iter().map(|path| (path.clone(), true)));
    seen.extend(layer.files.iter().chain(&layer.others).map(|path| (path.clone(), false)));
    layer.tar
}

/// A whiteout of something that lower layers may have.
fn hide(layer: &mut Layer, dice: &mut Dice, known: &[String]) {
    let gone = dice.one_of(known);
    if !layer.parents(&gone, dice) || layer.has(&gone) {
        return;
    }
    let (folder, name) = gone.rsplit_once('/').map_or((String::new(), gone.as_str()), |(folder, name)| (format!("{folder}/"), name));
    let whiteout = format!("{folder}.wh.{name}");
    layer.add(Header::new(kind::FILE, &whiteout), &whiteout, b"", dice);
    layer.others.insert(gone);
}

/// An opaque whiteout of a folder that lower layers may have.
fn empty(layer: &mut Layer, dice: &mut Dice, seen: &BTreeMap<String, bool>) {
    let folders: Vec<String> = seen.iter().filter(|(_, is_folder)| **is_folder).map(|(path, _)| path.clone()).collect();
    if folders.is_empty() {
        return;
    }
    let whiteout = format!("{}/.wh..wh..opq", dice.one_of(&folders));
    if layer.others.contains(&whiteout) || !layer.parents(&whiteout, dice) {
        return;
    }
    layer.add(Header::new(kind::FILE, &whiteout), &whiteout, b"", dice);
    layer.others.insert(whiteout);
}

fn stack(seed: u64) -> Image {
    let mut dice = Dice::new(seed);
    let mut seen = BTreeMap::new();
    let packings = [Packing::Plain, Packing::Gzip];
    let layers = (0..2 + dice.below(4)).map(|_| layer(&mut dice, &mut seen)).collect::<Vec<_>>();
    Image { layers: layers.into_iter().map(|tar| ImageLayer::new(tar, dice.one_of(&packings))).collect(), config: lambci_config() }
}

fn script() -> PathBuf {
    place::project().join("tests/images/overlay.py")
}

/// The lines of a list that a command prints.
#[track_caller]
fn lines(mut command: Command) -> Vec<String> {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// A command in a mount namespace where we may mount.
fn in_namespaces(fixture: &Fixture) -> Command {
    let mut command = Command::new("unshare");
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "python3"]).arg(script()).env("TMPDIR", fixture.path());
    command
}

fn listed(fixture: &Fixture, root: &Path) -> Vec<String> {
    let mut command = in_namespaces(fixture);
    command.arg("list").arg(root);
    lines(command)
}

/// What a real overlay mount shows of an image.
fn overlay(fixture: &Fixture, layout: &Path, name: &str) -> Vec<String> {
    let mut command = in_namespaces(fixture);
    command.arg("overlay").arg(layout).arg(name);
    lines(command)
}

/// What umoci makes of it.
fn umoci(fixture: &Fixture, layout: &Path, name: &str) -> Vec<String> {
    let bundle = fixture.path().join("bundle");
    let mut command = Command::new("umoci");
    command
        .arg("unpack")
        .args((!is_root()).then_some("--rootless"))
        .arg("--image")
        .arg(format!("{}:{name}", layout.display()))
        .arg(&bundle);
    let said = command.output().expect("umoci starts");
    assert!(said.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said.stderr));
    let found = listed(fixture, &bundle.join("rootfs"));
    Command::new("chmod").args(["-R", "u+rwX"]).arg(&bundle).status().expect("it starts");
    fs::remove_dir_all(&bundle).expect("removed");
    found
}

/// What undocked makes of it; the cache is empty afterwards.
fn ours(fixture: &Fixture, layout: &Path, name: &str) -> Vec<String> {
    fixture.undocked(&["pull", "-q", &format!("oci:{}:{name}", layout.display())]).finish().expect_code(0);
    let images = fixture.cache().join("v1/images");
    let image = fs::read_dir(&images).expect("a cache").next().expect("an image").expect("read").path();
    let found = listed(fixture, &image.join("rootfs"));
    fixture.undocked(&["prune", "--all"]).finish().expect_code(0);
    found
}

fn path(line: &str) -> String {
    let line: Value = serde_json::from_str(line).expect("a line is JSON");
    line[0].as_str().expect("a path").to_owned()
}

/// What every tree of ours has beside its image: the places where things are mounted.
fn mount_points(fixture: &Fixture) -> BTreeSet<String> {
    let folder = fixture.path().join("empty");
    let empty = Image { layers: vec![ImageLayer::new(Tar::new().folder("tmp"), Packing::Plain)], config: lambci_config() };
    Layout::create(&folder).add("empty", &empty);
    ours(fixture, &folder, "empty").iter().map(|line| path(line)).collect()
}

/// Compares two lists; the first lines that differ are told. Mount points of ours count only where they have them, too.
#[track_caller]
fn same(what: &str, theirs: &[String], ours: &[String], mount_points: &BTreeSet<String>) {
    let their_paths: BTreeSet<String> = theirs.iter().map(|line| path(line)).collect();
    let is_added = |line: &&String| mount_points.contains(&path(line)) && !their_paths.contains(&path(line));
    let (theirs, ours): (BTreeSet<&String>, BTreeSet<&String>) =
        (theirs.iter().collect(), ours.iter().filter(|line| !is_added(line)).collect());
    let only =
        |one: &BTreeSet<&String>, other: &BTreeSet<&String>| one.difference(other).take(5).map(|line| line.to_string()).collect::<Vec<_>>();
    assert!(theirs == ours, "{what}\ntheirs alone: {:#?}\nours alone: {:#?}", only(&theirs, &ours), only(&ours, &theirs));
}

/// A line without what umoci loses as an ordinary user: attributes of files that nobody may write to. A real overlay has them.
fn as_umoci_may(line: &str) -> String {
    let mut parts: Vec<Value> = serde_json::from_str(line).expect("a line is JSON");
    let mode = parts[2].as_str().and_then(|mode| u32::from_str_radix(mode.trim_start_matches("0o"), 8).ok());
    if !is_root() && parts[1] == "file" && mode.is_some_and(|mode| mode & 0o200 == 0) {
        parts.pop();
    }
    json!(parts).to_string()
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn random_stacks_are_what_a_real_overlay_and_umoci_show() {
    let Some(fixture) = Fixture::new() else { return };
    let umoci_is_here = has_program("umoci");
    if !umoci_is_here {
        skip::skip(skip::Lack::Providable, "umoci is not installed");
    }
    let mount_points = mount_points(&fixture);
    let first = number("UNDOCKED_TESTS_SEED").unwrap_or(1);
    for seed in first..first + number("UNDOCKED_TESTS_STACKS").unwrap_or(STACKS) {
        let folder = fixture.path().join("stack");
        Layout::create(&folder).add("stack", &stack(seed).with("User", json!("")));
        let found = ours(&fixture, &folder, "stack");
        same(&format!("seed {seed}, a real overlay"), &overlay(&fixture, &folder, "stack"), &found, &mount_points);
        if umoci_is_here {
            let [theirs, ours] =
                [umoci(&fixture, &folder, "stack"), found].map(|list| list.iter().map(|line| as_umoci_may(line)).collect::<Vec<_>>());
            same(&format!("seed {seed}, umoci"), &theirs, &ours, &mount_points);
        }
        fs::remove_dir_all(&folder).expect("removed");
    }
    fixture.expect_nothing_left();
}

#[test]
fn the_edge_images_are_what_umoci_makes_of_them() {
    let Some(fixture) = Fixture::new() else { return };
    if !has_program("umoci") {
        return skip::skip(skip::Lack::Providable, "umoci is not installed");
    }
    let mut mount_points = mount_points(&fixture);
    // The working directory of one of them, which nobody but a runtime makes.
    mount_points.extend(["var/task/new", "var/task/new/dir"].map(str::to_owned));
    let layout = place::images_layout();
    for name in ["test/edge:latest", "test/edge-odd:latest"] {
        if Layout::at(&layout).find(name).is_none() {
            return skip::skip(skip::Lack::Providable, &format!("the image {name} is not built (tests/images/mkimages.py build @ci)"));
        }
        let (mut theirs, mut found) = (umoci(&fixture, &layout, name), ours(&fixture, &layout, name));
        // Where a layer leaves a folder out above what it adds, umoci follows a link of lower layers, or keeps their folder's mode. Ours makes the folder, as
        // overlayfs shows it and dockerd does.
        let odd = ["linkdir", "linkdir/through", "keep/through", "ro-dir"];
        for list in [&mut theirs, &mut found] {
            list.retain(|line| name != "test/edge-odd:latest" || !odd.contains(&path(line).as_str()));
        }
        same(name, &theirs, &found, &mount_points);
    }
}
