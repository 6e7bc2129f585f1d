use super::*;

/// A folder that stands for a cgroup: files keep what was written last.
fn fake(version: Version, controllers: &[Controller]) -> (tempfile::TempDir, Cgroup) {
    let root = tempfile::tempdir().unwrap();
    let lock = File::open(root.path()).unwrap();
    let folder = Folder { path: root.path().to_owned(), version, controllers: controllers.to_vec(), _lock: lock };
    (root, Cgroup { folders: vec![folder], joins: Vec::new() })
}

fn files(root: &tempfile::TempDir) -> Vec<(String, String)> {
    let entries = fs::read_dir(root.path()).unwrap().flatten();
    let mut files: Vec<_> =
        entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn limits_are_written_in_either_version() {
    let share = CpuShare { micros_per_100_ms: 7235 };
    for (version, expected) in [
        (
            Version::One,
            &[
                ("cpu.cfs_period_us", "100000"),
                ("cpu.cfs_quota_us", "7235"),
                ("memory.limit_in_bytes", "134217728"),
                ("memory.memsw.limit_in_bytes", "134217728"),
                ("pids.max", "1024"),
            ][..],
        ),
        (
            Version::Two,
            &[
                ("cpu.max", "7235 100000"),
                ("memory.max", "134217728"),
                ("memory.oom.group", "1"),
                ("memory.swap.max", "0"),
                ("pids.max", "1024"),
            ],
        ),
    ] {
        let (root, cgroup) = fake(version, &Controller::ALL);
        cgroup.limit_cpu(share).unwrap();
        cgroup.limit_memory(128 << 20).unwrap();
        cgroup.limit_processes(1024).unwrap();
        let expected: Vec<_> = expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        assert_eq!(files(&root), expected);
    }
}

#[test]
fn figures_are_read_in_either_version() {
    let (root, cgroup) = fake(Version::One, &[Controller::Memory]);
    assert_eq!((cgroup.peak_bytes(), cgroup.kills()), (None, 0));
    fs::write(root.path().join("memory.max_usage_in_bytes"), "4096\n").unwrap();
    fs::write(root.path().join("memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n").unwrap();
    assert_eq!((cgroup.peak_bytes(), cgroup.kills()), (Some(4096), 2));
    assert!(cgroup.counts_single_kills().is_some());
    let (root, cgroup) = fake(Version::Two, &[Controller::Memory]);
    fs::write(root.path().join("memory.current"), "1\n").unwrap();
    fs::write(root.path().join("memory.events"), "low 0\nhigh 0\nmax 9\noom 1\noom_kill 3\noom_group_kill 1\n").unwrap();
    assert_eq!((cgroup.peak_bytes(), cgroup.kills()), (Some(1), 3));
    fs::write(root.path().join("memory.peak"), "8192\n").unwrap();
    assert_eq!(cgroup.peak_bytes(), Some(8192));
    assert!(cgroup.counts_single_kills().is_none());
}

/// The real thing, as root on a machine of either version.
#[test]
fn a_real_one_is_made_and_removed() {
    let Ok(mut site) = Site::find() else {
        eprintln!("skipped: no cgroup can be made here");
        return;
    };
    let Some(cgroup) = site.make(&[Controller::Memory, Controller::Cpu]).unwrap() else {
        eprintln!("skipped: neither memory nor processors can be limited here");
        return;
    };
    cgroup.limit_memory(64 << 20).unwrap();
    cgroup.limit_cpu(CpuShare { micros_per_100_ms: 1 }).unwrap();
    let paths: Vec<_> = cgroup.folders.iter().map(|folder| folder.path.clone()).collect();
    assert!(!cgroup.joins().is_empty() && paths.iter().all(|path| path.exists()));
    sweep(paths[0].parent().unwrap());
    assert!(paths[0].exists(), "what has an owner is not swept");
    drop(cgroup);
    assert!(paths.iter().all(|path| !path.exists()));
}

/// A killed undocked and a killed janitor leave one.
#[test]
fn what_has_no_owner_is_swept() {
    let root = tempfile::tempdir().unwrap();
    let (left, mine, other) = (
        root.path().join("undocked-0123456789abcdef-1"),
        root.path().join("undocked-fedcba9876543210-1"),
        root.path().join("undocked-x-1"),
    );
    for folder in [&left, &other] {
        fs::create_dir(folder).unwrap();
    }
    let _lock = create(&mine).unwrap();
    sweep(root.path());
    assert!(!left.exists() && mine.exists() && other.exists());
}

/// The janitor works when its pipe ends: here on plain folders, which it removes as it does cgroups.
#[test]
fn the_janitor_removes_what_we_left() {
    let root = tempfile::tempdir().unwrap();
    let parent = |own_leaf| Parent { folder: root.path().to_owned(), version: Version::Two, controllers: Vec::new(), own_leaf };
    fs::write(root.path().join("cgroup.procs"), "").unwrap();
    fs::write(root.path().join("cgroup.subtree_control"), "").unwrap();
    let janitor = Janitor::start("undocked-1-", &[parent(true)]).unwrap();
    let (ours, theirs) = (root.path().join("undocked-1-7"), root.path().join("undocked-2-7"));
    for folder in [&ours, &theirs] {
        fs::create_dir(folder).unwrap();
    }
    assert!(ours.exists());
    drop(janitor);
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while ours.exists() {
        assert!(std::time::Instant::now() < end);
        thread::yield_now();
    }
    assert!(theirs.exists());
    // It has left the cgroup that it shared with us.
    assert_eq!(fs::read_to_string(root.path().join("cgroup.procs")).unwrap(), "0");
    assert!(fs::read_to_string(root.path().join("cgroup.subtree_control")).unwrap().starts_with("-cpu"));
}
