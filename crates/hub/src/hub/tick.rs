//! The work that a node does each second without waiting for anything.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use crate::clock::every_second;
use crate::hub::Hub;
use crate::metrics::METRICS;

/// How often everything is written to the session store again, in ticks: twice a day, since the store forgets a session that was not
/// written for a week.
const WRITE_AGAIN_EVERY: u64 = 12 * 3_600;
/// How often delivery percentiles are taken, in ticks.
const PERCENTILES_EVERY: u64 = 2;
/// How often idle rooms and topics are forgotten, in ticks.
const SWEEP_EVERY: u64 = 10;

impl Hub {
    pub(super) async fn tick_forever(self: Arc<Self>) {
        let (mut interval, mut ticks) = (every_second(), 0);
        while self.neighbours.lifetime().next_tick(&mut interval).await {
            ticks += 1;
            self.tick(ticks);
        }
    }

    fn tick(&self, tick: u64) {
        self.presence.end_lingering();
        self.typing.expire();
        let joined = self.directory.tend_joined();
        self.gauge(joined);
        if tick.is_multiple_of(PERCENTILES_EVERY) {
            let (p50, p99) = self.gauges.delivery.take_percentiles();
            self.gauges.delivery_p50_us.store(p50, Ordering::Relaxed);
            self.gauges.delivery_p99_us.store(p99, Ordering::Relaxed);
        }
        if tick.is_multiple_of(WRITE_AGAIN_EVERY) {
            self.writer.want_rewrite();
        }
        if tick.is_multiple_of(SWEEP_EVERY) {
            self.directory.sweep();
            self.topics.sweep();
        }
    }

    fn gauge(&self, joined: usize) {
        METRICS.sessions.set(self.sessions.count() as f64);
        METRICS.joined.set(joined as f64);
        let (known, uncertain) = self.publisher.others().sizes(Instant::now());
        METRICS.interest_own.set(self.publisher.interest().count() as f64);
        METRICS.interest_known.set(known as f64);
        METRICS.interest_uncertain.set(uncertain as f64);
        METRICS.topics.set(self.topics.count() as f64);
        METRICS.append_depth.set(self.appends.depth() as f64);
        METRICS.publish_depth.set(self.publisher.depth() as f64);
        METRICS.topic_depth.set(self.topic_publisher.depth() as f64);
        METRICS.presence_depth.set(self.writer.depth() as f64);
        METRICS.reads_waiting.set(self.reads.waiting() as f64);
        for pool in self.store.pools() {
            #[expect(clippy::disallowed_macros, reason = "the store names its pools; once a second")]
            let (gauge, waiting) = (
                |state| metrics::gauge!("starling_pool_connections", "pool" => pool.name, "state" => state),
                metrics::gauge!("starling_pool_waiting", "pool" => pool.name),
            );
            waiting.set(pool.waiting as f64);
            gauge("idle").set(pool.idle as f64);
            gauge("used").set(pool.size.saturating_sub(pool.idle) as f64);
        }
    }
}
