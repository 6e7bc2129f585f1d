use super::*;

#[test]
fn mappings_that_nothing_else_counts() {
    let open = Walk::default();
    for (line, size) in [
        ("7f0000-7f2000 rw-s 00000000 00:01 1024                       /dev/zero (deleted)", Some(0x2000)),
        ("7f0000-7f1000 rw-p 00000000 00:05 4                          /dev/zero", None),
        ("7f0000-7f1000 rw-s 00000000 00:01 78                         /memfd:heap (deleted)", Some(0x1000)),
        ("7f0000-7f1000 rw-p 00000000 00:01 78                         /memfd:heap (deleted)", Some(0x1000)),
        ("7f0000-7f1000 r-xp 00000000 fe:00 9                          /usr/lib/libc.so.6", None),
        ("7f0000-7f1000 rw-p 00000000 00:00 0 ", None),
    ] {
        assert_eq!(mapping(line, &open).map(|(_, size)| size), size, "{line}");
    }
}

#[test]
fn parts_of_one_mapping_are_added_up() {
    let maps = "1000-2000 rw-s 0 00:01 7 /dev/zero (deleted)\n2000-5000 r--s 1000 00:01 7 /dev/zero (deleted)\n";
    assert_eq!(sizes(maps, &Walk::default()), HashMap::from([(7, 0x4000)]));
    let smaps = format!("{maps}Pss:        8 kB\n6000-7000 r-xp 0 fe:00 9 /lib/x\nPss:        4 kB\n");
    assert_eq!(nameless(&smaps, &Walk::default()), 8 << 10);
}

#[test]
fn what_others_give_back_hides_nothing() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let mut growth = Growth { file: Some(file.reopen().unwrap()), least: u64::MAX };
    for (shared, grown) in [(500, 0), (520, 20), (100, 0), (190, 90)] {
        file.as_file().set_len(0).unwrap();
        file.rewind().unwrap();
        std::io::Write::write_all(&mut file, format!("MemFree: 1 kB\nShmem: {shared} kB\n").as_bytes()).unwrap();
        assert_eq!(growth.bytes(), grown << 10, "{shared}");
    }
}
