//! `stop`, `kill`, `rm` and their like: orders to supervisors, and what is done about records.

use std::thread;
use std::time::{Duration, Instant};

use super::{each, find, of_daemon, records, roots, say, start, volumes};
use crate::config::docker::{Place, Signalled, Stopped};
use crate::exit_code::{ExitCode, Failure};
use crate::mode::print;
use crate::records::control::{Answer, Connection, Order, connect};
use crate::records::{Phase, Run};

/// How long a run has for its end after it was told, as with docker.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long its supervisor has after it was killed.
const KILLED: Duration = Duration::from_secs(10);
/// Between two looks at a run that ends.
const PAUSE: Duration = Duration::from_millis(2);

/// A connection to a run's supervisor. One that has just begun may not listen yet.
pub(super) fn reach(run: &Run) -> Result<Connection, Failure> {
    let end = Instant::now() + KILLED;
    loop {
        match connect(run.folder()) {
            Ok(connection) => return Ok(connection),
            Err(error) if !run.is_held().map_err(of_daemon)? || Instant::now() > end => {
                let why = match run.is_held().map_err(of_daemon)? {
                    true => format!("cannot reach the supervisor of container {}: {error}", run.record.id),
                    false => format!("container {} is not running", run.record.id),
                };
                return Err(Failure::could_not_run(why).in_front("Error response from daemon").with_code(ExitCode::FUNCTION_FAILED));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Gives one order.
pub(super) fn order(run: &Run, order: &Order) -> Result<Answer, Failure> {
    let mut connection = reach(run)?;
    let answered = connection.order(order, &[]).and_then(|()| connection.answer());
    match answered {
        Ok(Answer::Refused(why, _)) => {
            Err(Failure::could_not_run(why).in_front("Error response from daemon").with_code(ExitCode::FUNCTION_FAILED))
        }
        Ok(answer) => Ok(answer),
        // It ended before it could say so.
        Err(_) if !run.is_held().map_err(of_daemon)? => Ok(Answer::Done),
        Err(error) => Err(Failure::could_not_run(error)),
    }
}

/// One of the orders that end a run: who has ended meanwhile does what was wanted.
fn last_order(run: &Run, wanted: &Order) -> Result<(), Failure> {
    match order(run, wanted) {
        Err(_) if !run.is_held().map_err(of_daemon)? => Ok(()),
        answered => answered.map(drop),
    }
}

/// Whether it has ended by then; nothing is for ever.
fn ended_within(run: &Run, patience: Option<Duration>) -> Result<bool, Failure> {
    let Some(patience) = patience else {
        run.wait().map_err(of_daemon)?;
        return Ok(true);
    };
    let end = Instant::now() + patience;
    loop {
        // One that was removed has ended.
        if !run.is_held().unwrap_or(false) {
            return Ok(true);
        }
        if Instant::now() >= end {
            return Ok(false);
        }
        thread::sleep(PAUSE);
    }
}

/// Has a run end, and waits for it.
fn end(run: &Run, asked: &Stopped) -> Result<(), Failure> {
    if !run.is_held().map_err(of_daemon)? {
        return Ok(());
    }
    let spec = &run.record.spec;
    let own = spec.stop_timeout.map(|seconds| u64::try_from(seconds).ok().map(Duration::from_secs));
    let patience = asked.patience.or(own).unwrap_or(Some(PATIENCE));
    let signal = asked.signal.or(spec.stop_signal).unwrap_or(libc::SIGTERM);
    last_order(run, &Order::StayEnded)?;
    if run.state().is_ok_and(|state| state.phase == Phase::Paused) {
        last_order(run, &Order::Resume)?;
    }
    last_order(run, &Order::End(signal))?;
    if ended_within(run, patience)? {
        return Ok(());
    }
    kill_now(run)
}

fn kill_now(run: &Run) -> Result<(), Failure> {
    last_order(run, &Order::End(libc::SIGKILL))?;
    if ended_within(run, Some(KILLED))? {
        return Ok(());
    }
    Err(Failure::could_not_run(format!("container {} does not end", run.record.id)).with_code(ExitCode::FUNCTION_FAILED))
}

/// `docker stop`.
pub(super) fn stop(asked: &Stopped, place: &Place) -> Result<ExitCode, Failure> {
    each(&asked.runs, |name| end(&find(name, place)?, asked).map(|()| Some(name.to_owned())))
}

/// `docker restart`.
pub(super) fn restart(asked: &Stopped, place: &Place) -> Result<ExitCode, Failure> {
    each(&asked.runs, |name| {
        let run = find(name, place)?;
        end(&run, asked)?;
        start::start_one(&run).map(|()| Some(name.to_owned()))
    })
}

/// `docker kill`.
pub(super) fn kill(asked: &Signalled, place: &Place) -> Result<ExitCode, Failure> {
    each(&asked.runs, |name| {
        let run = find(name, place)?;
        if !run.is_held().map_err(of_daemon)? {
            let error = format!("cannot kill container: {name}: container {} is not running", run.record.id);
            return Err(Failure::could_not_run(error).in_front("Error response from daemon"));
        }
        match asked.signal {
            libc::SIGKILL => {
                order(&run, &Order::End(libc::SIGKILL))?;
                ended_within(&run, Some(KILLED))?;
            }
            signal => drop(order(&run, &Order::Signal(signal))?),
        }
        Ok(Some(name.to_owned()))
    })
}

/// `docker pause` and `docker unpause`.
pub(super) fn pause(names: &[String], resume: bool, place: &Place) -> Result<ExitCode, Failure> {
    each(names, |name| {
        let run = find(name, place)?;
        let is_paused = run.state().map_err(of_daemon)?.phase == Phase::Paused;
        let wrong = match resume {
            true if !is_paused => Some("is not paused"),
            false if is_paused => Some("is already paused"),
            _ => None,
        };
        if let (Some(wrong), true) = (wrong, run.is_held().map_err(of_daemon)?) {
            return Err(Failure::could_not_run(format!("Container {} {wrong}", run.record.id)).in_front("Error response from daemon"));
        }
        order(&run, if resume { &Order::Resume } else { &Order::Pause })?;
        Ok(Some(name.to_owned()))
    })
}

/// `docker rm`.
pub(super) fn remove(names: &[String], (force, with_volumes): (bool, bool), place: &Place) -> Result<ExitCode, Failure> {
    each(names, |name| {
        let run = match find(name, place) {
            // What is not there need not be removed: it is told, and all is well.
            Err(missing) if force => {
                say(&missing);
                return Ok(None);
            }
            found => found?,
        };
        if run.is_held().map_err(of_daemon)? {
            if !force {
                let state = run.state().map_err(of_daemon)?.phase.word();
                let error = format!(
                    "cannot remove container \"{}\": container is {state}: stop the container before removing or force remove",
                    run.record.name
                );
                return Err(Failure::could_not_run(error).in_front("Error response from daemon"));
            }
            last_order(&run, &Order::StayEnded)?;
            kill_now(&run)?;
        }
        remove_one(&run, with_volumes, place)?;
        Ok(Some(name.to_owned()))
    })
}

fn remove_one(run: &Run, with_volumes: bool, place: &Place) -> Result<(), Failure> {
    match run.remove() {
        // It was to be removed at its end, and has ended.
        Err(crate::records::RecordsError::Unknown { .. }) => {}
        removed => removed.map_err(of_daemon)?,
    }
    roots::remove(run, place);
    if with_volumes {
        volumes::remove_anonymous(place, &run.record.spec);
    }
    Ok(())
}

/// Takes away what was to be removed at its end (`--rm`), and whose supervisor was killed before that.
pub(super) fn sweep(place: &Place) -> Result<(), Failure> {
    for run in records(place)?.list().map_err(of_daemon)? {
        // One that goes meanwhile has been removed.
        let was_started = run.state().is_ok_and(|state| state.phase != Phase::Created);
        if run.record.spec.remove && was_started && !run.is_held().unwrap_or(true) {
            remove_one(&run, true, place)?;
        }
    }
    Ok(())
}

/// `docker container prune`: all that do not run.
pub(super) fn prune(place: &Place) -> Result<(), Failure> {
    let mut text = String::new();
    for run in records(place)?.list().map_err(of_daemon)? {
        if !run.is_held().map_err(of_daemon)? {
            remove_one(&run, true, place)?;
            text.push_str(&format!("{}\n", run.record.id));
        }
    }
    if !text.is_empty() {
        text = format!("Deleted Containers:\n{text}\n");
    }
    print(text.as_bytes())
}

/// `docker wait`.
pub(super) fn wait(names: &[String], place: &Place) -> Result<ExitCode, Failure> {
    each(names, |name| {
        let run = find(name, place)?;
        // One that was never started is waited for, too.
        while run.state().map_err(of_daemon)?.phase == Phase::Created && !run.is_held().map_err(of_daemon)? {
            thread::sleep(PAUSE);
        }
        run.wait().map_err(of_daemon)?;
        Ok(Some(run.state().map_or(0, |state| state.exit_code).to_string()))
    })
}

/// `docker rename`.
pub(super) fn rename(run: &str, name: &str, place: &Place) -> Result<ExitCode, Failure> {
    let run = find(run, place)?;
    records(place)?.rename(&run, name).map_err(of_daemon)?;
    Ok(ExitCode::SUCCESS)
}
