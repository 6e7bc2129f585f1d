use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use self::fake::{AtWork, Diary, request, served, text};
use super::*;
use crate::api::invoke::{Answered, AnsweredBody, InvokeReply, StreamPart};
use crate::lambda::{AnswerForm, InvocationKind, InvokeRefusal, MAX_PAYLOAD_BYTES, ThrottleReason};

pub(super) mod fake;
mod visits;

const WAIT: Queue = Queue::Wait { max: 100 };
const THROTTLED: InvokeRefusal = InvokeRefusal::Throttled(ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded);

fn options() -> FleetOptions {
    FleetOptions::default()
}

fn is_throttled(reply: &InvokeReply) -> bool {
    matches!(reply, InvokeReply::Refused(refusal) if *refusal == THROTTLED)
}

#[tokio::test(start_paused = true)]
async fn one_environment_serves_call_after_call() {
    LocalSet::new()
        .run_until(async {
            let fleet = AtWork::new(10, options());
            for event in ["a", "b"] {
                assert_eq!(text(fleet.call(event).await), event);
                sleep(Duration::from_secs(1)).await;
            }
            assert_eq!(text(fleet.call("fail").await), "!{\"errorMessage\":\"boom\",\"errorType\":\"E\"}");
            assert_eq!(fleet.stop().await.take(), ["open 1", "1 invoke a", "1 invoke b", "1 invoke fail", "1 shut down"]);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn the_answer_comes_before_the_end_of_the_phase_and_the_next_call_after_it() {
    LocalSet::new()
        .run_until(async {
            let fleet = AtWork::new(1, FleetOptions { queue: WAIT, ..options() });
            let start = Instant::now();
            assert_eq!(text(fleet.call("a").await), "a");
            assert_eq!(start.elapsed(), Duration::ZERO);
            let mut with_tail = request("b");
            with_tail.log_tail = true;
            assert_eq!(text(fleet.send(with_tail).await.await.unwrap()), "b [log of b]");
            assert_eq!(start.elapsed(), Duration::from_millis(20));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn who_calls_right_after_an_answer_gets_the_same_environment_and_others_do_not_wait_for_it() {
    LocalSet::new()
        .run_until(async {
            let fleet = AtWork::new(3, options());
            assert_eq!(text(fleet.call("a").await), "a");
            // The phase of `a` goes on for a while.
            let (again, other) = (fleet.send(request("again")).await, fleet.send(request("other")).await);
            assert_eq!((text(again.await.unwrap()), text(other.await.unwrap())), ("again".to_owned(), "other".to_owned()));
            let diary = fleet.diary.take();
            assert_eq!(diary.iter().filter(|line| line.starts_with("open")).count(), 2, "{diary:?}");
            // With room for one, who calls at once is not refused.
            let one = AtWork::new(1, options());
            for call in ["a", "b", "c"] {
                assert_eq!(text(one.call(call).await), call);
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_the_concurrency_are_refused() {
    LocalSet::new()
        .run_until(async {
            let fleet = AtWork::new(2, options());
            let (one, two) = (fleet.send(request("sleep 1000")).await, fleet.send(request("sleep 1000")).await);
            assert!(is_throttled(&fleet.call("x").await));
            assert_eq!((text(one.await.unwrap()), text(two.await.unwrap())), ("sleep 1000".to_owned(), "sleep 1000".to_owned()));
            sleep(Duration::from_millis(50)).await;
            assert_eq!(text(fleet.call("y").await), "y");
            assert_eq!(fleet.diary.count("open"), 2);
            let off = AtWork::new(0, FleetOptions { queue: WAIT, ..options() });
            assert!(is_throttled(&off.call("x").await));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn callers_within_the_concurrency_wait_for_environments_that_settle() {
    LocalSet::new()
        .run_until(async {
            let fleet = AtWork::new(2, options());
            assert_eq!(text(fleet.call("settle 500").await), "settle 500");
            // It waits for the environment that has answered; the other caller takes the last room.
            let (again, other) = (fleet.send(request("again")).await, fleet.send(request("sleep 1000")).await);
            assert_eq!((text(again.await.unwrap()), text(other.await.unwrap())), ("again".to_owned(), "sleep 1000".to_owned()));
            assert_eq!(fleet.diary.count("open"), 2);
            sleep(Duration::from_secs(1)).await;
            // One that settles for ever is waited for, and then no more.
            let start = Instant::now();
            assert_eq!(text(fleet.call("settle 9000").await), "settle 9000");
            let (in_vain, other) = (fleet.send(request("in vain")).await, fleet.send(request("sleep 5000")).await);
            assert!(is_throttled(&in_vain.await.unwrap()));
            assert_eq!(start.elapsed(), Duration::from_secs(3));
            assert_eq!(text(other.await.unwrap()), "sleep 5000");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn calls_wait_in_order_and_those_whose_callers_left_are_not_run() {
    LocalSet::new()
        .run_until(async {
            let fleet = AtWork::new(1, FleetOptions { queue: Queue::Wait { max: 2 }, ..options() });
            let start = Instant::now();
            let first = fleet.send(request("sleep 1000")).await;
            let (left, second) = (fleet.send(request("left")).await, fleet.send(request("sleep 500")).await);
            assert!(is_throttled(&fleet.call("too many").await));
            drop(left);
            let third = fleet.send(request("third")).await;
            first.await.unwrap();
            second.await.unwrap();
            assert_eq!(text(third.await.unwrap()), "third");
            assert_eq!(start.elapsed(), Duration::from_millis(1520));
            assert_eq!(fleet.diary.take(), ["open 1", "1 invoke sleep 1000", "1 invoke sleep 500", "1 invoke third"]);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn the_environment_used_last_is_used_first_and_the_others_end_when_idle() {
    LocalSet::new()
        .run_until(async {
            let fleet = AtWork::new(3, FleetOptions { idle: Some(Duration::from_secs(60)), ..options() });
            let both = [fleet.send(request("sleep 100")).await, fleet.send(request("sleep 200")).await];
            for reply in both {
                reply.await.unwrap();
            }
            for _ in 0..5 {
                sleep(Duration::from_secs(20)).await;
                assert_eq!(text(fleet.call("x").await), "x");
            }
            let of_two = ["2 invoke x"; 5];
            let diary = fleet.diary.take();
            assert_eq!(diary[..4], ["open 1", "open 2", "1 invoke sleep 100", "2 invoke sleep 200"]);
            assert_eq!(diary[4..].iter().filter(|entry| *entry != "1 shut down").collect::<Vec<_>>(), of_two);
            assert_eq!(diary.len(), 10);
            sleep(Duration::from_secs(61)).await;
            assert_eq!(fleet.diary.take(), ["2 shut down"]);
            assert_eq!(text(fleet.call("x").await), "x");
            assert_eq!(fleet.diary.take(), ["open 3", "3 invoke x"]);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn environments_opened_ahead_are_kept() {
    LocalSet::new()
        .run_until(async {
            let fleet = AtWork::new(2, FleetOptions { prewarm: 5, idle: Some(Duration::from_secs(1)), ..options() });
            sleep(Duration::from_secs(10)).await;
            assert_eq!(fleet.diary.take(), ["open 1", "open 2"]);
            assert!(text(fleet.call("die").await).contains("ended without an answer"));
            sleep(Duration::from_secs(10)).await;
            assert_eq!(fleet.diary.take()[2..], ["open 3"]);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_broken_environment_is_replaced_and_told_of() {
    LocalSet::new()
        .run_until(async {
            let fleet = AtWork::new(1, FleetOptions { queue: WAIT, ..options() });
            for event in ["broken", "die"] {
                let reply = fleet.call(event).await;
                assert!(matches!(reply, InvokeReply::Refused(InvokeRefusal::Service { .. })), "{reply:?}");
            }
            assert_eq!(text(fleet.call("x").await), "x");
            assert_eq!(fleet.diary.count("open"), 3);
            let notices = fleet.notices.take();
            assert_eq!(notices[0], Notice { message: "no sandbox".to_owned(), hint: Some("buy one".to_owned()) });
            assert_eq!(notices.len(), 2);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_opened_is_a_fault_of_the_service() {
    LocalSet::new()
        .run_until(async {
            let open: Open = Box::new(|| Err(Broken { reason: "no image".to_owned(), hint: None }));
            let fleet = AtWork::with(vec![served(1, open)], FleetOptions { prewarm: 1, ..options() }, Diary::default(), Rc::default());
            for _ in 0..2 {
                let reply = fleet.call("x").await;
                let InvokeReply::Refused(InvokeRefusal::Service { message }) = reply else { panic!("{reply:?}") };
                assert_eq!(message, "no image");
            }
            fleet.stop().await;
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn environments_that_end_before_they_take_anything_are_a_fault() {
    LocalSet::new()
        .run_until(async {
            let opened = Rc::new(RefCell::new(0));
            let counted = opened.clone();
            let open: Open = Box::new(move || {
                *counted.borrow_mut() += 1;
                Ok(Handle::new().0)
            });
            let fleet = AtWork::with(vec![served(1, open)], options(), Diary::default(), Rc::default());
            let reply = fleet.call("x").await;
            assert!(matches!(reply, InvokeReply::Refused(InvokeRefusal::Service { .. })), "{reply:?}");
            assert_eq!(*opened.borrow(), 4);
            fleet.stop().await;
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn restarts_come_at_once_or_after_the_invocation_in_hand() {
    LocalSet::new()
        .run_until(async {
            let fleet = AtWork::new(2, options());
            let busy = fleet.send(request("sleep 1000")).await;
            fleet.call("x").await;
            sleep(Duration::from_millis(50)).await;
            fleet.control.restart().await;
            fleet.control.restart_function("fn").await;
            fleet.control.restart_function("other").await;
            sleep(Duration::from_millis(50)).await;
            assert_eq!(fleet.diary.take()[2..], ["1 invoke sleep 1000", "2 invoke x", "2 restart", "2 restart"]);
            assert_eq!(text(busy.await.unwrap()), "sleep 1000");
            sleep(Duration::from_millis(50)).await;
            assert_eq!(fleet.diary.take(), ["1 restart"]);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_calls_and_then_ends_all_at_once() {
    LocalSet::new()
        .run_until(async {
            let fleet = AtWork::new(2, FleetOptions { queue: WAIT, drain: Duration::from_secs(5), ..options() });
            let calls =
                [fleet.send(request("sleep 1000")).await, fleet.send(request("sleep 1000")).await, fleet.send(request("sleep 500")).await];
            let start = Instant::now();
            let diary = fleet.stop().await;
            assert_eq!(start.elapsed(), Duration::from_millis(1520 + 2000));
            for call in calls {
                assert!(text(call.await.unwrap()).starts_with("sleep"));
            }
            assert_eq!(diary.count("shut down"), 2);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn the_end_does_not_wait_for_ever() {
    LocalSet::new()
        .run_until(async {
            let fleet = AtWork::new(2, FleetOptions { drain: Duration::from_secs(5), ..options() });
            let call = fleet.send(request("sleep 100000")).await;
            let start = Instant::now();
            fleet.stop().await;
            assert_eq!(start.elapsed(), Duration::from_secs(5));
            assert!(call.await.is_err());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn names_and_dry_runs() {
    LocalSet::new()
        .run_until(async {
            let fleet = AtWork::new(1, options());
            let mut dry = request("x");
            dry.kind = InvocationKind::DryRun;
            assert!(matches!(fleet.send(dry.clone()).await.await.unwrap(), InvokeReply::Verified));
            dry.target.name = "other".to_owned();
            let reply = fleet.send(dry).await.await.unwrap();
            assert!(matches!(reply, InvokeReply::Refused(InvokeRefusal::NotFound { .. })), "{reply:?}");
            assert!(fleet.diary.take().is_empty());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn the_runtime_gets_what_the_caller_sent() {
    LocalSet::new()
        .run_until(async {
            let fleet = AtWork::new(1, options());
            let mut given = request("x");
            given.target.qualifier = Some("$LATEST".to_owned());
            given.client_context = Some("{}".to_owned());
            given.tenant_id = Some("blue".to_owned());
            given.content_type = Some("text/csv".to_owned());
            given.trace_id = Some("Root=1-5759e988-bd862e3fe1be46a994272793".to_owned());
            let InvokeReply::Answered(Answered { version, trace_id, .. }) = fleet.send(given.clone()).await.await.unwrap() else {
                panic!()
            };
            let got = fleet.invocations.take().remove(0);
            assert_eq!((version.as_str(), &trace_id), ("$LATEST", &got.trace_id));
            assert!(trace_id.starts_with("Root=1-5759e988-bd862e3fe1be46a994272793;Parent="), "{trace_id}");
            assert_eq!(got.request_id, given.request_id);
            assert_eq!(got.invoked_function_arn, "arn:aws:lambda:us-east-1:123456789012:function:fn:$LATEST");
            assert_eq!((got.client_context, got.tenant_id, got.content_type), (given.client_context, given.tenant_id, given.content_type));
        })
        .await;
}

/// All parts of a streamed answer as text, `!type: json` for its error and `[tail]` for its log.
async fn parts(reply: InvokeReply) -> (Option<String>, Vec<String>) {
    let InvokeReply::Answered(Answered { body: AnsweredBody::Stream { content_type, mut parts }, .. }) = reply else { panic!("{reply:?}") };
    let mut texts = Vec::new();
    while let Some(part) = parts.recv().await {
        match part {
            StreamPart::Data(bytes) => texts.push(String::from_utf8(bytes.into()).unwrap()),
            StreamPart::End { error, log_tail } => {
                let error =
                    error.map(|(error_type, json)| format!("!{error_type}: {}", String::from_utf8_lossy(&json))).unwrap_or_default();
                texts.push(format!(
                    "end{error}{}",
                    log_tail.map(|tail| format!(" [{}]", String::from_utf8_lossy(&tail))).unwrap_or_default()
                ));
            }
        }
    }
    (content_type, texts)
}

#[tokio::test(start_paused = true)]
async fn streamed_answers() {
    LocalSet::new()
        .run_until(async {
            let fleet = AtWork::new(1, FleetOptions { queue: WAIT, ..options() });
            let boom = "end!Function.Boom: {\"errorMessage\":\"boom\",\"errorType\":\"E\"}";
            for (event, tail, content_type, expected) in [
                ("stream 5", false, Some("text/x"), vec!["0;", "1;", "2;", "3;", "4;", "end"]),
                ("stream 1", true, Some("text/x"), vec!["0;", "end [log of stream 1]"]),
                ("streamfail", false, Some("text/x"), vec!["0;", boom]),
            ] {
                let mut streamed = request(event);
                (streamed.form, streamed.log_tail) = (AnswerForm::Streamed, tail);
                let (given_type, texts) = parts(fleet.send(streamed).await.await.unwrap()).await;
                assert_eq!((given_type.as_deref(), texts), (content_type, expected.iter().map(|&text| text.to_owned()).collect()));
            }
            // A function that answers at once does so to any caller: a function URL must tell the two apart.
            for (event, expected) in [("whole", "whole"), ("fail", "!{\"errorMessage\":\"boom\",\"errorType\":\"E\"}")] {
                let mut streamed = request(event);
                streamed.form = AnswerForm::Streamed;
                assert_eq!(text(fleet.send(streamed).await.await.unwrap()), expected);
            }
            // A caller that leaves does not stop the function.
            let mut left = request("stream 50");
            left.form = AnswerForm::Streamed;
            drop(fleet.send(left).await.await.unwrap());
            assert_eq!(text(fleet.call("x").await), "x");
            assert_eq!(fleet.diary.count("open"), 1);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn streams_for_buffered_callers() {
    LocalSet::new()
        .run_until(async {
            let fleet = AtWork::new(1, FleetOptions { queue: WAIT, ..options() });
            assert_eq!(text(fleet.call("stream 4").await), "0;1;2;3;");
            assert_eq!(text(fleet.call("streamfail").await), "!{\"errorMessage\":\"boom\",\"errorType\":\"E\"}");
            let too_large = format!(
                "!{{\"errorMessage\":\"Response payload size exceeded maximum allowed payload size ({MAX_PAYLOAD_BYTES} bytes).\",\"errorType\":\"Function.ResponseSizeTooLarge\"}}"
            );
            assert_eq!(text(fleet.call("large").await), too_large);
            let mut with_tail = request("large");
            with_tail.log_tail = true;
            assert_eq!(text(fleet.send(with_tail).await.await.unwrap()), format!("{too_large} [log of large]"));
            assert_eq!(fleet.diary.count("open"), 1);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn three_thousand_calls_leave_nothing_behind() {
    LocalSet::new()
        .run_until(async {
            let fleet = AtWork::new(4, FleetOptions { queue: WAIT, ..options() });
            for _ in 0..750 {
                let replies = [
                    fleet.send(request("a")).await,
                    fleet.send(request("stream 2")).await,
                    fleet.send(request("fail")).await,
                    fleet.send(request("sleep 5")).await,
                ];
                for reply in replies {
                    reply.await.unwrap();
                }
            }
            assert_eq!((fleet.diary.count("open"), fleet.diary.count("invoke")), (4, 3000));
            assert_eq!(fleet.stop().await.count("shut down"), 4);
        })
        .await;
}

/// Nothing is opened, and nobody is asked, for functions that nobody calls.
#[tokio::test(start_paused = true)]
async fn functions_that_are_not_called_cost_nothing() {
    LocalSet::new()
        .run_until(async {
            let (diary, invocations) = (Diary::default(), Rc::new(RefCell::default()));
            let functions: Vec<Served> = (0..500)
                .map(|number| {
                    let function = Function { name: format!("fn{number}"), ..Function::sample("3") };
                    Served { function: Arc::new(function), ..served(10, diary.opener(&invocations)) }
                })
                .collect();
            let fleet = AtWork::with(functions, options(), diary, invocations);
            let mut one = request("x");
            one.target.name = "fn77".to_owned();
            assert_eq!(text(fleet.send(one).await.await.unwrap()), "x");
            assert_eq!(fleet.diary.take(), ["open 1", "1 invoke x"]);
        })
        .await;
}
