//! Whatever happens, in whatever order: no panic, one result, one START, END and REPORT in order.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
enum Step {
    Next,
    Response { right_id: bool, body: u8 },
    Error { right_id: bool, body: u8 },
    InitError { body: u8 },
    Alarm,
    NotStarted,
    Ended(i32),
    Memory(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let right_id = proptest::bool::weighted(0.8);
    prop_oneof![
        4 => Just(Step::Next),
        3 => (right_id, 0_u8..5).prop_map(|(right_id, body)| Step::Response { right_id, body }),
        1 => (right_id, 0_u8..4).prop_map(|(right_id, body)| Step::Error { right_id, body }),
        1 => (0_u8..4).prop_map(|body| Step::InitError { body }),
        3 => Just(Step::Alarm),
        1 => Just(Step::NotStarted),
        1 => (0..3).prop_map(Step::Ended),
        1 => any::<u64>().prop_map(Step::Memory),
    ]
}

pub(super) fn posted<B>(body: u8, whole: B) -> Posted<B> {
    match body {
        0 => Posted::TooLarge,
        1 => Posted::Truncated,
        2 => Posted::InvalidMode,
        _ => Posted::Whole(whole),
    }
}

fn input(step: Step) -> Input<Ticket> {
    let request_id = |right| if right { id().to_string() } else { "another".to_owned() };
    match step {
        Step::Next => next(),
        Step::Response { right_id, body } => {
            let whole = if body == 4 { Err(post("{}")) } else { Ok(Bytes::from_static(b"1")) };
            Input::Response { ticket: 0, request_id: request_id(right_id), body: posted(body, whole) }
        }
        Step::Error { right_id, body } => Input::Error { ticket: 0, request_id: request_id(right_id), body: posted(body, post("{}")) },
        Step::InitError { body } => Input::InitError { ticket: 0, body: posted(body, post("{}")) },
        Step::Alarm => Input::Alarm,
        Step::NotStarted => Input::NotStarted(Program::Runtime, PlatformError::NoBootstrap { tried: Vec::new() }),
        Step::Ended(status) => exits(status),
        Step::Memory(bytes) => Input::PeakMemory { bytes },
    }
}

/// The words of an invocation, in the order in which they may come; each at most once.
fn milestone(effect: &Effect<Ticket>) -> Option<&'static str> {
    match effect {
        Effect::Log(LogEvent::Start { .. }) => Some("START"),
        Effect::Decide(_) => Some("result"),
        Effect::Log(LogEvent::End { .. }) => Some("END"),
        Effect::Log(LogEvent::Report { .. }) => Some("REPORT"),
        Effect::Finish => Some("finish"),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_invocation_has_one_history(steps in proptest::collection::vec((step(), 0_u64..4000), 0..60)) {
        let mut lifecycle = single_execution("1");
        let (mut now, mut history) = (0, Vec::new());
        for (step, pause) in steps {
            now += pause;
            history.extend(lifecycle.apply(input(step), at(now)).iter().filter_map(milestone));
        }
        let order = ["START", "result", "END", "REPORT", "finish"];
        prop_assert_eq!(&history[..], &order[..history.len().min(order.len())]);
        prop_assert_eq!(lifecycle.is_busy(), history.len() < order.len());
    }

    /// An obedient environment always gets to the end: alarms when they are due, and the end of a runtime that is killed.
    #[test]
    fn every_invocation_ends(steps in proptest::collection::vec((step(), 0_u64..400), 0..30)) {
        let mut lifecycle = single_execution("1");
        let mut now = 0;
        for (step, pause) in steps {
            now += pause;
            let kills = lifecycle.apply(input(step), at(now)).contains(&Effect::KillAll);
            if kills {
                lifecycle.apply(Input::Cleared, at(now));
            }
        }
        for _ in 0..4 {
            let Some(alarm) = lifecycle.alarm() else { break };
            let ms = u64::try_from((alarm.max(at(now).instant) - at(0).instant).as_millis()).unwrap();
            if lifecycle.apply(Input::Alarm, at(ms)).contains(&Effect::KillAll) {
                lifecycle.apply(Input::Cleared, at(ms));
            }
            now = ms;
        }
        prop_assert!(!lifecycle.is_busy());
    }

    #[test]
    fn any_number_of_invocations(steps in proptest::collection::vec((step(), 0_u64..4000), 0..100)) {
        let mut lifecycle = lifecycle("1");
        let (mut now, mut history, mut given) = (0, Vec::new(), 0);
        lifecycle.apply(begin(), at(0));
        for (step, pause) in steps {
            now += pause;
            if !lifecycle.is_busy() {
                given += 1;
                history.extend(lifecycle.apply(Input::Invoke(invocation()), at(now)).iter().filter_map(milestone));
            }
            history.extend(lifecycle.apply(input(step), at(now)).iter().filter_map(milestone));
        }
        let order = ["START", "result", "END", "REPORT", "finish"];
        prop_assert!(history.iter().zip(order.iter().cycle()).all(|(word, expected)| word == expected), "{:?}", history);
        prop_assert_eq!(history.len() / order.len() + usize::from(lifecycle.is_busy()), given);
    }
}
