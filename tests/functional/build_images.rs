//! Plain commands in images: root inside, a root that may be written to and is gone afterwards, and what package managers want.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use rootfs_cache::store::Cache;
use runner::writable::{Change, ChangeKind, WritableError, WritableRoot};
use serde_json::json;
use tests::build_image::Build;
use tests::image::{Image, Packing};
use tests::leftovers::everything_below;
use tests::run::Run;
use tests::tar::{Header, Tar};
use tests::{Fixture, place, skip};

fn owner() -> (u32, u32) {
    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
}

#[test]
fn a_command_is_root_and_what_it_writes_is_gone_with_it() {
    let Some(build) = Build::new() else { return };
    let before = build.trees();
    let script = "id -u; id -g; echo $HOME $HOSTNAME; echo new > /new; echo x >> /closed/file; touch /closed/in; rm -r /opt/gone /usr/share; \
                  mkdir -p /opt/d/e; ln -s x /opt/l; mkfifo /opt/p; mv /opt/kept /opt/moved; cat /new /closed/file; ls /opt";
    let ran = build.ok(&[], script);
    assert_eq!(ran.out(), "0\n0\n/root lambda\nnew\nof the imagex\nd\nl\nmoved\np\n");
    assert_eq!(build.ok(&[], "ls / /closed /opt | grep -c new || true; cat /closed/file").out(), "0\nof the image");
    assert_eq!(build.trees(), before, "the image is as it was");
}

#[test]
fn files_in_volumes_are_the_callers() {
    let Some(build) = Build::new() else { return };
    let folder = build.fixture.path().join("out");
    fs::create_dir(&folder).expect("made");
    let volume = format!("{}:/var/task", folder.display());
    build.ok(&["-v", &volume, "-w", "/var/task"], "echo x > file; mkdir d; echo y > d/file; chown -R 12:34 d; chmod 750 d");
    for name in ["file", "d", "d/file"] {
        let found = folder.join(name).metadata().expect("made inside");
        assert_eq!((found.uid(), found.gid()), owner(), "{name}");
    }
    // A place that the image lacks is made, and not in the image.
    let volume = format!("{}:/not/there", folder.display());
    assert_eq!(build.ok(&["-v", &volume], "cat /not/there/file; ls -d /not").out(), "x\n/not\n");
    assert_eq!(build.ok(&["-w", "/new/place"], "pwd; ls -d /not || true").out(), "/new/place\n");
}

#[test]
fn owners_devices_and_ids_are_answered() {
    let Some(build) = Build::new() else { return };
    let script = "echo x > /f; chown 12:34 /f; chown -h nobody /f; mknod /dev/made c 1 3; stat -c %u:%g /f; [ ! -e /dev/made ]; chmod 4755 /f; stat -c %a /f";
    assert_eq!(build.ok(&[], script).out(), "0:0\n4755\n");
    // In a folder of the host it would work there.
    let volume = format!("{}:/var/task", build.fixture.task().display());
    let ran = build.ok(&["-v", &volume], "cd /var/task; echo x > f; ! chmod 4755 f; ! install -m 2755 f g; stat -c %a f");
    assert_eq!(ran.out(), "644\n");
    assert!(fs::read_dir(build.fixture.task()).expect("read").flatten().all(|entry| entry.metadata().expect("there").mode() & 0o6000 == 0));
}

#[test]
fn users_are_who_docker_makes_them() {
    let Some(build) = Build::new() else { return };
    let (uid, gid) = owner();
    let folder = build.fixture.path().join("out");
    fs::create_dir(&folder).expect("made");
    let volume = format!("{}:/out", folder.display());
    let own = format!("{}:{}", if uid == 0 { 1000 } else { uid }, if gid == 0 { 1000 } else { gid });
    let ran =
        build.ok(&["-u", &own, "-v", &volume], "echo $(id -u):$(id -g) $HOME; touch /out/file; stat -c %u:%g /out/file; touch /anywhere");
    assert_eq!(ran.out(), format!("{own} /\n{own}\n"));
    let found = folder.join("file").metadata().expect("made inside");
    assert_eq!((found.uid(), found.gid()), (uid, gid));
    assert_eq!(build.ok(&["--user", "nobody"], "id -un; grep CapEff /proc/self/status").out(), "nobody\nCapEff:\t0000000000000000\n");
    build.run(&["-u", "no-such-user"], "true").finish().expect_code(125).expect_err("has no user `no-such-user`").expect_err("hint: ");
    build.run(&["-u", "0:no-such-group"], "true").finish().expect_code(125).expect_err("has no group `no-such-group`");
}

#[test]
fn read_only_is_as_functions_have_it() {
    let Some(build) = Build::new() else { return };
    let ran = build.ok(&["--read-only"], "id -un; ! touch /x; ! touch /opt/x; touch /tmp/x");
    assert_eq!(ran.out(), "sbx_user1051\n");
}

#[test]
fn devices_and_terminals() {
    let Some(build) = Build::new() else { return };
    let script = "echo x > /dev/null; head -c 3 /dev/zero | wc -c; echo y > /dev/shm/y; cat /dev/shm/y; ls -d /dev/pts/ptmx; readlink /dev/ptmx; \
                  head -c 100000 /dev/zero > /tmp/large; stat -f -c %T /tmp /dev/shm | sort -u | wc -l";
    assert!(build.ok(&[], script).out().starts_with("3\ny\n/dev/pts/ptmx\npts/ptmx\n"));
}

#[test]
fn a_package_with_other_owners_is_installed() {
    let Some(build) = Build::new() else { return };
    if !skip::has_program("dpkg-deb") {
        skip::skip(skip::Lack::Providable, "there is no dpkg-deb");
        return;
    }
    let root = build.fixture.path().join("package");
    for folder in ["DEBIAN", "usr/lib/ours", "usr/bin"] {
        fs::create_dir_all(root.join(folder)).expect("made");
    }
    fs::write(
        root.join("DEBIAN/control"),
        "Package: ours\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: ours\n",
    )
    .expect("written");
    fs::write(root.join("DEBIAN/postinst"), "#!/bin/sh\nset -e\nchown 42:43 /usr/lib/ours/data\nchmod 2755 /usr/bin/ours\n")
        .expect("written");
    fs::write(root.join("usr/lib/ours/data"), "data").expect("written");
    fs::write(root.join("usr/bin/ours"), "#!/bin/sh\necho ours\n").expect("written");
    for program in ["DEBIAN/postinst", "usr/bin/ours"] {
        fs::set_permissions(root.join(program), fs::Permissions::from_mode(0o755)).expect("set");
    }
    let made = Command::new("dpkg-deb").args(["--build"]).arg(&root).arg(build.fixture.path().join("ours.deb")).output().expect("it runs");
    assert!(made.status.success(), "{made:?}");
    let volume = format!("{}:/ours.deb:ro", build.fixture.path().join("ours.deb").display());
    let script = "mkdir -p /var/lib/dpkg/info /var/lib/dpkg/updates; touch /var/lib/dpkg/status; PATH=$PATH:/usr/sbin dpkg --force-depends -i /ours.deb >&2; ours; \
                  stat -c %a /usr/bin/ours; dpkg -s ours | grep Status";
    assert_eq!(build.ok(&["-v", &volume], script).out(), "ours\n2755\nStatus: install ok installed\n");
}

#[test]
fn without_an_overlay_there_is_a_copy() {
    let Some(build) = Build::new() else { return };
    // An overlay cannot lie on an overlay, as in most containers.
    let over = build.fixture.path().join("over");
    for name in ["", "upper", "work"] {
        fs::create_dir(over.join(name)).expect("made");
    }
    let cache = build.fixture.cache();
    let before = build.trees();
    let mount = format!(
        "mount -t overlay none -o lowerdir={cache},upperdir={over}/upper,workdir={over}/work,userxattr {cache} && exec \"$0\" \"$@\"",
        cache = cache.display(),
        over = over.display()
    );
    let namespaces: &[&str] = if owner().0 == 0 { &["-m"] } else { &["-mUr"] };
    let run = |script: &str| {
        let run = Run::new("unshare").args(namespaces).args(["sh", "-c", &mount]).arg(place::undocked());
        let run = run.args(["run", &build.reference, "bash", "-c", script]);
        run.env("UNDOCKED_CACHE", &cache).env("HOME", build.fixture.path()).current_dir(build.fixture.path()).finish()
    };
    let ran = run("id -u; echo x >> /closed/file; cat /closed/file; rm /opt/gone; ls /opt; touch /new; chown 1:1 /new");
    let ran = ran.expect_code(0).expect_err("has a copy of the image");
    assert_eq!(ran.out(), "0\nof the imagex\nkept\n");
    assert_eq!(build.trees(), before);
}

#[test]
fn what_a_killed_run_wrote_is_removed_by_the_next() {
    let Some(build) = Build::new() else { return };
    let running = build.run(&["-i"], "echo x > /written; echo ready >&2; exec sleep 1000").start();
    running.wait_for_stderr("ready");
    running.signal(Signal::SIGKILL);
    running.finish();
    let runs = build.fixture.cache().join("runs");
    assert!(everything_below(&runs).iter().any(|path| path.ends_with("upper/written")));
    build.ok(&[], "true");
    assert!(everything_below(Path::new(&runs)).is_empty());
}

/// A root of the image's own that is a trap: nothing is made or shown outside.
#[test]
fn links_at_places_lead_nowhere() {
    let Some(fixture) = Fixture::new() else { return };
    let victim = fixture.path().join("victim");
    fs::create_dir(&victim).expect("made");
    let outside = victim.display().to_string();
    let layer = Tar::new().symlink("var/out", &outside).symlink("etc/resolv.conf", &format!("{outside}/resolv.conf"));
    fixture.layout().add("trap", &Image::provided().layer(layer, Packing::Gzip).with("Entrypoint", json!(null)));
    let task = format!("{}:/var/task:ro", fixture.task().display());
    let volume = format!("{}:/var/out/deep", fixture.path().join("home").display());
    let line = "--line write new /var/out/here x ; exit 0";
    let words: Vec<&str> = line.splitn(2, ' ').collect();
    let run = fixture.undocked(&["run", "-v", &task, "-v", &volume, "-w", "/var/out/work", &fixture.image("trap"), "/var/task/bootstrap"]);
    run.args(words).finish().expect_code(0);
    assert!(everything_below(&victim).is_empty());
    fixture.expect_nothing_left();
}

/// What the host sees, writes and reads out, over an overlay and in a copy alike.
#[test]
fn a_kept_root_is_written_to_and_read_by_the_host() {
    let fixture = Fixture::without_sandbox();
    let layer = Tar::new()
        .file("etc/one", "1")
        .file("etc/two", "2")
        .file("opt/deep/in/file", "x")
        .entry(&Header::new(b'5', "closed/").mode(0o555), b"")
        .symlink("link", "/opt/deep")
        .symlink("up", "../../../opt");
    fixture.layout().add("small", &Image::provided().layer(layer, Packing::Gzip));
    fixture.undocked(&["pull", &fixture.image("small")]).finish().expect_code(0);
    let cache = Cache::open(&fixture.cache()).expect("it is there");
    let digest = cache.images().expect("listed")[0].manifest;
    let rootfs = || cache.image(&digest).expect("readable").expect("pulled");
    let folder = fixture.path().join("kept");
    fs::create_dir(&folder).expect("made");
    let mut root = WritableRoot::create(rootfs(), &folder).expect("made");
    assert!(root.changes().expect("read").is_empty());
    let put = |root: &WritableRoot, path: &str, text: &str| root.put(path.as_ref(), &mut text.as_bytes(), 0o640).expect(path);
    put(&root, "/etc/one", "one");
    put(&root, "/link/in/new", "new");
    put(&root, "/closed/in", "in");
    root.make_dir("/srv/a/b".as_ref(), 0o750).expect("made");
    root.put_link("/up/l".as_ref(), "/etc/one".as_ref()).expect("made");
    root.remove_path("/etc/two".as_ref()).expect("removed");
    root.remove_path("/opt/deep/in/file".as_ref()).expect("removed");
    root.remove_path("/opt/deep".as_ref()).expect("removed");
    root.make_dir("/opt/deep".as_ref(), 0o755).expect("made again");
    for (wrong, errno) in [("/etc", libc::EISDIR), ("/etc/one/x", libc::ENOTDIR)] {
        let error = root.put(wrong.as_ref(), &mut std::io::empty(), 0o644).expect_err(wrong);
        assert!(matches!(&error, WritableError::Io { source, .. } if source.raw_os_error() == Some(errno)), "{error:?}");
    }
    assert!(root.remove_path("/none".as_ref()).is_err());
    let told = |root: &WritableRoot| -> Vec<String> {
        let sign = |change: &Change| if change.kind == ChangeKind::Removed { "-" } else { "+" };
        root.changes().expect("read").iter().map(|change| format!("{}{}", sign(change), change.path.display())).collect()
    };
    let changes = ["+closed/in", "+etc/one", "-etc/two", "-opt/deep/in", "+opt/l", "+srv", "+srv/a", "+srv/a/b"];
    let check = |root: &WritableRoot| {
        assert_eq!(told(root), changes);
        let read = |path: &str| root.find(path.as_ref()).expect("looked").map(|path| fs::read_to_string(path).expect("a file"));
        assert_eq!((read("/up/l"), read("/etc/two"), read("/opt/deep/in/file")), (Some("one".into()), None, None));
        assert_eq!(root.list("/opt".as_ref()).expect("listed"), ["deep", "l"]);
        assert!(root.list("/link".as_ref()).expect("listed").is_empty());
        assert_eq!(root.find("/closed".as_ref()).expect("looked").expect("there").metadata().expect("read").mode() & 0o777, 0o555);
    };
    check(&root);
    drop(root);
    root = WritableRoot::open(rootfs(), &folder).expect("it stays");
    check(&root);
    root.become_copy().expect("copied");
    check(&root);
    put(&root, "/etc/one", "two");
    put(&root, "/etc/three", "3");
    drop(root);
    let root = WritableRoot::open(rootfs(), &folder).expect("it stays");
    assert_eq!(told(&root)[1..4], ["+etc/one", "+etc/three", "-etc/two"]);
    root.remove().expect("removed");
    assert!(!folder.exists());
    assert!(matches!(WritableRoot::open(rootfs(), &folder), Err(WritableError::NotOne { .. })));
}
