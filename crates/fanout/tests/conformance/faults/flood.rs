//! A node that does not take what comes.

use std::sync::Arc;
use std::sync::mpsc::{Receiver as Inbox, SyncSender, sync_channel};

use anyhow::Result;
use bytes::Bytes;
use parking_lot::Mutex;
use starling_fanout::{Delivery, Publication, Receiver};
use starling_testkit::redis::Redis;

use crate::setting::{Kind, Setting};
use crate::witness::Witness;

/// Stands still with its first publication until it is let go.
struct Sleeper {
    woken: Mutex<Option<Inbox<()>>>,
    witness: Witness,
}

impl Receiver for Sleeper {
    fn receive(&self, delivery: Delivery) {
        let is_publication = matches!(delivery, Delivery::Publication { .. });
        let woken = if is_publication { self.woken.lock().take() } else { None };
        if let Some(woken) = woken {
            // The end of the test ends the wait, too. A thread that just stood still could be the one that watches all
            // sockets and timers of the test, and nothing would move any more.
            let _ = tokio::task::block_in_place(|| woken.recv());
        }
        self.witness.receive(delivery);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_runs_over_is_a_gap() -> Result<()> {
    const FLOOD: usize = 20_000;
    let redis = Redis::start().await?;
    let setting = Setting::at(Kind::Alone, redis.url());
    let (wake, woken): (SyncSender<()>, _) = sync_channel(1);
    let sleeper = Arc::new(Sleeper { woken: Mutex::new(Some(woken)), witness: Witness::default() });
    let (a, b) = (setting.node("a").await?, setting.unstarted("b")?);
    b.fanout.start(sleeper.clone()).await?;
    for n in 0..FLOOD {
        a.fanout.publish(&[setting.publication((n % 16) as u16, "flood")]).await?;
    }
    wake.send(())?;
    sleeper.witness.wait_for_gap().await?;
    let last = Publication::to_everyone(0, Bytes::from_static(b"last"));
    a.fanout.publish(&[last]).await?;
    let is_last = |delivery: &Delivery| {
        matches!(delivery, Delivery::Publication { body, .. } if body == "last").then_some(())
    };
    sleeper.witness.wait_for(1, is_last).await?;
    Ok(())
}
