use proptest::prelude::*;

use super::*;
use crate::store::fixtures::{MTIME, Raw, Tar, record};

/// An entry with its data.
type Parsed = (Entry, Vec<u8>);

/// What a stream gives when it is cut at these places. Data are joined: where they were cut is not the stream's.
fn parse(mut stream: &[u8], cuts: &[usize]) -> Result<Vec<Parsed>, (TarError, u64)> {
    let mut parser = TarParser::new();
    let (mut entries, mut done) = (Vec::new(), 0);
    let mut lengths = cuts.iter().copied().chain([usize::MAX]);
    while !stream.is_empty() {
        let (mut chunk, rest) = stream.split_at(lengths.next().unwrap_or(usize::MAX).min(stream.len()));
        stream = rest;
        while let Some(event) = parser.next(&mut chunk).map_err(|error| (error, parser.offset()))? {
            match event {
                Event::Entry(entry) => entries.push((entry, Vec::new())),
                Event::Data(data) => entries.last_mut().unwrap().1.extend_from_slice(data),
                Event::End => done += 1,
            }
        }
        assert!(chunk.is_empty());
    }
    parser.finish().map_err(|error| (error, parser.offset()))?;
    assert_eq!(done, entries.len());
    Ok(entries)
}

fn whole(tar: Vec<u8>) -> Result<Vec<Parsed>, TarError> {
    parse(&tar, &[]).map_err(|(error, _)| error)
}

fn one(tar: Tar) -> Entry {
    let mut entries = whole(tar.end()).unwrap();
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.remove(0).0
}

#[test]
fn kinds() {
    let target = || b"there".to_vec();
    let table = [
        (b'0', EntryKind::File),
        (0, EntryKind::File),
        (b'7', EntryKind::File),
        (b'1', EntryKind::HardLink { target: target() }),
        (b'2', EntryKind::Symlink { target: target() }),
        (b'3', EntryKind::Device),
        (b'4', EntryKind::Device),
        (b'5', EntryKind::Directory),
        (b'6', EntryKind::Fifo),
    ];
    for (kind, expected) in table {
        let entry = one(Tar::default().raw(Raw::new("name", kind).link("there").mode(0o4751), b""));
        assert_eq!(entry.kind, expected);
        assert_eq!((&entry.path[..], entry.mode, entry.mtime), (&b"name"[..], 0o4751, Mtime { seconds: MTIME, nanos: 0 }));
    }
    assert_eq!(one(Tar::default().raw(Raw::new("old/", 0), b"")).kind, EntryKind::Directory);
    for (kind, error) in
        [(b'S', TarError::Sparse), (b'D', TarError::Type(b'D')), (b'M', TarError::Type(b'M')), (b'V', TarError::Type(b'V'))]
    {
        assert_eq!(whole(Tar::default().raw(Raw::new("name", kind), b"").end()), Err(error));
    }
}

#[test]
fn links_and_directories_have_no_data() {
    // As in Go's reader: what looks like data is the next header.
    let tar = Tar::default().raw(Raw::new("link", b'1').link("there").size(512), b"").file("file", b"x");
    assert_eq!(whole(tar.end()).unwrap().len(), 2);
}

#[test]
fn names() {
    let prefix = |magic: &[u8]| Raw::new("name", b'0').bytes(257, magic).bytes(345, b"dir");
    let cases: Vec<(Tar, &[u8])> = vec![
        (Tar::default().raw(prefix(b"ustar\x0000"), b""), b"dir/name"),
        (Tar::default().raw(prefix(b"ustar  \0"), b""), b"name"),
        (Tar::default().raw(prefix(b"\0\0\0\0\0\0\0\0"), b""), b"name"),
        (Tar::default().raw(Raw::new([b'n'; 100], b'0'), b""), &[b'n'; 100]),
        (Tar::default().gnu(b'L', &[b'l'; 300]).file("short", b""), &[b'l'; 300]),
        (Tar::default().pax(&[("path", "caf\u{e9}/\u{65e5}".as_bytes())]).file("short", b""), "caf\u{e9}/\u{65e5}".as_bytes()),
        (Tar::default().pax(&[("path", b"not\xffutf8")]).file("short", b""), b"not\xffutf8"),
        (Tar::default().pax(&[("path", b"")]).file("short", b""), b"short"),
    ];
    for (tar, path) in cases {
        assert_eq!(one(tar).path, path, "{}", String::from_utf8_lossy(path));
    }
    let long = one(Tar::default().gnu(b'K', &[b't'; 200]).symlink("s", "short"));
    assert_eq!(long.kind, EntryKind::Symlink { target: vec![b't'; 200] });
    let pax = one(Tar::default().pax(&[("linkpath", &[b't'; 200])]).symlink("s", "short"));
    assert_eq!(pax.kind, long.kind);
}

#[test]
fn extended_headers_hold_for_one_entry() {
    let tar = Tar::default().pax(&[("path", b"first"), ("mtime", b"1.5")]).file("a", b"").file("second", b"");
    let entries = whole(tar.end()).unwrap();
    assert_eq!((&entries[1].0.path[..], entries[1].0.mtime.seconds), (&b"second"[..], MTIME));
}

#[test]
fn numbers() {
    let size = |field: &[u8]| Tar::default().raw(Raw::new("n", b'0').bytes(124, field), b"123456").end();
    for good in [&b"00000000006\0"[..], b"00000000006 ", b"         6 \0", b"6\0\0\0\0\0\0\0\0\0\0\0", b"\x80\0\0\0\0\0\0\0\0\0\0\x06"] {
        assert_eq!(whole(size(good)).unwrap()[0].1, b"123456", "{good:?}");
    }
    for bad in [
        &b"0000000000x\0"[..],
        b"6 6\0\0\0\0\0\0\0\0\0",
        b"-0000000006\0",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfa",
        b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x81\0\0\0\0\0\0\0\0\0\0\x06",
    ] {
        assert_eq!(whole(size(bad)), Err(TarError::Number("size")), "{bad:?}");
    }
    let mtime = one(Tar::default().raw(Raw::new("n", b'0').bytes(136, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), b"")).mtime;
    assert_eq!(mtime, Mtime { seconds: -1, nanos: 0 });
    let owner = one(Tar::default()
        .raw(Raw::new("n", b'0').bytes(108, b"\x80\0\0\0\0\x01\x11\x70").bytes(116, b"\xff\xff\xff\xff\xff\xff\xff\xfe"), b""));
    assert_eq!((owner.uid, owner.gid), (70000, u32::MAX));
}

#[test]
fn checksums() {
    let mut high = Raw::new(b"\xe9\xe9", b'0').sealed();
    let signed: i32 = high.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { i32::from(*byte as i8) }).sum();
    high[148..156].copy_from_slice(format!("{signed:06o}\0 ").as_bytes());
    assert_eq!(whole(high.to_vec()).unwrap()[0].0.path, b"\xe9\xe9", "signed sums, as old tars have them");
    let mut wrong = Raw::new("n", b'0').sealed();
    wrong[0] = b'm';
    assert_eq!(whole(wrong.to_vec()), Err(TarError::Checksum));
    assert_eq!(whole(b"not a tar".repeat(100)), Err(TarError::Checksum));
}

#[test]
fn rule_11_pax_size_wins_over_the_header() {
    let inner = Tar::default().file("hidden", b"h").end();
    let size = inner.len().to_string();
    for header_size in [0, 512, inner.len() as u64] {
        let tar = Tar::default().pax(&[("size", size.as_bytes())]).raw(Raw::new("outer", b'0').size(header_size), &inner);
        let entries = whole(tar.end()).unwrap();
        assert_eq!(entries.len(), 1, "header size {header_size}");
        assert_eq!(entries[0].1, inner);
    }
}

#[test]
fn rule_11_malformed_pax_is_fatal() {
    let pax = |data: &[u8]| whole(Tar::default().raw(Raw::new("pax", b'x').size(data.len() as u64), data).file("n", b"").end());
    for bad in [
        &b"x path=a\n"[..],
        b"9 path=a",
        b"8 path=a\n",
        b"11 path=a\n",
        b"99 path=a\n",
        b"0 \n",
        b"3 \n",
        b" path=a\n",
        b"7 patha\n",
        b"5 =a\n",
        b"+9 path=a\n",
    ] {
        assert_eq!(pax(bad), Err(TarError::Pax), "{}", String::from_utf8_lossy(bad));
    }
    assert_eq!(pax(b"18446744073709551616 path=a\n"), Err(TarError::Pax));
    for (key, value) in
        [("size", "-1"), ("size", "9223372036854775808"), ("size", "1x"), ("mtime", "soon"), ("mtime", "1.x"), ("uid", "root")]
    {
        assert!(matches!(pax(&record(key, value.as_bytes())), Err(TarError::Number(_))), "{key}={value}");
    }
    assert_eq!(whole(Tar::default().raw(Raw::new("pax", b'x').size((1 << 20) + 1), b"").end()), Err(TarError::MetaTooLong((1 << 20) + 1)));
    assert_eq!(whole(Tar::default().raw(Raw::new("l", b'L').size(1 << 32), b"").end()), Err(TarError::MetaTooLong(1 << 32)));
}

#[test]
fn rule_11_global_headers() {
    let global = |key, value: &[u8]| {
        let data = record(key, value);
        whole(Tar::default().raw(Raw::new("g", b'g').size(data.len() as u64), &data).file("name", b"").end())
    };
    assert_eq!(global("comment", b"a commit").unwrap()[0].0.path, b"name");
    assert_eq!(global("mtime", b"7").unwrap()[0].0.mtime.seconds, MTIME, "ignored, as Go's reader does");
    for key in ["path", "linkpath", "size", "GNU.sparse.major"] {
        assert_eq!(global(key, b"1"), Err(TarError::Global(key.to_owned())));
    }
}

#[test]
fn rule_12_sparse_files_are_refused() {
    assert_eq!(
        whole(Tar::default().pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0")]).file("GNUSparseFile.0/x", b"").end()),
        Err(TarError::Sparse)
    );
    assert_eq!(whole(Tar::default().raw(Raw::new("sparse", b'S'), b"").end()), Err(TarError::Sparse));
}

#[test]
fn pax_times_and_xattrs() {
    for (text, seconds, nanos) in [
        ("12", 12, 0),
        ("12.", 12, 0),
        ("12.5", 12, 500_000_000),
        ("-1.25", -2, 750_000_000),
        ("-3", -3, 0),
        ("1.1234567899", 1, 123_456_789),
    ] {
        let entry = one(Tar::default().pax(&[("mtime", text.as_bytes())]).file("n", b""));
        assert_eq!(entry.mtime, Mtime { seconds, nanos }, "{text}");
    }
    let entry = one(Tar::default().pax(&[("SCHILY.xattr.user.a", b"line\nline\0"), ("LIBARCHIVE.xattr.user.b", b"x")]).file("n", b""));
    assert_eq!(entry.xattrs, [(b"user.a".to_vec(), b"line\nline\0".to_vec())]);
}

#[test]
fn of_attributes_the_last_counts_and_an_empty_value_takes_it_back() {
    let said: [(&str, &[u8]); 5] = [("user.a", b"1"), ("user.b", b"1"), ("user.a", b"2"), ("user.b", b""), ("user.c", b"")];
    let names = said.map(|(name, _)| format!("SCHILY.xattr.{name}"));
    let records: Vec<(&str, &[u8])> = names.iter().map(String::as_str).zip(said.map(|(_, value)| value)).collect();
    let entry = one(Tar::default().pax(&records).file("n", b""));
    assert_eq!(entry.xattrs, [(b"user.a".to_vec(), b"2".to_vec())]);
}

#[test]
fn rule_14_ends() {
    let tar = Tar::default().file("n", b"data");
    let complete = tar.clone().end();
    // Cut anywhere inside an entry is an error; between entries the digest would tell.
    for length in 1..1024 {
        let cut = whole(complete[..length].to_vec());
        assert_eq!(cut, Err(TarError::Truncated), "{length}");
    }
    for good in [0, 1024, 1536, 2048] {
        assert!(whole(complete[..good].to_vec()).is_ok(), "{good}");
    }
    assert!(whole([&complete[..], b"anything"].concat()).is_ok(), "rule 13: what follows the end is only hashed");
    assert_eq!(whole([&tar.0[..], &[0; 512], &complete[..]].concat()), Err(TarError::ZeroBlock));
    assert_eq!(whole(Tar::default().pax(&[("path", b"x")]).end()), Err(TarError::Truncated), "a header without its entry");
    assert_eq!(whole(Tar::default().gnu(b'L', b"x").0), Err(TarError::Truncated));
}

fn any_entry() -> impl Strategy<Value = Tar> {
    let name = "[a-c]{1,3}(/[a-c]{1,2}){0,2}";
    let data = proptest::collection::vec(any::<u8>(), 0..1500);
    prop_oneof![
        (name, data.clone()).prop_map(|(name, data)| Tar::default().file(name, data)),
        (name, data).prop_map(|(name, data)| {
            let size = data.len().to_string();
            Tar::default().pax(&[("path", name.as_bytes()), ("size", size.as_bytes())]).raw(Raw::new("x", b'0'), &data)
        }),
        (name, 0_u32..0o10000).prop_map(|(name, mode)| Tar::default().dir(name, mode)),
        (name, name).prop_map(|(name, target)| Tar::default().gnu(b'L', name.as_bytes()).symlink("s", target)),
        (name, name).prop_map(|(name, target)| Tar::default().hard_link(name, target)),
    ]
}

proptest! {
    #[test]
    fn chunk_boundaries_do_not_matter(
        entries in proptest::collection::vec(any_entry(), 0..8),
        cuts in proptest::collection::vec(0_usize..700, 0..40),
        damage in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut tar = Tar(entries.into_iter().flat_map(|entry| entry.0).collect()).end();
        if let Some((at, byte)) = damage {
            *at.get_mut(&mut tar) = byte;
        }
        prop_assert_eq!(parse(&tar, &cuts), parse(&tar, &[]));
        prop_assert_eq!(parse(&tar, &vec![1; tar.len()]), parse(&tar, &[]));
    }

    #[test]
    fn agrees_with_the_tar_crate(entries in proptest::collection::vec(("[a-c]{1,150}", proptest::collection::vec(any::<u8>(), 0..1500)), 0..6)) {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, data) in &entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o600);
            builder.append_data(&mut header, name, &data[..]).unwrap();
        }
        let read = whole(builder.into_inner().unwrap()).unwrap();
        let read: Vec<_> = read.into_iter().map(|(entry, data)| (String::from_utf8(entry.path).unwrap(), data)).collect();
        prop_assert_eq!(read, entries);
    }
}
