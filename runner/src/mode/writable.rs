//! A plain command in a root that may be written to: `undocked run` makes one for the command alone, others keep theirs.

use std::path::PathBuf;
use std::rc::Rc;

use super::async_runtime;
use super::inside::{APT_SETTINGS, APT_VARIABLE};
use super::inside::{Inside, Needs, NotInside, Userland};
use super::once::{Lacks, NotRun, launcher, with_a_network};
use super::shell;
use super::signals::Signals;
use crate::config::RunConfig;
use crate::environment::user::{self, User};
use crate::environment::variables::{DEFAULT_MEMORY, EnvVars};
use crate::exit_code::{ExitCode, Failure};
use crate::sandbox::{Command, Stdio};
use crate::writable::{WritableError, WritableRoot};

/// A command in a root that may be written to.
#[derive(Debug, Clone)]
pub struct PlainCommand {
    /// The command line.
    pub argv: Vec<String>,
    /// Its variables; `HOME` and `HOSTNAME` are added where they are not among them.
    pub variables: EnvVars,
    /// Who it is, as `USER[:GROUP]`; root if nothing is said.
    pub user: Option<String>,
    /// Where it starts; made if it is missing.
    pub working_dir: PathBuf,
    /// Its standard streams; no pipes, which nobody would read.
    pub stdio: Stdio,
}

/// Runs a command in a root that the caller keeps. Volumes, network, limits and isolation are those of `config`, whose image, arguments, entrypoint,
/// variables, user and working directory are not looked at.
pub fn run_in(config: &RunConfig, root: &mut WritableRoot, command: &PlainCommand) -> Result<ExitCode, Failure> {
    with_a_network(config, |config, said| attempt(config, root, command, said))
}

/// One attempt, on the network that `config` says; `said` is said of it.
pub(super) fn attempt(config: &RunConfig, root: &mut WritableRoot, command: &PlainCommand, said: Option<&str>) -> Result<ExitCode, NotRun> {
    let user = user_of(root, command.user.as_deref())?;
    let config = RunConfig { working_dir: Some(command.working_dir.clone()), ..config.clone() };
    let launcher = launcher()?;
    async_runtime()?.block_on(async {
        let mut signals = Signals::listen().map_err(Failure::could_not_run)?;
        let limits = config.cpu.limits(config.memory, config.memory.unwrap_or(DEFAULT_MEMORY));
        let needs = Needs { limits, helpers: Vec::new() };
        let inside = match Inside::prepare(&config, Userland::Writable(root, user.ids), needs, &mut signals).await {
            Ok(inside) => inside,
            Err(NotInside::Failed(failure)) => return Err(failure.into()),
            Err(NotInside::Interrupted(signal)) => return Ok(ExitCode::from_signal(signal)),
        };
        if let Some(said) = said {
            shell::say(said);
        }
        let variables = variables(command, &user, &inside).to_c_strings();
        let line = Command::Line(command.argv.clone());
        let networking = Rc::new(config.networking.clone());
        let request = inside.request(line.clone(), variables.clone(), command.stdio);
        let why = match shell::run(&launcher, request, Rc::clone(&networking), signals.next()).await {
            Err(not_run) if not_run.lacks(Lacks::Overlay) => not_run.into_failure(),
            ran => return ran,
        };
        shell::say(&format!("this sandbox has a copy of the image, which takes longer: {why}"));
        root.become_copy().map_err(failed)?;
        let request = inside.with_root(root.source()).request(line, variables, command.stdio);
        shell::run(&launcher, request, networking, signals.next()).await
    })
}

pub(super) fn user_of(root: &WritableRoot, given: Option<&str>) -> Result<User, Failure> {
    let read = |path: &str| match root.find(path.as_ref()) {
        // No user database is larger.
        Ok(Some(on_host)) if on_host.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() < 1 << 20) => {
            std::fs::read(on_host).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    user::user(given, &read("/etc/passwd"), || read("/etc/group")).map_err(|error| {
        let hint = error.hint();
        Failure::could_not_run(error).with_hint(Some(hint))
    })
}

pub(super) fn variables(command: &PlainCommand, user: &User, inside: &Inside) -> EnvVars {
    let mut variables = command.variables.clone();
    variables.set_missing("HOSTNAME", inside.hostname());
    variables.set_missing("HOME", &user.home);
    if inside.has_file(APT_SETTINGS) {
        variables.set_missing(APT_VARIABLE, APT_SETTINGS);
    }
    variables
}

pub(super) fn failed(error: WritableError) -> Failure {
    let hint = error.hint();
    Failure::could_not_run(error).with_hint(hint)
}
