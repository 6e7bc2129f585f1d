use std::cell::RefCell;
use std::fs;
use std::future::Future;
use std::path::Path;
use std::rc::Rc;

use serde_json::Value;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use super::*;
use crate::fleet::tests::fake::{AtWork, Diary, request, served, text};
use crate::fleet::{FleetOptions, Open, Queue, Served};
use crate::function::events::Destination;
use crate::lambda::InvocationKind;

fn options(folder: &Path) -> FleetOptions {
    let place = Some(EventPlace { folder: folder.join("state"), server: "server".to_owned() });
    FleetOptions { queue: Queue::Wait { max: 100 }, events: EventOptions { place, ..EventOptions::default() }, ..FleetOptions::default() }
}

/// A fleet with one fake function that has all destinations, in the folders `success`, `failure` and `dead`.
fn fleet(folder: &Path, concurrency: usize, rules: EventRules) -> AtWork {
    let (diary, invocations) = (Diary::default(), Rc::default());
    let open = diary.opener(&invocations);
    let destination = |name: &str| Some(Destination::Folder(folder.join(name)));
    let (on_success, on_failure, dead_letter) = (destination("success"), destination("failure"), destination("dead"));
    let events = EventRules { on_success, on_failure, dead_letter, ..rules };
    AtWork::with(vec![Served { events, ..served(concurrency, open) }], options(folder), diary, invocations)
}

fn event(payload: &str) -> InvokeRequest {
    InvokeRequest { kind: InvocationKind::Event, client_context: Some("{}".to_owned()), ..request(payload) }
}

async fn accept(fleet: &AtWork, payload: &str) {
    let reply = fleet.send(event(payload)).await.await.unwrap();
    assert!(matches!(reply, InvokeReply::Accepted { .. }), "{reply:?}");
}

/// Ends a fleet without goodbye, and waits until threads of its that read or write have let go of its store, as a kill would have made them do at once.
async fn kill(fleet: AtWork, folder: &Path) {
    fleet.kill().await;
    let store = fs::File::open(folder.join("state/server.redb")).unwrap();
    while store.try_lock().is_err() {
        sleep(Duration::from_millis(1)).await;
    }
}

/// The documents in a destination's folder.
fn letters(folder: &Path, name: &str) -> Vec<Value> {
    let Ok(entries) = fs::read_dir(folder.join(name)) else { return Vec::new() };
    let mut paths: Vec<_> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|ext| ext == "json")).collect();
    paths.sort();
    paths.iter().map(|path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap()).collect()
}

/// Time passes until there are so many letters.
async fn until_letters(folder: &Path, name: &str, count: usize) -> Vec<Value> {
    for _ in 0..100_000 {
        let letters = letters(folder, name);
        if letters.len() >= count {
            return letters;
        }
        sleep(Duration::from_secs(1)).await;
    }
    panic!("no {count} letters in {name}");
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder.join("state")).map_or(0, Iterator::count)
}

async fn in_folder<F: Future<Output = ()>>(test: impl FnOnce(std::path::PathBuf) -> F) {
    let folder = tempfile::tempdir().unwrap();
    LocalSet::new().run_until(test(folder.path().to_owned())).await;
}

#[tokio::test(start_paused = true)]
async fn an_event_is_run_and_its_success_told() {
    in_folder(|folder| async move {
        let fleet = fleet(&folder, 1, EventRules::default());
        accept(&fleet, "{\"a\":1}").await;
        let letters = until_letters(&folder, "success", 1).await;
        assert_eq!(letters[0]["requestPayload"], serde_json::json!({"a": 1}));
        assert_eq!((&letters[0]["requestContext"]["condition"], &letters[0]["responsePayload"]["a"]), (&"Success".into(), &1.into()));
        let invocation = fleet.invocations.take().remove(0);
        assert_eq!(invocation.client_context, None);
        assert_eq!(letters[0]["requestContext"]["requestId"], invocation.request_id.as_str());
        assert_eq!(files(&folder), 1);
        fleet.stop().await;
        // Nothing is left of a queue that is empty.
        assert_eq!(files(&folder), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_event_is_tried_three_times_with_one_id_and_then_told_of() {
    in_folder(|folder| async move {
        let fleet = fleet(&folder, 1, EventRules::default());
        let start = Instant::now();
        accept(&fleet, "fail").await;
        let failures = until_letters(&folder, "failure", 1).await;
        let took = start.elapsed().as_secs();
        assert!((180..=183).contains(&took), "{took}");
        assert_eq!(failures[0]["requestContext"]["condition"], "RetriesExhausted");
        assert_eq!(failures[0]["requestContext"]["approximateInvokeCount"], 3);
        assert_eq!(
            failures[0]["responseContext"],
            serde_json::json!({"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"})
        );
        assert_eq!(failures[0]["responsePayload"]["errorMessage"], "boom");
        let dead = until_letters(&folder, "dead", 1).await;
        assert_eq!((&dead[0]["ErrorMessage"], &dead[0]["event"]), (&"boom".into(), &"fail".into()));
        let ids: HashSet<_> = fleet.invocations.take().into_iter().map(|invocation| invocation.request_id).collect();
        assert_eq!((ids.len(), fleet.diary.count("invoke")), (1, 3));
        assert!(letters(&folder, "success").is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn success_after_a_failure_is_success() {
    in_folder(|folder| async move {
        let fleet = fleet(&folder, 1, EventRules::default());
        accept(&fleet, "fail 1").await;
        let letters = until_letters(&folder, "success", 1).await;
        assert_eq!(letters[0]["requestContext"]["approximateInvokeCount"], 2);
        assert_eq!(letters[0]["responseContext"], serde_json::json!({"statusCode": 200, "executedVersion": "$LATEST"}));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn no_retries_when_none_are_wanted_and_people_are_told_if_nobody_else_is() {
    in_folder(|folder| async move {
        let (diary, invocations) = (Diary::default(), Rc::default());
        let open = diary.opener(&invocations);
        let events = EventRules { max_retries: 0, ..EventRules::default() };
        let fleet = AtWork::with(vec![Served { events, ..served(1, open) }], options(&folder), diary, invocations);
        accept(&fleet, "fail").await;
        accept(&fleet, "good").await;
        while fleet.notices.borrow().is_empty() {
            sleep(Duration::from_secs(1)).await;
        }
        let message = fleet.notices.take().remove(0).message;
        assert!(message.ends_with("of `fn` is given up after one attempt (RetriesExhausted)"), "{message}");
        fleet.stop().await;
        assert_eq!(files(&folder), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn our_own_faults_are_no_attempts() {
    in_folder(|folder| async move {
        let fleet = fleet(&folder, 1, EventRules { max_retries: 0, ..EventRules::default() });
        let start = Instant::now();
        accept(&fleet, "broken 5").await;
        let letters = until_letters(&folder, "success", 1).await;
        assert!((31..=33).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
        assert_eq!(letters[0]["requestContext"]["approximateInvokeCount"], 1);
        assert_eq!(fleet.diary.count("open"), 6);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn events_grow_too_old() {
    in_folder(|folder| async move {
        // One that cannot be run, one that has no room, one that failed.
        let fleet = fleet(&folder, 1, EventRules { max_age: Duration::from_secs(90), ..EventRules::default() });
        accept(&fleet, "fail").await;
        accept(&fleet, "broken").await;
        let busy = fleet.send(request("sleep 200000")).await;
        let start = Instant::now();
        accept(&fleet, "x").await;
        let failures = until_letters(&folder, "failure", 3).await;
        assert!((90..=93).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
        for failure in &failures {
            assert_eq!(failure["requestContext"]["condition"], "EventAgeExceeded");
        }
        let count = |payload: &str| {
            failures.iter().find(|failure| failure["requestPayload"] == payload).unwrap()["requestContext"]["approximateInvokeCount"]
                .clone()
        };
        assert_eq!((count("x"), count("fail"), count("broken")), (0.into(), 1.into(), 0.into()));
        drop(busy);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_function_that_is_switched_off_gives_up_at_once() {
    in_folder(|folder| async move {
        let fleet = fleet(&folder, 0, EventRules::default());
        accept(&fleet, "x").await;
        let failures = until_letters(&folder, "failure", 1).await;
        assert_eq!(failures[0]["requestContext"]["condition"], "ZeroReservedConcurrency");
        assert!(fleet.diary.take().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn events_run_side_by_side_up_to_the_concurrency_and_take_turns_with_callers() {
    in_folder(|folder| async move {
        let fleet = fleet(&folder, 2, EventRules::default());
        let start = Instant::now();
        for _ in 0..4 {
            accept(&fleet, "sleep 1000").await;
        }
        let calls = [fleet.send(request("sleep 1000")).await, fleet.send(request("sleep 1000")).await];
        for call in calls {
            assert_eq!(text(call.await.unwrap()), "sleep 1000");
        }
        until_letters(&folder, "success", 4).await;
        let took = start.elapsed().as_millis();
        assert!((3000..5000).contains(&took), "{took}");
        assert_eq!(fleet.diary.count("open"), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_was_accepted_is_delivered_after_a_sudden_end() {
    in_folder(|folder| async move {
        let first = fleet(&folder, 1, EventRules::default());
        accept(&first, "sleep 100000").await;
        accept(&first, "{\"left\":1}").await;
        accept(&first, "fail 1").await;
        kill(first, &folder).await;
        assert_eq!(files(&folder), 1);
        let second = fleet(&folder, 10, EventRules::default());
        let letters = until_letters(&folder, "success", 3).await;
        let payloads: Vec<String> = letters.iter().map(|letter| letter["requestPayload"].to_string()).collect();
        for payload in ["\"sleep 100000\"", "{\"left\":1}", "\"fail 1\""] {
            assert_eq!(payloads.iter().filter(|other| *other == payload).count(), 1, "{payloads:?}");
        }
        second.stop().await;
        assert_eq!(files(&folder), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_clean_end_leaves_what_is_queued_to_the_next_server() {
    in_folder(|folder| async move {
        let first = fleet(&folder, 1, EventRules::default());
        for _ in 0..3 {
            accept(&first, "sleep 1000").await;
        }
        first.stop().await;
        assert_eq!(letters(&folder, "success").len(), 0);
        let second = fleet(&folder, 1, EventRules::default());
        until_letters(&folder, "success", 3).await;
        // The one in flight was finished, and its success told by the second server.
        assert_eq!(second.diary.count("invoke"), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_fails_is_tried_until_it_works() {
    in_folder(|folder| async move {
        fs::write(folder.join("success"), "not a folder").unwrap();
        let fleet = fleet(&folder, 1, EventRules::default());
        accept(&fleet, "x").await;
        while fleet.notices.borrow().is_empty() {
            sleep(Duration::from_secs(1)).await;
        }
        sleep(Duration::from_secs(1000)).await;
        let notices = fleet.notices.take();
        assert_eq!(notices.len(), 1);
        assert!(notices[0].message.ends_with("it is tried again until it works"), "{notices:?}");
        fs::remove_file(folder.join("success")).unwrap();
        until_letters(&folder, "success", 1).await;
        assert_eq!(fleet.diary.count("invoke"), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn events_of_functions_that_are_not_served_stay() {
    in_folder(|folder| async move {
        let first = fleet(&folder, 1, EventRules::default());
        accept(&first, "sleep 100000").await;
        kill(first, &folder).await;
        let (diary, invocations) = (Diary::default(), Rc::new(RefCell::default()));
        let function = Function { name: "other".to_owned(), ..Function::sample("3") };
        let other = Served { function: Arc::new(function), ..served(1, diary.opener(&invocations)) };
        let second = AtWork::with(vec![other], options(&folder), diary, invocations);
        while second.notices.borrow().is_empty() {
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(second.notices.take().remove(0).message, "events of the function `fn`, which is not served here, stay in the queue");
        second.stop().await;
        let third = fleet(&folder, 1, EventRules::default());
        until_letters(&folder, "success", 1).await;
        third.stop().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn two_servers_at_once_do_not_share_a_queue() {
    in_folder(|folder| async move {
        let (one, two) = (fleet(&folder, 1, EventRules::default()), fleet(&folder, 1, EventRules::default()));
        for number in 0..10 {
            accept(&one, &format!("{{\"one\":{number}}}")).await;
            accept(&two, &format!("{{\"two\":{number}}}")).await;
        }
        assert_eq!(until_letters(&folder, "success", 20).await.len(), 20);
        assert_eq!((one.diary.count("one"), two.diary.count("two")), (10, 10));
        assert!(two.notices.take().remove(0).message.starts_with("another server like this one holds `"));
        one.stop().await;
        two.stop().await;
        assert_eq!(files(&folder), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_a_place_or_with_too_many_events_are_refused() {
    in_folder(|folder| async move {
        let without = AtWork::new(1, FleetOptions::default());
        let reply = without.send(event("x")).await.await.unwrap();
        assert!(matches!(reply, InvokeReply::Refused(InvokeRefusal::Service { .. })), "{reply:?}");
        let mut options = options(&folder);
        options.events.max_queued = 2;
        let full = AtWork::new(1, options);
        for _ in 0..2 {
            accept(&full, "sleep 100000").await;
        }
        let reply = full.send(event("x")).await.await.unwrap();
        assert!(matches!(reply, InvokeReply::Refused(InvokeRefusal::Throttled(_))), "{reply:?}");
        fs::write(folder.join("file"), "").unwrap();
        let mut options = self::options(&folder);
        options.events.place = Some(EventPlace { folder: folder.join("file/x"), server: "s".to_owned() });
        let unwritable = AtWork::new(1, options);
        let reply = unwritable.send(event("x")).await.await.unwrap();
        let InvokeReply::Refused(InvokeRefusal::Service { message }) = reply else { panic!("{reply:?}") };
        assert!(message.starts_with("an event could not be stored: cannot make the folder `"), "{message}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_environment_that_cannot_be_opened_is_a_fault() {
    in_folder(|folder| async move {
        let broken = Rc::new(RefCell::new(3));
        let (diary, invocations): (Diary, Rc<RefCell<Vec<_>>>) = (Diary::default(), Rc::default());
        let works = diary.opener(&invocations);
        let open: Open = Box::new(move || {
            if *broken.borrow() > 0 {
                *broken.borrow_mut() -= 1;
                return Err(Broken { reason: "no image".to_owned(), hint: None });
            }
            works()
        });
        let events = EventRules { on_success: Some(Destination::Folder(folder.join("success"))), ..EventRules::default() };
        let fleet = AtWork::with(vec![Served { events, ..served(1, open) }], options(&folder), diary, invocations);
        accept(&fleet, "x").await;
        until_letters(&folder, "success", 1).await;
        assert_eq!(fleet.notices.take().len(), 3);
    })
    .await;
}
