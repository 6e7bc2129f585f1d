//! What a command and its daemon cost.

use std::fs;
use std::process::Command;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

use crate::peers::Pulled;

/// How often a command's memory is looked at: often enough to see a peak, seldom enough to cost nothing.
const LOOK: Duration = Duration::from_millis(5);

/// Runs commands one after the other. `daemon` is who works for them.
pub fn run(commands: Vec<Command>, daemon: Option<u32>) -> Result<Pulled, String> {
    let (before, daemon_before) = (children(), daemon.map_or(0.0, cpu_of));
    let mut peak_kb = 0;
    for mut command in commands {
        let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let status = loop {
            peak_kb = peak_kb.max(peak(child.id()));
            match child.try_wait().map_err(|error| error.to_string())? {
                Some(status) => break status,
                None => std::thread::sleep(LOOK),
            }
        };
        if !status.success() {
            return Err(format!("{command:?}: {status}"));
        }
    }
    let cpu = children() - before + daemon.map_or(0.0, cpu_of) - daemon_before;
    Ok(Pulled { cpu, peak_mb: peak_kb as f64 / 1024.0 })
}

fn children() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the kernel tells");
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

/// Of a process and what it has waited for.
fn cpu_of(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name.split_whitespace().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

fn peak(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kb| kb.parse().ok()).unwrap_or(0)
}
