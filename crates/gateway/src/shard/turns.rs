//! A shard's turns: what came into its inbox is taken, and each socket concerned is written to once.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::MissedTickBehavior;

use super::guarded::{AbortOnPanic, spawn_guarded};
use super::inbox::{Inbox, Item, TURN_MAX};
use super::leaving;
use super::settings::{Env, Service, ShardSettings};
use super::table::Shard;
use crate::accepted::Accepted;

/// Runs a shard on this thread, in a runtime of its own, until its inbox closes. `started` is told when the shard can serve, or why it
/// can't.
pub(crate) fn run_thread(shard: impl Future<Output = ()>, started: oneshot::Sender<std::io::Result<()>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let _ = started.send(Ok(()));
    LocalSet::new().block_on(&runtime, shard);
}

/// Runs a shard as a part of the current [`LocalSet`] until its inbox closes. `serve` serves a connection from its first byte until it
/// is a WebSocket or over.
pub(crate) async fn run<S, F>(index: u16, inbox: Inbox, service: Service, settings: ShardSettings, serve: S)
where
    S: Fn(Rc<Shard>, Accepted) -> F,
    F: Future<Output = ()> + 'static,
{
    let _ends_the_node = AbortOnPanic;
    let shard = Rc::new(Shard::new(Env::new(index, service, settings), starling_hub::random::number()));
    spawn_guarded(tick_forever(shard.clone()));
    take_turns(shard, inbox, serve).await;
}

/// Runs the shard's tick once a second.
pub(crate) async fn tick_forever(shard: Rc<Shard>) {
    let mut interval = tokio::time::interval(Duration::from_secs(1));
    // After a machine that stood still for some seconds the ticks that were missed would come at once, before a socket is
    // read: everybody would be taken for silent.
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        shard.table.borrow_mut().on_tick(&shard.env.settings);
    }
}

/// Takes what comes into the inbox, until that closes.
pub(crate) async fn take_turns<S, F>(shard: Rc<Shard>, mut inbox: Inbox, serve: S)
where
    S: Fn(Rc<Shard>, Accepted) -> F,
    F: Future<Output = ()> + 'static,
{
    let mut items = Vec::with_capacity(TURN_MAX);
    while inbox.take(&mut items, TURN_MAX).await {
        turn(&shard, &mut items, &serve);
        // Sockets get their turn before the next batch is taken.
        tokio::task::yield_now().await;
    }
}

fn turn<S, F>(shard: &Rc<Shard>, items: &mut Vec<Item>, serve: &S)
where
    S: Fn(Rc<Shard>, Accepted) -> F,
    F: Future<Output = ()> + 'static,
{
    let mut table = shard.table.borrow_mut();
    for item in items.drain(..) {
        match item {
            Item::Hub(item) => table.take(item, &shard.env),
            Item::Accepted(accepted) => spawn_guarded(serve(shard.clone(), *accepted)),
            Item::Shed(count) => table.shed(count, &shard.env.settings.move_requests),
            Item::Drain(plan) => spawn_guarded(leaving::drain(shard.clone(), plan)),
        }
    }
    table.flush_channels(&shard.env);
    table.flush_dirty();
}
