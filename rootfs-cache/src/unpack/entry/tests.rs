use proptest::prelude::*;

use super::*;

fn entry(path: impl AsRef<[u8]>, kind: EntryKind) -> Entry {
    Entry {
        path: path.as_ref().to_vec(),
        kind,
        mode: 0o640,
        uid: 1,
        gid: 2,
        mtime: Mtime { seconds: 7, nanos: 0 },
        size: 0,
        xattrs: Vec::new(),
    }
}

fn symlink(path: &str, target: &str) -> Entry {
    entry(path, EntryKind::Symlink { target: target.into() })
}

fn hard_link(path: &str, target: &str) -> Entry {
    entry(path, EntryKind::HardLink { target: target.into() })
}

fn build(entries: impl IntoIterator<Item = Entry>) -> Result<LayerIndex, EntryError> {
    let mut builder = LayerBuilder::default();
    for entry in entries {
        builder.add(entry)?;
    }
    Ok(builder.finish().0)
}

/// The index in short: `path kind`, then `path !` for whiteouts and `path *` for opaque directories.
fn outline(index: &LayerIndex) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let nodes = index.nodes.iter().map(|(path, node)| match &node.kind {
        Kind::Directory { .. } => format!("{} d", text(path)),
        Kind::File(number) => format!("{} {number}", text(path)),
        Kind::Symlink(target) => format!("{} > {}", text(path), text(target)),
        Kind::Fifo => format!("{} p", text(path)),
        Kind::LowerLink(target) => format!("{} = {}", text(path), text(target)),
    });
    let whiteouts = index.whiteouts.iter().map(|path| format!("{} !", text(path)));
    nodes.chain(whiteouts).chain(index.opaque.iter().map(|path| format!("{} *", text(path)))).collect()
}

#[test]
fn rule_1_paths() {
    for (raw, path) in [
        ("a/b", "a/b"),
        ("./a", "a"),
        ("/a", "a"),
        ("//./a//b/./", "a/b"),
        ("a/...", "a/..."),
        ("a/..b", "a/..b"),
        ("./", ""),
        ("/", ""),
        (".", ""),
    ] {
        assert_eq!(normalise(raw.as_bytes()), Ok(path.into()), "{raw}");
    }
    assert_eq!(normalise(b"caf\xe9"), Ok(b"caf\xe9".to_vec()), "names are bytes");
    for bad in ["..", "../a", "/../a", "a/../b", "a/..", "a/../../../../b"] {
        assert_eq!(normalise(bad.as_bytes()), Err(EntryError::DotDot), "{bad}");
    }
    assert_eq!(normalise(b"a\0b"), Err(EntryError::Nul));
    assert_eq!(normalise(b""), Err(EntryError::Empty));
    assert!(normalise(&[b'n'; 255]).is_ok());
    assert_eq!(normalise(&[b'n'; 256]), Err(EntryError::TooLong { what: "file name", most: 255 }));
    assert!(normalise(&b"d/".repeat(256)).is_ok());
    assert_eq!(normalise(&b"d/".repeat(257)), Err(EntryError::TooLong { what: "depth", most: 256 }));
    assert!(normalise(&[[b'n'; 255].as_slice(), b"/"].concat().repeat(16)).is_ok());
    assert_eq!(normalise(&[[b'n'; 255].as_slice(), b"/"].concat().repeat(17)), Err(EntryError::TooLong { what: "path", most: 4096 }));
}

#[test]
fn rule_2_nothing_lies_below_a_symlink_or_file_of_the_layer() {
    let above = [
        (symlink("a", "/etc"), "symlink"),
        (entry("a", EntryKind::File), "file"),
        (entry("a", EntryKind::Fifo), "fifo"),
        (hard_link("a", "lower"), "file"),
    ];
    for (above, kind) in above {
        for path in ["a/b", "a/b/c", "./a//b", "a/.wh.b", "a/.wh..wh..opq"] {
            let refused = build([above.clone(), entry(path, EntryKind::File)]);
            assert_eq!(refused, Err(EntryError::NotInDirectory { above: "a".to_owned(), kind }), "{path}");
        }
        let replaced = build([above, entry("a", EntryKind::Directory), entry("a/b", EntryKind::Fifo)]).unwrap();
        assert_eq!(outline(&replaced), ["a d", "a/b p"], "a later directory takes the place");
    }
    // The directory that was last in order must not be remembered past its end.
    let swapped = build([entry("a/b", EntryKind::File), symlink("a", "/etc"), entry("a/c", EntryKind::File)]);
    assert!(matches!(swapped, Err(EntryError::NotInDirectory { .. })));
}

#[test]
fn rule_3_the_last_entry_of_a_name_wins() {
    let file = |path| entry(path, EntryKind::File);
    let dir = |path| entry(path, EntryKind::Directory);
    let table: [(Vec<Entry>, &[&str]); 6] = [
        (vec![file("a"), file("a")], &["a 1"]),
        (vec![file("a"), symlink("a", "b")], &["a > b"]),
        (vec![symlink("a", "b"), file("a")], &["a 0"]),
        (vec![file("a/x"), dir("a"), file("a/y")], &["a d", "a/x 0", "a/y 1"]),
        (vec![file("a/x/y"), file("a-b"), file("a0"), file("a")], &["a 3", "a-b 1", "a0 2"]),
        (vec![file("a"), dir("a"), file("a/x")], &["a d", "a/x 1"]),
    ];
    for (entries, expected) in table {
        assert_eq!(outline(&build(entries).unwrap()), expected);
    }
    let mut builder = LayerBuilder::default();
    for entry in [file("a"), file("a"), hard_link("b", "a"), file("a")] {
        builder.add(entry).unwrap();
    }
    assert_eq!(builder.finish().1, [false, true, true], "files without a name are not kept");
}

#[test]
fn rule_4_symlinks_are_kept_as_they_are() {
    for target in ["/etc/passwd", "../../../../x", "self", ".", "a//b/"] {
        assert_eq!(outline(&build([symlink("s", target)]).unwrap()), [format!("s > {target}")]);
    }
    for target in [&b""[..], b"a\0b", &[b't'; 4096]] {
        assert!(matches!(build([entry("s", EntryKind::Symlink { target: target.to_vec() })]), Err(EntryError::LinkTarget(_))));
    }
}

#[test]
fn rule_5_hard_links() {
    let file = |path| entry(path, EntryKind::File);
    let table: [(Vec<Entry>, &[&str]); 6] = [
        (vec![file("a"), hard_link("b", "/./a")], &["a 0", "b 0"]),
        (vec![symlink("a", "x"), hard_link("b", "a")], &["a > x", "b > x"]),
        (vec![hard_link("b", "lower/file")], &["b = lower/file"]),
        (vec![hard_link("b", "lower"), hard_link("c", "b")], &["b = lower", "c = lower"]),
        (vec![file("a"), hard_link("a", "a")], &["a 0"]),
        (vec![file("d/a"), hard_link("d", "d/a")], &["d 0"]),
    ];
    for (entries, expected) in table {
        assert_eq!(outline(&build(entries).unwrap()), expected);
    }
    for (before, target) in [(entry("d", EntryKind::Directory), "d"), (file("a"), "b"), (file("a"), "/")] {
        assert_eq!(build([before, hard_link("b", target)]), Err(EntryError::LinkToNoFile), "{target}");
    }
    for target in ["../a", "a/../../b", "s/x", ""] {
        let refused = build([symlink("s", "/etc"), hard_link("b", target)]);
        assert!(matches!(refused, Err(EntryError::LinkTarget(_))), "{target}: {refused:?}");
    }
}

#[test]
fn rule_6_whiteouts() {
    let file = |path: &str| entry(path, EntryKind::File);
    let table: [(&str, &[&str]); 9] = [
        (".wh.a", &["a !"]),
        ("d/.wh.a", &["d d", "d/a !"]),
        ("d/.wh..hidden", &["d d", "d/.hidden !"]),
        (".wh..wh..opq", &[" *"]),
        ("d/.wh..wh..opq", &["d d", "d *"]),
        (".wh..wh.plnk", &[]),
        (".wh..wh.plnk/1.2", &[]),
        (".wh..wh.aufs", &[]),
        ("d/.whatever", &["d d", "d/.whatever 0"]),
    ];
    for (path, expected) in table {
        assert_eq!(outline(&build([file(path)]).unwrap()), expected, "{path}");
    }
    for bad in [".wh.", ".wh..", ".wh...", "d/.wh...", ".wh.a/b"] {
        assert_eq!(build([file(bad)]), Err(EntryError::Whiteout), "{bad}");
    }
    for order in [[".wh.a", "a"], ["a", ".wh.a"]] {
        assert_eq!(outline(&build(order.map(file)).unwrap()), ["a 0", "a !"], "they hide lower layers only");
    }
    assert_eq!(
        outline(&build(["stargz.index.json", ".prefetch.landmark", "d/stargz.index.json"].map(file)).unwrap()),
        ["d d", "d/stargz.index.json 0"]
    );
}

#[test]
fn rule_8_extended_attributes() {
    let names = [
        "user.a",
        "user.overlay.redirect",
        "user.overlay.opaque",
        "trusted.overlay.opaque",
        "trusted.x",
        "security.capability",
        "system.posix_acl_access",
    ];
    let kept = kept_xattrs(names.map(|name| (name.into(), b"v".to_vec())).to_vec());
    assert_eq!(kept, [(b"user.a".to_vec(), b"v".to_vec())]);
}

#[test]
fn rule_9_devices_hide_what_they_replace() {
    let mut builder = LayerBuilder::default();
    builder.add(entry("dev/null", EntryKind::File)).unwrap();
    assert_eq!(builder.add(entry("dev/null", EntryKind::Device)), Ok(Action::SkipDevice));
    assert_eq!(outline(&builder.finish().0), ["dev d", "dev/null !"]);
}

#[test]
fn the_root() {
    let root = build([entry("./", EntryKind::Directory), entry("a", EntryKind::File)]).unwrap();
    assert_eq!(root.nodes[&Vec::new()].attributes.mode, 0o640);
    for kind in [EntryKind::File, EntryKind::Symlink { target: b"/".to_vec() }, EntryKind::Fifo, EntryKind::Device] {
        assert_eq!(build([entry(".", kind)]), Err(EntryError::Root));
    }
}

#[test]
fn folders_without_an_entry_have_mode_755() {
    let index = build([entry("a/b/c", EntryKind::File)]).unwrap();
    let modes: Vec<_> = index.nodes.values().map(|node| (node.attributes.mode, node.attributes.uid)).collect();
    assert_eq!(modes, [(0o755, 0), (0o755, 0), (0o640, 1)]);
}

fn any_path() -> impl Strategy<Value = String> {
    proptest::collection::vec(
        prop_oneof![8 => "[a-c]", 1 => "\\.wh\\.[a-c]", 1 => Just(".wh..wh..opq".to_owned()), 1 => Just("..".to_owned())],
        1..4,
    )
    .prop_map(|names| names.join("/"))
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![
        Just(EntryKind::File),
        Just(EntryKind::Directory),
        Just(EntryKind::Fifo),
        Just(EntryKind::Device),
        any_path().prop_map(|target| EntryKind::Symlink { target: target.into() }),
        any_path().prop_map(|target| EntryKind::HardLink { target: target.into() }),
    ];
    (any_path(), kind).prop_map(|(path, kind)| entry(path, kind))
}

proptest! {
    /// Whatever comes in: names are whole, and all that lies above one is a directory.
    #[test]
    fn the_index_is_a_tree(entries in proptest::collection::vec(any_entry(), 0..30)) {
        let mut builder = LayerBuilder::default();
        for entry in entries {
            let _ = builder.add(entry);
        }
        let (index, live) = builder.finish();
        for (path, node) in &index.nodes {
            for directory in above(path) {
                prop_assert!(matches!(index.nodes.get(directory), Some(Node { kind: Kind::Directory { .. }, .. })), "{:?}", outline(&index));
            }
            prop_assert!(path.split(|&byte| byte == b'/').all(|name| !name.is_empty() && name != b".." && !name.starts_with(b".wh.")));
            if let Kind::File(number) = node.kind {
                prop_assert!(live[number as usize]);
            }
        }
        let mut bytes = Vec::new();
        index.write(&mut bytes).unwrap();
        prop_assert_eq!(LayerIndex::read(&bytes), Some(index), "written and read back");
    }

    #[test]
    fn a_damaged_index_does_no_harm(bytes in "[dfspxlwo] ([0-7 .]{0,12}[a-c/\\x00]{0,4}){0,4}") {
        let _ = LayerIndex::read(bytes.as_bytes());
    }
}
