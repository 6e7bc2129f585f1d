use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use super::fixtures::{Bench, Tar, chain};
use super::*;

fn root_of(bench: &Bench) -> PathBuf {
    bench.cache.root().to_owned()
}

fn staged(cache: &Cache, blob: &[u8]) -> LayerStaging {
    match cache.claim_layer(&Digest::of(blob), &mut || ()).unwrap() {
        LayerClaim::Mine(staging) => staging,
        LayerClaim::Present(layer) => panic!("{layer:?}"),
    }
}

fn a_tar(content: &str) -> Vec<u8> {
    Tar::default().dir("d", 0o555).file("d/a", content).end()
}

fn set_mtime(path: &Path, age: Duration) {
    fs::File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

#[test]
fn a_cache_is_made_private_and_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("deep/cache");
    for _ in 0..2 {
        assert_eq!(Cache::open(&root).unwrap().root(), root);
        for path in ["", "v1", "v1/layers", "v1/images", "v1/names", "v1/locks", "v1/tmp"] {
            assert_eq!(fs::metadata(root.join(path)).unwrap().mode() & 0o777, 0o700, "{path}");
        }
    }
    // Killed before it was complete.
    fs::remove_file(root.join("v1/format")).unwrap();
    fs::remove_dir(root.join("v1/names")).unwrap();
    Cache::open(&root).unwrap();
    assert!(root.join("v1/names").is_dir() && root.join("v1/format").is_file());
}

#[test]
fn a_cache_of_another_user_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let user = rustix::process::geteuid().as_raw();
    // Only root can give a directory away; everybody else finds one of root's.
    let (root, owner) = if user == 0 { (directory.path(), 12345) } else { (Path::new("/"), 0) };
    if user == 0 {
        std::os::unix::fs::chown(root, Some(owner), None).unwrap();
    }
    let error = Cache::open(root).unwrap_err();
    assert!(matches!(error, CacheError::Owner { owner: found, user: we, .. } if (found, we) == (owner, user)), "{error}");
    assert!(error.to_string().contains(&format!("belongs to uid {owner}, and this is uid {user}")), "{error}");
    assert!(error.hint().unwrap().contains("UNDOCKED_CACHE"));
}

#[test]
fn an_unknown_format_is_refused() {
    let bench = Bench::new();
    let format = root_of(&bench).join("v1/format");
    for other in ["undocked cache 2\n", "", "undocked cache 1\nand more"] {
        fs::write(&format, other).unwrap();
        let error = Cache::open(bench.cache.root()).unwrap_err();
        assert!(matches!(error, CacheError::Format { .. }) && error.hint().is_some(), "{error}");
    }
    let file = root_of(&bench).join("file");
    fs::write(&file, "").unwrap();
    assert!(chain(&Cache::open(&file).unwrap_err()).contains("cannot open"));
}

#[test]
fn what_to_do_about_a_disk_that_is_full_or_closed() {
    let full = |kind: io::ErrorKind| CacheError::Io { action: "write", path: "x".into(), source: kind.into() };
    assert!(full(io::ErrorKind::StorageFull).hint().unwrap().contains("undocked prune"));
    assert!(full(io::ErrorKind::QuotaExceeded).hint().is_some());
    assert!(full(io::ErrorKind::PermissionDenied).hint().unwrap().contains("UNDOCKED_CACHE"));
    assert!(full(io::ErrorKind::ReadOnlyFilesystem).hint().unwrap().contains("UNDOCKED_CACHE"));
    assert!(full(io::ErrorKind::NotFound).hint().is_none());
}

#[test]
fn one_makes_a_layer_and_the_others_wait() {
    let bench = Bench::new();
    let blob = a_tar("x");
    let staging = staged(&bench.cache, &blob);
    let (waits, waiting) = mpsc::channel();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let cache = Cache::open(bench.cache.root()).unwrap();
            cache.claim_layer(&Digest::of(&blob), &mut || waits.send(()).unwrap())
        });
        waiting.recv().unwrap();
        let unpacked = crate::unpack::unpack_layer(&blob[..], &staging, &crate::unpack::Limits::default()).unwrap();
        staging.publish(unpacked).unwrap();
        assert!(matches!(other.join().unwrap().unwrap(), LayerClaim::Present(_)));
    });
    assert!(waiting.try_recv().is_err(), "told once");
    assert!(bench.is_clean());
}

#[test]
fn a_layer_that_is_given_up_is_claimed_anew() {
    let bench = Bench::new();
    let blob = a_tar("x");
    let staging = staged(&bench.cache, &blob);
    assert!(!bench.is_clean());
    drop(staging);
    assert!(bench.is_clean() && bench.cache.layer(&Digest::of(&blob)).unwrap().is_none());
    let staging = staged(&bench.cache, &blob);
    let unpacked = crate::unpack::unpack_layer(&blob[..], &staging, &crate::unpack::Limits::default()).unwrap();
    drop(staging);
    let other = staged(&bench.cache, b"other");
    assert!(matches!(other.publish(unpacked), Err(CacheError::Digest { .. })));
    assert!(bench.is_clean());
}

#[test]
fn what_a_killed_process_left_is_swept() {
    let bench = Bench::new();
    let left = root_of(&bench).join("v1/tmp/4711-0-0");
    fs::create_dir_all(left.join("rootfs/ro")).unwrap();
    fs::write(left.join("rootfs/ro/file"), "").unwrap();
    for mode in [0o555, 0o000] {
        fs::set_permissions(left.join("rootfs/ro"), fs::Permissions::from_mode(mode)).unwrap();
    }
    let alive = staged(&bench.cache, b"one");
    assert!(!left.exists());
    let _other = staged(&bench.cache, b"two");
    assert!(rustix::fs::fstat(alive.files()).unwrap().st_nlink > 0, "what is still being made stays");
    assert_eq!(fs::read_dir(root_of(&bench).join("v1/tmp")).unwrap().count(), 2);
}

#[test]
fn a_layer_is_relied_on_after_a_reboot_only_once_it_was_synced() {
    let bench = Bench::new();
    let blob = a_tar("x");
    let meta = root_of(&bench).join(format!("v1/layers/{}/meta.json", Digest::of(&blob).hex()));
    let reboot = || {
        let json: serde_json::Value = serde_json::from_slice(&fs::read(&meta).unwrap()).unwrap();
        let boot = json["boot"].as_str().unwrap();
        fs::write(&meta, json.to_string().replace(boot, "another boot")).unwrap();
    };
    bench.layer(&blob).unwrap();
    assert!(bench.cache.layer(&Digest::of(&blob)).unwrap().is_some());
    reboot();
    assert!(bench.cache.layer(&Digest::of(&blob)).unwrap().is_none());
    // It is made anew, and with the image it is synced.
    bench.image(std::slice::from_ref(&blob)).unwrap();
    reboot();
    assert!(bench.cache.layer(&Digest::of(&blob)).unwrap().is_some());
    fs::write(&meta, "{").unwrap();
    assert!(bench.cache.layer(&Digest::of(&blob)).unwrap().is_none(), "damaged");
    drop(staged(&bench.cache, &blob));
}

#[test]
fn images_are_published_once() {
    let bench = Bench::new();
    let blob = a_tar("x");
    let paths: Vec<_> = std::thread::scope(|scope| {
        let publish = || bench.image(std::slice::from_ref(&blob)).unwrap();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(publish)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap().path().to_owned()).collect()
    });
    assert!(paths.iter().all(|path| *path == paths[0]));
    assert_eq!(fs::read_to_string(paths[0].join("d/a")).unwrap(), "x");
    assert!(bench.is_clean());
}

#[test]
fn an_image_is_found_by_its_digest() {
    let bench = Bench::new();
    assert!(bench.cache.image(&Digest::of(b"none")).unwrap().is_none());
    let published = bench.image(&[a_tar("x")]).unwrap();
    let found = Cache::open(bench.cache.root()).unwrap().image(published.manifest_digest()).unwrap().unwrap();
    assert_eq!((found.path(), found.config()), (published.path(), published.config()));
    let config = published.path().with_file_name("config.json");
    fs::remove_file(&config).unwrap();
    assert!(matches!(bench.cache.image(published.manifest_digest()), Err(CacheError::Damaged { .. })));
    assert!(matches!(bench.image_with(&[], "not json").unwrap_err().downcast_ref(), Some(CacheError::Config { .. })));
    assert!(bench.is_clean());
}

#[test]
fn last_used_is_touched_at_most_hourly() {
    let bench = Bench::new();
    let image = bench.image(&[]).unwrap();
    let file = image.path().with_file_name("last_used");
    let age = || fs::metadata(&file).unwrap().modified().unwrap().elapsed().unwrap_or_default();
    for (minutes, touched) in [(30, false), (61, true)] {
        set_mtime(&file, Duration::from_secs(60 * minutes));
        bench.cache.image(image.manifest_digest()).unwrap();
        assert_eq!(age() < Duration::from_secs(60), touched, "{minutes} minutes");
    }
}

#[test]
fn what_is_in_use_stays() {
    let bench = Bench::new();
    let (one, two) = (bench.image(&[a_tar("1")]).unwrap(), bench.image(&[a_tar("1"), a_tar("2")]).unwrap());
    let (first, second) = (*one.manifest_digest(), *two.manifest_digest());
    let pruned = bench.cache.prune(PruneScope::Everything).unwrap();
    assert_eq!((pruned.images.len(), pruned.in_use.len(), pruned.layers.len()), (0, 2, 0));
    assert!(bench.cache.images().unwrap().iter().all(|image| image.in_use));
    drop(two);
    let pruned = bench.cache.remove(&second).unwrap();
    assert_eq!((pruned.images, pruned.layers), (vec![second], vec![Digest::of(&a_tar("2"))]));
    assert_eq!(pruned.bytes, a_tar("2").len() as u64);
    assert_eq!(fs::read_to_string(one.path().join("d/a")).unwrap(), "1");
    assert_eq!(bench.cache.remove(&first).unwrap().in_use, [first]);
    drop(one);
    assert_eq!(bench.cache.remove(&first).unwrap().images, [first]);
    assert_eq!(bench.cache.remove(&first).unwrap(), Pruned::default(), "gone already");
    for directory in ["layers", "images", "tmp"] {
        assert_eq!(fs::read_dir(root_of(&bench).join("v1").join(directory)).unwrap().count(), 0, "{directory}");
    }
}

#[test]
fn layers_stay_while_a_pull_runs() {
    let bench = Bench::new();
    let (layer, _) = bench.layer(&a_tar("1")).unwrap();
    let pruned = bench.cache.prune(PruneScope::Everything).unwrap();
    assert!(pruned.pull_running && pruned.layers.is_empty());
    let staging = staged(&bench.cache, b"other");
    drop(layer);
    assert!(bench.cache.prune(PruneScope::Unreferenced).unwrap().pull_running);
    drop(staging);
    let pruned = bench.cache.prune(PruneScope::Unreferenced).unwrap();
    assert_eq!((pruned.pull_running, pruned.layers.len()), (false, 1));
    assert_eq!(fs::read_dir(root_of(&bench).join("v1/locks")).unwrap().count(), 1, "the locks of layers are gone as well");
}

#[test]
fn pruning_by_age() {
    let bench = Bench::new();
    let (old, new) = (bench.image(&[a_tar("1")]).unwrap(), bench.image(&[a_tar("2")]).unwrap());
    set_mtime(&old.path().with_file_name("last_used"), Duration::from_secs(8 * 86400));
    let (first, second) = (*old.manifest_digest(), *new.manifest_digest());
    drop((old, new));
    assert_eq!(bench.cache.prune(PruneScope::Unreferenced).unwrap().images, []);
    let week = CacheLimits { unused_for: Some(Duration::from_secs(7 * 86400)), ..CacheLimits::default() };
    let kept = PruneScope::Beyond(CacheLimits { keep: [first].into(), ..week.clone() });
    assert_eq!(bench.cache.prune(kept).unwrap().images, []);
    assert_eq!(bench.cache.prune(PruneScope::Beyond(week)).unwrap().images, [first]);
    assert_eq!(bench.cache.images().unwrap().iter().map(|image| image.manifest).collect::<Vec<_>>(), [second]);
}

/// Shared layers count once, and go with the last image that has them.
#[test]
fn pruning_by_size() {
    let tar = |name: &str, kib: usize| Tar::default().file(name, vec![0; kib << 10]).end();
    let size = |tars: &[&Vec<u8>]| tars.iter().map(|tar| tar.len() as u64).sum::<u64>();
    let (base, a, b, c) = (tar("base", 100), tar("a", 10), tar("b", 20), tar("c", 30));
    // Oldest first.
    let images = [vec![base.clone(), a.clone(), a.clone()], vec![base.clone(), b.clone()], vec![c.clone()]];
    let table = [
        (size(&[&base, &a, &b, &c]), vec![]),
        (size(&[&base, &a, &b, &c]) - 1, vec![0]),
        (size(&[&base, &b, &c]), vec![0]),
        (size(&[&base, &b, &c]) - 1, vec![0, 1]),
        (size(&[&c]), vec![0, 1]),
        (0, vec![0, 1, 2]),
    ];
    for (bytes, gone) in table {
        let bench = Bench::new();
        let digests: Vec<Digest> = (0..images.len())
            .map(|number| {
                let image = bench.image(&images[number]).unwrap();
                set_mtime(&image.path().with_file_name("last_used"), Duration::from_secs(86400 * (9 - number as u64)));
                *image.manifest_digest()
            })
            .collect();
        assert_eq!(bench.cache.bytes().unwrap(), size(&[&base, &a, &b, &c]));
        let limits = CacheLimits { bytes: Some(bytes), ..CacheLimits::default() };
        let pruned = bench.cache.prune(PruneScope::Beyond(limits)).unwrap();
        assert_eq!(pruned.images, gone.iter().map(|number| digests[*number]).collect::<Vec<_>>(), "{bytes}");
        assert!(bench.cache.bytes().unwrap() <= bytes);
        assert_eq!(pruned.bytes + bench.cache.bytes().unwrap(), size(&[&base, &a, &b, &c]));
    }
}

#[test]
fn what_is_in_use_stays_and_counts() {
    let bench = Bench::new();
    let (used, other) = (bench.image(&[a_tar("1")]).unwrap(), bench.image(&[a_tar("2")]).unwrap());
    set_mtime(&used.path().with_file_name("last_used"), Duration::from_secs(86400));
    let (first, second) = (*used.manifest_digest(), *other.manifest_digest());
    drop(other);
    let limits = CacheLimits { bytes: Some(a_tar("1").len() as u64), ..CacheLimits::default() };
    let pruned = bench.cache.prune(PruneScope::Beyond(limits)).unwrap();
    assert_eq!((pruned.in_use, pruned.images), (vec![first], vec![second]));
}

#[test]
fn names() {
    let bench = Bench::new();
    let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
    let named = |reference, platform| bench.cache.named(reference, platform).unwrap().map(|name| name.manifest);
    assert_eq!(named("a", "linux/amd64"), None);
    for digest in [one, two] {
        bench.cache.set_name("a", "linux/amd64", &digest).unwrap();
        assert_eq!(named("a", "linux/amd64"), Some(digest));
    }
    assert_eq!((named("a", "linux/arm64"), named("b", "linux/amd64")), (None, None));
    let age = bench.cache.named("a", "linux/amd64").unwrap().unwrap().pulled.elapsed().unwrap_or_default();
    assert!(age < Duration::from_secs(60));
    assert!(bench.is_clean());
    // One that a crash of the machine left empty is none.
    let file = fs::read_dir(root_of(&bench).join("v1/names")).unwrap().next().unwrap().unwrap().path();
    fs::write(&file, "").unwrap();
    assert_eq!(named("a", "linux/amd64"), None);
}

#[test]
fn listing() {
    let bench = Bench::new();
    assert_eq!(bench.cache.images().unwrap(), []);
    let (old, new) = (bench.image(&[a_tar("1"), a_tar("2")]).unwrap(), bench.image(&[]).unwrap());
    set_mtime(&old.path().with_file_name("last_used"), Duration::from_secs(86400));
    for name in ["b", "a"] {
        bench.cache.set_name(name, "linux/amd64", old.manifest_digest()).unwrap();
    }
    let images = bench.cache.images().unwrap();
    assert_eq!(images.iter().map(|image| image.manifest).collect::<Vec<_>>(), [*new.manifest_digest(), *old.manifest_digest()]);
    assert_eq!((images[1].layers, images[1].bytes, images[1].in_use), (2, 2 * a_tar("1").len() as u64, true));
    assert_eq!(images[1].names, [("a".to_owned(), "linux/amd64".to_owned()), ("b".to_owned(), "linux/amd64".to_owned())]);
    let digest = *old.manifest_digest();
    drop(old);
    bench.cache.remove(&digest).unwrap();
    assert_eq!(bench.cache.named("a", "linux/amd64").unwrap(), None, "names go with their image");
}

#[test]
fn locks_on_removed_files_are_none() {
    let directory = tempfile::tempdir().unwrap();
    let locks = fs::File::open(directory.path()).unwrap();
    let held = locks::FileLock::take(locks.as_fd(), "l", locks::Hold::Exclusive).unwrap().unwrap();
    assert!(locks::FileLock::take(locks.as_fd(), "l", locks::Hold::Shared).unwrap().is_none());
    std::thread::scope(|scope| {
        let (waits, waiting) = mpsc::channel();
        let locks = &locks;
        let other = scope
            .spawn(move || locks::FileLock::wait(locks.as_fd(), "l", locks::Hold::Exclusive, &mut || waits.send(()).unwrap()).unwrap());
        waiting.recv().unwrap();
        fs::remove_file(directory.path().join("l")).unwrap();
        drop(held);
        let _second = other.join().unwrap();
        assert!(locks::FileLock::take(locks.as_fd(), "l", locks::Hold::Exclusive).unwrap().is_none(), "the new file is locked");
    });
}

fn kept(cache: &Cache, bytes: &[u8]) -> StoredBlob {
    let mut staging = cache.stage_blob().unwrap();
    bytes.chunks(3).for_each(|part| staging.write_all(part).unwrap());
    staging.publish(&Digest::of(bytes)).unwrap()
}

#[test]
fn blobs_are_kept_whole_or_not_at_all() {
    let bench = Bench::new();
    let digest = Digest::of(b"a blob");
    assert!(bench.cache.blob(&digest).unwrap().is_none(), "a cache of an older version has no folder for them");
    let mut wrong = bench.cache.stage_blob().unwrap();
    wrong.write_all(b"another").unwrap();
    assert!(matches!(wrong.publish(&digest), Err(CacheError::Digest { .. })));
    drop(bench.cache.stage_blob().unwrap());
    assert!(bench.is_clean() && bench.cache.blob(&digest).unwrap().is_none());
    for _ in ["new", "replaced by its like"] {
        let stored = kept(&bench.cache, b"a blob");
        assert_eq!((stored.digest(), stored.bytes()), (&digest, 6));
        assert_eq!(io::read_to_string(bench.cache.blob(&digest).unwrap().unwrap()).unwrap(), "a blob");
    }
    assert!(bench.is_clean());
}

#[test]
fn blobs_go_with_the_last_image_that_names_them() {
    let bench = Bench::new();
    let (one, two) = (bench.image(&[a_tar("1")]).unwrap(), bench.image(&[a_tar("1"), a_tar("2")]).unwrap());
    let (first, second) = (*one.manifest_digest(), *two.manifest_digest());
    drop((one, two));
    let digests = ["1", "2", "3"].map(|content| Digest::of(&a_tar(content)));
    let alone = kept(&bench.cache, &a_tar("3"));
    drop(kept(&bench.cache, &a_tar("1")));
    assert_eq!([first, second].map(|image| bench.cache.has_blobs_of(&image).unwrap()), [true, false]);
    drop(kept(&bench.cache, &a_tar("2")));
    assert!(bench.cache.has_blobs_of(&second).unwrap() && !bench.cache.has_blobs_of(&digests[0]).unwrap());
    assert!(bench.cache.prune(PruneScope::Unreferenced).unwrap().pull_running, "one is in hand");
    drop(alone);
    let pruned = bench.cache.prune(PruneScope::Unreferenced).unwrap();
    assert_eq!((pruned.blobs, pruned.blob_bytes), (vec![digests[2]], a_tar("3").len() as u64));
    assert_eq!(bench.cache.remove(&second).unwrap().blobs, [digests[1]]);
    assert_eq!(bench.cache.remove(&first).unwrap().blobs, [digests[0]]);
    assert_eq!(fs::read_dir(root_of(&bench).join("v1/blobs")).unwrap().count(), 0);
}
