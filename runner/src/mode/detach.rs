//! A run in the background (`-d`): this program again, in a session of its own, with a file for its log.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{cache_root, print};
use crate::config::{Detached, ImageSource};
use crate::exit_code::{ExitCode, Failure};

/// By what the run in the background knows that it is there.
pub const ATTACHED: &str = "--attached";
/// What a run that stays open says once it listens.
const BANNER: &str = "Lambda API listening on port ";
/// How long it may take to find its image and to listen. One that takes longer is left to itself.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long its log is left alone between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Starts the run, and prints its id once it listens; or says why it could not.
pub fn run(detached: &Detached) -> Result<ExitCode, Failure> {
    let id = id().map_err(Failure::could_not_run)?;
    let folder = folder(&detached.source)?;
    let log = folder.join(format!("{}.log", &id[..12]));
    let mut child = start(&detached.arguments, &log).map_err(Failure::could_not_run)?;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end && !fs::read_to_string(&log).is_ok_and(|text| text.contains(BANNER)) {
        if let Some(status) = child.try_wait().map_err(Failure::could_not_run)? {
            let _ = io::stderr().write_all(&fs::read(&log).unwrap_or_default());
            if status.success() {
                break;
            }
            let code = status.code().map_or(ExitCode::COULD_NOT_RUN, ExitCode::from_status);
            // What it said stands above.
            return Ok(code);
        }
        std::thread::sleep(PAUSE);
    }
    let (pid, log) = (child.id(), log.display());
    let _ = io::stderr().write_all(format!("undocked: it runs as process {pid} (`kill {pid}` ends it) and logs to {log}\n").as_bytes());
    print(format!("{id}\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Leaves the session of whoever started us, so that its end is not ours.
pub fn settle() {
    // Fails only for the leader of a session, which then is our own already.
    let _ = nix::unistd::setsid();
}

fn start(arguments: &[OsString], log: &Path) -> io::Result<Child> {
    // Both add to its end.
    let output = File::options().create_new(true).append(true).open(log)?;
    let error = output.try_clone()?;
    let mut words = arguments.iter();
    let mut command = Command::new(std::env::current_exe()?);
    // Options of ours stand behind the command's name.
    command.args(words.next()).arg(ATTACHED).args(words);
    command.stdin(Stdio::null()).stdout(output).stderr(error).process_group(0).spawn()
}

/// As docker's: 64 hex digits.
fn id() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Where logs of runs in the background lie.
fn folder(source: &ImageSource) -> Result<PathBuf, Failure> {
    let folder = cache_root(source)?.join("detached");
    fs::create_dir_all(&folder).map_err(|error| Failure::could_not_run(format!("cannot make `{}`: {error}", folder.display())))?;
    Ok(folder)
}
