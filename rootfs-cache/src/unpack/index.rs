//! What a layer holds: every name, with its mode and kind. Kept beside the layer's files; format in `docs/formats/cache.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use super::tar::Mtime;

/// Mode, owner and time of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Permission bits, setuid and kin as the image has them.
    pub(crate) mode: u32,
    /// Owner in the image: recorded, never applied.
    pub(crate) uid: u32,
    /// Group in the image: recorded, never applied.
    pub(crate) gid: u32,
    pub(crate) mtime: Mtime,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory {
        xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    },
    /// The file with this number among the layer's files. Names with one number are hard links.
    File(u64),
    Symlink(Vec<u8>),
    Fifo,
    /// A hard link to a name that only a lower layer has.
    LowerLink(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) attributes: Attributes,
    pub(crate) kind: Kind,
}

/// A layer's names. Paths are relative, without `.`, `..` and doubled slashes; the root is empty. Whatever lies above a name is a directory in `nodes`, but for
/// the root, which is there only if the layer says something about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LayerIndex {
    pub(crate) nodes: BTreeMap<Vec<u8>, Node>,
    /// Names of lower layers that this layer hides.
    pub(crate) whiteouts: BTreeSet<Vec<u8>>,
    /// Directories of lower layers whose content this layer hides.
    pub(crate) opaque: BTreeSet<Vec<u8>>,
}

/// All of `map` that lies below the directory `path`.
pub(crate) fn remove_below<V>(map: &mut BTreeMap<Vec<u8>, V>, path: &[u8]) {
    if path.is_empty() {
        map.retain(|name, _| name.is_empty());
        return;
    }
    // `/` is followed by `0`: everything that starts with `path/` lies between the two.
    let (first, end) = ([path, b"/"].concat(), [path, b"0"].concat());
    let below: Vec<Vec<u8>> = map.range(first..end).map(|(name, _)| name.clone()).collect();
    for name in below {
        map.remove(&name);
    }
}

/// The directory above `path`; the root's own is none.
pub(crate) fn parent(path: &[u8]) -> Option<&[u8]> {
    if path.is_empty() {
        return None;
    }
    Some(path.iter().rposition(|&byte| byte == b'/').map_or(&[], |slash| &path[..slash]))
}

impl LayerIndex {
    /// Writes the index in the order of its names.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for path in &self.whiteouts {
            field(out, b"w ", path)?;
        }
        for path in &self.opaque {
            field(out, b"o ", path)?;
        }
        for (path, node) in &self.nodes {
            let Attributes { mode, uid, gid, mtime } = node.attributes;
            let letter = match &node.kind {
                Kind::Directory { .. } => 'd',
                Kind::File(_) => 'f',
                Kind::Symlink(_) => 's',
                Kind::Fifo => 'p',
                Kind::LowerLink(_) => 'l',
            };
            write!(out, "{letter} {mode:o} {uid} {gid} {}.{:09} ", mtime.seconds, mtime.nanos)?;
            field(out, b"", path)?;
            match &node.kind {
                Kind::File(number) => field(out, number.to_string().as_bytes(), b"")?,
                Kind::Symlink(target) | Kind::LowerLink(target) => field(out, b"", target)?,
                Kind::Directory { xattrs } => {
                    for (name, value) in xattrs {
                        field(out, b"x ", &hex(name))?;
                        field(out, b"", &hex(value))?;
                    }
                }
                Kind::Fifo => {}
            }
        }
        Ok(())
    }

    /// Reads an index back; `None` if it is damaged.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut index = Self::default();
        let mut fields = bytes.strip_suffix(b"\0").map(|bytes| bytes.split(|&byte| byte == 0)).into_iter().flatten();
        let mut directory = Vec::new();
        while let Some(record) = fields.next() {
            let (letter, rest) = record.split_at_checked(2)?;
            match letter {
                b"w " => drop(index.whiteouts.insert(rest.to_vec())),
                b"o " => drop(index.opaque.insert(rest.to_vec())),
                b"x " => {
                    let xattr = (unhex(rest)?, unhex(fields.next()?)?);
                    let Kind::Directory { xattrs } = &mut index.nodes.get_mut(&directory)?.kind else {
                        return None;
                    };
                    xattrs.push(xattr);
                }
                _ => {
                    let (attributes, path) = attributes(rest)?;
                    let kind = match letter {
                        b"d " => {
                            directory = path.to_vec();
                            Kind::Directory { xattrs: Vec::new() }
                        }
                        b"f " => Kind::File(std::str::from_utf8(fields.next()?).ok()?.parse().ok()?),
                        b"s " => Kind::Symlink(fields.next()?.to_vec()),
                        b"p " => Kind::Fifo,
                        b"l " => Kind::LowerLink(fields.next()?.to_vec()),
                        _ => return None,
                    };
                    index.nodes.insert(path.to_vec(), Node { attributes, kind });
                }
            }
        }
        Some(index)
    }
}

fn field(out: &mut impl Write, before: &[u8], text: &[u8]) -> io::Result<()> {
    out.write_all(before)?;
    out.write_all(text)?;
    out.write_all(b"\0")
}

fn attributes(record: &[u8]) -> Option<(Attributes, &[u8])> {
    let mut parts = record.splitn(5, |&byte| byte == b' ');
    let mut text = || std::str::from_utf8(parts.next()?).ok();
    let (mode, uid, gid) = (u32::from_str_radix(text()?, 8).ok()?, text()?.parse().ok()?, text()?.parse().ok()?);
    let (seconds, nanos) = text()?.split_once('.')?;
    let mtime = Mtime { seconds: seconds.parse().ok()?, nanos: nanos.parse().ok()? };
    Some((Attributes { mode, uid, gid, mtime }, parts.next()?))
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
