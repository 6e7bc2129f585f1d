//! Every row of the Runtime API's table of states and refusals.

use super::*;
use crate::lambda::Refusal;

/// What brings a single execution into a state of the runtime.
type Way = fn() -> Vec<Input<Ticket>>;

type Call = fn() -> Input<Ticket>;

/// Ways into each state, with AWS's name for it.
const STATES: [(&str, Way); 9] = [
    ("Started", Vec::new),
    ("InitError", || vec![init_error("{}")]),
    ("Running", || vec![next()]),
    ("InvocationResponse", || vec![next(), response(Posted::Truncated)]),
    ("InvocationErrorResponse", || vec![next(), Input::Error { ticket: 0, request_id: id().to_string(), body: Posted::Truncated }]),
    ("RuntimeResponseSentState", || vec![next(), answers("1")]),
    ("RuntimeResponseSentState", || vec![next(), fails("{}")]),
    ("RuntimeResponseSentState", || vec![next(), response(Posted::TooLarge)]),
    ("Ready", || vec![next(), answers("1"), next()]),
];

fn answer_to(before: Vec<Input<Ticket>>, call: Input<Ticket>) -> Option<Answer> {
    let mut lifecycle = single_execution("3");
    play(&mut lifecycle, before.into_iter().map(|input| (1, input)).collect());
    lifecycle.apply(call, at(2)).into_iter().find_map(|effect| match effect {
        Effect::Answer(7, answer) => Some(answer),
        _ => None,
    })
}

fn transition(from: &'static str, to: &'static str) -> Option<Answer> {
    Some(Answer::Refused(Refusal::InvalidTransition { from, to }))
}

#[test]
fn next_in_every_state() {
    for (state, way) in STATES {
        let expected = match state {
            "Started" => Some(event(1_003_002)),
            "Running" => Some(event(1_003_001)),
            // The next event is waited for.
            "RuntimeResponseSentState" | "Ready" => None,
            _ => transition(state, "Ready"),
        };
        assert_eq!(answer_to(way(), Input::Next(7)), expected, "{state}");
    }
}

#[test]
fn posts_for_the_event_in_every_state() {
    let response = || Input::Response { ticket: 7, request_id: id().to_string(), body: Posted::Whole(Ok(Bytes::new())) };
    let error = || Input::Error { ticket: 7, request_id: id().to_string(), body: Posted::Whole(post("{}")) };
    let posts: [(&str, Call); 2] = [("InvocationResponse", response), ("InvocationErrorResponse", error)];
    for (to, call) in posts {
        for (state, way) in STATES {
            let expected = match state {
                "Running" => Some(Answer::Accepted),
                // The runtime has not seen the event yet, or is done with it.
                "Started" | "Ready" => Some(Answer::Refused(Refusal::InvalidRequestId)),
                _ => transition(state, to),
            };
            assert_eq!(answer_to(way(), call()), expected, "{state} to {to}");
        }
    }
}

#[test]
fn init_error_in_every_state() {
    for (state, way) in STATES {
        let expected = if state == "Started" { Some(Answer::Accepted) } else { transition(state, "InitError") };
        assert_eq!(answer_to(way(), Input::InitError { ticket: 7, body: Posted::Whole(post("{}")) }), expected, "{state}");
    }
}

#[test]
fn another_id_is_invalid_in_every_state() {
    for (state, way) in STATES {
        for request_id in ["", "x", "abababab-abab-4bab-abab-ababababab00"] {
            let response = Input::Response { ticket: 7, request_id: request_id.to_owned(), body: Posted::TooLarge };
            assert_eq!(answer_to(way(), response), Some(Answer::Refused(Refusal::InvalidRequestId)), "{state}");
        }
    }
}

#[test]
fn a_wrong_id_leaves_the_right_one_valid() {
    let wrong = Input::Response { ticket: 0, request_id: "x".to_owned(), body: Posted::Whole(Ok(Bytes::new())) };
    assert_eq!(
        answer_to(vec![next(), wrong], Input::Response { ticket: 7, request_id: id().to_string(), body: Posted::Whole(Ok(Bytes::new())) }),
        Some(Answer::Accepted)
    );
}

#[test]
fn bodies_that_cannot_be_used() {
    for (body, refusal) in
        [(Posted::TooLarge, Refusal::TooLarge), (Posted::Truncated, Refusal::Truncated), (Posted::InvalidMode, Refusal::InvalidMode)]
    {
        let response = Input::Response { ticket: 7, request_id: id().to_string(), body };
        assert_eq!(answer_to(vec![next()], response), Some(Answer::Refused(refusal)));
    }
}

#[test]
fn messages_are_awss() {
    for (refusal, message) in [
        (Refusal::InvalidRequestId, "Invalid request ID"),
        (
            Refusal::InvalidTransition { from: "RuntimeResponseSentState", to: "InvocationResponse" },
            "State transition from RuntimeResponseSentState to InvocationResponse failed for runtime. Error: State transition is not allowed",
        ),
        (Refusal::TooLarge, "Exceeded maximum allowed payload size (6291556 bytes)."),
        (Refusal::Truncated, "HTTP request detected as truncated"),
        (Refusal::InvalidMode, "Invalid function response mode"),
    ] {
        assert_eq!(refusal.to_string(), message);
    }
}

#[test]
fn everyone_who_waits_gets_the_event() {
    let mut lifecycle = lifecycle("3");
    play(&mut lifecycle, vec![(0, begin()), (1, Input::Next(1)), (2, Input::Next(2))]);
    let effects = lifecycle.apply(Input::Invoke(invocation()), at(10));
    assert_eq!(effects[1..], [Effect::Answer(1, event(1_003_010)), Effect::Answer(2, event(1_003_010))]);
}
