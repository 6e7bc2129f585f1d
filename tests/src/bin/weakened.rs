//! Starts a program in a sandbox of ours less some protections, so that a test can show what they are good for.
//!
//! `weakened [OPTION]... ROOT PROGRAM [ARGUMENT]...`, where ROOT is a host folder that becomes `/`. Options:
//!
//! - `--isolation NAME`: another one than `full`. `in-place` uses this machine's userland and shows ROOT where it lies; PROGRAM is then a path of this machine
//! - `--scratch DIR`: where a root is copied to for `chroot`
//! - `--without NAME`: leaves a protection out, as `SandboxPlan::without` names them; `seccomp` for no filter at all
//! - `--volume HOST:INSIDE` and `--writable-volume HOST:INSIDE`
//! - `--working-dir DIR`
//! - `--as-pid-1`: without an init
//! - `--started`: the program is started by PID 1 in a sandbox that runs already
//! - `--own-environment`: passes ours on, as a sandbox never does
//! - `--private-network`: a network of its own with a way out, supervised; `--allow-net RULE` and `--deny-net RULE` for it, and `--name-servers FILE`,
//!   a resolv.conf
//! - `--publish OUTSIDE:INSIDE`: a TCP port of the host's 127.0.0.1 that leads inside
//!
//! Ends with the program's exit code, 128 and the number for a signal, or 125 and a word on standard error.

use std::ffi::CString;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use runner::sandbox::network::{LogConnections, NameServers, NetworkRules, Published, Rule, Supervision, Supervisor};
use runner::sandbox::{
    Access, Command, Ended, FirstProcess, HostRoot, InnerIdentity, Input, Isolation, IsolationChoice, Launcher, Network, Output, Program,
    Programs, RootSource, Sandbox, SandboxRequest, Stdio, Volume, plan, shipped_filter,
};

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("weakened: {error}");
            ExitCode::from(125)
        }
    }
}

fn run(words: Vec<String>) -> Result<u8, Box<dyn std::error::Error>> {
    let mut words = words.into_iter().peekable();
    let mut without = Vec::new();
    let mut request = request();
    let mut network = PrivateNetwork::default();
    while let Some(option) = words.next_if(|word| word.starts_with("--")) {
        let mut value = || words.next().ok_or("an option lacks its value");
        match option.as_str() {
            "--without" => match value()? {
                name if name == "seccomp" => request.filter = None,
                name => without.push(name),
            },
            "--isolation" => request.isolation = value()?.parse()?,
            "--scratch" => request.scratch = Some(value()?.into()),
            "--volume" => request.volumes.push(volume(&value()?, Access::ReadOnly)?),
            "--writable-volume" => request.volumes.push(volume(&value()?, Access::ReadWrite)?),
            "--working-dir" => request.working_dir = value()?.into(),
            "--started" => request.first_process = FirstProcess::Several,
            "--as-pid-1" => request.first_process = FirstProcess::Program,
            "--private-network" => request.network = Network::private(),
            "--allow-net" => network.allow.push(value()?.parse()?),
            "--deny-net" => network.deny.push(value()?.parse()?),
            "--name-servers" => network.servers = NameServers::parse(&std::fs::read_to_string(value()?)?),
            "--publish" => network.published.push(published(&value()?)?),
            "--own-environment" => {
                let pair = |(name, value): (std::ffi::OsString, std::ffi::OsString)| [name.as_bytes(), b"=", value.as_bytes()].concat();
                request.environment = std::env::vars_os().map(|variable| CString::new(pair(variable))).collect::<Result<_, _>>()?;
            }
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    let root = words.next().ok_or("no root")?.into();
    request.root = match request.isolation {
        IsolationChoice::Only(Isolation::InPlace) => RootSource::Host(HostRoot { folders: vec![root], ..HostRoot::default() }),
        _ => RootSource::Image { path: root },
    };
    request.command = Command::Line(words.collect());
    let program = Program {
        command: request.command.clone(),
        environment: request.environment.clone(),
        working_dir: request.working_dir.clone(),
        stdio: request.stdio,
        descriptors: Vec::new(),
    };
    let names: Vec<&str> = without.iter().map(String::as_str).collect();
    let mut sandbox = Launcher::start()?.launch(plan(request)?.without(&names)?).map_err(chain)?;
    if let Some(warning) = sandbox.enforcement().warning() {
        eprintln!("note: {warning}");
    }
    let supervisor = network.supervise(&mut sandbox)?;
    let ended = match sandbox.programs.take() {
        Some(programs) => run_in(programs, &program)?,
        None => sandbox.wait()?,
    };
    drop(supervisor);
    Ok(match ended {
        Ended::Exited(code) => code as u8,
        Ended::Signaled { signal, .. } => 128 + signal as u8,
    })
}

/// Starts the program in a sandbox that runs, and waits for its end.
fn run_in(mut programs: Programs, program: &Program) -> Result<Ended, Box<dyn std::error::Error>> {
    programs.start(program).map_err(chain)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(programs.ended())?.ended)
}

/// What a private network is made with.
#[derive(Default)]
struct PrivateNetwork {
    allow: Vec<Rule>,
    deny: Vec<Rule>,
    servers: NameServers,
    published: Vec<Published>,
}

impl PrivateNetwork {
    fn supervise(self, sandbox: &mut Sandbox) -> Result<Option<Supervisor>, Box<dyn std::error::Error>> {
        let Some(descriptors) = sandbox.network.take() else { return Ok(None) };
        let supervision = Supervision {
            outbound: descriptors.outbound,
            factory: descriptors.factory,
            rules: NetworkRules::new(self.allow, self.deny),
            name_servers: self.servers,
            hosts: Vec::new(),
            published: self.published,
            log: LogConnections::No,
            // Nobody reads it.
            told: tokio::sync::mpsc::channel(1).0,
        };
        Ok(Some(Supervisor::start(supervision)?))
    }
}

fn published(text: &str) -> Result<Published, Box<dyn std::error::Error>> {
    let (outside, inside) = text.split_once(':').ok_or("no OUTSIDE:INSIDE")?;
    Ok(Published::Tcp { listener: TcpListener::bind((Ipv4Addr::LOCALHOST, outside.parse()?))?, inside: inside.parse()? })
}

fn chain(error: impl std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source()).map(|cause| format!(": {cause}"));
    format!("{error}{}", causes.collect::<String>())
}

fn volume(text: &str, access: Access) -> Result<Volume, String> {
    let (source, target) = text.split_once(':').ok_or_else(|| format!("{text} is no HOST:INSIDE"))?;
    Ok(Volume { source: source.into(), target: target.into(), access })
}

fn request() -> SandboxRequest {
    SandboxRequest {
        isolation: IsolationChoice::Only(Isolation::Full),
        scratch: None,
        root: RootSource::Image { path: "/".into() },
        command: Command::Line(Vec::new()),
        environment: vec![c"PATH=/bin".to_owned()],
        working_dir: "/".into(),
        volumes: Vec::new(),
        identity: InnerIdentity { uid: 993, gid: 990 },
        ids: runner::sandbox::IdMap::Single,
        terminal: None,
        hostname: "weakened".to_owned(),
        tmp_size_bytes: 16 << 20,
        tmp_in_memory: None,
        files: Vec::new(),
        limits: runner::sandbox::Limits::default(),
        stdio: Stdio { input: Input::Inherit, output: Output::Inherit, error: Output::Inherit },
        network: Network::Host,
        listen_inside: None,
        first_process: FirstProcess::Init,
        filter: Some(shipped_filter()),
    }
}
