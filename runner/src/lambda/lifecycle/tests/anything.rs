//! Whatever programs, extensions and users do, in whatever order: no panic, one result per invocation, no ticket kept, and an end when one is asked for.

use std::rc::Rc;

use proptest::prelude::*;

use super::*;
use crate::lambda::{Registration, StreamEnd, TelemetryApi};

/// A ticket that tells whether it is still held.
type Held = Rc<()>;

#[derive(Debug, Clone, Copy)]
enum Step {
    Invoke,
    Next,
    Response { right_id: bool, body: u8 },
    Error { right_id: bool, body: u8 },
    InitError,
    ResponseBegins { right_id: bool },
    ResponseEnds { right_id: bool, end: u8 },
    StreamTooLarge,
    Register { name: usize, events: usize },
    ExtensionNext { index: usize },
    ExtensionError { index: usize, init: bool },
    Subscribe { index: usize },
    Alarm,
    NotStarted { program: usize },
    Ended { program: usize, status: i32 },
    Cleared,
    Restart,
    ShutDown,
}

const NAMES: [&str; 4] = ["a", "b", "inside", "in-too"];
const EVENTS: [&[&str]; 5] = [&["INVOKE", "SHUTDOWN"], &["SHUTDOWN"], &["INVOKE"], &[], &["FOO"]];

fn step() -> impl Strategy<Value = Step> {
    let right_id = || proptest::bool::weighted(0.9);
    prop_oneof![
        4 => Just(Step::Invoke),
        6 => Just(Step::Next),
        3 => (right_id(), 0_u8..5).prop_map(|(right_id, body)| Step::Response { right_id, body }),
        1 => (right_id(), 0_u8..4).prop_map(|(right_id, body)| Step::Error { right_id, body }),
        1 => Just(Step::InitError),
        2 => right_id().prop_map(|right_id| Step::ResponseBegins { right_id }),
        3 => (right_id(), 0_u8..4).prop_map(|(right_id, end)| Step::ResponseEnds { right_id, end }),
        1 => Just(Step::StreamTooLarge),
        6 => (0..NAMES.len(), 0..EVENTS.len()).prop_map(|(name, events)| Step::Register { name, events }),
        8 => (0_usize..6).prop_map(|index| Step::ExtensionNext { index }),
        1 => (0_usize..6, any::<bool>()).prop_map(|(index, init)| Step::ExtensionError { index, init }),
        1 => (0_usize..6).prop_map(|index| Step::Subscribe { index }),
        4 => Just(Step::Alarm),
        1 => (0_usize..3).prop_map(|program| Step::NotStarted { program }),
        2 => (0_usize..3, 0..2).prop_map(|(program, status)| Step::Ended { program, status }),
        3 => Just(Step::Cleared),
        1 => Just(Step::Restart),
        1 => Just(Step::ShutDown),
    ]
}

fn program(index: usize) -> Program {
    if index == 0 { Program::Runtime } else { Program::Extension(NAMES[index - 1].to_owned()) }
}

/// A lifecycle with what it did.
struct World {
    lifecycle: Lifecycle<Held>,
    identifiers: Vec<String>,
    tickets: Vec<Held>,
    now: u64,
    /// The milestones of invocations, in order.
    history: Vec<&'static str>,
    given: usize,
    gone: bool,
    /// Whether everything was killed and that was not confirmed.
    killing: bool,
}

impl World {
    fn new(externals: usize) -> Self {
        let mut world = Self {
            lifecycle: Lifecycle::new(function("1"), Identifiers::from_seed([1; 16])),
            identifiers: Vec::new(),
            tickets: Vec::new(),
            now: 0,
            history: Vec::new(),
            given: 0,
            gone: false,
            killing: false,
        };
        world.apply(Input::Begin { extensions: NAMES[..externals].iter().map(|&name| name.to_owned()).collect() });
        world
    }

    fn ticket(&mut self) -> Held {
        let ticket = Rc::new(());
        self.tickets.push(Rc::clone(&ticket));
        ticket
    }

    fn apply(&mut self, input: Input<Held>) {
        let was_gone = self.gone;
        let effects = self.lifecycle.apply(input, at(self.now));
        assert!(!was_gone || effects.is_empty(), "{effects:?}");
        for effect in effects {
            match effect {
                Effect::Answer(_, Answer::Registered(registered)) => self.identifiers.push(registered.identifier),
                Effect::KillAll => {
                    assert!(!std::mem::replace(&mut self.killing, true), "everything is killed twice");
                }
                Effect::Start(_) => assert!(!self.killing, "a start while everything is killed"),
                Effect::Gone => {
                    assert!(!self.killing);
                    self.gone = true;
                }
                Effect::Log(LogEvent::Start { .. }) => self.history.push("START"),
                Effect::Decide(_) => self.history.push("result"),
                Effect::StreamBegins { .. } => self.history.push("begin"),
                Effect::StreamEnds(_) => self.history.push("end"),
                Effect::Log(LogEvent::RuntimeDone(_)) => self.history.push("done"),
                Effect::Log(LogEvent::End { .. }) => self.history.push("END"),
                Effect::Log(LogEvent::Report { .. }) => self.history.push("REPORT"),
                Effect::Finish => self.history.push("finish"),
                _ => {}
            }
        }
    }

    fn step(&mut self, step: Step) {
        let request_id = |right| if right { id().to_string() } else { "another".to_owned() };
        let identifier = |index: usize| self.identifiers.iter().rev().nth(index).cloned().unwrap_or_else(|| "nobody".to_owned());
        let ends = |end| match end {
            0 => StreamEnd::Truncated,
            1 => StreamEnd::TooLarge,
            2 => StreamEnd::Failed(post("{}")),
            _ => StreamEnd::Whole,
        };
        let input = match step {
            Step::Invoke if self.lifecycle.is_busy() || self.gone => return,
            Step::Invoke => {
                self.given += 1;
                Input::Invoke(invocation())
            }
            Step::Next => Input::Next(self.ticket()),
            Step::Response { right_id, body } => {
                let whole = if body == 4 { Err(post("{}")) } else { Ok(Bytes::from_static(b"1")) };
                Input::Response { ticket: self.ticket(), request_id: request_id(right_id), body: properties::posted(body, whole) }
            }
            Step::Error { right_id, body } => {
                let body = properties::posted(body, post("{}"));
                Input::Error { ticket: self.ticket(), request_id: request_id(right_id), body }
            }
            Step::InitError => Input::InitError { ticket: self.ticket(), body: Posted::Whole(post("{}")) },
            Step::ResponseBegins { right_id } => {
                Input::ResponseBegins { ticket: self.ticket(), request_id: request_id(right_id), content_type: None }
            }
            Step::ResponseEnds { right_id, end } => {
                Input::ResponseEnds { ticket: self.ticket(), request_id: request_id(right_id), bytes: 1, end: ends(end) }
            }
            Step::StreamTooLarge => Input::StreamTooLarge,
            Step::Register { name, events } => {
                let events = EVENTS[events].iter().map(|&event| event.to_owned()).collect();
                let registration = Registration { name: NAMES[name].to_owned(), events, wants_account_id: false };
                Input::Register { ticket: self.ticket(), registration }
            }
            Step::ExtensionNext { index } => {
                let identifier = identifier(index);
                Input::ExtensionNext { ticket: self.ticket(), identifier }
            }
            Step::ExtensionError { index, init } => {
                let (identifier, error_type) = (identifier(index), "Extension.Boom".to_owned());
                let ticket = self.ticket();
                if init {
                    Input::ExtensionInitError { ticket, identifier, error_type }
                } else {
                    Input::ExtensionExitError { ticket, identifier, error_type }
                }
            }
            Step::Subscribe { index } => {
                let identifier = identifier(index);
                Input::Subscribe { ticket: self.ticket(), identifier, api: TelemetryApi::Logs, subscription: Err(String::new()) }
            }
            Step::Alarm => Input::Alarm,
            Step::NotStarted { program: index } => Input::NotStarted(program(index), PlatformError::NoBootstrap { tried: Vec::new() }),
            Step::Ended { program: index, status } => Input::Ended(program(index), RuntimeEnd::Exited(status)),
            // Nobody says so who was not asked.
            Step::Cleared if !std::mem::take(&mut self.killing) => return,
            Step::Cleared => Input::Cleared,
            Step::Restart => Input::Restart,
            Step::ShutDown => Input::ShutDown,
        };
        self.apply(input);
    }

    /// Each invocation's milestones, one after another: START, a result or a stream with its end, END, REPORT, finish.
    fn check(&self) -> Result<(), TestCaseError> {
        let mut state = "finish";
        let mut done = false;
        for &word in &self.history {
            if word == "done" {
                prop_assert!(!std::mem::replace(&mut done, true) && state != "finish", "{:?}", self.history);
                continue;
            }
            let follows = match state {
                "finish" => word == "START",
                "START" => matches!(word, "result" | "begin"),
                "begin" => word == "end",
                "result" | "end" => word == "END" && done,
                "END" => word == "REPORT",
                _ => word == "finish",
            };
            prop_assert!(follows, "{} after {} in {:?}", word, state, self.history);
            if word == "finish" {
                done = false;
            }
            state = word;
        }
        let finished = self.history.iter().filter(|word| **word == "finish").count();
        prop_assert_eq!(finished + usize::from(self.lifecycle.is_busy()), self.given);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_invocation_has_one_history(externals in 0_usize..3, steps in proptest::collection::vec((step(), 0_u64..500), 0..120)) {
        let mut world = World::new(externals);
        for (step, pause) in steps {
            world.now += pause;
            world.step(step);
        }
        world.check()?;
    }

    /// An environment that does as it is told gets to its end: alarms when they are due, and word when everything is killed.
    #[test]
    fn every_environment_ends(externals in 0_usize..3, steps in proptest::collection::vec((step(), 0_u64..500), 0..60)) {
        let mut world = World::new(externals);
        for (step, pause) in steps {
            world.now += pause;
            world.step(step);
        }
        world.apply(Input::ShutDown);
        for _ in 0..12 {
            if world.killing {
                world.step(Step::Cleared);
            } else if let Some(alarm) = world.lifecycle.alarm() {
                world.now = world.now.max(u64::try_from((alarm - at(0).instant).as_millis()).unwrap());
                world.step(Step::Alarm);
            }
        }
        prop_assert!(world.gone, "{:?}", world.lifecycle);
        world.check()?;
        prop_assert!(!world.lifecycle.is_busy());
        prop_assert!(world.tickets.iter().all(|ticket| Rc::strong_count(ticket) == 1), "a ticket is kept");
    }
}
