use std::fs::File;
use std::process::{Child, Command, Stdio};

use super::*;

/// A file in memory of 8 MB.
fn sealed() -> File {
    crate::sandbox::sys::sealed_program(c"for a test", &vec![7; 8 << 20]).unwrap().into()
}

fn proc() -> OwnedFd {
    File::open("/proc").unwrap().into()
}

fn ids(processes: &[Child]) -> Vec<String> {
    processes.iter().map(|process| process.id().to_string()).collect()
}

#[test]
fn memory_files_count_while_they_are_open_and_once() {
    let file = sealed();
    // Two processes that have it open, and map nothing of it.
    let start = || Command::new("sleep").arg("60").stdin(Stdio::from(file.try_clone().unwrap())).spawn().unwrap();
    let mut processes = [start(), start()];
    let mut walk = Walk::default();
    walk.go_on(&proc(), || ids(&processes)).unwrap();
    assert_eq!((walk.files.len(), walk.total()), (1, 8 << 20));
    for process in &mut processes {
        process.kill().unwrap();
        process.wait().unwrap();
    }
    walk.go_on(&proc(), || ids(&processes)).unwrap();
    assert_eq!(walk.total(), 0, "a walk that is over forgets what it did not find again");
}

/// The same process a thousand times: far more than fits into one look.
#[test]
fn a_long_walk_goes_on_where_it_was_and_has_a_bound() {
    let file = sealed();
    let own = std::process::id().to_string();
    let _others: Vec<File> = (0..200).map(|_| file.try_clone().unwrap()).collect();
    let mut walk = Walk::default();
    let mut looks = 0;
    while !walk.is_endless() {
        walk.go_on(&proc(), || vec![own.clone(); 1000]).unwrap();
        looks += 1;
        assert!(walk.walked > 0 && walk.total() >= 8 << 20, "it never came to its end");
    }
    assert!(looks > 2 && looks <= Walk::MOST / Walk::LEAST + 1, "{looks}");
}
