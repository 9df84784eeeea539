//! What a node does each second for what it has cached, and writes when it has gathered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use starling_session_store::ConversationKey;
use tokio::time::Instant;

use crate::clock::every_second;
use crate::hub::Hub;
use crate::metrics::METRICS;
use crate::room::Room;

/// How often the lifetimes of presence keys are prolonged.
const KEEP_PRESENCE_EVERY: Duration = Duration::from_secs(20 * 60);
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
        while self.neighbours.lifetime().goes_on(&mut interval).await {
            ticks += 1;
            self.tick(ticks);
        }
    }

    /// Prolongs the lifetimes of presence in the session store.
    pub(crate) async fn keep_presence_forever(self: Arc<Self>) {
        while !self.neighbours.lifetime().has_ended() {
            tokio::time::sleep(KEEP_PRESENCE_EVERY).await;
            self.keep_presence().await;
        }
    }

    /// What waits for the database.
    pub(crate) async fn tend_log_forever(self: Arc<Self>) {
        let mut interval = every_second();
        while self.neighbours.lifetime().goes_on(&mut interval).await {
            self.check_suspects().await;
            self.write_last_seen().await;
        }
    }

    fn tick(&self, tick: u64) {
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
