//! The cache: shared, crash-safe, refused when it is not ours, listed and emptied by commands.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use tests::image::{Image, Packing};
use tests::leftovers::everything_below;
use tests::tar::Tar;
use tests::{Fixture, Ran, place, skip, skip_for_this_kernel, skip_for_this_user};

/// A deterministic layer of many small files, enough for a pull to take a moment.
fn many_files(count: usize) -> Image {
    let tar = (0..count).fold(Tar::new(), |tar, n| tar.file(&format!("opt/many/{n:05}"), vec![b'x'; 3000]));
    Image::provided().layer(tar, Packing::Plain).layer(Tar::new().file("opt/last", "whole"), Packing::Gzip)
}

fn published(fixture: &Fixture, kind: &str) -> Vec<PathBuf> {
    fs::read_dir(fixture.cache().join("v1").join(kind)).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Relative paths with kind, mode, size, link count left out: a tree's face.
fn face(root: &Path) -> BTreeMap<PathBuf, (u32, u64)> {
    let relative = |path: &Path| path.strip_prefix(root).expect("it is below").to_owned();
    let entry = |path: &PathBuf| {
        let found = fs::symlink_metadata(path).expect("it exists");
        (relative(path), (found.mode(), if found.is_dir() { 0 } else { found.len() }))
    };
    everything_below(root).iter().map(entry).collect()
}

/// Of the unpack rules the last: names that fold into one another would make one file of two. The file system of the test's own is in memory, by fuse(4).
#[test]
fn rule_15_a_file_system_that_lacks_what_a_cache_needs_is_refused() {
    let fixture = Fixture::without_sandbox();
    if fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").is_err() {
        if skip::is_root() {
            skip_for_this_kernel!("there is no `/dev/fuse`");
        }
        skip_for_this_user!("`/dev/fuse` is root's");
    }
    let folder = fixture.path().join("lacking");
    fs::create_dir(&folder).expect("made");
    let image = fixture.image("small");
    fixture.layout().add("small", &Image::provided().layer(Tar::new().file("opt/a", "a").file("opt/A", "b"), Packing::Gzip));
    let pulled = |lacks: &str| {
        let mut unshare = Command::new("unshare");
        if !skip::is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        unshare.args(["--mount", "python3"]).arg(place::project().join("tests/images/lacking.py")).arg(lacks).arg(&folder);
        let script = "\"$0\" pull -q \"$1\" && \"$0\" images --verify && ls \"$UNDOCKED_CACHE\"/v1/images/*/rootfs/opt";
        unshare.args(["sh", "-c", script]).arg(place::undocked()).arg(&image).env("UNDOCKED_CACHE", folder.join("cache"));
        let output = unshare.output().expect("unshare starts");
        (output.status.code(), [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text")).concat())
    };
    for (lacks, says) in [("case", "does not tell upper from lower case"), ("links", "has no hard links"), ("symlinks", "has no symlinks")]
    {
        let (code, said) = pulled(lacks);
        assert_eq!(code, Some(125), "{lacks}: {said}");
        assert!(said.contains(says) && said.contains("hint: name another directory"), "{lacks}: {said}");
    }
    let (code, said) = pulled("nothing");
    assert!(code == Some(0) && said.ends_with("A\na\n"), "{code:?}: {said}");
}

fn answer_ok(fixture: &Fixture, reference: &str) -> Ran {
    fixture.script("read last /opt/last\nnext\nrespond-notes\nnext");
    let ran = fixture.run_image(reference, &[], &[]).finish().expect_code(0);
    assert_eq!(ran.json()["last"], "whole");
    ran
}

#[test]
fn several_processes_at_once_share_one_unpacking() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.layout().add("many", &many_files(1000));
    let reference = fixture.image("many");
    let running: Vec<_> = (0..4).map(|_| fixture.undocked(&["pull", &reference]).start()).collect();
    for one in running {
        one.finish().expect_code(0);
    }
    assert_eq!((published(&fixture, "layers").len(), published(&fixture, "images").len()), (3, 1));
    answer_ok(&fixture, &reference);
    fixture.expect_nothing_left();
}

#[test]
fn layers_are_shared_between_images_by_hard_links() {
    let Some(fixture) = Fixture::new() else { return };
    let base = Image::provided().layer(Tar::new().file("opt/shared", "s"), Packing::Gzip);
    fixture.layout().add("one", &base.clone().layer(Tar::new().file("opt/own", "1"), Packing::Gzip));
    fixture.layout().add("two", &base.layer(Tar::new().file("opt/own", "2"), Packing::Gzip));
    for name in ["one", "two"] {
        fixture.undocked(&["pull", &fixture.image(name)]).finish().expect_code(0);
    }
    assert_eq!((published(&fixture, "layers").len(), published(&fixture, "images").len()), (4, 2));
    let inodes: Vec<u64> =
        published(&fixture, "images").iter().map(|image| fs::metadata(image.join("rootfs/opt/shared")).expect("in each").ino()).collect();
    assert_eq!(inodes[0], inodes[1]);
}

/// How many moments of a pull are tried: `UNDOCKED_TESTS_KILLS` says more.
fn moments() -> u32 {
    std::env::var("UNDOCKED_TESTS_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(25)
}

/// Killed at moments of a pull that are spread over its length, the image is there whole or not at all, the next pull mends it, and `prune` leaves nothing else.
#[test]
fn a_pull_killed_at_any_moment_leaves_a_whole_image_or_none() {
    let moments = moments();
    let Some(fixture) = Fixture::new() else { return };
    fixture.layout().add("many", &many_files(400));
    let reference = fixture.image("many");
    let root = |cache: &Path| {
        fs::read_dir(cache.join("v1/images")).into_iter().flatten().flatten().next().map(|image| image.path().join("rootfs"))
    };
    let whole = fixture.undocked(&["pull", &reference]).finish().expect_code(0);
    let expected = face(&root(&fixture.cache()).expect("it was pulled"));
    for moment in 1..=moments {
        // A fresh folder each time: some file systems are slow to take back what was just removed.
        let cache = fixture.path().join(format!("cache{moment}"));
        let pull = || fixture.undocked(&["pull", &reference]).env("UNDOCKED_CACHE", &cache);
        let running = pull().start();
        // Not an order of events: any moment is a good one.
        std::thread::sleep(whole.took * moment / (moments + 1));
        running.signal(Signal::SIGKILL);
        running.finish();
        if let Some(root) = root(&cache) {
            assert_eq!(face(&root), expected, "an image that is published is whole (moment {moment})");
        }
        pull().finish().expect_code(0);
        assert_eq!(face(&root(&cache).expect("pulled again")), expected, "moment {moment}");
        fixture.undocked(&["prune"]).env("UNDOCKED_CACHE", &cache).finish().expect_code(0);
        fixture.undocked(&["images", "--verify"]).env("UNDOCKED_CACHE", &cache).finish().expect_code(0);
        for folder in ["v1/tmp", "v1/ingest"] {
            let left = everything_below(&cache.join(folder));
            assert!(left.is_empty(), "moment {moment}: what was half done is swept: {left:?}");
        }
        fixture.undocked(&["prune", "--all"]).env("UNDOCKED_CACHE", &cache).finish().expect_code(0);
        let left = everything_below(&cache.join("v1")).into_iter().filter(|path| path.is_file()).count();
        assert_eq!(left, 2, "moment {moment}: the format and the lock of layers are what remains of everything");
        fs::remove_dir_all(&cache).expect("ours");
    }
}

#[test]
fn the_rootfs_is_the_same_after_a_run() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.layout().add("many", &many_files(10));
    answer_ok(&fixture, &fixture.image("many"));
    let root = published(&fixture, "images")[0].join("rootfs");
    let before = face(&root);
    fixture.script("write a /opt/many/00001 changed\nwrite b /new y\nchmod c /opt/last 777\nremove d /opt/last\nnext\nrespond-notes\nnext");
    let notes = fixture.run_image(&fixture.image("many"), &[], &[]).finish().expect_code(0).json();
    for attempt in ["a", "b", "c", "d"] {
        assert_eq!(notes[attempt], "EROFS", "{attempt}");
    }
    assert_eq!(face(&root), before);
}

#[test]
fn the_cache_is_private_to_its_owner() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.undocked(&["pull", &fixture.image("provided")]).finish().expect_code(0);
    assert_eq!(fs::metadata(fixture.cache()).expect("made").permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_cache_owned_by_someone_else_is_refused_with_a_hint() {
    let Some(fixture) = Fixture::new() else { return };
    if skip::is_root() {
        fs::create_dir(fixture.cache()).expect("made");
        std::os::unix::fs::chown(fixture.cache(), Some(65_534), Some(65_534)).expect("root may");
        let ran = fixture.undocked(&["pull", &fixture.image("provided")]).finish().expect_code(125);
        assert!(ran.err().contains("hint:"), "{}", ran.err());
    } else {
        // A folder of root's that we can see into.
        let ran = fixture.undocked(&["pull", &fixture.image("provided")]).env("UNDOCKED_CACHE", "/usr/share").finish().expect_code(125);
        assert!(ran.err().contains("/usr/share") && ran.err().contains("hint:"), "{}", ran.err());
    }
}

#[test]
fn a_cache_of_another_format_is_refused_and_left_alone() {
    let Some(fixture) = Fixture::new() else { return };
    let image = fixture.image("provided");
    fixture.undocked(&["pull", &image]).finish().expect_code(0);
    let format = fixture.cache().join("v1/format");
    fs::write(&format, "undocked cache 99\n").expect("it is our own");
    let before = face(&fixture.cache());
    for command in [&["pull", &image][..], &["images"], &["prune"], &["run", &image]] {
        let ran = fixture.undocked(command).finish().expect_code(125);
        assert!(ran.err().contains("undocked cache 99") && ran.err().contains("hint: "), "{command:?}: {}", ran.err());
    }
    assert_eq!(face(&fixture.cache()), before);
}

#[test]
fn several_first_runs_at_once_all_answer() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.layout().add("many", &many_files(200));
    let reference = fixture.image("many");
    fixture.script("read last /opt/last\nnext\nrespond-notes\nnext");
    let running: Vec<_> = (0..6).map(|_| fixture.run_image(&reference, &[], &[]).start()).collect();
    for one in running {
        assert_eq!(one.finish().expect_code(0).json()["last"], "whole");
    }
    fixture.expect_nothing_left();
}

#[test]
fn a_limit_of_file_sizes_is_told_and_no_death() {
    let Some(fixture) = Fixture::new() else { return };
    let large = Image::provided().layer(Tar::new().file("opt/large", vec![b'x'; 300_000]), Packing::Gzip);
    fixture.layout().add("large", &large);
    // Bash counts in KiB.
    let ran = fixture.undocked_by_shell("ulimit -f 100; exec \"$0\" \"$@\"", &["pull", &fixture.image("large")]).finish().expect_code(125);
    assert!(ran.err().contains("opt/large") && ran.err().contains("File too large"), "{}", ran.err());
    assert!(published(&fixture, "images").is_empty() && everything_below(&fixture.cache().join("v1/tmp")).is_empty());
    fixture.undocked(&["pull", &fixture.image("large")]).finish().expect_code(0);
    fixture.expect_nothing_left();
}

#[test]
fn a_full_disk_is_told_as_such_and_leaves_nothing_half_done() {
    let Some(fixture) = Fixture::new() else { return };
    if !skip::is_root() {
        skip_for_this_user!("mounting a small file system needs root");
    }
    let small = fixture.path().join("small");
    fs::create_dir(&small).expect("made");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "none"]).arg(&small).status().expect("mount starts");
    assert!(mounted.success());
    fixture.layout().add("many", &many_files(1000));
    let pull = |image: &str| fixture.undocked(&["pull", image]).env("UNDOCKED_CACHE", small.join("cache")).finish();
    let ran = pull(&fixture.image("many"));
    let left = everything_below(&small.join("cache/v1/tmp"));
    let small_fits = pull(&fixture.image("provided"));
    let unmounted = Command::new("umount").arg(&small).status().expect("umount starts");
    assert!(unmounted.success());
    let ran = ran.expect_code(125);
    assert!(ran.err().to_lowercase().contains("no space left on device"), "{}", ran.err());
    assert!(left.is_empty(), "{left:?}");
    small_fits.expect_code(0);
}

#[test]
fn images_rm_and_prune_list_and_remove() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.layout().add("other", &many_files(5));
    let (one, two) = (fixture.image("provided"), fixture.image("other"));
    for image in [&one, &two] {
        fixture.undocked(&["pull", image]).finish().expect_code(0);
    }
    let listed = || fixture.undocked(&["images"]).finish().expect_code(0).out();
    let all = listed();
    assert!(all.contains(&one) && all.contains(&two), "{all}");
    fixture.undocked(&["rm", &two]).finish().expect_code(0);
    assert!(listed().contains(&one) && !listed().contains(&two), "{}", listed());
    fixture.undocked(&["rm", &two]).finish().expect_code(125);
    fixture.undocked(&["prune"]).finish().expect_code(0);
    // What no image uses any more is gone from the disk, and what remains still works.
    assert_eq!(published(&fixture, "layers").len(), published(&fixture, "images").len());
    fixture.script("next\nrespond {}\nnext");
    fixture.run(&[], &[]).finish().expect_code(0);
}

#[test]
fn an_image_in_use_is_not_removed() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.script("next\nerr waiting\\n\nhang");
    let running = fixture.run(&[], &[]).start();
    running.wait_for_stderr("waiting\n");
    let removal = fixture.undocked(&["rm", &fixture.image("provided")]).finish();
    assert_ne!(removal.code(), 0, "{}", removal.err());
    fixture.undocked(&["prune"]).finish().expect_code(0);
    assert_eq!(published(&fixture, "images").len(), 1);
    running.signal(Signal::SIGTERM);
    running.finish().expect_code(143);
    fixture.undocked(&["rm", &fixture.image("provided")]).finish().expect_code(0);
}

#[test]
fn the_cache_lies_where_xdg_says_when_nothing_else_does() {
    let Some(fixture) = Fixture::new() else { return };
    let image = fixture.image("provided");
    let run = |name: &str, value: &Path| {
        tests::Run::new(place::undocked())
            .args(["pull", &image])
            .env("HOME", fixture.path().join("home"))
            .env(name, value)
            .finish()
            .expect_code(0)
    };
    run("XDG_CACHE_HOME", &fixture.path().join("xdg"));
    assert!(fixture.path().join("xdg/undocked/v1/images").exists());
    run("UNUSED", Path::new("/"));
    assert!(fixture.path().join("home/.cache/undocked/v1/images").exists());
}
