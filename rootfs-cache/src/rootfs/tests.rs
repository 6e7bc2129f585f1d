use std::fs;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::store::fixtures::{Bench, Tar, scan};

#[test]
fn configs() {
    let digest = Digest::of(b"layer");
    let full = format!(
        r#"{{"architecture":"arm64","os":"linux","variant":"v8","created":"2020-09-13T12:26:40Z","history":[{{"empty_layer":true}}],
        "config":{{"Env":["PATH=/bin","EMPTY=","EQ=a=b","BARE"],"Entrypoint":["/init"],"Cmd":["a b",""],"WorkingDir":"/var/task","User":"496:495",
        "Labels":{{"k":"v"}},"Volumes":{{"/data":{{}}}}}},"rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#
    );
    let text = |text: &str| text.to_owned();
    let expected = ImageConfig {
        architecture: text("arm64"),
        os: text("linux"),
        env: vec![(text("PATH"), text("/bin")), (text("EMPTY"), text("")), (text("EQ"), text("a=b"))],
        entrypoint: Some(vec![text("/init")]),
        cmd: Some(vec![text("a b"), text("")]),
        working_dir: Some(text("/var/task")),
        user: Some(text("496:495")),
        diff_ids: vec![digest],
    };
    assert_eq!(ImageConfig::from_json(full.as_bytes()).unwrap(), expected);
    let bare = |config: &str| format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{{"diff_ids":[]}}{config}}}"#);
    for empty in
        ["", r#","config":null"#, r#","config":{}"#, r#","config":{"Env":null,"Entrypoint":null,"Cmd":[],"WorkingDir":"","User":""}"#]
    {
        let config = ImageConfig::from_json(bare(empty).as_bytes()).unwrap();
        assert_eq!(
            (config.env.len(), config.entrypoint, config.cmd, config.working_dir, config.user),
            (0, None, None, None, None),
            "{empty}"
        );
    }
    let bad = r#"{"architecture":"amd64","os":"linux","rootfs":{"diff_ids":["sha256:../../x"]}}"#;
    for bad in ["", "[]", "{}", bad] {
        assert!(ImageConfig::from_json(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn every_mount_point_has_a_stub() {
    let tree = Bench::new().try_image(&[]).unwrap();
    for (path, stub) in MOUNT_POINTS {
        let (mode, _, content) = &tree[Path::new(path)];
        match stub {
            Stub::Directory => assert_eq!(*mode, 0o040_755, "{path}"),
            Stub::File => assert_eq!((*mode, content.len()), (0o100_644, 0), "{path}"),
            Stub::Symlink(target) => assert_eq!(content, target.as_bytes(), "{path}"),
        }
    }
}

#[test]
fn stubs_leave_the_layers_alone() {
    let bench = Bench::new();
    let base = Tar::default().file("etc/passwd", b"root:x:0:0").symlink("etc/resolv.conf", "/run/resolv.conf").file("tmp", b"a file").end();
    let rootfs = bench.image(std::slice::from_ref(&base)).unwrap();
    let tree = scan(rootfs.path());
    assert_eq!(tree[Path::new("etc/passwd")].2, b"root:x:0:0", "what is there stays");
    assert_eq!(tree[Path::new("etc/resolv.conf")], (0o100_644, tree[Path::new("etc/resolv.conf")].1, Vec::new()));
    assert_eq!(tree[Path::new("tmp")].0, 0o040_755);
    let (layer, _) = bench.layer(&base).unwrap();
    assert_eq!(layer.index().unwrap().unwrap().nodes.len(), 4);
}

#[test]
fn images_share_the_files_of_their_layers() {
    let bench = Bench::new();
    let base = Tar::default().file("bin/a", b"shared").end();
    let inode = |layers: &[Vec<u8>]| {
        let rootfs = bench.image(layers).unwrap();
        let meta = fs::metadata(rootfs.path().join("bin/a")).unwrap();
        (meta.ino(), rootfs.path().to_owned())
    };
    let (one, two) = (inode(std::slice::from_ref(&base)), inode(&[base.clone(), Tar::default().file("b", b"").end()]));
    assert_eq!(one.0, two.0);
    assert_ne!(one.1, two.1);
}

#[test]
fn a_layer_may_come_twice() {
    let base = Tar::default().file("a", b"1").end();
    let tree = Bench::new().try_image(&[base.clone(), Tar::default().file(".wh.a", b"").end(), base]).unwrap();
    assert_eq!(tree[Path::new("a")].2, b"1");
}
