//! The lifecycle as tables: what each call is answered in each state, and how each end looks from outside.

mod anything;
mod ends;
mod extensions;
mod properties;
mod refusals;
mod streams;

use std::sync::Arc;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::function::Function;
use crate::lambda::{
    Answer, Delivery, Effect, ErrorPost, ErrorType, ExtensionDelivery, FailedInit, FunctionError, Identifiers, InitStatus, Input,
    Invocation, Lifecycle, LogEvent, Now, PlatformError, Posted, Program, RequestId, RuntimeEnd,
};

/// Tickets are numbered; 0 is for those whose answer nobody looks at.
type Ticket = u32;

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// So many milliseconds after the start, which was at 1,000,000 ms of the Unix epoch.
fn at(ms: u64) -> Now {
    Now { instant: *EPOCH + Duration::from_millis(ms), since_epoch: Duration::from_millis(1_000_000 + ms) }
}

fn id() -> RequestId {
    RequestId::from_random([0xab; 16])
}

fn invocation() -> Invocation {
    Invocation {
        request_id: id(),
        event: Bytes::from_static(b"{}"),
        content_type: None,
        invoked_function_arn: "arn".to_owned(),
        trace_id: "trace".to_owned(),
        client_context: None,
        cognito_identity: None,
        tenant_id: None,
    }
}

fn function(timeout: &str) -> Arc<Function> {
    Arc::new(Function::sample(timeout))
}

fn event(deadline_ms: u64) -> Answer {
    Answer::Event(Delivery { invocation: Arc::new(invocation()), deadline_ms })
}

fn post(body: &'static str) -> ErrorPost {
    ErrorPost { error_type: ErrorType::from_header(Some("Runtime.Boom")), body: Bytes::from_static(body.as_bytes()) }
}

fn next() -> Input<Ticket> {
    Input::Next(0)
}

fn response(body: Posted<Result<Bytes, ErrorPost>>) -> Input<Ticket> {
    Input::Response { ticket: 0, request_id: id().to_string(), body }
}

fn answers(payload: &'static str) -> Input<Ticket> {
    response(Posted::Whole(Ok(Bytes::from_static(payload.as_bytes()))))
}

fn fails(body: &'static str) -> Input<Ticket> {
    Input::Error { ticket: 0, request_id: id().to_string(), body: Posted::Whole(post(body)) }
}

fn init_error(body: &'static str) -> Input<Ticket> {
    Input::InitError { ticket: 0, body: Posted::Whole(post(body)) }
}

fn exits(status: i32) -> Input<Ticket> {
    Input::Ended(Program::Runtime, RuntimeEnd::Exited(status))
}

fn signaled() -> Input<Ticket> {
    Input::Ended(Program::Runtime, RuntimeEnd::Signaled { signal: 9, core_dumped: false })
}

fn begin() -> Input<Ticket> {
    Input::Begin { extensions: Vec::new() }
}

fn lifecycle(timeout: &str) -> Lifecycle<Ticket> {
    Lifecycle::new(function(timeout), Identifiers::from_seed([0; 16]))
}

/// A single execution: the Init phase has begun at 0 ms and an event waits.
fn single_execution(timeout: &str) -> Lifecycle<Ticket> {
    let mut lifecycle = lifecycle(timeout);
    assert_eq!(play(&mut lifecycle, vec![(0, begin())]), ["start"]);
    assert_eq!(lifecycle.apply(Input::Invoke(invocation()), at(0)), []);
    lifecycle
}

/// Plays inputs at their times and shows the effects as short words, refusals and all, but for events that are for telemetry alone.
fn play(lifecycle: &mut Lifecycle<Ticket>, inputs: Vec<(u64, Input<Ticket>)>) -> Vec<String> {
    let effects = inputs.into_iter().flat_map(|(ms, input)| lifecycle.apply(input, at(ms)));
    effects.filter(|effect| !is_telemetry(effect)).map(|effect| shown(&effect)).collect()
}

/// The same with those.
fn play_all(lifecycle: &mut Lifecycle<Ticket>, inputs: Vec<(u64, Input<Ticket>)>) -> Vec<String> {
    inputs.into_iter().flat_map(|(ms, input)| lifecycle.apply(input, at(ms))).map(|effect| shown(&effect)).collect()
}

fn is_telemetry(effect: &Effect<Ticket>) -> bool {
    matches!(
        effect,
        Effect::Log(
            LogEvent::InitStart(_)
                | LogEvent::InitRuntimeDone { .. }
                | LogEvent::InitReport { status: InitStatus::Success, .. }
                | LogEvent::RuntimeDone(_)
        )
    )
}

fn program_name(program: &Program) -> &str {
    match program {
        Program::Runtime => "runtime",
        Program::Extension(name) => name,
    }
}

fn shown(effect: &Effect<Ticket>) -> String {
    match effect {
        Effect::Start(Program::Runtime) => "start".to_owned(),
        Effect::Start(program) => format!("start {}", program_name(program)),
        Effect::Terminate(program) => format!("term {}", program_name(program)),
        Effect::Kill(program) => format!("kill {}", program_name(program)),
        Effect::KillAll => "kill".to_owned(),
        Effect::Answer(_, Answer::GoOn) => "go on".to_owned(),
        Effect::Answer(ticket, Answer::Registered(_)) => format!("{ticket}: registered"),
        Effect::Answer(ticket, Answer::Subscribed) => format!("{ticket}: subscribed"),
        Effect::Answer(ticket, Answer::ExtensionEvent { event: ExtensionDelivery::Invoke(delivery), .. }) => {
            format!("{ticket}: INVOKE until {}", delivery.deadline_ms)
        }
        Effect::Answer(ticket, Answer::ExtensionEvent { event: ExtensionDelivery::Shutdown { deadline_ms, reason }, .. }) => {
            format!("{ticket}: SHUTDOWN {reason} until {deadline_ms}")
        }
        Effect::StreamBegins { content_type } => format!("stream {}", content_type.as_deref().unwrap_or("-")),
        Effect::StreamEnds(Ok(())) => "stream ends".to_owned(),
        Effect::StreamEnds(Err(FunctionError { payload, .. })) => {
            format!("stream ends ! {}", String::from_utf8_lossy(payload).replace(id().as_str(), "<id>"))
        }
        Effect::Subscribe { extension, .. } => format!("subscribe {extension}"),
        Effect::Gone => "gone".to_owned(),
        Effect::Answer(_, Answer::Event(delivery)) => format!("200 until {}", delivery.deadline_ms),
        Effect::Answer(_, Answer::Accepted) => "202".to_owned(),
        Effect::Answer(_, Answer::Refused(refusal)) => refusal.error_type().to_owned(),
        Effect::Log(event) => shown_event(event),
        Effect::Decide(Ok(payload)) => format!("= {}", String::from_utf8_lossy(payload)),
        Effect::Decide(Err(FunctionError { payload, .. })) => {
            format!("! {}", String::from_utf8_lossy(payload).replace(id().as_str(), "<id>"))
        }
        Effect::Finish => "finish".to_owned(),
    }
}

fn shown_event(event: &LogEvent) -> String {
    match event {
        LogEvent::InitReport { duration, phase, status } => format!("INIT_REPORT {} {phase:?} {status:?}", duration.as_millis()),
        LogEvent::InitStart(start) => format!("INIT_START {:?}", start.phase),
        LogEvent::InitRuntimeDone { phase, status } => format!("init runtime done {phase:?} {status:?}"),
        LogEvent::Extension { name, state, events, error_type } => format!("EXTENSION {name} {state} {events:?} {error_type:?}"),
        LogEvent::Subscribed { name, .. } => format!("subscribed {name}"),
        LogEvent::LogsDropped { .. } => "dropped".to_owned(),
        LogEvent::RuntimeDone(done) => format!("runtime done {:?}", done.status),
        LogEvent::Start { version, .. } => format!("START {version}"),
        LogEvent::TimedOut { timeout, at, .. } => format!("timed out {timeout} at {}", at.as_millis()),
        LogEvent::Failed { error, .. } => format!("failed {}", error.error_type()),
        LogEvent::End { .. } => "END".to_owned(),
        LogEvent::Report { figures, status, .. } => {
            let init = figures.init.map(|init| format!(" init {}", init.as_millis())).unwrap_or_default();
            format!(
                "REPORT {}{init} billed {} used {} {status:?}",
                figures.duration.as_millis(),
                figures.billed_ms,
                figures.max_memory_used_mb
            )
        }
    }
}

/// The platform's body with `<id>` for the id.
fn body(error: &PlatformError) -> String {
    String::from_utf8_lossy(&error.body(&id())).replace(id().as_str(), "<id>")
}
