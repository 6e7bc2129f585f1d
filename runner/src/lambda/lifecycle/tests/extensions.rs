//! Extensions: every row of the table of registrations and refusals, the Init phase, the invoke phase, the shutdown with its times.

use super::*;
use crate::lambda::{
    ExtensionRefusal, ExtensionState, Refusal, Registration, TelemetryApi, TelemetryBuffering, TelemetryDestination, TelemetrySchema,
    TelemetryStream, TelemetrySubscription,
};

/// A lifecycle, and the identifiers that its extensions were given.
struct Environment {
    lifecycle: Lifecycle<Ticket>,
    identifiers: Vec<String>,
}

impl Environment {
    /// These external extensions have been started.
    fn started(externals: &[&str]) -> Self {
        let mut environment = Self { lifecycle: lifecycle("1"), identifiers: Vec::new() };
        environment.play(vec![(0, Input::Begin { extensions: externals.iter().map(|&name| name.to_owned()).collect() })]);
        environment
    }

    /// One external extension `e` and the runtime wait for an event, at 20 ms.
    fn up(events: &[&str]) -> Self {
        let mut environment = Self::started(&["e"]);
        environment.registers("e", events, 10);
        let asks = environment.asks(0, 100);
        environment.play(vec![(15, next()), (20, asks)]);
        environment
    }

    /// The runtime waits for an event, and an internal extension in it, at 20 ms.
    fn up_with_internal() -> Self {
        let mut environment = Self::started(&[]);
        environment.registers("i", &["INVOKE"], 10);
        let asks = environment.asks(0, 100);
        environment.play(vec![(15, next()), (20, asks)]);
        environment
    }

    fn play(&mut self, inputs: Vec<(u64, Input<Ticket>)>) -> Vec<String> {
        play(&mut self.lifecycle, inputs)
    }

    /// The answer to a call with ticket 7.
    fn answer(&mut self, call: Input<Ticket>) -> Answer {
        let effects = self.lifecycle.apply(call, at(500));
        let answer = effects.into_iter().find_map(|effect| match effect {
            Effect::Answer(7, answer) => Some(answer),
            _ => None,
        });
        answer.expect("the call is answered")
    }

    fn refusal(&mut self, call: Input<Ticket>) -> ExtensionRefusal {
        match self.answer(call) {
            Answer::Refused(Refusal::Extension(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    }

    /// Registers an extension, which must succeed, and shows what else came of it.
    fn registers(&mut self, name: &str, events: &[&str], ms: u64) -> Vec<String> {
        let effects = self.lifecycle.apply(register(0, name, events), at(ms));
        let Some(Effect::Answer(0, Answer::Registered(registered))) = effects.first() else { panic!("{effects:?}") };
        self.identifiers.push(registered.identifier.clone());
        effects[1..].iter().filter(|effect| !is_telemetry(effect)).map(shown).collect()
    }

    /// `event/next` of the extension that registered as number `index`.
    fn asks(&self, index: usize, ticket: Ticket) -> Input<Ticket> {
        Input::ExtensionNext { ticket, identifier: self.identifiers[index].clone() }
    }

    fn init_error(&self, index: usize, ticket: Ticket) -> Input<Ticket> {
        Input::ExtensionInitError { ticket, identifier: self.identifiers[index].clone(), error_type: "Extension.Boom".to_owned() }
    }

    fn exit_error(&self, index: usize, ticket: Ticket) -> Input<Ticket> {
        Input::ExtensionExitError { ticket, identifier: self.identifiers[index].clone(), error_type: "Extension.Boom".to_owned() }
    }

    fn subscribes(&self, index: usize, ticket: Ticket, api: TelemetryApi) -> Input<Ticket> {
        Input::Subscribe { ticket, identifier: self.identifiers[index].clone(), api, subscription: Ok(subscription()) }
    }
}

fn register(ticket: Ticket, name: &str, events: &[&str]) -> Input<Ticket> {
    let events = events.iter().map(|&event| event.to_owned()).collect();
    Input::Register { ticket, registration: Registration { name: name.to_owned(), events, wants_account_id: false } }
}

fn subscription() -> TelemetrySubscription {
    TelemetrySubscription {
        schema: TelemetrySchema::Telemetry20220701,
        streams: vec![TelemetryStream::Platform],
        destination: TelemetryDestination::Tcp { port: 1 },
        buffering: TelemetryBuffering::default(),
    }
}

fn ended(name: &str, status: i32) -> Input<Ticket> {
    Input::Ended(Program::Extension(name.to_owned()), RuntimeEnd::Exited(status))
}

fn invoke() -> Input<Ticket> {
    Input::Invoke(invocation())
}

fn failure(error: &PlatformError) -> String {
    format!("! {}", body(error))
}

const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

#[test]
fn the_order_of_an_init_phase() {
    let mut environment = Environment { lifecycle: lifecycle("1"), identifiers: Vec::new() };
    let extensions = vec!["a".to_owned(), "b".to_owned()];
    let begun = play_all(&mut environment.lifecycle, vec![(0, Input::Begin { extensions }), (0, invoke())]);
    assert_eq!(begun, ["INIT_START Init", "start a", "start b"]);
    assert_eq!(environment.registers("b", &["SHUTDOWN", "INVOKE"], 10), [""; 0]);
    // The runtime is started when all have registered.
    assert_eq!(environment.registers("a", &[], 20), ["start"]);
    assert_eq!(environment.registers("inside", &["INVOKE"], 30), [""; 0]);
    let (a, b, inside) = (environment.asks(1, 1), environment.asks(0, 2), environment.asks(2, 3));
    let inputs = vec![(40, a), (50, b), (60, Input::Next(9)), (70, inside)];
    let expected = [
        "init runtime done Init Success",
        "EXTENSION a Ready [] None",
        "EXTENSION b Ready [Shutdown, Invoke] None",
        "EXTENSION inside Ready [Invoke] None",
        "INIT_REPORT 70 Init Success",
        "START $LATEST",
        "200 until 1001070",
        "2: INVOKE until 1001070",
        "3: INVOKE until 1001070",
    ];
    assert_eq!(play_all(&mut environment.lifecycle, inputs), expected);
}

#[test]
fn what_an_extension_is_told_when_it_registers() {
    for wants_account_id in [false, true] {
        let mut environment = Environment::started(&["e"]);
        let registration = Registration { name: "e".to_owned(), events: Vec::new(), wants_account_id };
        let Answer::Registered(registered) = environment.answer(Input::Register { ticket: 7, registration }) else { panic!() };
        let function = function("1");
        assert_eq!(
            (&registered.function_name, &registered.function_version, &registered.handler),
            (&function.name, &function.version, &function.handler)
        );
        assert_eq!(registered.account_id, wants_account_id.then(|| function.account_id.clone()));
    }
}

#[test]
fn registrations_that_are_refused() {
    let message = |refusal: ExtensionRefusal| (refusal.error_type(), refusal.to_string());
    let mut environment = Environment::started(&["e"]);
    for (name, events, refused) in [
        ("e", &["FOO"][..], ("Extension.InvalidEventType", "FOO: ErrorInvalidEventType")),
        ("e", &["INVOKE", ""], ("Extension.InvalidEventType", ": ErrorInvalidEventType")),
        ("i", &["SHUTDOWN"], ("Extension.InvalidEventType", "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension")),
        ("i", &["FOO", "SHUTDOWN"], ("Extension.InvalidEventType", "FOO: ErrorInvalidEventType")),
    ] {
        assert_eq!(message(environment.refusal(register(7, name, events))), (refused.0, refused.1.to_owned()), "{name} {events:?}");
    }
    environment.registers("e", &[], 1);
    let again = "State transition from Registered to Registered failed for extension e. Error: State transition is not allowed";
    assert_eq!(message(environment.refusal(register(7, "e", &[]))), ("Extension.InvalidExtensionState", again.to_owned()));
    environment.registers("i", &[], 2);
    let taken = ("Extension.InvalidExtensionState", "Extension with this name already registered".to_owned());
    assert_eq!(message(environment.refusal(register(7, "i", &[]))), taken);
    for index in 2..10 {
        environment.registers(&format!("i{index}"), &[], 3);
    }
    let limit = ("Extension.TooManyExtensions", "Extension limit (10) reached".to_owned());
    assert_eq!(message(environment.refusal(register(7, "one-more", &[]))), limit);
    environment.play(vec![(4, next())]);
    let closed = ("Extension.RegistrationClosed", "Extension registration closed already".to_owned());
    assert_eq!(message(environment.refusal(register(7, "late", &[]))), closed);
}

#[test]
fn refusals_that_need_no_state() {
    for (refusal, error_type, message) in [
        (ExtensionRefusal::EmptyName, "Extension.InvalidExtensionName", "Empty extension name"),
        (ExtensionRefusal::InvalidFormat { message: "m".to_owned() }, "InvalidRequestFormat", "m"),
        (ExtensionRefusal::MissingIdentifier, "Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header"),
        (ExtensionRefusal::InvalidIdentifier, "Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier"),
        (ExtensionRefusal::MissingErrorType, "Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found"),
        (
            ExtensionRefusal::SubscriptionClosed { api: TelemetryApi::Telemetry },
            "Telemetry.SubscriptionClosed",
            "Telemetry API subscription is closed",
        ),
        (
            ExtensionRefusal::SubscriptionClosed { api: TelemetryApi::Logs },
            "Logs.SubscriptionClosed",
            "Logs API subscription is closed already",
        ),
    ] {
        assert_eq!((refusal.error_type(), refusal.to_string().as_str()), (error_type, message));
    }
}

#[test]
fn strangers_are_unknown() {
    let nobody = || NOBODY.to_owned();
    for call in [
        Input::ExtensionNext { ticket: 7, identifier: nobody() },
        Input::ExtensionInitError { ticket: 7, identifier: nobody(), error_type: nobody() },
        Input::ExtensionExitError { ticket: 7, identifier: nobody(), error_type: nobody() },
        Input::Subscribe { ticket: 7, identifier: nobody(), api: TelemetryApi::Telemetry, subscription: Err(nobody()) },
    ] {
        let refusal = Environment::up(&[]).refusal(call);
        assert_eq!(
            (refusal.error_type(), refusal.to_string()),
            ("Extension.UnknownExtensionIdentifier", format!("Unknown extension {NOBODY}"))
        );
    }
}

#[test]
fn calls_in_every_state() {
    use ExtensionState::{ExitError, Exited, InitError, Ready, Registered, Running};
    let registered = || {
        let mut environment = Environment::started(&["e"]);
        environment.registers("e", &["INVOKE", "SHUTDOWN"], 1);
        environment
    };
    let then = |mut environment: Environment, call: fn(&Environment) -> Input<Ticket>| {
        let call = call(&environment);
        environment.play(vec![(30, call)]);
        environment
    };
    let states: [(ExtensionState, &dyn Fn() -> Environment); 5] = [
        (Registered, &registered),
        (Ready, &|| Environment::up(&["INVOKE"])),
        (Running, &|| then(Environment::up(&["INVOKE"]), |_| invoke())),
        (InitError, &|| then(registered(), |environment| environment.init_error(0, 1))),
        (ExitError, &|| then(registered(), |environment| environment.exit_error(0, 1))),
    ];
    for (from, way) in states {
        let refused = |to| Err((from, to));
        let accepted = Ok(Some(Answer::Accepted));
        // Ready is told nothing until there is an event.
        let next = if matches!(from, Registered | Running) { Ok(None) } else { refused(Ready) };
        let init_error = if matches!(from, Registered | InitError) { accepted.clone() } else { refused(InitError) };
        let exit_error = if from == InitError { refused(Exited) } else { accepted };
        let calls: [(fn(&Environment) -> Input<Ticket>, Result<Option<Answer>, _>); 3] = [
            (|environment| environment.asks(0, 7), next),
            (|environment| environment.init_error(0, 7), init_error),
            (|environment| environment.exit_error(0, 7), exit_error),
        ];
        for (call, expected) in calls {
            let mut environment = way();
            let call = call(&environment);
            let effects = environment.lifecycle.apply(call, at(500));
            let answer = effects.into_iter().find_map(|effect| match effect {
                Effect::Answer(7, answer) => Some(answer),
                _ => None,
            });
            let expected = expected.unwrap_or_else(|(from, to)| {
                let extension = environment.identifiers[0].clone();
                Some(Answer::Refused(Refusal::Extension(ExtensionRefusal::InvalidTransition { from, to, extension })))
            });
            assert_eq!(answer, expected, "{from}");
        }
    }
}

#[test]
fn subscriptions_are_taken_in_the_init_phase() {
    let mut environment = Environment::started(&["e"]);
    environment.registers("e", &[], 1);
    let subscribes = environment.subscribes(0, 7, TelemetryApi::Telemetry);
    assert_eq!(environment.play(vec![(2, subscribes)]), ["subscribe e", "subscribed e", "7: subscribed"]);
    // Again is anew.
    let subscribes = environment.subscribes(0, 7, TelemetryApi::Telemetry);
    assert_eq!(environment.answer(subscribes), Answer::Subscribed);
    let other = environment.subscribes(0, 7, TelemetryApi::Logs);
    assert_eq!(environment.refusal(other).error_type(), "Logs.ValidationError");
    let invalid = Input::Subscribe {
        ticket: 7,
        identifier: environment.identifiers[0].clone(),
        api: TelemetryApi::Telemetry,
        subscription: Err("no".to_owned()),
    };
    let refusal = environment.refusal(invalid);
    assert_eq!((refusal.error_type(), refusal.to_string().as_str()), ("ValidationError", "no"));
    let asks = environment.asks(0, 1);
    environment.play(vec![(3, next()), (4, asks)]);
    let late = environment.subscribes(0, 7, TelemetryApi::Telemetry);
    assert_eq!(environment.refusal(late).error_type(), "Telemetry.SubscriptionClosed");
}

#[test]
fn the_phase_waits_for_the_extension_and_the_answer_does_not() {
    let mut environment = Environment::up(&["INVOKE"]);
    let played = environment.play(vec![(30, invoke()), (35, answers("1")), (36, next())]);
    assert_eq!(played, ["START $LATEST", "200 until 1001030", "100: INVOKE until 1001030", "202", "= 1"]);
    assert!(environment.lifecycle.is_busy() && !environment.lifecycle.is_idle());
    let asks = environment.asks(0, 101);
    assert_eq!(environment.play(vec![(90, asks)]), ["END", "REPORT 60 init 20 billed 80 used 0 Success", "finish"]);
    assert!(environment.lifecycle.is_idle());
    // The extension may be the first, too.
    environment.play(vec![(100, invoke())]);
    let asks = environment.asks(0, 102);
    let played = environment.play(vec![(101, asks), (102, answers("2")), (103, next())]);
    assert_eq!(played, ["202", "= 2", "END", "REPORT 3 billed 3 used 0 Success", "finish"]);
}

#[test]
fn who_did_not_ask_for_events_gets_none() {
    let mut environment = Environment::up(&["SHUTDOWN"]);
    let played = environment.play(vec![(30, invoke()), (35, answers("1")), (36, next())]);
    assert_eq!(played, ["START $LATEST", "200 until 1001030", "202", "= 1", "END", "REPORT 6 init 20 billed 26 used 0 Success", "finish"]);
}

#[test]
fn the_timeout_covers_the_extension() {
    let mut environment = Environment::up(&["INVOKE", "SHUTDOWN"]);
    environment.play(vec![(30, invoke()), (35, answers("1")), (36, next())]);
    let played = environment.play(vec![(1029, Input::Alarm), (1030, Input::Alarm)]);
    assert_eq!(played, ["timed out 1.00 at 1001030", "END", "REPORT 1000 init 20 billed 1020 used 0 Timeout", "finish", "term runtime"]);
    // It is busy still, and told when it asks.
    let asks = environment.asks(0, 101);
    assert_eq!(environment.play(vec![(1040, exits(0)), (1050, asks)]), ["101: SHUTDOWN timeout until 1003030"]);
    assert_eq!(environment.play(vec![(1060, ended("e", 0)), (1061, Input::Cleared)]), ["kill"]);
    assert!(environment.lifecycle.is_idle());
}

#[test]
fn a_timeout_resets_everything() {
    let mut environment = Environment::up(&["INVOKE", "SHUTDOWN"]);
    let asks = environment.asks(0, 101);
    let played = environment.play(vec![(30, invoke()), (40, asks), (1030, Input::Alarm)]);
    let error = failure(&PlatformError::TimedOut("1".parse().unwrap()));
    let expected = [
        "START $LATEST",
        "200 until 1001030",
        "100: INVOKE until 1001030",
        "timed out 1.00 at 1001030",
        &error,
        "END",
        "REPORT 1000 init 20 billed 1020 used 0 Timeout",
        "finish",
        "term runtime",
    ];
    assert_eq!(played, expected);
    // The runtime has 300 ms, the extension the rest of 2000; an event that comes in between waits.
    let played = environment.play(vec![
        (1040, invoke()),
        (1329, Input::Alarm),
        (1330, Input::Alarm),
        (3029, Input::Alarm),
        (3030, Input::Alarm),
        (3035, Input::Cleared),
    ]);
    assert_eq!(played, ["kill runtime", "101: SHUTDOWN timeout until 1003030", "kill", "START $LATEST", "start e"]);
    environment.registers("e", &["INVOKE"], 3040);
    let asks = environment.asks(1, 102);
    let played = environment.play(vec![(3050, asks), (3060, next())]);
    assert_eq!(played, ["EXTENSION e Ready [Invoke] None", "200 until 1004035", "102: INVOKE until 1004035"]);
}

#[test]
fn a_runtime_that_ends_takes_the_extensions_with_it() {
    let mut environment = Environment::up(&["SHUTDOWN"]);
    let played = environment.play(vec![(30, invoke()), (40, exits(7))]);
    let error = failure(&PlatformError::Exited(RuntimeEnd::Exited(7)));
    let expected = [
        "START $LATEST",
        "200 until 1001030",
        "failed Runtime.ExitError",
        &error,
        "END",
        "REPORT 10 init 20 billed 30 used 0 Error(ErrorType(\"Runtime.ExitError\"))",
        "finish",
        "100: SHUTDOWN failure until 1002040",
    ];
    assert_eq!(played, expected);
    assert_eq!(environment.play(vec![(50, ended("e", 0)), (51, Input::Cleared), (60, invoke())]), ["kill", "START $LATEST", "start e"]);
}

#[test]
fn an_extension_that_ends_fails_the_invocation() {
    for (status, message) in [(0, "exit code 0"), (1, "exit status 1")] {
        let mut environment = Environment::up(&["INVOKE"]);
        let played = environment.play(vec![(30, invoke()), (40, ended("e", status)), (41, Input::Cleared)]);
        let error = format!(r#"! {{"errorType":"Extension.Crash","errorMessage":"RequestId: <id> Error: {message}"}}"#);
        let expected = [
            "START $LATEST",
            "200 until 1001030",
            "100: INVOKE until 1001030",
            "failed Extension.Crash",
            &error,
            "kill",
            "END",
            "REPORT 11 init 20 billed 31 used 0 Error(ErrorType(\"Extension.Crash\"))",
            "finish",
        ];
        assert_eq!(played, expected);
    }
}

#[test]
fn an_extension_that_ends_after_the_answer_fails_the_phase() {
    let mut environment = Environment::up(&["INVOKE"]);
    environment.play(vec![(30, invoke()), (35, answers("1")), (36, next())]);
    let played = environment.play(vec![(40, ended("e", 1)), (41, Input::Cleared)]);
    assert_eq!(played, ["kill", "END", "REPORT 11 init 20 billed 31 used 0 Error(ErrorType(\"Extension.Crash\"))", "finish"]);
}

#[test]
fn an_extension_that_ends_while_nothing_happens_makes_the_next_start_anew() {
    let mut environment = Environment::up(&["INVOKE"]);
    assert_eq!(environment.play(vec![(30, ended("e", 0)), (31, Input::Cleared)]), ["kill"]);
    assert_eq!(environment.play(vec![(40, invoke())]), ["START $LATEST", "start e"]);
}

#[test]
fn extensions_that_fail_in_the_init_phase() {
    let launch = PlatformError::ExtensionLaunchError { path: "/opt/extensions/e".to_owned(), reason: "permission denied".to_owned() };
    let cases: [(Box<dyn Fn(&mut Environment) -> Input<Ticket>>, PlatformError, &str); 4] = [
        (
            Box::new({
                let launch = launch.clone();
                move |_| Input::NotStarted(Program::Extension("e".to_owned()), launch.clone())
            }),
            launch.clone(),
            "LaunchError [] Some(ErrorType(\"Extension.LaunchError\"))",
        ),
        (
            Box::new(|_| ended("e", 1)),
            PlatformError::ExtensionCrash(RuntimeEnd::Exited(1)),
            "Exited [] Some(ErrorType(\"Extension.Crash\"))",
        ),
        (
            Box::new(|environment| {
                environment.registers("e", &["INVOKE"], 5);
                environment.init_error(0, 1)
            }),
            PlatformError::ExtensionInitError { error_type: "Extension.Boom".to_owned() },
            "InitError [Invoke] Some(ErrorType(\"Extension.Boom\"))",
        ),
        (
            Box::new(|environment| {
                environment.registers("e", &["INVOKE"], 5);
                environment.exit_error(0, 1)
            }),
            PlatformError::ExtensionExitError { error_type: "Extension.Boom".to_owned() },
            "ExitError [Invoke] Some(ErrorType(\"Extension.Boom\"))",
        ),
    ];
    for (call, error, state) in cases {
        // With an event that waits, it fails.
        let mut environment = Environment::started(&["e"]);
        environment.play(vec![(0, invoke())]);
        let failing = call(&mut environment);
        let played = environment.play(vec![(10, failing), (11, ended("e", 1)), (12, Input::Cleared)]);
        let played: Vec<&str> =
            played.iter().map(String::as_str).filter(|word| !matches!(*word, "202" | "term runtime" | "kill" | "kill e")).collect();
        let (kind, report) = (error.error_type(), format!("REPORT 0 init 10 billed 10 used 0 Error(ErrorType({:?}))", error.error_type()));
        let expected =
            [&format!("EXTENSION e {state}"), "START $LATEST", &format!("failed {kind}"), &failure(&error), "END", &report, "finish"];
        assert_eq!(played, expected);
        // Without, the next one starts anew.
        let mut environment = Environment::started(&["e"]);
        let failing = call(&mut environment);
        let played =
            environment.play(vec![(10, failing), (11, ended("e", 1)), (400, Input::Alarm), (2400, Input::Alarm), (2500, Input::Cleared)]);
        let report = format!("INIT_REPORT 10 Init Error(ErrorType({kind:?}))");
        assert!(played.contains(&report), "{played:?}");
        assert_eq!(environment.play(vec![(3000, invoke())]), ["START $LATEST", "start e"]);
    }
}

#[test]
fn too_many_external_extensions() {
    let names: Vec<String> = (0..11).map(|index| format!("e{index}")).collect();
    let mut lifecycle = lifecycle("1");
    let played =
        play(&mut lifecycle, vec![(0, Input::Begin { extensions: names }), (1, Input::Cleared), (2, invoke()), (3, Input::Cleared)]);
    let expected = [
        "INIT_REPORT 0 Init Error(ErrorType(\"Extension.TooManyExtensions\"))",
        "kill",
        "START $LATEST",
        "INIT_REPORT 0 Invoke Error(ErrorType(\"Extension.TooManyExtensions\"))",
        "failed Extension.TooManyExtensions",
        &failure(&PlatformError::TooManyExtensions),
        "kill",
        "END",
        "REPORT 0 billed 0 used 0 Error(ErrorType(\"Extension.TooManyExtensions\"))",
        "finish",
    ];
    assert_eq!(played, expected);
}

#[test]
fn an_extension_that_never_registers_uses_the_init_phase_up() {
    let mut environment = Environment::started(&["e"]);
    let played = environment.play(vec![(0, invoke()), (9999, Input::Alarm), (10_000, Input::Alarm), (10_001, Input::Cleared)]);
    assert_eq!(played, ["EXTENSION e Started [] None", "INIT_REPORT 10000 Init Timeout", "kill", "START $LATEST", "start e"]);
    // The second time it is the function's.
    let played = environment.play(vec![(11_000, Input::Alarm), (11_001, Input::Alarm), (11_002, Input::Cleared)]);
    let error = failure(&PlatformError::TimedOut("1".parse().unwrap()));
    let expected = [
        "EXTENSION e Started [] None",
        "INIT_REPORT 1000 Invoke Timeout",
        "kill",
        "timed out 1.00 at 1011002",
        &error,
        "END",
        "REPORT 1000 billed 1000 used 0 Timeout",
        "finish",
    ];
    assert_eq!(played, expected);
}

/// The table of times: who registered, what is done when, and how long it takes at most.
#[test]
fn shutdown_without_extensions() {
    let mut lifecycle = lifecycle("1");
    let played = play(&mut lifecycle, vec![(0, begin()), (10, next()), (20, Input::ShutDown), (21, Input::Cleared)]);
    assert_eq!(played, ["start", "kill", "gone"]);
    assert_eq!(play(&mut lifecycle, vec![(22, invoke()), (23, begin()), (24, next()), (25, Input::ShutDown)]), [""; 0]);
}

#[test]
fn shutdown_with_internal_extensions() {
    let mut environment = Environment::up_with_internal();
    let ends = environment.play(vec![(100, Input::ShutDown), (599, Input::Alarm), (600, Input::Alarm), (601, Input::Cleared)]);
    assert_eq!(ends, ["term runtime", "kill", "gone"]);
    // A runtime that obeys is not waited for.
    let mut environment = Environment::up_with_internal();
    assert_eq!(environment.play(vec![(100, Input::ShutDown), (110, exits(0))]), ["term runtime", "gone"]);
}

#[test]
fn shutdown_with_external_extensions() {
    // All hang.
    let mut environment = Environment::up(&["SHUTDOWN"]);
    let alarms = [399, 400, 2099, 2100].map(|ms| (ms, Input::Alarm));
    let played = environment.play([(100, Input::ShutDown)].into_iter().chain(alarms).chain([(2101, Input::Cleared)]).collect());
    assert_eq!(played, ["term runtime", "kill runtime", "100: SHUTDOWN spindown until 1002100", "kill", "gone"]);
    // All obey.
    let mut environment = Environment::up(&["SHUTDOWN", "INVOKE"]);
    let played = environment.play(vec![(100, Input::ShutDown), (101, exits(0)), (110, ended("e", 0)), (111, Input::Cleared)]);
    assert_eq!(played, ["term runtime", "100: SHUTDOWN spindown until 1002100", "kill", "gone"]);
    // Nobody asked for SHUTDOWN.
    let mut environment = Environment::up(&["INVOKE"]);
    let played = environment.play(vec![(100, Input::ShutDown), (101, exits(0)), (102, ended("e", 0)), (103, Input::Cleared)]);
    assert_eq!(played, ["term runtime", "kill e", "kill", "gone"]);
    // It is told once.
    let mut environment = Environment::up(&["SHUTDOWN"]);
    environment.play(vec![(100, Input::ShutDown), (101, exits(0))]);
    let asks = environment.asks(0, 101);
    assert_eq!(environment.play(vec![(110, asks), (2100, Input::Alarm)]), ["kill"]);
}

#[test]
fn shutdown_waits_for_the_invocation_in_hand() {
    let mut environment = Environment::up(&["INVOKE", "SHUTDOWN"]);
    assert_eq!(environment.play(vec![(30, invoke()), (31, Input::ShutDown)]).len(), 3);
    environment.play(vec![(35, answers("1")), (36, next())]);
    let asks = environment.asks(0, 101);
    let played = environment.play(vec![(40, asks), (41, exits(0)), (42, ended("e", 0)), (43, Input::Cleared)]);
    let expected = [
        "END",
        "REPORT 10 init 20 billed 30 used 0 Success",
        "finish",
        "term runtime",
        "101: SHUTDOWN spindown until 1002040",
        "kill",
        "gone",
    ];
    assert_eq!(played, expected);
}

#[test]
fn shutdown_in_every_stage() {
    for (inputs, expected) in [
        (vec![], &["gone"][..]),
        (vec![(0, begin())], &["kill", "gone"]),
        (vec![(0, begin()), (1, exits(1))], &["gone"]),
        (vec![(0, begin()), (1, init_error("{}"))], &["kill", "gone"]),
        (vec![(0, begin()), (1, next())], &["kill", "gone"]),
    ] {
        let mut lifecycle = lifecycle("1");
        play(&mut lifecycle, inputs);
        assert_eq!(play(&mut lifecycle, vec![(50, Input::ShutDown), (51, Input::Cleared)]), expected);
    }
}

#[test]
fn restarts() {
    // At once where nothing is in hand.
    let mut lifecycle = lifecycle("1");
    let played = play(&mut lifecycle, vec![(0, begin()), (10, next()), (20, Input::Restart), (21, Input::Cleared)]);
    assert_eq!(played, ["start", "kill", "start"]);
    // After the invocation in hand, else.
    let played = play(&mut lifecycle, vec![(30, next()), (40, invoke()), (41, Input::Restart), (42, answers("1"))]);
    assert_eq!(played, ["START $LATEST", "200 until 1001040", "202", "= 1"]);
    let played = play(&mut lifecycle, vec![(43, next()), (44, Input::Cleared), (50, next())]);
    assert_eq!(played, ["END", "REPORT 3 init 9 billed 12 used 0 Success", "finish", "kill", "start"]);
    // An end is stronger.
    let played = play(&mut lifecycle, vec![(60, Input::Restart), (61, Input::ShutDown), (62, Input::Restart), (63, Input::Cleared)]);
    assert_eq!(played, ["kill", "gone"]);
    // With extensions, by their shutdown.
    let mut environment = Environment::up(&["SHUTDOWN"]);
    let played = environment.play(vec![(100, Input::Restart), (101, exits(0)), (110, ended("e", 0)), (111, Input::Cleared)]);
    assert_eq!(played, ["term runtime", "100: SHUTDOWN spindown until 1002100", "kill", "start e"]);
}

#[test]
fn whoever_waits_keeps_waiting_while_everything_ends() {
    // A connection that breaks would make the runtime complain in the log: its ticket is neither answered nor dropped before the end.
    let mut environment = Environment::up(&["SHUTDOWN"]);
    environment.play(vec![(100, Input::ShutDown)]);
    assert_eq!(environment.play(vec![(110, Input::Next(9)), (400, Input::Alarm)])[..1], ["kill runtime"]);
}
