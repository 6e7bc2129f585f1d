//! Nothing lost, nobody fooled: whatever happens to a pull or to the cache, there are whole images or none, damage is told, and what is not needed goes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};

use nix::sys::signal::Signal;
use tests::broken_registry::BrokenRegistry;
use tests::image::{Image, Packing};
use tests::leftovers::{eventually, everything_below};
use tests::tar::{Header, Tar, kind};
use tests::{Fixture, Run, place, skip, skip_for_this_kernel};

/// A layer of many small files on top of another that all such images share.
fn many_files(count: usize, mark: &str) -> Image {
    let tar = (0..count).fold(Tar::new(), |tar, n| tar.file(&format!("opt/many/{n:05}"), vec![b'x'; 3000]));
    Image::provided().layer(tar, Packing::Plain).layer(Tar::new().file("opt/mark", mark), Packing::Gzip)
}

fn below(cache: &Path, folder: &str) -> Vec<PathBuf> {
    fs::read_dir(cache.join("v1").join(folder)).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Bends a byte of a file and leaves size, mode and time as they are.
fn flip(path: &Path) {
    let found = fs::metadata(path).expect("it is there");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("ours");
    let mut content = fs::read(path).expect("readable");
    content[0] ^= 1;
    fs::write(path, content).expect("writable");
    fs::File::options().write(true).open(path).and_then(|file| file.set_modified(found.modified()?)).expect("ours");
    fs::set_permissions(path, found.permissions()).expect("ours");
}

#[test]
fn verify_tells_damage_by_path_and_what_to_do() {
    let fixture = Fixture::without_sandbox();
    for name in ["one", "two"] {
        fixture.layout().add(name, &many_files(3, name));
        fixture.undocked(&["pull", &fixture.image(name)]).finish().expect_code(0);
    }
    fixture.layout().add("other", &Image::provided());
    fixture.undocked(&["pull", "--keep-blobs", &fixture.image("other")]).finish().expect_code(0);
    let verify = |images: &[&str]| fixture.undocked(&[&["images", "--verify"], images].concat()).finish();
    let ran = verify(&[]).expect_code(0);
    assert_eq!((ran.out().matches(": ok, ").count(), ran.out().lines().count(), ran.err()), (3, 3, String::new()));
    let image = fixture.image("one");
    assert_eq!(verify(&[&image]).expect_code(0).out().lines().count(), 1);
    verify(&["no-such-image"]).expect_code(125).expect_err("hint: ");
    // A file of the layer that both have.
    let root = below(&fixture.cache(), "images").into_iter().map(|image| image.join("rootfs/opt/many/00001")).find(|file| file.exists());
    flip(&root.expect("two images have it"));
    let ran = verify(&[&image]).expect_code(1);
    let damage: Vec<String> = ran.out().lines().map(str::to_owned).collect();
    assert!(damage.len() == 2 && damage[0].contains(": damaged, ") && damage[1].ends_with("/files/1 has other content"), "{damage:?}");
    // Both have to go: the layer would stay otherwise.
    let hint = ran.err();
    assert!(hint.starts_with("hint: `undocked rm -f sha256:") && hint.matches("sha256:").count() == 2, "{hint}");
    let digests: Vec<&str> = hint.split(['`', ' ']).filter(|word| word.starts_with("sha256:")).collect();
    assert_eq!(verify(&[]).expect_code(1).out().matches(": damaged, ").count(), 2);
    fixture.undocked(&[&["rm", "-f"], &digests[..]].concat()).finish().expect_code(0);
    fixture.undocked(&["pull", &image]).finish().expect_code(0);
    assert_eq!(verify(&[]).expect_code(0).out().matches(": ok, ").count(), 2);
    // A layer of a version that kept no checksums.
    for layer in below(&fixture.cache(), "layers") {
        fs::remove_file(layer.join("checks")).expect("each has them");
    }
    assert!(verify(&[&image]).expect_code(0).out().contains("cannot be verified"));
}

#[test]
fn prune_keeps_within_limits_and_what_is_locked() {
    let fixture = Fixture::without_sandbox();
    let cache = fixture.cache();
    let pull = |name: &str| {
        fixture.layout().add(name, &many_files(400, name));
        let ran = fixture.undocked(&["pull", &fixture.image(name)]).finish().expect_code(0);
        ran.out().trim().to_owned()
    };
    let age = |digest: &str, days: u64| {
        let file = cache.join("v1/images").join(digest.trim_start_matches("sha256:")).join("last_used");
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(days * 86_400);
        fs::File::options().write(true).open(file).and_then(|file| file.set_modified(then)).expect("ours");
    };
    let images = || fixture.undocked(&["images", "-q"]).finish().expect_code(0).out().lines().map(str::to_owned).collect::<Vec<_>>();
    let digests: Vec<String> = ["one", "two", "three"].into_iter().map(pull).collect();
    for (digest, days) in digests.iter().zip([40, 20, 10]) {
        age(digest, days);
    }
    let prune = |options: &[&str]| fixture.undocked(&[&["prune"], options].concat()).finish().expect_code(0).out();
    // The shared layer counts once: 1.6 MB in all, and not three times that.
    prune(&["--max-size", "3m"]);
    assert_eq!(images().len(), 3);
    // So small a limit is a limit like others, with or without a unit.
    for size in ["5000k", "3000000"] {
        prune(&["--max-size", size]);
        assert_eq!(images().len(), 3);
    }
    assert!(prune(&["--older-than", "30d"]).contains(&format!("Removed image {}", digests[0])));
    let lock = fixture.path().join("images.lock");
    let text = format!(
        "version = 1\n\n[[image]]\nreference = \"docker.io/team/app:1\"\nplatform = \"linux/amd64\"\nstatus = \"verified\"\nmanifest_digest = \"{}\"\nsource = \"test\"\n",
        digests[1]
    );
    fs::write(&lock, text).expect("written");
    let lock = lock.display().to_string();
    prune(&["--max-size", "100k", "--keep-locked", "--lock", &lock]);
    assert_eq!(images(), [digests[1].clone()], "the least recently used one is what the lock file pins");
    prune(&["--all", "--keep-locked", "--lock", &lock]);
    assert_eq!(images(), [digests[1].clone()]);
    prune(&["--max-size", "0"]);
    assert!(images().is_empty() && below(&cache, "layers").is_empty());
    fixture.undocked(&["prune", "--keep-locked", "--lock", "/no/such.lock"]).finish().expect_code(125).expect_err("hint: ");
}

#[test]
fn a_pull_makes_room_where_a_limit_is_set() {
    let fixture = Fixture::without_sandbox();
    fixture.layout().add("one", &many_files(500, "one"));
    fixture.layout().add("two", &Image::provided().layer(Tar::new().file("opt/big", vec![b'b'; 1 << 20]), Packing::Gzip));
    let pull = |name: &str, most: &str| fixture.undocked(&["pull", &fixture.image(name)]).env("UNDOCKED_CACHE_MAX_SIZE", most).finish();
    pull("one", "2m").expect_code(0);
    // Larger than it may be, and in use: it stays.
    let first = pull("one", "1m").expect_code(0).out();
    let ran = pull("two", "2m").expect_code(0);
    assert!(ran.err().contains(first.trim()) && ran.err().contains("was removed from the cache"), "{}", ran.err());
    assert_eq!(below(&fixture.cache(), "images").len(), 1);
    pull("two", "little").expect_code(2).expect_err("UNDOCKED_CACHE_MAX_SIZE");
}

#[test]
fn a_load_makes_room_for_what_it_brought() {
    let fixture = Fixture::without_sandbox();
    let file = fixture.path().join("saved.tar").display().to_string();
    let names = ["my/one", "my/two"];
    for name in names {
        fixture.layout().add(name, &many_files(200, name));
        fixture.undocked(&["pull", "--keep-blobs", &fixture.image(name)]).finish().expect_code(0);
        fixture.undocked(&["tag", &fixture.image(name), name]).finish().expect_code(0);
    }
    fixture.undocked(&["save", "-o", &file, names[0], names[1]]).finish().expect_code(0);
    fixture.undocked(&["prune", "--all"]).finish().expect_code(0);
    fixture.layout().add("old", &Image::provided().layer(Tar::new().file("opt/big", vec![b'b'; 1 << 20]), Packing::Gzip));
    let old = fixture.undocked(&["pull", &fixture.image("old")]).finish().expect_code(0).out();
    let ran = fixture.undocked(&["load", "-i", &file]).env("UNDOCKED_CACHE_MAX_SIZE", "1m").finish().expect_code(0);
    assert!(ran.err().contains(old.trim()) && ran.err().contains("was removed from the cache"), "{}", ran.err());
    // Both, though they are too large together and neither is in use.
    let listed = fixture.undocked(&["images"]).finish().expect_code(0).out();
    assert!(names.iter().all(|name| listed.contains(name)) && below(&fixture.cache(), "images").len() == 2, "{listed}");
}

#[test]
fn sixteen_pulls_at_once_make_one_download() {
    let fixture = Fixture::without_sandbox();
    let registry = BrokenRegistry::start(&many_files(300, "registry"), |_, _| None);
    let running: Vec<_> = (0..16).map(|_| fixture.undocked(&["pull", &registry.reference()]).start()).collect();
    for one in running {
        assert_eq!(one.finish().expect_code(0).out().trim(), registry.manifest_digest);
    }
    for layer in &registry.layer_digests {
        let asked = registry.requests().iter().filter(|request| request.path.ends_with(layer)).count();
        assert_eq!(asked, 1, "{layer}");
    }
    fixture.undocked(&["images", "--verify"]).finish().expect_code(0);
    assert!(everything_below(&fixture.cache().join("v1/tmp")).is_empty());
}

#[test]
fn an_interrupted_pull_leaves_nothing() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let fixture = Fixture::without_sandbox();
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let is_held = std::sync::Arc::new(AtomicBool::new(true));
        let holds = std::sync::Arc::clone(&is_held);
        let image = many_files(50, "slow");
        let last = tests::image::sha256(&image.layers[2].blob);
        let registry = BrokenRegistry::start(&image, move |request, _| {
            if request.path.ends_with(&last) && holds.load(Ordering::SeqCst) {
                let _ = held.lock().expect("no holder panics").recv();
            }
            None
        });
        let running = fixture.undocked(&["pull", &registry.reference()]).start();
        eventually(std::time::Duration::from_secs(60), "the last layer is asked for", || {
            registry.requests().iter().any(|request| request.path.ends_with(&registry.layer_digests[2]))
        });
        running.signal(signal);
        running.finish().expect_code(code);
        is_held.store(false, Ordering::SeqCst);
        drop(release);
        assert!(everything_below(&fixture.cache().join("v1/tmp")).is_empty() && below(&fixture.cache(), "images").is_empty());
        fixture.undocked(&["pull", &registry.reference()]).finish().expect_code(0);
        fixture.undocked(&["images", "--verify"]).finish().expect_code(0);
    }
}

/// How many moments of a pull are tried: `UNDOCKED_TESTS_KILLS` says more.
fn moments() -> u32 {
    std::env::var("UNDOCKED_TESTS_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(16)
}

#[test]
fn a_pull_ended_at_any_moment_says_so_and_leaves_nothing() {
    let fixture = Fixture::without_sandbox();
    fixture.layout().add("many", &many_files(400, "ended"));
    let reference = fixture.image("many");
    let whole = fixture.undocked(&["pull", &reference]).finish().expect_code(0);
    for moment in 1..=moments() {
        let (signal, code) = if moment % 2 == 0 { (Signal::SIGINT, 130) } else { (Signal::SIGTERM, 143) };
        // A fresh folder each time: some file systems are slow to take back what was just removed.
        let cache = fixture.path().join(format!("cache{moment}"));
        let undocked = |arguments: &[&str]| fixture.undocked(arguments).env("UNDOCKED_CACHE", &cache);
        let running = undocked(&["pull", &reference]).start();
        // Not an order of events: any moment is a good one.
        std::thread::sleep(whole.took * moment / (moments() + 1));
        running.signal(signal);
        let ran = running.finish();
        let images = below(&cache, "images").len();
        match ran.status.code() {
            // It was done before.
            Some(0) => assert_eq!(images, 1, "moment {moment}"),
            // With the image there, it was about to say so.
            Some(found) => assert!(found == code && images <= 1, "moment {moment}: {found}, {images} images: {}", ran.err()),
            // It had not begun to listen, nor to pull.
            None => assert_eq!((ran.code(), images), (code, 0), "moment {moment}: {}", ran.err()),
        }
        if ran.status.code().is_some() {
            let left = everything_below(&cache.join("v1/tmp"));
            assert!(left.is_empty(), "moment {moment}: {left:?}");
            undocked(&["images", "--verify"]).finish().expect_code(0);
        }
        assert_eq!(undocked(&["pull", &reference]).finish().expect_code(0).out(), whole.out(), "moment {moment}");
        undocked(&["images", "--verify"]).finish().expect_code(0);
        undocked(&["prune", "--all"]).finish().expect_code(0);
        for folder in ["images", "layers", "names", "tmp"] {
            assert!(below(&cache, folder).is_empty(), "moment {moment}: {folder}");
        }
    }
}

/// What new files and folders get in a folder, as the kernel keeps it: the owner, a user more, the group, the mask, others.
const DEFAULT_ACL: &str = r#"
import os, struct, sys
entries = [(1, 7, -1), (2, 7, 12345), (4, 7, -1), (16, 7, -1), (32, int(sys.argv[2]), -1)]
acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
os.setxattr(sys.argv[1], "system.posix_acl_default", acl)
"#;

/// What new files get otherwise changes no mode of an image's, and lets nobody else into the cache.
#[test]
fn modes_are_the_images_under_any_umask_and_below_any_default_acl() {
    let fixture = Fixture::without_sandbox();
    let modes = [0o644, 0o755, 0o600, 0o444, 0o000, 0o777];
    let tar = modes.iter().fold(Tar::new(), |tar, mode| {
        let (file, folder) = (format!("opt/file-{mode:o}"), format!("opt/folder-{mode:o}"));
        tar.entry(&Header::new(kind::FILE, file).mode(*mode), b"x").entry(&Header::new(kind::FOLDER, folder).mode(*mode), b"")
    });
    fixture.layout().add("modes", &Image::provided().layer(tar, Packing::Gzip));
    let image = fixture.image("modes");
    let face = |cache: &Path| -> BTreeMap<PathBuf, u32> {
        let root = below(cache, "images").remove(0).join("rootfs");
        let mode = |path: PathBuf| {
            let found = fs::symlink_metadata(&path).expect("it is there").permissions().mode();
            (path.strip_prefix(&root).expect("below").to_owned(), found)
        };
        everything_below(&root).into_iter().map(mode).collect()
    };
    let pull = |place: &Path, before: &str| {
        let cache = place.join("cache");
        let script = format!("{before}; exec \"$0\" \"$@\"");
        for command in [&["pull", &image][..], &["images", "--verify"], &["pull", "--keep-blobs", &image]] {
            fixture.undocked_by_shell(&script, command).env("UNDOCKED_CACHE", &cache).finish().expect_code(0);
        }
        assert_eq!(fs::metadata(&cache).expect("made").permissions().mode() & 0o777, 0o700, "{before}");
        face(&cache)
    };
    let usual = pull(&fixture.path().join("usual"), "umask 022");
    let found = usual.iter().filter(|(path, _)| path.starts_with("opt")).count();
    assert_eq!(found, 1 + 2 * modes.len(), "{usual:?}");
    for umask in ["000", "077", "777"] {
        assert_eq!(pull(&fixture.path().join(umask), &format!("umask {umask}")), usual, "umask {umask}");
    }
    for others in ["0", "7"] {
        let folder = fixture.path().join(format!("acl{others}"));
        fs::create_dir(&folder).expect("made");
        let set = Command::new("python3").args(["-c", DEFAULT_ACL]).arg(&folder).arg(others).output().expect("it starts");
        if !set.status.success() {
            skip_for_this_kernel!("there are no ACLs here: {}", String::from_utf8_lossy(&set.stderr));
        }
        assert_eq!(pull(&folder, "true"), usual, "an ACL that gives others {others}");
    }
}

#[test]
fn prune_during_pulls_and_runs_harms_none() {
    let Some(fixture) = Fixture::new() else { return };
    for name in ["one", "two", "three"] {
        fixture.layout().add(name, &many_files(100, name));
    }
    fixture.script("read mark /opt/mark\nnext\nrespond-notes\nnext");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let runs: Vec<_> = ["one", "two", "three"]
            .into_iter()
            .map(|name| {
                let fixture = &fixture;
                scope.spawn(move || {
                    for _ in 0..4 {
                        let ran = fixture.run_image(&fixture.image(name), &[], &[]).finish().expect_code(0);
                        assert_eq!(ran.json()["mark"], name);
                    }
                })
            })
            .collect();
        let pruning = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                fixture.undocked(&["prune", "--all"]).finish().expect_code(0);
            }
        });
        let outcomes: Vec<_> = runs.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::SeqCst);
        pruning.join().expect("prune works meanwhile");
        outcomes.into_iter().for_each(|outcome| outcome.expect("each run answers"));
    });
    fixture.undocked(&["prune", "--all"]).finish().expect_code(0);
    for folder in ["images", "layers", "names", "tmp"] {
        assert!(below(&fixture.cache(), folder).is_empty(), "{folder}");
    }
}

/// A newer version may put more into the cache without another format number.
#[test]
fn what_another_version_added_is_passed_over() {
    let fixture = Fixture::without_sandbox();
    fixture.layout().add("one", &many_files(3, "one"));
    let image = fixture.image("one");
    fixture.undocked(&["pull", &image]).finish().expect_code(0);
    let store = fixture.cache().join("v1");
    let (layer, stored) = (below(&fixture.cache(), "layers").remove(0), below(&fixture.cache(), "images").remove(0));
    let added = [store.join("future/thing"), layer.join("future"), stored.join("future.json"), store.join("names/README")];
    for path in &added {
        fs::create_dir_all(path.parent().expect("below the store")).expect("made");
        fs::write(path, "from the future").expect("written");
    }
    let meta = layer.join("meta.json");
    let text = fs::read_to_string(&meta).expect("there");
    fs::write(&meta, text.replacen('{', "{\"future\":[1],", 1)).expect("ours");
    for command in [&["images"][..], &["images", "--verify"], &["pull", &image], &["prune"], &["prune", "--max-size", "1g"]] {
        fixture.undocked(command).finish().expect_code(0);
    }
    assert!(added.iter().all(|path| path.exists()));
    fixture.undocked(&["rm", &image]).finish().expect_code(0);
    assert!(store.join("future/thing").exists() && below(&fixture.cache(), "layers").is_empty());
}

/// In a file system of its own that has room for so many KiB and so many files beside a ballast: fails until the image fits, leaves nothing, and goes on once
/// the ballast is gone.
const FILLING: &str = r#"
mount -t tmpfs -o size=8m,nr_inodes=2000 none "$2" || exit 99
mkdir "$2/ballast" && head -c "$((8192 - ${1%,*}))k" /dev/zero >"$2/ballast/data" || exit 98
(cd "$2/ballast" && seq "$((1995 - ${1#*,}))" | xargs touch) || exit 97
export UNDOCKED_CACHE="$2/cache"
"$3" pull "$4" >/dev/null 2>"$5"
echo "$?"
find "$2" -path '*/v1/tmp/*' | wc -l
find "$2" -path '*/v1/images/*' -prune -o -path '*/v1/names/*' | grep -c /v1/names/
rm -r "$2/ballast"
"$3" pull "$4" >/dev/null && "$3" images --verify >/dev/null
echo "$?"
"#;

#[test]
fn a_disk_that_is_full_at_any_point_is_told_and_leaves_nothing() {
    if !skip::sandbox_can_run() {
        return;
    }
    let fixture = Fixture::without_sandbox();
    fixture.layout().add("many", &many_files(300, "full"));
    let (place_of_it, said) = (fixture.path().join("small"), fixture.path().join("said"));
    fs::create_dir(&place_of_it).expect("made");
    let fill = |option: &str| {
        let ran = Run::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", FILLING, "sh", option])
            .args([place_of_it.as_path(), place::undocked()])
            .arg(fixture.image("many"))
            .arg(&said)
            .env("HOME", fixture.path().join("home"))
            .env("PATH", std::env::var("PATH").unwrap_or_default())
            .finish()
            .expect_code(0);
        let lines: Vec<String> = ran.out().lines().map(str::to_owned).collect();
        let [code, left, names, after] = &lines[..] else { panic!("{option}: {lines:?}") };
        assert_eq!(after, "0", "{option}: with room it goes on: {}", ran.err());
        assert_eq!(left, "0", "{option}: nothing is left half done");
        if code == "0" {
            return true;
        }
        let said = fs::read_to_string(&said).expect("written");
        assert!(code == "125" && names == "0", "{option}: {code}, {names} names: {said}");
        assert!(said.to_lowercase().contains("no space left on device") && said.contains("\nhint: make room"), "{option}: {said}");
        false
    };
    let failed = (0..14).filter(|n| !fill(&format!("{},1900", 40 + n * n * 11))).count();
    assert!((8..14).contains(&failed), "{failed} sizes were too small");
    assert_eq!([4, 35, 195, 335].map(|files| fill(&format!("8000,{files}"))), [false; 4]);
}
