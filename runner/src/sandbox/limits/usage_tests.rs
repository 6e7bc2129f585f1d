use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use super::*;

fn folder(path: &str) -> OwnedFd {
    File::open(path).unwrap().into()
}

/// What is to be looked at: one process of this machine, as if it were alone in a sandbox.
fn quick_of(processes: &[&Child]) -> (Inside, Quick) {
    let inside = Inside { proc: folder("/proc"), first: None, tmp: None, segments: None };
    let mut seen = Quick::default();
    let page = rustix::param::page_size() as u64;
    for process in processes {
        let id = process.id().to_string();
        let statm = read(&inside.proc, &format!("{id}/statm")).unwrap();
        seen.resident += statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * page;
        open_memory_files(&inside.proc, &id, &mut seen.objects.files);
        seen.processes.push(id);
    }
    (inside, seen)
}

#[test]
fn our_own_memory_is_seen_whole_and_every_page_once() {
    let mut inside = Inside { proc: folder("/proc"), first: None, tmp: None, segments: None };
    let ballast = vec![1_u8; 64 << 20];
    let all = Quick::of(&mut inside);
    let own = std::process::id().to_string();
    assert!(all.processes.contains(&own) && all.resident > 64 << 20);
    let seen = Quick { processes: vec![own], resident: all.resident, ..Quick::default() };
    let exact = Exact::of(&inside, &seen);
    assert!(exact.anonymous > 64 << 20 && exact.anonymous <= all.most(), "{exact:?}");
    drop(ballast);
}

#[test]
fn memory_files_count_while_they_are_open_and_once() {
    let file = sealed();
    // Two processes that have it open, and map nothing of it.
    let start = || Command::new("sleep").arg("60").stdin(Stdio::from(file.try_clone().unwrap())).spawn().unwrap();
    let mut processes = [start(), start()];
    let (_, seen) = quick_of(&processes.each_ref());
    assert_eq!(seen.objects.files.len(), 1);
    assert_eq!(seen.objects.total(), 8 << 20);
    for process in &mut processes {
        process.kill().unwrap();
        process.wait().unwrap();
    }
}

/// A file in memory of 8 MB.
fn sealed() -> File {
    crate::sandbox::sys::sealed_program(c"for a test", &vec![7; 8 << 20]).unwrap().into()
}

#[test]
fn a_memory_file_system_counts_what_is_written() {
    let shm = "/dev/shm";
    if fstatfs(File::open(shm).unwrap().as_fd()).is_ok_and(|found| found.f_type != 0x0102_1994) {
        eprintln!("skipped: /dev/shm is no tmpfs here");
        return;
    }
    let place = tempfile::tempdir_in(shm).unwrap();
    let before = used_of_file_system(&folder(shm));
    std::fs::write(place.path().join("x"), vec![1; 16 << 20]).unwrap();
    let after = used_of_file_system(&folder(shm));
    // Others may use it, too, but hardly give so much back at this moment.
    assert!(after + (8 << 20) > before + (16 << 20), "{before} {after}");
}

#[test]
fn the_kernels_texts() {
    assert_eq!(field("Rss:   12 kB\nPss_Anon:      42 kB\n", "Pss_Anon:"), Some(42 << 10));
    assert_eq!(field("Pss_Anon: many kB\n", "Pss_Anon:"), None);
    let open = HashMap::from([(77, 1)]);
    for (mapping, counts) in [
        ("7f0-7f1 rw-s 00000000 00:01 1024                       /dev/zero (deleted)", true),
        ("7f0-7f1 rw-s 00000000 00:01 78                         /memfd:heap (deleted)", true),
        ("7f0-7f1 rw-s 00000000 00:01 77                         /memfd:heap (deleted)", false),
        ("7f0-7f1 rw-s 00000000 00:2a 5                          /tmp/file", false),
        ("7f0-7f1 rw-s 00000000 00:01 3                          /SYSV00000000 (deleted)", false),
        ("7f0-7f1 r-xp 00000000 fe:00 9                          /usr/lib/libc.so.6", false),
        ("7f0-7f1 rw-p 00000000 00:00 0 ", false),
    ] {
        assert_eq!(counts_alone(mapping, &open), counts, "{mapping}");
    }
}

#[test]
fn segments_are_summed() {
    let mut file = tempfile::tempfile().unwrap();
    let text = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n\
                         0          0  1600              10485760     2     2      0   993   990   993   990 1 1 1              10485760                     0\n\
                         0          1  1600              10485760     2     2      0   993   990   993   990 1 1 1               4096                  8192\n";
    io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    assert_eq!(segments(&mut file), 10_485_760 + 4096 + 8192);
    assert_eq!(segments(&mut file), 10_485_760 + 4096 + 8192, "again from the start");
}

#[test]
fn looks_come_closer_together_near_the_limit() {
    let inside = Inside { proc: folder("/proc"), first: None, tmp: None, segments: None };
    let usage = inside.gauge(100 << 20);
    for (used, pause) in [(0, 25), (60 << 20, 10), (99 << 20, 5), (200 << 20, 5)] {
        assert_eq!(usage.within(used).verdict, Verdict::Within(Duration::from_millis(pause)), "{used}");
    }
}

/// A sandbox whose `/proc` is the outer one: nobody else's memory is its own.
#[test]
fn where_proc_shows_everybody_the_sandbox_alone_is_looked_at() {
    let mut shell = Command::new("sh").args(["-c", "sleep 60 & wait"]).process_group(0).spawn().unwrap();
    let inside = Inside { proc: folder("/proc"), first: None, tmp: None, segments: None }.narrowed(shell.id() as libc::pid_t).unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while inside.processes().len() < 2 {
        assert!(Instant::now() < end, "{:?}", inside.processes());
        std::thread::yield_now();
    }
    assert!(inside.processes().contains(&shell.id().to_string()) && !inside.processes().contains(&std::process::id().to_string()));
    nix::sys::signal::killpg(nix::unistd::Pid::from_raw(shell.id() as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
    shell.wait().unwrap();
}
