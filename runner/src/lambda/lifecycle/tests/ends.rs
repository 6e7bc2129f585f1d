//! How a single execution can end, each as the list of what is done in order.

use super::*;

const EXITED_7: PlatformError = PlatformError::Exited(RuntimeEnd::Exited(7));

/// Plays a single execution with a timeout of one second and compares all that is done.
#[track_caller]
fn check(inputs: Vec<(u64, Input<Ticket>)>, expected: &[&str]) {
    let mut lifecycle = single_execution("1");
    assert_eq!(play(&mut lifecycle, inputs), expected);
}

#[test]
fn success() {
    check(
        vec![(110, next()), (110, Input::PeakMemory { bytes: 36 << 20 }), (113, answers("1")), (114, next())],
        &["START $LATEST", "200 until 1001110", "202", "= 1", "END", "REPORT 4 init 110 billed 114 used 36 Success", "finish"],
    );
}

#[test]
fn telemetry_hears_more() {
    let mut lifecycle = lifecycle("1");
    let inputs = vec![
        (0, begin()),
        (0, Input::Invoke(invocation())),
        (10, next()),
        (13, answers("1")),
        (14, next()),
        (20, Input::Invoke(invocation())),
        (21, fails("{}")),
        (22, exits(1)),
    ];
    let expected = [
        &[
            "INIT_START Init",
            "start",
            "init runtime done Init Success",
            "INIT_REPORT 10 Init Success",
            "START $LATEST",
            "200 until 1001010",
        ][..],
        &["202", "= 1", "runtime done Success", "END", "REPORT 4 init 10 billed 14 used 0 Success", "finish", "START $LATEST"],
        &["200 until 1001020", "202", "! {}", "runtime done Error(ErrorType(\"Runtime.Boom\"))", "END"],
        &["REPORT 2 billed 2 used 0 Reported(ErrorType(\"Runtime.Boom\"))", "finish"],
    ];
    assert_eq!(play_all(&mut lifecycle, inputs), expected.concat());
}

#[test]
fn handler_error_is_no_failure_of_the_phase() {
    check(
        vec![(10, next()), (11, fails("not json")), (12, next())],
        &[
            "START $LATEST",
            "200 until 1001010",
            "202",
            "! not json",
            "END",
            "REPORT 2 init 10 billed 12 used 0 Reported(ErrorType(\"Runtime.Boom\"))",
            "finish",
        ],
    );
}

#[test]
fn error_in_a_streamed_response() {
    check(
        vec![(10, next()), (11, response(Posted::Whole(Err(post("{}"))))), (12, next())],
        &[
            "START $LATEST",
            "200 until 1001010",
            "202",
            "! {}",
            "END",
            "REPORT 2 init 10 billed 12 used 0 Reported(ErrorType(\"Runtime.Boom\"))",
            "finish",
        ],
    );
}

#[test]
fn answers_then_exits() {
    for end in [exits(0), exits(1), signaled()] {
        check(
            vec![(10, next()), (11, answers("1")), (12, end)],
            &["START $LATEST", "200 until 1001010", "202", "= 1", "END", "REPORT 2 init 10 billed 12 used 0 Success", "finish"],
        );
    }
}

#[test]
fn exits_without_an_answer() {
    for (end, error) in [
        (exits(0), PlatformError::Exited(RuntimeEnd::Exited(0))),
        (exits(7), EXITED_7),
        (signaled(), PlatformError::Exited(RuntimeEnd::Signaled { signal: 9, core_dumped: false })),
    ] {
        check(
            vec![(10, next()), (12, end)],
            &[
                "START $LATEST",
                "200 until 1001010",
                "failed Runtime.ExitError",
                &format!("! {}", body(&error)),
                "END",
                "REPORT 2 init 10 billed 12 used 0 Error(ErrorType(\"Runtime.ExitError\"))",
                "finish",
            ],
        );
    }
}

#[test]
fn exits_in_init() {
    check(
        vec![(10, exits(7))],
        &[
            "START $LATEST",
            "failed Runtime.ExitError",
            &format!("! {}", body(&EXITED_7)),
            "END",
            "REPORT 0 init 10 billed 10 used 0 Error(ErrorType(\"Runtime.ExitError\"))",
            "finish",
        ],
    );
}

#[test]
fn init_error_then_exit() {
    check(
        vec![(10, init_error("boom")), (15, exits(1))],
        &["202", "START $LATEST", "! boom", "END", "REPORT 0 init 10 billed 10 used 0 Error(ErrorType(\"Runtime.Boom\"))", "finish"],
    );
}

#[test]
fn init_error_and_no_exit_is_killed_soon() {
    check(
        vec![(10, init_error("boom")), (209, Input::Alarm), (210, Input::Alarm), (211, Input::Cleared)],
        &[
            "202",
            "START $LATEST",
            "! boom",
            "kill",
            "END",
            "REPORT 0 init 10 billed 10 used 0 Error(ErrorType(\"Runtime.Boom\"))",
            "finish",
        ],
    );
}

#[test]
fn not_started() {
    let error = PlatformError::NoBootstrap { tried: vec!["/var/task/bootstrap".to_owned()] };
    check(
        vec![(1, Input::NotStarted(Program::Runtime, error.clone()))],
        &[
            "START $LATEST",
            "failed Runtime.InvalidEntrypoint",
            &format!("! {}", body(&error)),
            "END",
            "REPORT 0 billed 0 used 0 Error(ErrorType(\"Runtime.InvalidEntrypoint\"))",
            "finish",
        ],
    );
}

#[test]
fn timeout() {
    let error = PlatformError::TimedOut("1".parse().unwrap());
    check(
        vec![(10, next()), (1009, Input::Alarm), (1010, Input::Alarm), (1011, answers("late")), (1012, Input::Cleared)],
        &[
            "START $LATEST",
            "200 until 1001010",
            "kill",
            "timed out 1.00 at 1001012",
            &format!("! {}", body(&error)),
            "END",
            "REPORT 1000 init 10 billed 1010 used 0 Timeout",
            "finish",
        ],
    );
}

#[test]
fn timeout_after_the_answer() {
    check(
        vec![(10, next()), (11, answers("1")), (1010, Input::Alarm), (1012, Input::Cleared)],
        &[
            "START $LATEST",
            "200 until 1001010",
            "202",
            "= 1",
            "kill",
            "timed out 1.00 at 1001012",
            "END",
            "REPORT 1000 init 10 billed 1010 used 0 Timeout",
            "finish",
        ],
    );
}

#[test]
fn exit_and_deadline_at_once_is_the_exit() {
    let mut lifecycle = single_execution("1");
    play(&mut lifecycle, vec![(10, next()), (1010, exits(7))]);
    assert_eq!(play(&mut lifecycle, vec![(1010, Input::Alarm)]), [""; 0]);
}

#[test]
fn asks_again_instead_of_answering() {
    check(
        vec![(10, next()), (11, next()), (12, next())],
        &["START $LATEST", "200 until 1001010", "200 until 1001010", "200 until 1001010"],
    );
}

#[test]
fn too_large_an_answer() {
    let error = format!("! {}", body(&PlatformError::ResponseTooLarge));
    let report = "REPORT 2 init 10 billed 12 used 0 Error(ErrorType(\"Function.ResponseSizeTooLarge\"))";
    for last in [next(), exits(1)] {
        check(
            vec![(10, next()), (11, response(Posted::TooLarge)), (12, last)],
            &["START $LATEST", "200 until 1001010", "RequestEntityTooLarge", &error, "END", report, "finish"],
        );
    }
}

#[test]
fn aborted_answer_then_next_is_killed_soon() {
    for (unusable, refusal, error) in [
        (Posted::Truncated, "TruncatedHTTPRequest", PlatformError::TruncatedResponse),
        (Posted::InvalidMode, "InvalidFunctionResponseMode", PlatformError::InvalidResponseMode),
    ] {
        let report = format!("REPORT 2 init 10 billed 12 used 0 Error(ErrorType({:?}))", error.error_type());
        check(
            vec![
                (10, next()),
                (11, response(unusable)),
                (12, next()),
                (13, next()),
                (211, Input::Alarm),
                (212, Input::Alarm),
                (213, Input::Cleared),
            ],
            &[
                "START $LATEST",
                "200 until 1001010",
                refusal,
                &format!("! {}", body(&error)),
                "InvalidStateTransition",
                "InvalidStateTransition",
                "kill",
                "END",
                &report,
                "finish",
            ],
        );
    }
}

#[test]
fn slow_init_is_repeated_on_the_functions_time() {
    let start = ["INIT_REPORT 10000 Init Timeout", "kill", "START $LATEST", "start"];
    let slow = || vec![(9999, Input::Alarm), (10_000, Input::Alarm), (10_001, Input::Cleared)];
    check(slow(), &start);
    // In time: no Init Duration, the time counts.
    check(
        slow().into_iter().chain([(10_401, next()), (10_402, answers("1")), (10_403, next())]).collect(),
        &[&start[..], &["200 until 1011001", "202", "= 1", "END", "REPORT 402 billed 402 used 0 Success", "finish"]].concat(),
    );
    // Too slow again.
    check(
        slow().into_iter().chain([(11_000, Input::Alarm), (11_001, Input::Alarm), (11_002, Input::Cleared)]).collect(),
        &[
            &start[..],
            &[
                "INIT_REPORT 1000 Invoke Timeout",
                "kill",
                "timed out 1.00 at 1011002",
                &format!("! {}", body(&PlatformError::TimedOut("1".parse().unwrap()))),
                "END",
                "REPORT 1000 billed 1000 used 0 Timeout",
                "finish",
            ],
        ]
        .concat(),
    );
    // Or it fails.
    check(
        slow().into_iter().chain([(10_101, exits(7))]).collect(),
        &[
            &start[..],
            &[
                "INIT_REPORT 100 Invoke Error(ErrorType(\"Runtime.ExitError\"))",
                "failed Runtime.ExitError",
                &format!("! {}", body(&EXITED_7)),
                "END",
                "REPORT 100 billed 100 used 0 Error(ErrorType(\"Runtime.ExitError\"))",
                "finish",
            ],
        ]
        .concat(),
    );
}

#[test]
fn timeout_of_zero() {
    let mut lifecycle = single_execution("0");
    assert_eq!(play(&mut lifecycle, vec![(10, next()), (10, Input::Alarm)]), ["START $LATEST", "200 until 1000010", "kill"]);
}

#[test]
fn alarms() {
    let mut lifecycle = single_execution("1");
    let mut steps = vec![];
    for (ms, input) in [(10, next()), (11, response(Posted::Truncated)), (12, next()), (212, Input::Alarm), (213, Input::Cleared)] {
        steps.push(lifecycle.alarm());
        lifecycle.apply(input, at(ms));
    }
    steps.push(lifecycle.alarm());
    assert_eq!(steps, [Some(10_000), Some(1010), Some(1010), Some(212), None, None].map(|ms| ms.map(|ms| at(ms).instant)));
}

/// What the server will need: one environment, many events, a crash in between.
#[test]
fn many_invocations_in_one_environment() {
    let mut lifecycle = lifecycle("1");
    let invoke = || Input::Invoke(invocation());
    let inputs =
        vec![(0, begin()), (10, next()), (20, invoke()), (21, answers("1")), (22, next()), (30, invoke()), (32, exits(7)), (40, invoke())];
    let played = play(&mut lifecycle, inputs);
    let failure = format!("! {}", body(&EXITED_7));
    let expected = [
        &["start", "START $LATEST", "200 until 1001020", "202", "= 1", "END", "REPORT 2 init 10 billed 12 used 0 Success", "finish"][..],
        &["START $LATEST", "200 until 1001030", "failed Runtime.ExitError", &failure],
        &["END", "REPORT 2 billed 2 used 0 Error(ErrorType(\"Runtime.ExitError\"))", "finish"],
        &["START $LATEST", "start"],
    ];
    assert_eq!(played, expected.concat());
    assert!(lifecycle.is_busy());
    let rest = play(&mut lifecycle, vec![(50, next()), (51, answers("2")), (52, next())]);
    assert_eq!(rest, ["200 until 1001040", "202", "= 2", "END", "REPORT 12 billed 12 used 0 Success", "finish"]);
    assert!(!lifecycle.is_busy());
}

#[test]
fn failed_init_without_an_event_is_repeated_for_the_next() {
    for failure in [vec![(10, exits(7))], vec![(10, init_error("{}")), (11, exits(1))]] {
        let mut lifecycle = lifecycle("1");
        play(&mut lifecycle, vec![(0, begin())]);
        let played = play(&mut lifecycle, failure);
        assert!(played.iter().any(|effect| effect.starts_with("INIT_REPORT 10 Init Error")), "{played:?}");
        let played = play(&mut lifecycle, vec![(20, Input::Invoke(invocation())), (30, next())]);
        assert_eq!(played, ["START $LATEST", "start", "200 until 1001020"]);
    }
}

#[test]
fn event_that_arrives_while_a_failed_init_winds_up_gets_another_runtime() {
    let mut lifecycle = lifecycle("1");
    play(&mut lifecycle, vec![(0, begin()), (10, init_error("{}"))]);
    let played = play(&mut lifecycle, vec![(11, Input::Invoke(invocation())), (12, exits(1)), (20, next())]);
    assert_eq!(played, ["START $LATEST", "start", "200 until 1001012"]);
}

#[test]
fn failed_init_may_be_repeated_for_the_event_that_waits() {
    type Failure = fn() -> Vec<(u64, Input<Ticket>)>;
    let boom = "INIT_REPORT 10 Init Error(ErrorType(\"Runtime.Boom\"))";
    let exited = "INIT_REPORT 10 Init Error(ErrorType(\"Runtime.ExitError\"))";
    let cases: [(Failure, &[&str]); 3] = [
        (|| vec![(10, init_error("boom")), (15, exits(1))], &["202", boom, "START $LATEST", "start"]),
        (|| vec![(10, init_error("boom")), (210, Input::Alarm), (211, Input::Cleared)], &["202", boom, "kill", "START $LATEST", "start"]),
        (|| vec![(10, exits(7))], &[exited, "START $LATEST", "start"]),
    ];
    for (failure, told) in cases {
        let failed = || {
            let mut lifecycle = lifecycle("1").with_failed_init(FailedInit::IsRepeated);
            play(&mut lifecycle, vec![(0, begin()), (0, Input::Invoke(invocation()))]);
            assert_eq!(play(&mut lifecycle, failure()), told);
            lifecycle
        };
        // The second time it works: no Init Duration, the time counts.
        let rest = play(&mut failed(), vec![(400, next()), (401, answers("1")), (402, next())]);
        assert!(rest.contains(&"= 1".to_owned()), "{rest:?}");
        assert!(rest.iter().any(|line| line.starts_with("REPORT") && !line.contains("init")), "{rest:?}");
        // Or it fails again, and that is the result.
        let rest = play(&mut failed(), vec![(400, init_error("boom")), (401, exits(1))]);
        assert!(rest[1].starts_with("INIT_REPORT") && rest[1].contains("Invoke Error"), "{rest:?}");
        assert_eq!((rest[0].as_str(), rest[2].as_str(), rest[3].as_str(), rest[5].as_str()), ("202", "! boom", "END", "finish"));
    }
}
