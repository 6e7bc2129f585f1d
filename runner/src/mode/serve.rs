//! `undocked serve`, and runs that stay open: functions that clients invoke until a signal ends it.

mod events;

use std::cell::RefCell;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use super::async_runtime;
use super::inside::NotInside;
use super::once::color;
use super::ready::Ready;
use super::signals::{Signals, Terminal};
use super::stay_open::{EMULATOR_PORT, Listen};
use super::underway::Underway;
use super::work::{self, Work};
use crate::api::invoke;
use crate::config::{self, Changes, Ending, Keeping, RunConfig, ServeConfig, ServedFunction, ServedNames, Surplus};
use crate::environment::BetweenEvents;
use crate::exit_code::{ExitCode, Failure, chain};
use crate::fleet::{Fleet, FleetOptions, Names, Notice, Queue, Served};
use crate::lambda::{FailedInit, InvokeTarget};
use crate::report::{self, CarriageReturns, Report};
use crate::watch::{WatchError, Watcher};

/// How long calls in flight may take to end by themselves once we are told to end.
const DRAIN: Duration = Duration::from_millis(500);
/// How long environments may take to end after that.
const END: Duration = Duration::from_millis(2500);
/// So many invocations may wait for one function at the most.
const MOST_WAITING: usize = 10_000;
/// Calls that wait for the fleet. Bounded: a connection that is ahead of it waits.
const CALLS_AHEAD: usize = 64;

/// So many open files an environment, its connections and its log take, with room to spare.
const LEAST_DESCRIPTORS: u64 = 128;

/// Serves what `config` says.
pub fn run(config: &ServeConfig) -> Result<ExitCode, Failure> {
    let works = config.functions.iter().map(|served| work::of(&served.run)).collect::<Result<Vec<_>, _>>()?;
    Server { config, port: None, said: None, underway: &Underway::default() }.run(works)
}

/// Serves the function of a run that stays open: one invocation at a time, others wait.
pub(super) fn stay_open(
    config: &RunConfig,
    work: Work,
    listen: Listen,
    (said, underway): (Option<&str>, &Underway),
) -> Result<ExitCode, Failure> {
    let run = RunConfig { networking: listen.networking, ..config.clone() };
    let changes = if listen.watch { Changes::Restart } else { config.keeping.changes };
    let config = ServeConfig {
        functions: vec![ServedFunction { run, concurrency: std::num::NonZeroUsize::MIN }],
        names: ServedNames::Any,
        surplus: Surplus::Wait,
        listen: listen.addresses,
        url: None,
        keeping: Keeping { changes, ..config.keeping },
        events: config.events.clone(),
        ending: Ending::Signals,
    };
    Server { config: &config, port: Some(listen.port), said, underway }.run(vec![work])
}

/// What is bound before anything runs.
struct Listeners {
    api: Vec<TcpListener>,
    url: Option<TcpListener>,
}

/// What is served, and how.
struct Server<'a> {
    config: &'a ServeConfig,
    /// The port that docker-lambda's banner names.
    port: Option<u16>,
    /// What is said of the run first.
    said: Option<&'a str>,
    /// Who is told once it listens.
    underway: &'a Underway,
}

impl Server<'_> {
    fn run(&self, works: Vec<Work>) -> Result<ExitCode, Failure> {
        enough_descriptors()?;
        let listeners = Listeners {
            api: self.config.listen.iter().map(|address| bind(*address)).collect::<Result<_, _>>()?,
            url: self.config.url.map(bind).transpose()?,
        };
        async_runtime()?.block_on(LocalSet::new().run_until(async {
            let mut signals = Signals::listen().map_err(Failure::could_not_run)?;
            let between = match self.config.keeping.between {
                config::BetweenEvents::GoOn => BetweenEvents::GoOn,
                config::BetweenEvents::Freeze => BetweenEvents::Freeze,
            };
            let mut readies = Vec::new();
            for (served, work) in self.config.functions.iter().zip(works) {
                match Ready::prepare(&served.run, work, between, &mut signals).await {
                    Ok(ready) => readies.push((ready, served)),
                    Err(NotInside::Failed(failure)) => return Err(failure),
                    Err(NotInside::Interrupted(signal)) => return Ok(ExitCode::from_signal(signal)),
                }
            }
            self.serve(readies, listeners, signals).await
        }))
    }
}

impl Server<'_> {
    /// The log: what functions write to stdout stays there, as with docker-lambda.
    fn report(&self, readies: &[(Ready, &ServedFunction)]) -> Report {
        let (color, carriage_returns) = match readies.first() {
            Some((ready, served)) => (color(&served.run), ready.carriage_returns()),
            None => (report::Color::Plain, CarriageReturns::Keep),
        };
        Report::to_stderr(color, carriage_returns).with_stdout()
    }

    fn fleet(&self, readies: &[(Ready, &ServedFunction)], report: &mut Report) -> Fleet {
        let rules = events::rules(&self.config.events);
        // docker-lambda and AWS's emulator, whose places runs that stay open take, answer with it at once.
        let failed_init = if self.port.is_some() { FailedInit::IsTheResult } else { FailedInit::IsRepeated };
        let served = readies.iter().map(|(ready, served)| {
            let (ready, report) = (ready.clone(), RefCell::new(report.sibling()));
            let function = ready.function().clone();
            let open = Box::new(move || Ok(ready.open(report.borrow_mut().sibling(), failed_init)));
            Served { function, open, concurrency: served.concurrency.get(), events: rules.clone() }
        });
        let options = FleetOptions {
            names: match self.config.names {
                ServedNames::Any => Names::Any,
                ServedNames::Own => Names::Own,
            },
            queue: match self.config.surplus {
                Surplus::Refuse => Queue::Refuse,
                Surplus::Wait => Queue::Wait { max: MOST_WAITING },
            },
            idle: Some(self.config.keeping.idle),
            drain: DRAIN,
            events: events::options(self.config, readies.first().map_or("", |(ready, _)| &ready.function().name)),
            notify: Box::new(tell),
            ..FleetOptions::default()
        };
        Fleet::new(served.collect(), options).with_visits(self.underway.visits())
    }

    /// Watches the functions' code, if that is asked for. Where it cannot be, that is said once, and calls are served all the same.
    fn watcher(&self, readies: &[(Ready, &ServedFunction)], report: &mut Report) -> Option<Watcher> {
        if self.config.keeping.changes == Changes::Ignore {
            return None;
        }
        let roots: Vec<PathBuf> = readies.iter().flat_map(|(ready, _)| ready.code()).collect();
        let mut watcher = Watcher::new(&roots).map_err(|error| tell_trouble(&error, report)).ok()?;
        if let Some(trouble) = watcher.trouble() {
            tell_trouble(&trouble, report);
        }
        Some(watcher)
    }

    /// What listens where. Docker-lambda's users wait for its banner, and for no other words.
    fn say_hello(&self, readies: &[(Ready, &ServedFunction)], report: &mut Report, listening: &[SocketAddr]) {
        if let Some(said) = self.said {
            report.note(&format!("undocked: {said}"));
        }
        if self.underway.is_told() {
            return self.say_hello_as_docker(readies, report, listening);
        }
        for (outside, inside) in readies.iter().flat_map(|(ready, _)| ready.published()) {
            report.note(&format!("undocked: {outside} leads to port {inside} inside"));
        }
        let named = self.port.map(|port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
        for address in listening.iter().filter(|address| Some(**address) != named) {
            report.note(&format!("undocked: the Invoke API is on http://{address}"));
        }
        if let Some(port) = self.port.or_else(|| listening.first().map(SocketAddr::port)) {
            report.green(&format!("Lambda API listening on port {port}..."));
        }
    }

    /// Under the face of docker it says what would be said inside: by docker-lambda's server, or by AWS's emulator, whose users wait for this.
    fn say_hello_as_docker(&self, readies: &[(Ready, &ServedFunction)], report: &mut Report, listening: &[SocketAddr]) {
        let api = listening.iter().map(|address| (*address, self.port.unwrap_or_default()));
        self.underway.tell(api.chain(readies.iter().flat_map(|(ready, _)| ready.published())));
        match self.port {
            Some(EMULATOR_PORT) => {
                let time = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now()).format("%d %b %Y %H:%M:%S,%3f");
                if let Some((program, folder, handler)) = readies.first().map(|(ready, _)| ready.executed()) {
                    report.note(&format!("{time} [INFO] (rapid) exec '{program}' (cwd={}, handler={handler})", folder.display()));
                }
            }
            port => report.green(&format!("Lambda API listening on port {}...", port.unwrap_or_default())),
        }
    }

    async fn serve(&self, readies: Vec<(Ready, &ServedFunction)>, listeners: Listeners, mut signals: Signals) -> Result<ExitCode, Failure> {
        let mut report = self.report(&readies);
        let fleet = self.fleet(&readies, &mut report);
        let listening: Vec<SocketAddr> = listeners.api.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let control = fleet.control();
        let (calls, received) = mpsc::channel(CALLS_AHEAD);
        let (stop, stopped) = watch::channel(());
        let url = listeners.url.as_ref().and_then(|listener| listener.local_addr().ok());
        let api = apis(listeners, calls, readies.first().map(|(ready, _)| ready.function().name.clone()), &stopped)?;
        let mut api = std::pin::pin!(api);
        let mut fleet = std::pin::pin!(fleet.run(received, ends(stopped)));
        if let Some(address) = url {
            report.note(&format!("undocked: the function's URL is http://{address}/"));
        }
        self.say_hello(&readies, &mut report, &listening);
        let mut watcher = self.watcher(&readies, &mut report);
        let mut stdin = std::pin::pin!(stdin_ends(self.config.ending));
        let terminal = Terminal::now();
        let code = loop {
            tokio::select! {
                () = &mut fleet => break ExitCode::SUCCESS,
                () = &mut api => break ExitCode::SUCCESS,
                () = &mut stdin => break ExitCode::SUCCESS,
                signal = signals.next() => match signal {
                    libc::SIGHUP if terminal.is_dead() => break ExitCode::from_signal(libc::SIGHUP),
                    libc::SIGHUP => {
                        report.green("SIGHUP received, restarting bootstrap...");
                        take_up(readies.iter().map(|(ready, _)| ready), &mut report);
                        control.restart().await;
                    }
                    _ => break ExitCode::SUCCESS,
                },
                path = changed(&mut watcher) => {
                    report.green("Handler/layer file changed, restarting bootstrap...");
                    let concerned = readies.iter().map(|(ready, _)| ready).filter(|ready| ready.code().iter().any(|root| path.starts_with(root)));
                    let concerned: Vec<&Ready> = concerned.collect();
                    take_up(concerned.iter().copied(), &mut report);
                    for ready in concerned {
                        control.restart_function(&ready.function().name).await;
                    }
                }
            }
        };
        drop(stop);
        // Who asks twice does not want to wait.
        tokio::select! {
            _ = futures_util::future::join(fleet, api) => {}
            _ = signals.next() => {}
        }
        report.flush().await;
        Ok(code)
    }
}

/// Takes up what changed in code that was copied. What cannot be is said; the old code stays.
fn take_up<'a>(readies: impl Iterator<Item = &'a Ready>, report: &mut Report) {
    for ready in readies {
        if let Err(failure) = ready.code_changed() {
            report.note(&format!("undocked: layers cannot be taken up: {failure}"));
        }
    }
}

/// Waits until standard input ends, if that is to end us. What comes before is nobody's.
async fn stdin_ends(ending: Ending) {
    let (end, ended) = tokio::sync::oneshot::channel();
    if ending == Ending::Signals {
        return std::future::pending().await;
    }
    // A thread of its own, for a read of a terminal or pipe cannot be given up: it ends with the process.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = end.send(());
    });
    let _ = ended.await;
}

/// Waits for a change, if anybody watches.
async fn changed(watcher: &mut Option<Watcher>) -> PathBuf {
    match watcher {
        Some(watcher) => watcher.changed().await,
        None => std::future::pending().await,
    }
}

/// The Invoke API, and the URL of the first function if it is wanted, until `stopped` ends.
fn apis(
    listeners: Listeners,
    calls: mpsc::Sender<invoke::InvokeCall>,
    first: Option<String>,
    stopped: &watch::Receiver<()>,
) -> Result<impl Future<Output = ()> + use<>, Failure> {
    let options = invoke::ServeOptions { grace: DRAIN + END, ..invoke::ServeOptions::default() };
    let taken = |listeners: Vec<TcpListener>| listeners.into_iter().map(tokio::net::TcpListener::from_std).collect::<Result<_, _>>();
    let api = taken(listeners.api).map_err(Failure::could_not_run)?;
    let url = taken(listeners.url.into_iter().collect()).map_err(Failure::could_not_run)?;
    let target = InvokeTarget { name: first.unwrap_or_default(), qualifier: None, region: None, account_id: None };
    let url = invoke::serve_url(url, calls.clone(), target, options, ends(stopped.clone()));
    let api = invoke::serve(api, calls, options, ends(stopped.clone()));
    Ok(async {
        futures_util::future::join(api, url).await;
    })
}

/// Whether one environment can be served at all: else every call would be answered that it cannot.
fn enough_descriptors() -> Result<(), Failure> {
    // What cannot be asked is found out by calls.
    let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    if most >= LEAST_DESCRIPTORS {
        return Ok(());
    }
    let hint = "raise the hard limit (`ulimit -Hn`), or that of whatever starts this program";
    let error = format!("a server cannot work with {most} open files, its limit here: {LEAST_DESCRIPTORS} are the least");
    Err(Failure::could_not_run(error).with_hint(Some(hint.to_owned())))
}

/// An address that clients cannot be waited for at.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub(super) struct ListenError {
    /// Which.
    pub(super) address: SocketAddr,
    /// What the kernel said.
    pub(super) source: std::io::Error,
}

fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    bound.map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::PermissionDenied => "ordinary users have ports from 1024 on",
            std::io::ErrorKind::AddrInUse => {
                "another program has that port; `-p PORT:9001` (`undocked run`) or `--listen PORT` and `--url PORT` (`undocked serve`) take another one"
            }
            _ => "give an address of this machine, or none",
        };
        Failure::could_not_run(ListenError { address, source: error }).with_hint(Some(hint.to_owned()))
    })
}

/// Waits until the sender is gone.
async fn ends(mut stopped: watch::Receiver<()>) {
    while stopped.changed().await.is_ok() {}
}

fn tell_trouble(trouble: &WatchError, report: &mut Report) {
    report.note(&format!("undocked: {}\nhint: {}", chain(trouble), trouble.hint()));
}

fn tell(notice: Notice) {
    let hint = notice.hint.map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
    // Nobody may be reading.
    let _ = std::io::stderr().write_all(format!("undocked: {}\n{hint}", notice.message).as_bytes());
}
