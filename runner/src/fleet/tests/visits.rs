//! Visits to the environments of a fleet.

use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::sleep;

use super::fake::{AtWork, request, text};
use super::{WAIT, options};
use crate::fleet::FleetOptions;

#[tokio::test(start_paused = true)]
async fn a_visitor_keeps_an_environment_and_opens_one_where_there_is_none() {
    LocalSet::new()
        .run_until(async {
            let fleet = AtWork::new(2, FleetOptions { idle: Some(Duration::from_secs(1)), ..options() });
            fleet.enter();
            fleet.enter();
            sleep(Duration::from_secs(10)).await;
            assert_eq!(fleet.diary.take(), ["open 1", "1 enter", "1 enter"]);
            // It is free for calls; while it is busy, another one is opened, which ends when its time has come.
            let busy = fleet.send(request("sleep 100")).await;
            assert_eq!(text(fleet.call("x").await), "x");
            fleet.enter();
            assert_eq!(text(busy.await.unwrap()), "sleep 100");
            sleep(Duration::from_secs(10)).await;
            assert_eq!(fleet.diary.take(), ["open 2", "1 invoke sleep 100", "2 invoke x", "1 enter", "2 shut down"]);
            fleet.diary.leave();
            sleep(Duration::from_secs(10)).await;
            assert_eq!(fleet.diary.take(), ["1 shut down"]);
            fleet.enter();
            sleep(Duration::from_millis(1)).await;
            assert_eq!(fleet.diary.take(), ["open 3", "3 enter"]);
            assert_eq!(fleet.stop().await.take(), ["3 shut down"]);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn nothing_begins_during_a_pause() {
    LocalSet::new()
        .run_until(async {
            let fleet = AtWork::new(1, FleetOptions { queue: WAIT, ..options() });
            let busy = fleet.send(request("sleep 100")).await;
            let waits = fleet.send(request("x")).await;
            sleep(Duration::from_millis(1)).await;
            fleet.pause().await;
            let late = fleet.send(request("y")).await;
            // These environments know no pause: the invocation in hand ends, and no other begins.
            assert_eq!(text(busy.await.unwrap()), "sleep 100");
            sleep(Duration::from_secs(10)).await;
            assert_eq!(fleet.diary.take(), ["open 1", "1 invoke sleep 100", "1 pause"]);
            fleet.resume().await;
            assert_eq!((text(waits.await.unwrap()), text(late.await.unwrap())), ("x".to_owned(), "y".to_owned()));
            assert_eq!(fleet.diary.take(), ["1 resume", "1 invoke x", "1 invoke y"]);
            fleet.pause().await;
            assert_eq!(fleet.stop().await.take(), ["1 pause", "1 resume", "1 shut down"]);
        })
        .await;
}
