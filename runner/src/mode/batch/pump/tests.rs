use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::{LocalSet, spawn_local};

use super::*;
use crate::environment::{Answer, Order};
use crate::function::MemorySize;
use crate::lambda::{FunctionError, ReportFigures, ReportStatus};

/// What environments do, and what they have done.
#[derive(Default)]
struct World {
    opened: Cell<usize>,
    /// Environments that were open when each event began.
    at_start: RefCell<Vec<(String, usize)>>,
    running: Cell<usize>,
    most_running: Cell<usize>,
    shut_down: Cell<usize>,
    /// An event `wait` ends when there is a permit.
    gate: Option<Semaphore>,
    /// So many environments are gone before they are asked for anything.
    stillborn: Cell<usize>,
}

impl World {
    /// An environment that answers each event with itself, but `fail` with an error, and breaks at `break`.
    fn open(self: &Rc<Self>) -> Handle {
        self.opened.set(self.opened.get() + 1);
        let (handle, mut orders) = Handle::new();
        if self.stillborn.get() > 0 {
            self.stillborn.set(self.stillborn.get() - 1);
            return handle;
        }
        let world = Rc::clone(self);
        spawn_local(async move {
            while let Some(order) = orders.recv().await {
                match order {
                    Order::Invoke(work) => world.invoke(*work).await,
                    Order::Restart => {}
                    Order::ShutDown { done } => {
                        world.shut_down.set(world.shut_down.get() + 1);
                        let _ = done.send(());
                        return;
                    }
                }
            }
        });
        handle
    }

    async fn invoke(&self, work: Work) {
        let event = String::from_utf8(work.invocation.event.to_vec()).unwrap();
        self.at_start.borrow_mut().push((event.clone(), self.opened.get()));
        self.running.set(self.running.get() + 1);
        self.most_running.set(self.most_running.get().max(self.running.get()));
        for _ in 0..event.len() {
            tokio::task::yield_now().await;
        }
        if let (Some(gate), "wait") = (&self.gate, event.as_str()) {
            gate.acquire().await.unwrap().forget();
        }
        self.running.set(self.running.get() - 1);
        let answer = match event.as_str() {
            "break" => Err(Broken { reason: "no more".to_owned(), hint: Some("a hint".to_owned()) }),
            "fail" => Ok(Answer::Failed(FunctionError {
                payload: "{}".into(),
                kind: crate::lambda::ErrorKind::Handler(crate::lambda::ErrorType::from_header(None)),
            })),
            _ => Ok(Answer::Success { payload: work.invocation.event.clone() }),
        };
        let _ = work.answer.send(answer);
        let figures = ReportFigures::new(None, Duration::from_millis(1), MemorySize::from_mb(128).unwrap(), 1);
        let _ = work.finished.send(Finished { figures, status: ReportStatus::Success, log_tail: event.into_bytes() });
    }
}

/// What came of a batch.
struct Came {
    ended: Option<Result<(), Stopped>>,
    records: Vec<BatchRecord>,
    /// Events that were not read.
    unread: usize,
}

/// Runs events, until `stop` if that comes first.
async fn pump(world: &Rc<World>, jobs: usize, reuse: Reuse, events: &[&str], stop: impl Future<Output = ()>) -> Came {
    let local = LocalSet::new();
    let (sender, receiver) = mpsc::channel(1);
    let texts: Vec<String> = events.iter().map(|&text| text.to_owned()).collect();
    let unread = Rc::new(Cell::new(events.len()));
    let left = Rc::clone(&unread);
    local.spawn_local(async move {
        for (index, text) in (0..).zip(texts) {
            let bytes = if text == "bad" { Err("not JSON".to_owned()) } else { Ok(Bytes::from(text)) };
            if sender.send(Ok(Event { index, id: format!("{index}"), bytes })).await.is_err() {
                return;
            }
            left.set(left.get() - 1);
        }
    });
    let rules = Rules { jobs: NonZeroUsize::new(jobs).unwrap(), reuse, function: Arc::new(Function::sample("3")) };
    let records = RefCell::new(Vec::new());
    let mut take = async |record| {
        records.borrow_mut().push(record);
        Ok(())
    };
    let ended = local
        .run_until(async {
            let open = || world.open();
            let mut pump = Pump::new(&open, rules, receiver);
            let ended = tokio::select! {
                ended = pump.run(&mut take) => Some(ended),
                () = stop => None,
            };
            if ended != Some(Ok(())) {
                pump.give_rest(&mut take).await.unwrap();
            } else {
                pump.close().await;
            }
            ended
        })
        .await;
    Came { ended, records: records.into_inner(), unread: unread.get() }
}

fn answers(came: &Came) -> Vec<(u64, String)> {
    let text = |record: &BatchRecord| match &record.end {
        BatchEnd::Success { payload } => String::from_utf8(payload.to_vec()).unwrap(),
        BatchEnd::Failed { .. } => "failed".to_owned(),
        BatchEnd::NotRun { error } => error.clone(),
    };
    came.records.iter().map(|record| (record.index, text(record))).collect()
}

#[tokio::test]
async fn results_come_in_order_and_nothing_is_lost() {
    for (reuse, jobs) in [(Reuse::Fresh, 1), (Reuse::Fresh, 4), (Reuse::Warm, 1), (Reuse::Warm, 4)] {
        let world = Rc::new(World::default());
        let events = ["a long one is slower", "b", "fail", "bad", "c is longer", "d"].repeat(20);
        let came = pump(&world, jobs, reuse, &events, std::future::pending()).await;
        assert_eq!(came.ended, Some(Ok(())));
        let expected: Vec<(u64, String)> = (0..)
            .zip(&events)
            .map(|(index, &text)| {
                (
                    index,
                    if text == "fail" {
                        "failed"
                    } else if text == "bad" {
                        "not JSON"
                    } else {
                        text
                    }
                    .to_owned(),
                )
            })
            .collect();
        assert_eq!(answers(&came), expected);
        assert_eq!(world.most_running.get(), jobs, "{reuse:?}");
        let run = came.records.iter().find(|record| record.index == 1).unwrap();
        assert_eq!((run.log_tail.as_slice(), run.figures.is_some(), run.request_id.is_some()), (&b"b"[..], true, true));
        match reuse {
            // One is opened in vain while nobody knows that there are no more events.
            Reuse::Fresh => assert!((100..=101 + jobs).contains(&world.opened.get()), "{}", world.opened.get()),
            Reuse::Warm => assert!(world.opened.get() <= jobs, "{}", world.opened.get()),
        }
        assert_eq!(world.shut_down.get(), world.opened.get());
    }
}

#[tokio::test]
async fn the_next_environment_is_opened_before_its_event_begins() {
    let world = Rc::new(World::default());
    let events = vec!["event"; 20];
    pump(&world, 2, Reuse::Fresh, &events, std::future::pending()).await;
    for (number, (_, opened)) in world.at_start.borrow().iter().enumerate().skip(1) {
        assert!(*opened > number + 1 || number + 1 >= 19, "event {number} began with {opened} environments");
    }
}

#[tokio::test]
async fn one_slow_event_holds_up_no_more_than_there_is_room_for() {
    let world = Rc::new(World { gate: Some(Semaphore::new(0)), ..World::default() });
    let mut events = vec!["x"; 200];
    events[0] = "wait";
    let still = async {
        // Long after all that can run has run.
        for _ in 0..20_000 {
            tokio::task::yield_now().await;
        }
    };
    let came = pump(&world, 2, Reuse::Fresh, &events, still).await;
    assert_eq!((came.ended, came.unread >= 170), (None, true), "{} unread", came.unread);
    // What has come to its end is there all the same.
    assert!(came.records.len() >= 15 && came.records[0].index == 1, "{:?}", came.records.len());
}

#[tokio::test]
async fn what_is_gone_is_replaced_and_what_is_broken_stops_all() {
    let world = Rc::new(World { stillborn: Cell::new(1), ..World::default() });
    let came = pump(&world, 1, Reuse::Fresh, &["a", "b"], std::future::pending()).await;
    assert_eq!((&came.ended, answers(&came).len()), (&Some(Ok(())), 2));
    let world = Rc::new(World::default());
    let came = pump(&world, 1, Reuse::Fresh, &["a", "break", "c"], std::future::pending()).await;
    let broken = Broken { reason: "no more".to_owned(), hint: Some("a hint".to_owned()) };
    assert_eq!((&came.ended, answers(&came)), (&Some(Err(Stopped::Broken(broken))), vec![(0, "a".to_owned())]));
    let world = Rc::new(World { stillborn: Cell::new(usize::MAX), ..World::default() });
    let came = pump(&world, 1, Reuse::Warm, &["a"], std::future::pending()).await;
    assert!(matches!(came.ended, Some(Err(Stopped::Broken(_)))));
}

#[tokio::test]
async fn no_events_are_no_work() {
    let world = Rc::new(World::default());
    let came = pump(&world, 2, Reuse::Fresh, &[], std::future::pending()).await;
    assert_eq!((came.ended, came.records.len()), (Some(Ok(())), 0));
}
