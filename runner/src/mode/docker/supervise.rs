//! One run under the face of docker, from its start to its end: in this process, whether that is the user's command or one in the background.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;

use super::capture::{Capture, Wanted};
use super::copy;
use super::daemon;
use super::desk::{Asked, Desk};
use super::functions::Function;
use super::plain::{Asking, Plain, PlainEnd};
use super::roots::{self, InRoot, OURS};
use super::volumes;
use crate::config::docker::{Attached, Place, Restart};
use crate::config::{Color, Loudness, RootAccess, RunConfig, Talk};
use crate::exit_code::{ExitCode, Failure};
use crate::mode::inside::{Inside, NotInside, Userland};
use crate::mode::once::{self, Lacks, NotRun, with_host_network};
use crate::mode::signals::Signals;
use crate::mode::underway::{Begun, Underway};
use crate::mode::work::{self, Purpose, Work};
use crate::mode::{async_runtime, shell};
use crate::records::log::LogWriter;
use crate::records::{Held, Phase, Published, Run, State, now};
use crate::sandbox::network::{NetworkChoice, Protocol};
use crate::sandbox::{Access, Command, Launcher, Volume};

/// Before the first of many starts; twice as long before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Who ran that long is well, and the pauses begin anew.
const WELL: Duration = Duration::from_secs(10);

/// A run that is ours to supervise.
#[derive(Debug)]
pub(super) struct Supervised<'a> {
    pub(super) run: &'a Run,
    pub(super) held: Held,
    pub(super) place: &'a Place,
    pub(super) attached: Attached,
}

impl Supervised<'_> {
    /// Runs it to its end, as often as its policy says. `started` is told how the first start went: once, before its end.
    pub(super) fn run(self, mut started: impl FnMut(Result<(), &Failure>) + Send) -> Result<ExitCode, Failure> {
        let spec = &self.run.record.spec;
        let config = self.config()?;
        let log = LogWriter::open(self.run.folder());
        let desk = Desk::open(self.run).map_err(Failure::could_not_run)?;
        let mut state = State { restarts: 0, ..State::default() };
        let mut pause = FIRST_PAUSE;
        let ended = loop {
            let capture = Capture::start(Wanted { tty: spec.tty, interactive: spec.interactive }, &self.attached, &log)
                .map_err(Failure::could_not_run)?;
            let begun = std::time::Instant::now();
            let ended = self.once(&config, &desk, &capture, (&mut state, &mut started));
            capture.end();
            if begun.elapsed() > WELL {
                pause = FIRST_PAUSE;
            }
            let again = self.is_started_again(&ended, &state) && !desk.stays_ended();
            self.note_end(&mut state, &ended, again);
            if !again {
                break ended;
            }
            let is_ended = desk.is_ended_within(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
            if is_ended {
                self.note_end(&mut state, &ended, false);
                break ended;
            }
            state.restarts += 1;
        };
        let _ = std::fs::remove_file(self.run.folder().join("control"));
        if spec.remove {
            volumes::remove_anonymous(self.place, spec);
            roots::remove(self.run, self.place);
            let _ = self.run.remove();
        }
        ended.map(|end| end.code)
    }

    fn config(&self) -> Result<RunConfig, Failure> {
        // Decided while our streams are our own.
        let green = super::terminal::is_one(std::io::stderr());
        let talk = Talk { loudness: Loudness::Quiet, color: if green { Color::Always } else { Color::Never } };
        let mut config = super::config_of(&self.run.record.spec, self.place, talk)?;
        // It was found when the run was made.
        config.images.options.policy = rootfs_cache::pull::PullPolicy::Missing;
        for (source, target) in copy::shown_over(self.run, self.place)? {
            if config.volumes.iter().all(|volume| volume.target != target) {
                config.volumes.push(Volume { source, target, access: Access::ReadWrite });
            }
        }
        Ok(config)
    }

    /// One start and its end.
    fn once(
        &self,
        config: &RunConfig,
        desk: &Desk,
        capture: &Capture,
        (state, started): (&mut State, &mut (impl FnMut(Result<(), &Failure>) + Send)),
    ) -> Result<PlainEnd, Failure> {
        let (told, under_way) = mpsc::channel();
        *state = State { phase: Phase::Created, pid: std::process::id(), restarts: state.restarts, started: now(), ..State::default() };
        let mut orders = desk.take();
        let ended = thread::scope(|scope| {
            let (state, started) = (&mut *state, &mut *started);
            let noting = scope.spawn(move || {
                if let Ok(Begun { ports, noted }) = under_way.recv() {
                    state.phase = Phase::Running;
                    state.ports = published(config, ports);
                    let _ = self.run.note(&self.held, state);
                    drop(noted);
                    started(Ok(()));
                }
            });
            let ended = self.in_this_process(config, &mut orders, capture, Underway::to(told));
            let ended = ended.map_err(|failure| daemon::not_started(failure, &self.run.record));
            let _ = noting.join();
            ended
        });
        if let Err(failure) = &ended
            && state.phase == Phase::Created
        {
            started(Err(failure));
        }
        ended
    }

    fn in_this_process(
        &self,
        config: &RunConfig,
        orders: &mut UnboundedReceiver<Asked>,
        capture: &Capture,
        underway: Underway,
    ) -> Result<PlainEnd, Failure> {
        let work = work::of(config)?;
        // Docker's own; the image's and one that was given come before it.
        if self.run.record.spec.tty && work.variables.get("TERM").is_none() {
            let mut config = config.clone();
            config.variables.push(("TERM".to_owned(), "xterm".into()));
            return self.in_this_process(&config, orders, capture, underway);
        }
        if matches!(work.purpose, Purpose::Function { .. }) {
            if !self.run.record.spec.ulimits.is_empty() {
                let error = "`--ulimit` is not supported for functions: each has Lambda's limits, 1024 processes and 1024 descriptors";
                return Err(Failure::could_not_run(error));
            }
            capture.nobody_reads().map_err(Failure::could_not_run)?;
            let note = |phase| drop(self.run.note_phase(&self.held, phase));
            return Function { underway: &underway, note: &note }.run(config, orders);
        }
        let not_run = match self.plain(config, work, orders, (capture, &underway)) {
            Err(not_run) if not_run.lacks(Lacks::Network) => not_run.into_failure(),
            Err(not_run) if not_run.lacks(Lacks::WritableRoot) => {
                let why = not_run.into_failure();
                shell::say(&format!("the command may write to volumes and /tmp alone, as with `--read-only`: {why}"));
                let config = RunConfig { root: RootAccess::ReadOnly, ..config.clone() };
                return self.in_this_process(&config, orders, capture, underway);
            }
            ended => return ended.map_err(NotRun::into_failure),
        };
        let networking = &config.networking;
        if networking.choice == NetworkChoice::Named || !networking.published.is_empty() {
            return Err(not_run);
        }
        shell::say(&once::on_host_network(&not_run));
        self.in_this_process(&with_host_network(config), orders, capture, underway)
    }

    fn plain(
        &self,
        config: &RunConfig,
        work: Work,
        orders: &mut UnboundedReceiver<Asked>,
        (capture, underway): (&Capture, &Underway),
    ) -> Result<PlainEnd, NotRun> {
        let launcher = Launcher::start().map_err(|error| {
            let hint = error.hint();
            Failure::could_not_run(error).with_hint(hint)
        })?;
        let Work { userland, command, variables, needs, .. } = work;
        let pass_signals = self.attached.pass_signals;
        async_runtime()?.block_on(async {
            let mut signals = Signals::listen().map_err(Failure::could_not_run)?;
            let note = |phase| drop(self.run.note_phase(&self.held, phase));
            let mut asking = Asking {
                orders,
                signals: &mut signals,
                capture: Some(capture),
                underway,
                ulimits: &self.run.record.spec.ulimits,
                note: &note,
            };
            let (userland, command) = match (userland, command, config.root) {
                (Userland::Image(rootfs, _), Command::Line(argv), RootAccess::Writable) => {
                    let root = &mut roots::of(self.run, rootfs, self.place)?;
                    return InRoot { config, root, argv, variables, needs, pass_signals }.run(&launcher, &mut asking).await;
                }
                (userland, command, _) => (userland, command),
            };
            let inside = match Inside::prepare(config, userland, needs, asking.signals).await {
                Ok(inside) => inside,
                Err(NotInside::Failed(failure)) => return Err(failure.into()),
                Err(NotInside::Interrupted(signal)) => {
                    return Ok(PlainEnd { code: ExitCode::from_signal(signal), out_of_memory: false });
                }
            };
            let request = inside.request(command, Vec::new(), OURS);
            let networking = Rc::new(config.networking.clone());
            Plain { request, variables, networking, pass_signals }.run(&launcher, &mut asking).await
        })
    }

    fn is_started_again(&self, ended: &Result<PlainEnd, Failure>, state: &State) -> bool {
        let policy = self.run.record.spec.restart;
        let Ok(end) = ended else { return false };
        let may = policy.most == 0 || state.restarts < policy.most;
        match policy.when {
            Restart::No => false,
            Restart::OnFailure => may && end.code != ExitCode::SUCCESS,
            Restart::Always | Restart::UnlessStopped => true,
        }
    }

    fn note_end(&self, state: &mut State, ended: &Result<PlainEnd, Failure>, again: bool) {
        state.finished = now();
        state.ports.clear();
        state.pid = 0;
        match ended {
            Ok(end) => {
                state.phase = if again { Phase::Restarting } else { Phase::Exited };
                (state.exit_code, state.out_of_memory) = (end.code.number(), end.out_of_memory);
            }
            Err(failure) => {
                // Docker leaves one that could not be started as it was made.
                if state.phase == Phase::Created {
                    (state.started, state.finished) = (String::new(), String::new());
                } else {
                    state.phase = Phase::Exited;
                }
                (state.exit_code, state.error) = (failure.code().number(), failure.to_string());
            }
        }
        let _ = self.run.note(&self.held, state);
    }
}

/// The ports as they are, as docker lists them: one that is open on all addresses of both families once for each, IPv4 first.
fn published(config: &RunConfig, ports: Vec<(SocketAddr, u16)>) -> Vec<Published> {
    let protocol = |inside: u16| match config.networking.published.iter().find(|port| port.inside == inside).map(|port| port.protocol) {
        Some(Protocol::Udp) => "udp",
        _ => "tcp",
    };
    let takes_both = ipv6_takes_both();
    let mut ports: Vec<Published> = ports
        .into_iter()
        .flat_map(|(outside, inside)| {
            let of_ipv4 = (takes_both && outside.ip() == Ipv6Addr::UNSPECIFIED).then_some(IpAddr::from(Ipv4Addr::UNSPECIFIED));
            of_ipv4.into_iter().chain([outside.ip()]).map(move |ip| Published {
                inside,
                protocol: protocol(inside).to_owned(),
                ip: ip.to_string(),
                outside: outside.port(),
            })
        })
        .collect();
    ports.sort();
    ports
}

/// Whether a socket on all addresses of IPv6 takes what comes by IPv4, as ipv6(7) has it where nobody says otherwise.
fn ipv6_takes_both() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv6/bindv6only").map_or(true, |text| text.trim() != "1")
}
