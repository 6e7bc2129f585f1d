//! What takes all of the machine: memory of every kind, and processes.

use std::fs::File;
use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::{give_up, now_ms, system};

const MEGABYTE: usize = 1 << 20;

/// Takes memory and puts a block into it.
type Filler = Box<dyn FnMut(&[u8]) -> io::Result<()>>;

/// Fills so many megabytes, one after the other, and keeps them. From `past` on the time is told after each.
pub fn fill(kind: &str, megabytes: u64, past: u64) -> io::Result<()> {
    let mut filler: Filler = match kind {
        "plain" => {
            let mut kept = Vec::new();
            Box::new(move |block| {
                kept.push(block.to_vec());
                Ok(())
            })
        }
        "shared" => Box::new(|block| {
            // Never unmapped.
            system::shared_memory(block.len()).map(|memory| memory.copy_from_slice(block))
        }),
        "shared-dropped" => Box::new(|block| {
            let memory = system::shared_memory(block.len())?;
            memory.copy_from_slice(block);
            system::drop_pages(memory)
        }),
        "memory-file" => into_file(system::memory_file()?),
        "tmp-file" => into_file(File::create("/tmp/filled")?),
        "segment" => Box::new(system::leave_segment),
        _ => give_up("unknown kind of memory"),
    };
    let block = vec![b'm'; MEGABYTE];
    for filled in 1..=megabytes {
        filler(&block)?;
        if filled >= past {
            println!("past {filled} {}", now_ms());
        }
    }
    // So that the filler, and what it keeps, lives to the end.
    std::mem::forget(filler);
    Ok(())
}

fn into_file(mut file: File) -> Filler {
    Box::new(move |block| file.write_all(block))
}

/// Makes processes that wait, until no more can be made. Answers how many, and why not more.
pub fn forks() -> (u64, String) {
    let mut made = 0;
    loop {
        match system::fork() {
            Ok(0) => system::wait_for_ever(),
            Ok(_) => made += 1,
            Err(error) => return (made, system::errno_name(&error)),
        }
    }
}

/// Has so many children, which share all memory with us, for a while.
pub fn forked(count: u64, pause: Duration) {
    for _ in 0..count {
        if let Ok(0) = system::fork() {
            system::wait_for_ever();
        }
    }
    thread::sleep(pause);
}

/// Has so many children that wait, with so many descriptors each.
pub fn crowd(count: u64, descriptors: u64) -> io::Result<()> {
    for _ in 0..descriptors {
        // Never closed.
        std::mem::forget(File::open("/dev/null")?);
    }
    for _ in 0..count {
        if system::fork()? == 0 {
            system::wait_for_ever();
        }
    }
    Ok(())
}

/// Calculates for a while; answers how much of that time there was a processor for it, in percent.
pub fn burn(pause: Duration) -> u64 {
    let (began, before) = (Instant::now(), processor_ms());
    while began.elapsed() < pause {
        std::hint::black_box((0..10_000_u64).sum::<u64>());
    }
    (processor_ms() - before) * 100 / began.elapsed().as_millis() as u64
}

/// What we have had of processors until now (proc_pid_schedstat: the first number, in nanoseconds).
fn processor_ms() -> u64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or_else(|| give_up("no schedstat")) / 1_000_000
}

/// `:(){ :|:& };:` Everyone makes more, and tries again when that is refused: a second later, as shells do.
pub fn fork_bomb() -> ! {
    loop {
        if system::fork().is_err() {
            thread::sleep(Duration::from_secs(1));
        }
    }
}
