//! What a node does each second: say that it is there, keep what is cached true, probe the link, write what gathered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use starling_session_store::ConversationKey;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::hub::Hub;
use crate::metrics::METRICS;
use crate::node_message::NodeMessage;
use crate::room::Room;

/// How often.
pub(crate) const TICK: Duration = Duration::from_secs(1);
/// How often the lifetimes of presence keys are prolonged, in ticks.
const KEEP_PRESENCE_EVERY: u64 = 20 * 60;
/// How often everything is written to the session store again, in ticks: twice a day, since it forgets a session that was attached
/// and not touched for a week.
const WRITE_AGAIN_EVERY: u64 = 12 * 3_600;
/// How often delivery percentiles are taken, in ticks.
const PERCENTILES_EVERY: u64 = 2;
/// How often idle rooms are forgotten, in ticks.
const SWEEP_EVERY: u64 = 10;

impl Hub {
    /// What waits for nobody.
    pub(crate) async fn tick_forever(self: Arc<Self>) {
        let (mut interval, mut ticks) = (every_second(), 0);
        while self.goes_on(&mut interval).await {
            ticks += 1;
            self.tick(ticks);
        }
    }

    /// What waits for the broker and the session store.
    pub(crate) async fn tend_link_forever(self: Arc<Self>) {
        let (mut interval, mut ticks) = (every_second(), 0_u64);
        while self.goes_on(&mut interval).await {
            ticks += 1;
            self.tend_link().await;
            if ticks.is_multiple_of(KEEP_PRESENCE_EVERY) {
                self.keep_presence().await;
            }
        }
    }

    /// What waits for the database.
    pub(crate) async fn tend_log_forever(self: Arc<Self>) {
        let mut interval = every_second();
        while self.goes_on(&mut interval).await {
            self.check_suspects().await;
            self.write_last_seen().await;
        }
    }

    /// Waits for the next turn. `false`: this node has left, and there is none.
    pub(crate) async fn goes_on(&self, interval: &mut Interval) -> bool {
        interval.tick().await;
        !self.has_left()
    }

    /// Whether publications can be heard now; `true` where there are no other nodes.
    pub fn hears(&self) -> bool {
        self.fanout.link().is_none_or(|link| link.connected && link.subscribed) && !self.link.is_deaf()
    }

    fn tick(&self, tick: u64) {
        self.publisher.publish_message(0, &NodeMessage::Here { node: self.node.clone() });
        self.end_lingering();
        for (room, user) in self.typing.take_expired(Instant::now()) {
            self.tell_typing(&room, &user, false);
        }
        let joined = self.rooms.joined();
        self.retry_overrun(&joined);
        self.gauge(joined.len());
        if tick.is_multiple_of(PERCENTILES_EVERY) {
            let (p50, p99) = self.gauges.delivery.take_percentiles();
            self.gauges.delivery_p50_us.store(p50, Ordering::Relaxed);
            self.gauges.delivery_p99_us.store(p99, Ordering::Relaxed);
        }
        for room in &joined {
            room.used_at_s.store(self.seconds(), Ordering::Relaxed);
            if room.state().has_hole() {
                self.repair(room);
            }
        }
        if tick.is_multiple_of(WRITE_AGAIN_EVERY) {
            self.writer.want_rewrite();
        }
        if tick.is_multiple_of(SWEEP_EVERY) {
            self.rooms.sweep(self.seconds(), false);
            self.topics.sweep();
        }
    }

    /// Probes the link, tells heads, and builds a link anew that carries nothing.
    async fn tend_link(&self) {
        let nonce = self.link.next();
        let probed = self.fanout.probe(nonce).await;
        let hears = self.hears();
        METRICS.fanout_up.set(if hears { 1.0 } else { 0.0 });
        let is_heard = probed.is_ok() && hears;
        self.publisher.announce(&self.node, is_heard);
        if is_heard {
            self.tell_untold_holds().await;
        }
        if self.link.is_deaf() && self.fanout.link().is_some_and(|link| link.connected) {
            tracing::warn!("publications are not heard although the broker is connected; connecting anew");
            self.link.reset();
            self.fanout.reconnect().await;
        }
    }

    async fn keep_presence(&self) {
        let keys: Vec<ConversationKey> = self.rooms.joined().iter().map(|room| room.presence_key()).collect();
        if let Err(error) = self.session_store.keep_presence(&keys).await {
            tracing::debug!(%error, "presence could not be prolonged");
        }
    }

    fn retry_overrun(&self, joined: &[Arc<Room>]) {
        for room in joined {
            if room.overrun.load(Ordering::Relaxed) {
                room.overrun.store(false, Ordering::Relaxed);
                if !room.tell_head(&*self.shards) {
                    room.overrun.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    fn end_lingering(&self) {
        for lingerer in self.lingering.take_expired(Instant::now()) {
            self.let_go(&lingerer);
        }
    }

    fn gauge(&self, joined: usize) {
        METRICS.sessions.set(self.sessions.count() as f64);
        METRICS.joined.set(joined as f64);
        METRICS.topics.set(self.topics.count() as f64);
        METRICS
            .append_depth
            .set(self.append_lanes.iter().map(crate::lane::Lane::depth).sum::<usize>() as f64);
        METRICS.publish_depth.set(self.publisher.depth() as f64);
        METRICS.topic_depth.set(self.topic_lane.depth() as f64);
        METRICS.presence_depth.set(self.writer.depth() as f64);
        METRICS.reads_waiting.set(self.reads.waiting() as f64);
        for pool in self.conversations.pools() {
            #[expect(clippy::disallowed_macros, reason = "the store names its pools; once a second")]
            let gauge =
                |state| metrics::gauge!("starling_pool_connections", "pool" => pool.name, "state" => state);
            gauge("idle").set(pool.idle as f64);
            gauge("used").set(pool.size.saturating_sub(pool.idle) as f64);
        }
    }
}

/// A turn each second, the first one now.
pub(crate) fn every_second() -> Interval {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
