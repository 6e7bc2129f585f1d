//! T3: images whose mount points are traps (CVE-2021-30465, CVE-2023-27561, CVE-2023-28642, CVE-2025-31133, CVE-2025-52565, CVE-2026-41579).
//!
//! Whatever a mount point is in the image, the launch is refused or stays inside, and nothing beside the rootfs changes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::json;
use tests::image::{Image, ImageLayer, Packing, lambci_config};
use tests::leftovers::everything_below;
use tests::tar::{Header, Tar, kind};
use tests::{Fixture, place};

/// What a mount point can be made of.
#[derive(Clone, Copy, Debug)]
enum Trap {
    Absolute,
    Relative,
    Dangling,
    Looping,
    File,
    Fifo,
    IntoProc,
}

const TRAPS: [Trap; 7] = [Trap::Absolute, Trap::Relative, Trap::Dangling, Trap::Looping, Trap::File, Trap::Fifo, Trap::IntoProc];

fn trap(path: &str, trap: Trap, outside: &Path) -> Tar {
    let up = "../".repeat(20);
    let outside = outside.display().to_string();
    match trap {
        Trap::Absolute => Tar::new().symlink(path, &outside),
        Trap::Relative => Tar::new().symlink(path, &format!("{up}{}", outside.trim_start_matches('/'))),
        Trap::Dangling => Tar::new().symlink(path, "/no/such/place"),
        Trap::Looping => Tar::new().symlink(path, &format!("/{path}")),
        Trap::File => Tar::new().file(path, "a file"),
        Trap::Fifo => Tar::new().entry(&Header::new(kind::FIFO, path), b""),
        Trap::IntoProc => Tar::new().symlink(path, "/proc/self/root"),
    }
}

/// Names, kinds, links and contents below a folder.
fn state(folder: &Path) -> Vec<(String, u32, u64, Vec<u8>)> {
    let mut found: Vec<_> = everything_below(folder)
        .into_iter()
        .map(|path| {
            let seen = fs::symlink_metadata(&path).expect("it exists");
            (path.display().to_string(), seen.mode(), seen.nlink(), fs::read(&path).unwrap_or_default())
        })
        .collect();
    found.sort();
    found
}

/// Runs an image whose path `place` is each trap in turn.
fn each_trap(place: &str) {
    each_trap_with(place, false);
}

/// The same, with volumes below `/tmp` if that is asked for.
fn each_trap_with(place: &str, below_tmp: bool) {
    let Some(fixture) = Fixture::new() else { return };
    let outside = fixture.path().join("outside");
    fs::create_dir(&outside).expect("made");
    fs::create_dir(outside.join("task")).expect("made");
    fs::create_dir_all(outside.join("in/deep")).expect("made");
    fs::write(outside.join("file"), "shown").expect("written");
    fs::write(outside.join("canary"), "untouched").expect("written");
    let before = state(&outside);
    let probe = fs::read(place::probe()).expect("the probe is there");
    fixture.script("list root /\nwrite through /canary y\nwrite out /var/task/new y\nlist task /var/task\nnext\nrespond-notes\nnext");
    // Without a trap it runs, so whatever is refused below is refused for the trap.
    assert_eq!(fixture.run(&[], &[]).finish().expect_code(0).json()["through"], place::refused_write());
    for kind in TRAPS {
        let name = format!("{kind:?}").to_lowercase();
        // The probe is in the image too, so that a run can succeed where the task folder is not the trap.
        let base = Tar::new().program("opt-probe", &probe);
        let image = Image { layers: vec![ImageLayer::new(base, Packing::Plain)], config: lambci_config() }
            .layer(trap(place, kind, &outside), Packing::Plain);
        fixture.layout().add(&name, &image.with("User", json!("")));
        let [folder, file] = ["in/deep", "file"].map(|place| format!("{}:/tmp/{place}", outside.join(place).display()));
        let options = if below_tmp { &["-v", &folder, "-v", &file][..] } else { &[] };
        let ran = fixture.run_image(&fixture.image(&name), options, &[]).finish();
        match ran.code() {
            0 => {}
            1 => assert!(ran.json()["errorType"].is_string(), "{place} as {kind:?}"),
            125 => assert!(ran.stdout.is_empty() && !ran.stderr.is_empty(), "{place} as {kind:?}"),
            other => panic!("{place} as {kind:?}: {other}: {}", ran.err()),
        }
        assert!(!ran.err().contains("panicked"), "{place} as {kind:?}: {}", ran.err());
        if ran.code() == 0 {
            let notes = ran.json();
            assert_eq!(notes["through"], place::refused_write(), "{place} as {kind:?}");
            let root = notes["root"].to_string();
            assert!(!root.contains("canary") && !root.contains("lost+found"), "{place} as {kind:?}: {root}");
        }
        assert_eq!(state(&outside), before, "{place} as {kind:?}: something outside has changed");
        fixture.expect_nothing_left();
    }
}

#[test]
fn t3_dev_is_a_trap() {
    each_trap("dev");
}

#[test]
fn t3_a_device_is_a_trap() {
    each_trap("dev/null");
}

#[test]
fn t3_proc_is_a_trap() {
    each_trap("proc");
}

/// A link at `proc` or `dev` of the image was once followed on the host's root when parts of `/proc` were masked: host folders named `sys`, `bus`, `fs`
/// and `irq`, and a file named `null`, came to lie inside.
#[test]
fn t3_a_link_at_proc_or_dev_shows_nothing_of_the_host() {
    let Some(fixture) = Fixture::new() else { return };
    // Not below /tmp, which the sandbox covers.
    let host = tempfile::tempdir_in("/var/tmp").expect("made");
    fs::create_dir(host.path().join("sys")).expect("made");
    fs::write(host.path().join("sys/secret"), "of the host").expect("written");
    fs::write(host.path().join("null"), "of the host").expect("written");
    let folder = host.path().display().to_string();
    let inside = folder.trim_start_matches('/');
    fixture.script(&format!("list sys {folder}/sys\nread null {folder}/null\nread keys /proc/keys\nnext\nrespond-notes\nnext"));
    let probe = fs::read(place::probe()).expect("the probe is there");
    for link in ["proc", "dev"] {
        let base = Tar::new()
            .program("opt-probe", &probe)
            .folder(inside)
            .folder(&format!("{inside}/sys"))
            .file(&format!("{inside}/null"), "of the image");
        let image = Image { layers: vec![ImageLayer::new(base, Packing::Plain)], config: lambci_config() }
            .layer(Tar::new().symlink(link, &folder), Packing::Plain);
        fixture.layout().add(link, &image.with("User", json!("")));
        let ran = fixture.run_image(&fixture.image(link), &[], &[]).finish();
        let said = format!("{}{}", ran.out(), ran.err());
        assert!(!said.contains("secret") && !said.contains("of the host"), "{link}: {said}");
        match ran.code() {
            0 => assert!(ran.json()["keys"].is_string(), "{link}: the probe looked: {said}"),
            code => assert!(code == 125 && !ran.stderr.is_empty(), "{link}: {code}: {said}"),
        }
        fixture.expect_nothing_left();
    }
}

#[test]
fn t3_tmp_is_a_trap() {
    each_trap("tmp");
}

#[test]
fn t3_tmp_is_a_trap_for_volumes_below_it() {
    each_trap_with("tmp", true);
}

/// The image's `/tmp` leads into a folder of the host's that is shown and may be written to: no place is made in that.
#[test]
fn t3_tmp_leads_into_a_volume() {
    let Some(fixture) = Fixture::new() else { return };
    let outside = fixture.path().join("outside");
    fs::create_dir(&outside).expect("made");
    fixture.script("next\nrespond 1\nnext");
    let probe = fs::read(place::probe()).expect("the probe is there");
    for (name, target) in [("to-task", "/var/task"), ("to-root", "/"), ("up", "..")] {
        let base = Tar::new().program("opt-probe", &probe).folder("var").folder("var/task");
        let image = Image { layers: vec![ImageLayer::new(base, Packing::Plain)], config: lambci_config() }
            .layer(Tar::new().symlink("tmp", target), Packing::Plain);
        fixture.layout().add(name, &image.with("User", json!("")));
        let before = state(&fixture.task());
        let [task, below] = ["/var/task", "/tmp/in/deep"].map(|place| {
            let source = if place == "/var/task" { fixture.task() } else { outside.clone() };
            format!("{}:{place}", source.display())
        });
        for volumes in [[&task, &below], [&below, &task]] {
            let ran = fixture.undocked(&["run", "-v", volumes[0], "-v", volumes[1], &fixture.image(name)]).finish();
            assert!(matches!(ran.code(), 0 | 1 | 125) && !ran.err().contains("panicked"), "{name}: {}: {}", ran.code(), ran.err());
            assert_eq!((state(&fixture.task()), state(&outside)), (before.clone(), Vec::new()), "{name}: {}", ran.err());
        }
        fixture.expect_nothing_left();
    }
}

/// A link in the task folder, which a function may have put there: what is made on its way would lie where it leads on the host.
#[test]
fn t3_a_link_in_a_volume_is_the_way_to_a_place() {
    let Some(fixture) = Fixture::new() else { return };
    let [outside, shown] = ["outside", "shown"].map(|name| fixture.path().join(name));
    for folder in [&outside, &shown] {
        fs::create_dir(folder).expect("made");
    }
    fs::write(shown.join("file"), "").expect("written");
    fixture.script("next\nrespond 1\nnext");
    let task = format!("{}:/var/task", fixture.task().display());
    let up = "../outside".to_owned();
    for target in [outside.display().to_string(), up, "/opt".to_owned(), "/proc/self/root".to_owned(), "link".to_owned()] {
        let link = fixture.task().join("link");
        std::os::unix::fs::symlink(&target, &link).expect("made");
        let before = state(&fixture.task());
        for (source, place) in [(&shown, "new"), (&shown, "new/deep"), (&shown.join("file"), "new"), (&shown.join("file"), "new/file")] {
            let volume = format!("{}:/var/task/link/{place}", source.display());
            let ran = fixture.undocked(&["run", "-v", &task, "-v", &volume, &fixture.provided()]).finish().expect_code(125);
            assert!(ran.err().contains("is a link") && ran.err().contains("hint: "), "{target}: {}", ran.err());
            assert_eq!((state(&fixture.task()), state(&outside)), (before.clone(), Vec::new()), "{target} {place}");
        }
        fs::remove_file(link).expect("removed");
    }
    fixture.expect_nothing_left();
}

#[test]
fn t3_var_is_a_trap() {
    each_trap("var");
}

#[test]
fn t3_the_task_folder_is_a_trap() {
    each_trap("var/task");
}

#[test]
fn t3_opt_is_a_trap() {
    each_trap("opt");
}

#[test]
fn t3_etc_is_a_trap() {
    each_trap("etc");
}

#[test]
fn t3_resolv_conf_is_a_trap() {
    each_trap("etc/resolv.conf");
}

#[test]
fn t3_passwd_is_a_trap() {
    each_trap("etc/passwd");
}

#[test]
fn t3_the_terminals_folder_is_a_trap() {
    each_trap("dev/pts");
}
