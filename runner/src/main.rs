//! The `undocked` command: reads the command line, has it carried out, says once what went wrong.

use std::io::Write;
use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use runner::cli::{self, Command, env::OwnEnvironment, usage::Ended};
use runner::exit_code::{self, Failure};
use runner::mode;

fn main() -> ExitCode {
    say_panics_shortly();
    fail_at_the_limit_of_file_sizes();
    keep_our_own_permissions();
    match cli::read(std::env::args_os(), &OwnEnvironment::of_process()) {
        // Its words are docker's: what they begin with is what scripts look for.
        Ok(Command::Docker { command, place }) => {
            mode::docker::run(&command, &place).unwrap_or_else(|failure| tell_as(&failure, "")).into()
        }
        Ok(Command::UnderDockersName(command)) => {
            carry_out(*command).unwrap_or_else(|failure| tell_as(&mode::docker::as_docker_tells(failure), "")).into()
        }
        Ok(command) => carry_out(command).unwrap_or_else(|failure| tell(&failure)).into(),
        Err(Ended::Text(text)) => {
            // A reader that has seen enough of the help may go.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(Ended::Wrong(failure)) => tell(&failure).into(),
        Err(Ended::Said { text, code }) => {
            let _ = std::io::stderr().write_all(text.as_bytes());
            code.into()
        }
    }
}

/// A write beyond `RLIMIT_FSIZE` is an error that is told, not our end (setrlimit(2)). What we start begins with no signal blocked.
fn fail_at_the_limit_of_file_sizes() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    // It cannot fail for a signal that exists; if it did, things would be as they were.
    let _ = signals.thread_block();
}

/// A umask that takes permissions from the owner would lock us out of our own cache; what it takes from others stays.
fn keep_our_own_permissions() {
    let given = umask(Mode::empty());
    umask(given & (Mode::S_IRWXG | Mode::S_IRWXO));
}

fn carry_out(command: Command) -> Result<exit_code::ExitCode, Failure> {
    match command {
        Command::Run(config) => mode::once::run(&config),
        Command::Detach(detached) => mode::detach::run(&detached),
        Command::Attached(config) => {
            mode::detach::settle();
            mode::once::run(&config)
        }
        Command::RemoveAsRootInside { name } => mode::remove_as_root_inside(&name),
        Command::Serve(config) => mode::serve::run(&config),
        Command::Batch(config) => mode::batch::run(&config),
        Command::Build(config) => mode::build::run(&config),
        Command::Pull { images, source, talk } => mode::pull::run(&images, &source, talk),
        Command::Images(config) => mode::images::list(&config),
        Command::Verify(config) => mode::images::verify::run(&config),
        Command::Remove(config) => mode::images::remove(&config),
        Command::Tag(config) => mode::tag::run(&config),
        Command::Load(config) => mode::load::run(&config),
        Command::Save(config) => mode::save::run(&config),
        Command::Push(config) => mode::push::run(&config),
        Command::Prune(config) => mode::images::prune(&config),
        Command::Lock { action, images, source, talk } => mode::lock::run(action, &images, &source, talk),
        Command::Trust(config) => mode::trust::run(&config),
        Command::Login(config) => mode::login::run_login(&config),
        Command::Logout(config) => mode::login::run_logout(&config),
        Command::UnderDockersName(command) => carry_out(*command),
        Command::Docker { command, place } => mode::docker::run(&command, &place),
        Command::Manual { pages, directory } => mode::manual::run(&pages, &directory),
        Command::Doctor { subject, source, variables } => mode::doctor::run(subject, &source, &variables),
    }
}

fn tell(failure: &Failure) -> exit_code::ExitCode {
    tell_as(failure, "undocked: ")
}

fn tell_as(failure: &Failure, prefix: &str) -> exit_code::ExitCode {
    let hint = failure.hint().map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
    let _ = write!(std::io::stderr(), "{prefix}{failure}\n{hint}");
    failure.code()
}

/// A panic is a mistake of ours. It is told in one line, and ends this process as a run that could not be done.
fn say_panics_shortly() {
    std::panic::set_hook(Box::new(|panic| {
        mode::docker::terminal::restore();
        let payload = panic.payload();
        let what = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no reason given");
        let place = panic.location().map(|place| format!(" at {}:{}", place.file(), place.line())).unwrap_or_default();
        let _ = writeln!(std::io::stderr(), "undocked: internal error: {what}{place}\nhint: please report it");
        std::process::exit(exit_code::ExitCode::COULD_NOT_RUN.number().into());
    }));
}
