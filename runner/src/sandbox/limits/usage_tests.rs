use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::*;

fn folder(path: &str) -> OwnedFd {
    File::open(path).unwrap().into()
}

fn everybody() -> Inside {
    Inside { proc: folder("/proc"), first: None, in_memory: Vec::new(), segments: None }
}

#[test]
fn our_own_memory_is_seen_whole_and_every_page_once() {
    let mut inside = everybody();
    let ballast = vec![1_u8; 64 << 20];
    let all = Quick::of(&mut inside, &mut Growth::from_now()).unwrap();
    let id = std::process::id().to_string();
    assert!(all.processes.iter().any(|process| process.id == id) && all.resident > 64 << 20);
    let seen = Quick { processes: vec![Process { id, resident: 0 }], resident: all.resident, ..Quick::default() };
    let exact = Exact::of(&inside, &seen, &Walk::default()).unwrap();
    assert!(exact.anonymous > 64 << 20 && exact.anonymous <= all.resident, "{exact:?}");
    drop(ballast);
}

/// What it cannot look at is not nothing.
#[test]
fn looks_that_fail_are_over_the_limit_in_the_end() {
    let mut inside = everybody();
    // Where a folder should be, a file: an error that is no process's end.
    inside.proc = folder("/proc/self/status");
    let mut usage = inside.gauge(1 << 40);
    let verdicts: Vec<_> = (0..Usage::BLIND).map(|_| usage.look().verdict).collect();
    assert!(verdicts[..3].iter().all(|verdict| *verdict == Verdict::Within(Usage::SHORTEST)), "{verdicts:?}");
    assert_eq!(verdicts[3], Verdict::Over);
    assert!(usage.reserve.len() == Usage::RESERVE);
}

/// Figures of a process that dropped the pages of a shared mapping, on a machine whose shared memory has grown by as much.
#[test]
fn pages_that_no_process_has_any_more_count_as_far_as_shared_memory_has_grown() {
    let exact = |unseen| Exact { sizes: HashMap::from([(1, 90), (2, 20)]), nameless: 10, anonymous: 1, unseen, ..Exact::default() };
    for (unseen, used) in [(0, 11), (50, 51), (500, 111)] {
        assert_eq!(exact(unseen).used(), used, "{unseen}");
    }
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
    let inside = Inside { proc: folder("/proc"), first: None, in_memory: Vec::new(), segments: None };
    let usage = inside.gauge(100 << 20);
    for (used, pause) in [(0, 25), (60 << 20, 10), (99 << 20, 5), (200 << 20, 5)] {
        assert_eq!(usage.within(used).verdict, Verdict::Within(Duration::from_millis(pause)), "{used}");
    }
}

/// A sandbox whose `/proc` is the outer one: nobody else's memory is its own.
#[test]
fn where_proc_shows_everybody_the_sandbox_alone_is_looked_at() {
    let mut shell = Command::new("sh").args(["-c", "sleep 60 & wait"]).process_group(0).spawn().unwrap();
    let inside =
        Inside { proc: folder("/proc"), first: None, in_memory: Vec::new(), segments: None }.narrowed(shell.id() as libc::pid_t).unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while inside.processes().unwrap().len() < 2 {
        assert!(Instant::now() < end, "{:?}", inside.processes().unwrap());
        std::thread::yield_now();
    }
    assert!(
        inside.processes().unwrap().contains(&shell.id().to_string())
            && !inside.processes().unwrap().contains(&std::process::id().to_string())
    );
    nix::sys::signal::killpg(nix::unistd::Pid::from_raw(shell.id() as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
    shell.wait().unwrap();
}
