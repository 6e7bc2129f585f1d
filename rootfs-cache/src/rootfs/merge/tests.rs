use proptest::prelude::*;

use super::*;

fn node(kind: Kind) -> Node {
    Node { attributes: Attributes { mode: 0o700, uid: 0, gid: 0, mtime: Mtime::default() }, kind }
}

fn dir() -> Kind {
    Kind::Directory { xattrs: Vec::new() }
}

fn layer(nodes: &[(&str, Kind)], whiteouts: &[&str], opaque: &[&str]) -> LayerIndex {
    LayerIndex {
        nodes: nodes.iter().map(|(path, kind)| (path.as_bytes().to_vec(), node(kind.clone()))).collect(),
        whiteouts: whiteouts.iter().map(|path| path.as_bytes().to_vec()).collect(),
        opaque: opaque.iter().map(|path| path.as_bytes().to_vec()).collect(),
    }
}

fn merge(layers: Vec<LayerIndex>) -> Result<Tree, LostLink> {
    let mut tree = Tree::new();
    for (number, layer) in layers.into_iter().enumerate() {
        tree.add_layer(number, layer)?;
    }
    Ok(tree)
}

/// The tree in short, without its root.
fn outline(tree: &Tree) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let line = |(path, node): (&Vec<u8>, &TreeNode)| match node {
        TreeNode::Directory { attributes, .. } => format!("{} d{:o}", text(path), attributes.mode),
        TreeNode::File { layer, number } => format!("{} {layer}.{number}", text(path)),
        TreeNode::Symlink { target, .. } => format!("{} > {}", text(path), text(target)),
        TreeNode::Fifo { .. } => format!("{} p", text(path)),
        TreeNode::Empty => format!("{} empty", text(path)),
    };
    tree.0.iter().filter(|(path, _)| !path.is_empty()).map(line).collect()
}

#[test]
fn merging() {
    use Kind::{File, LowerLink, Symlink};
    let base = || layer(&[("d", dir()), ("d/a", File(0)), ("d/b", File(1)), ("f", File(2)), ("s", Symlink(b"d".to_vec()))], &[], &[]);
    let table: [(LayerIndex, &[&str]); 9] = [
        (layer(&[], &[], &[]), &["d d700", "d/a 0.0", "d/b 0.1", "f 0.2", "s > d"]),
        (layer(&[("d", dir()), ("d/b", File(0))], &[], &[]), &["d d700", "d/a 0.0", "d/b 1.0", "f 0.2", "s > d"]),
        (layer(&[("d", File(0))], &[], &[]), &["d 1.0", "f 0.2", "s > d"]),
        (layer(&[("f", dir()), ("f/x", File(0))], &[], &[]), &["d d700", "d/a 0.0", "d/b 0.1", "f d700", "f/x 1.0", "s > d"]),
        (layer(&[("s", dir()), ("s/x", File(0))], &[], &[]), &["d d700", "d/a 0.0", "d/b 0.1", "f 0.2", "s d700", "s/x 1.0"]),
        (layer(&[], &["d", "f", "never"], &[]), &["s > d"]),
        (layer(&[("d", dir()), ("d/c", File(0))], &["d"], &[]), &["d d700", "d/c 1.0", "f 0.2", "s > d"]),
        (layer(&[("d", dir()), ("d/c", File(0))], &[], &["d"]), &["d d700", "d/c 1.0", "f 0.2", "s > d"]),
        (layer(&[("h", LowerLink(b"d/a".to_vec()))], &[], &[""]), &[]),
    ];
    for (upper, expected) in table {
        match merge(vec![base(), upper]) {
            Ok(tree) => assert_eq!(outline(&tree), expected),
            Err(lost) => assert_eq!(lost, LostLink { layer: 1, path: b"h".to_vec(), target: b"d/a".to_vec() }),
        }
    }
    let linked = merge(vec![base(), layer(&[("h", LowerLink(b"d/a".to_vec())), ("t", LowerLink(b"s".to_vec()))], &["f"], &[])]).unwrap();
    assert_eq!(outline(&linked), ["d d700", "d/a 0.0", "d/b 0.1", "h 0.0", "s > d", "t > d"]);
    assert!(merge(vec![base(), layer(&[("h", LowerLink(b"d".to_vec()))], &[], &[])]).is_err(), "no link to a directory");
}

#[test]
fn the_root_keeps_its_mode_unless_a_layer_speaks() {
    let mode = |tree: &Tree| match &tree.0[&Vec::new()] {
        TreeNode::Directory { attributes, .. } => attributes.mode,
        other => panic!("{other:?}"),
    };
    assert_eq!(mode(&Tree::new()), 0o755);
    assert_eq!(mode(&merge(vec![layer(&[("", dir())], &[], &[]), layer(&[("a", Kind::Fifo)], &[], &[])]).unwrap()), 0o700);
    let opaque = merge(vec![layer(&[("", dir()), ("a", Kind::Fifo)], &[], &[]), layer(&[], &[], &[""])]).unwrap();
    assert_eq!(opaque.0.len(), 1);
}

#[test]
fn mount_points() {
    use Kind::{Fifo, File};
    let link = |target: &str| Kind::Symlink(target.into());
    type Case<'a> = (&'a [(&'a str, Kind)], &'a str, Stub, &'a [&'a str]);
    let table: [Case<'_>; 16] = [
        (&[], "var/task", Stub::Directory, &["var d755", "var/task d755"]),
        (&[("tmp", dir())], "tmp", Stub::Directory, &["tmp d700"]),
        (&[("etc", dir()), ("etc/hosts", File(3))], "etc/hosts", Stub::File, &["etc d700", "etc/hosts 0.3"]),
        (&[("tmp", File(0))], "tmp", Stub::Directory, &["tmp d755"]),
        (&[("dev", dir()), ("dev/null", dir()), ("dev/null/x", Fifo)], "dev/null", Stub::File, &["dev d700", "dev/null empty"]),
        (&[("dev", dir()), ("dev/null", Fifo)], "dev/null", Stub::File, &["dev d700", "dev/null empty"]),
        // Inside the image a link may lead anywhere.
        (
            &[("tmp", link("/var/tmp")), ("var", dir()), ("var/tmp", dir())],
            "tmp",
            Stub::Directory,
            &["tmp > /var/tmp", "var d700", "var/tmp d700"],
        ),
        (&[("tmp", link("../../v")), ("v", dir())], "tmp", Stub::Directory, &["tmp > ../../v", "v d700"]),
        (&[("a", link("b")), ("b", dir())], "a/x", Stub::Directory, &["a > b", "b d700", "b/x d755"]),
        // To nothing, round in a loop, or to the wrong kind: replaced, in this tree only.
        (&[("tmp", link("/nowhere"))], "tmp", Stub::Directory, &["tmp d755"]),
        (&[("var", link("var"))], "var/task", Stub::Directory, &["var d755", "var/task d755"]),
        (&[("a", link("b")), ("b", link("a"))], "a", Stub::File, &["a empty", "b > a"]),
        (&[("tmp", link("f")), ("f", File(0))], "tmp", Stub::Directory, &["f 0.0", "tmp d755"]),
        (&[("tmp", link("f/../d")), ("f", File(0)), ("d", dir())], "tmp", Stub::Directory, &["d d700", "f 0.0", "tmp d755"]),
        (&[("dev", dir()), ("dev/fd", link("/elsewhere"))], "dev/fd", Stub::Symlink("/proc/self/fd"), &["dev d700", "dev/fd > /elsewhere"]),
        (&[("dev", dir())], "dev/fd", Stub::Symlink("/proc/self/fd"), &["dev d700", "dev/fd > /proc/self/fd"]),
    ];
    for (nodes, path, stub, expected) in table {
        let mut tree = merge(vec![layer(nodes, &[], &[])]).unwrap();
        tree.ensure(path.as_bytes(), stub);
        assert_eq!(outline(&tree), expected, "{path}");
        let once = tree.clone();
        tree.ensure(path.as_bytes(), stub);
        assert_eq!(tree, once, "{path} again");
    }
    for (path, expected) in
        [("/a/./b//", vec!["a d755", "a/b d755"]), ("../../x", vec!["x d755"]), ("/", vec![]), ("a/../b", vec!["a d755", "b d755"])]
    {
        let mut tree = Tree::new();
        tree.ensure(path.as_bytes(), Stub::Directory);
        assert_eq!(outline(&tree), expected, "{path}");
    }
}

/// What overlayfs's own documentation says, as a plain recursive tree: an upper directory holds whiteouts as entries and may be opaque.
#[derive(Debug, Clone, PartialEq)]
enum Model {
    Whiteout,
    File(usize, u64),
    Directory { opaque: bool, content: BTreeMap<String, Model> },
}

impl Model {
    fn over(self, lower: Option<Self>) -> Option<Self> {
        match (self, lower) {
            (Self::Whiteout, _) => None,
            (Self::Directory { opaque: false, content }, Some(Self::Directory { content: mut merged, .. })) => {
                for (name, upper) in content {
                    let lower = merged.remove(&name);
                    merged.extend(upper.over(lower).map(|node| (name, node)));
                }
                Some(Self::Directory { opaque: false, content: merged })
            }
            (Self::Directory { content, .. }, _) => {
                let content = content.into_iter().filter_map(|(name, upper)| Some((name, upper.over(None)?))).collect();
                Some(Self::Directory { opaque: false, content })
            }
            (file, _) => Some(file),
        }
    }

    /// As [`LayerIndex`] puts the same layer. The root is no entry of it.
    fn index(&self, path: &str, index: &mut LayerIndex) {
        let bytes = path.as_bytes().to_vec();
        match self {
            Self::Whiteout => drop(index.whiteouts.insert(bytes)),
            Self::File(_, number) => drop(index.nodes.insert(bytes, node(Kind::File(*number)))),
            Self::Directory { opaque, content } => {
                if *opaque {
                    index.opaque.insert(bytes.clone());
                }
                if !path.is_empty() {
                    index.nodes.insert(bytes, node(dir()));
                }
                for (name, below) in content {
                    below.index(&if path.is_empty() { name.clone() } else { format!("{path}/{name}") }, index);
                }
            }
        }
    }

    fn outline(&self, path: &str, lines: &mut Vec<String>) {
        match self {
            Self::Whiteout => lines.push(format!("{path} whiteout")),
            Self::File(layer, number) => lines.push(format!("{path} {layer}.{number}")),
            Self::Directory { content, .. } => {
                if !path.is_empty() {
                    lines.push(format!("{path} d700"));
                }
                for (name, below) in content {
                    below.outline(&if path.is_empty() { name.clone() } else { format!("{path}/{name}") }, lines);
                }
            }
        }
    }
}

fn any_model(layer: usize) -> impl Strategy<Value = Model> {
    let leaf = prop_oneof![1 => Just(Model::Whiteout), 2 => (0_u64..9).prop_map(move |number| Model::File(layer, number))];
    let directory = |node: BoxedStrategy<Model>| {
        (prop::bool::weighted(0.2), proptest::collection::btree_map("[ab]-?", node, 0..4))
            .prop_map(|(opaque, content)| Model::Directory { opaque, content })
    };
    directory(leaf.prop_recursive(3, 20, 4, directory).boxed())
}

fn any_stack() -> impl Strategy<Value = Vec<Model>> {
    (0_usize..5).prop_flat_map(|layers| (0..layers).map(any_model).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn merges_as_overlayfs_does(stack in any_stack()) {
        let indexes = stack.iter().map(|model| {
            let mut index = LayerIndex::default();
            model.index("", &mut index);
            index
        });
        let merged = outline(&merge(indexes.collect()).unwrap());
        let model = stack.into_iter().fold(Model::Directory { opaque: false, content: BTreeMap::new() }, |lower, upper| upper.over(Some(lower)).unwrap());
        let mut expected = Vec::new();
        model.outline("", &mut expected);
        expected.sort_by_key(|line| line.split(' ').next().unwrap().to_owned());
        prop_assert_eq!(merged, expected);
    }

    #[test]
    fn stubs_are_found_again(stack in any_stack(), path in "[ab](/[ab]){0,3}") {
        let mut index = LayerIndex::default();
        for model in &stack {
            model.index("", &mut index);
        }
        // Files of one layer may lie above others here: what counts is that the mount point is there afterwards.
        let mut tree = Tree::new();
        if tree.add_layer(0, index).is_ok() {
            tree.ensure(path.as_bytes(), Stub::Directory);
            prop_assert!(tree.is(path.as_bytes(), Stub::Directory));
        }
    }
}
