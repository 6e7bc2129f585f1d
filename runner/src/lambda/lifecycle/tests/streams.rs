//! Answers that come in parts: how they begin, and each way in which they end.

use super::*;
use crate::lambda::{ReportStatus, ResponseFigures, RuntimeDone, RuntimeDoneStatus, Span, StreamEnd};

fn begins() -> Input<Ticket> {
    Input::ResponseBegins { ticket: 0, request_id: id().to_string(), content_type: Some("text/html".to_owned()) }
}

fn ends(end: StreamEnd) -> Input<Ticket> {
    Input::ResponseEnds { ticket: 0, request_id: id().to_string(), bytes: 5, end }
}

#[track_caller]
fn check(inputs: Vec<(u64, Input<Ticket>)>, expected: &[&str]) {
    let mut lifecycle = single_execution("1");
    let before = vec![(10, next()), (20, begins())];
    let begun = ["START $LATEST", "200 until 1001010", "stream text/html", "go on"];
    assert_eq!(play(&mut lifecycle, before), begun);
    assert_eq!(play(&mut lifecycle, inputs), expected);
}

#[test]
fn whole() {
    check(
        vec![(30, ends(StreamEnd::Whole)), (31, next())],
        &["202", "stream ends", "END", "REPORT 21 init 10 billed 31 used 0 Success", "finish"],
    );
}

#[test]
fn failed_on_the_way() {
    check(
        vec![(30, ends(StreamEnd::Failed(post("{}")))), (31, next())],
        &["202", "stream ends ! {}", "END", "REPORT 21 init 10 billed 31 used 0 Reported(ErrorType(\"Runtime.Boom\"))", "finish"],
    );
}

#[test]
fn cut() {
    let error = format!("stream ends ! {}", body(&PlatformError::TruncatedResponse));
    let report = "REPORT 21 init 10 billed 31 used 0 Error(ErrorType(\"Runtime.TruncatedResponse\"))";
    check(
        vec![(30, ends(StreamEnd::Truncated)), (31, next()), (231, Input::Alarm), (232, Input::Cleared)],
        &["TruncatedHTTPRequest", &error, "InvalidStateTransition", "kill", "END", report, "finish"],
    );
}

#[test]
fn too_large_by_any_measure() {
    let error = format!("stream ends ! {}", body(&PlatformError::StreamTooLarge));
    let report = "REPORT 21 init 10 billed 31 used 0 Error(ErrorType(\"Function.ResponseSizeTooLarge\"))";
    check(vec![(30, ends(StreamEnd::TooLarge)), (31, next())], &["RequestEntityTooLarge", &error, "END", report, "finish"]);
}

#[test]
fn too_large_for_its_invoker() {
    let error = format!("stream ends ! {}", body(&PlatformError::ResponseTooLarge));
    let report = "REPORT 21 init 10 billed 31 used 0 Error(ErrorType(\"Function.ResponseSizeTooLarge\"))";
    check(
        vec![(25, Input::StreamTooLarge), (26, Input::StreamTooLarge), (30, ends(StreamEnd::Whole)), (31, next())],
        &[&error, "RequestEntityTooLarge", "END", report, "finish"],
    );
}

#[test]
fn past_the_deadline() {
    let error = format!("stream ends ! {}", body(&PlatformError::TimedOut("1".parse().unwrap())));
    check(
        vec![(1010, Input::Alarm), (1011, ends(StreamEnd::Truncated)), (1012, Input::Cleared)],
        &["kill", "timed out 1.00 at 1001012", &error, "END", "REPORT 1000 init 10 billed 1010 used 0 Timeout", "finish"],
    );
}

#[test]
fn the_runtime_ends() {
    let error = format!("stream ends ! {}", body(&PlatformError::Exited(RuntimeEnd::Exited(7))));
    let report = "REPORT 20 init 10 billed 30 used 0 Error(ErrorType(\"Runtime.ExitError\"))";
    check(vec![(30, exits(7))], &["failed Runtime.ExitError", &error, "END", report, "finish"]);
}

#[test]
fn nothing_else_may_be_asked_on_the_way() {
    check(
        vec![(21, next()), (22, begins()), (23, answers("1")), (24, fails("{}")), (25, init_error("{}")), (30, ends(StreamEnd::Whole))],
        &[
            "InvalidStateTransition",
            "InvalidStateTransition",
            "InvalidStateTransition",
            "InvalidStateTransition",
            "InvalidStateTransition",
            "202",
            "stream ends",
        ],
    );
}

#[test]
fn beginnings_and_ends_that_are_refused() {
    let other = || Input::ResponseBegins { ticket: 0, request_id: "x".to_owned(), content_type: None };
    let other_ends = || Input::ResponseEnds { ticket: 0, request_id: "x".to_owned(), bytes: 0, end: StreamEnd::Whole };
    let mut lifecycle = single_execution("1");
    assert_eq!(play(&mut lifecycle, vec![(1, begins())]), ["InvalidRequestID"]);
    play(&mut lifecycle, vec![(2, next())]);
    assert_eq!(play(&mut lifecycle, vec![(3, other()), (4, ends(StreamEnd::Whole))]), ["InvalidRequestID", "InvalidStateTransition"]);
    assert_eq!(play(&mut lifecycle, vec![(5, begins()), (6, other_ends())])[2..], ["InvalidRequestID"]);
    assert_eq!(play(&mut lifecycle, vec![(7, ends(StreamEnd::Whole)), (8, begins())])[2..], ["InvalidStateTransition"]);
    assert_eq!(play(&mut lifecycle, vec![(9, Input::StreamTooLarge)]), [""; 0]);
}

#[test]
fn figures_of_an_answer() {
    let ms = Duration::from_millis;
    let span = |start: u64, duration| Span { start: ms(1_000_000 + start), duration: ms(duration) };
    for (inputs, bytes, latency, duration) in [
        (vec![(20, begins()), (30, ends(StreamEnd::Whole))], 5, span(10, 10), span(20, 10)),
        (vec![(20, answers("123"))], 3, span(10, 10), span(20, 0)),
    ] {
        let mut lifecycle = single_execution("1");
        play(&mut lifecycle, [(10, next())].into_iter().chain(inputs).collect());
        let done = lifecycle.apply(next(), at(40)).into_iter().find_map(|effect| match effect {
            Effect::Log(LogEvent::RuntimeDone(done)) => Some(done),
            _ => None,
        });
        let expected = RuntimeDone {
            request_id: id(),
            status: RuntimeDoneStatus::Success,
            duration: ms(30),
            response: Some(ResponseFigures { bytes, latency, duration }),
            trace_id: "trace".to_owned(),
        };
        assert_eq!(done, Some(expected));
    }
}

#[test]
fn reports_name_the_trace() {
    let mut lifecycle = single_execution("1");
    play(&mut lifecycle, vec![(10, next()), (11, answers("1"))]);
    let report = lifecycle.apply(next(), at(12)).into_iter().find_map(|effect| match effect {
        Effect::Log(LogEvent::Report { status, trace_id, .. }) => Some((status, trace_id)),
        _ => None,
    });
    assert_eq!(report, Some((ReportStatus::Success, "trace".to_owned())));
}
