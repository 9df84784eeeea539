//! The fan-out's metrics, with their handles registered once, so that counting costs an atomic operation.

use std::time::Instant;

use metrics::{Counter, Gauge, Histogram};

use crate::{Destination, Publication};

/// The metrics of one fan-out.
pub(crate) struct Metrics {
    /// Publications to all other nodes.
    partition: Publishing,
    /// Publications to some of the other nodes.
    nodes: Publishing,
    /// Publications of topics.
    pub(crate) topic: Publishing,
    /// Publications to one node.
    pub(crate) direct: Publishing,
    /// Publications that were received.
    pub(crate) received: Counter,
    /// Gaps that were reported.
    pub(crate) gaps: Counter,
    /// Frames that could not be read.
    pub(crate) malformed: Counter,
    /// Links that were opened again.
    pub(crate) reconnects: Counter,
    /// Frames that were dropped because this node did not take them fast enough.
    pub(crate) lagged: Counter,
    /// 1 while the link is up.
    pub(crate) connected: Gauge,
}

/// The metrics of one kind of publication.
pub(crate) struct Publishing {
    publications: Counter,
    batches: Counter,
    failures: Counter,
    batch_size: Histogram,
    seconds: Histogram,
}

impl Metrics {
    pub(crate) fn register() -> Self {
        Self {
            partition: Publishing::register("lane"),
            nodes: Publishing::register("nodes"),
            topic: Publishing::register("topic"),
            direct: Publishing::register("direct"),
            received: metrics::counter!("starling_fanout_received_total"),
            gaps: metrics::counter!("starling_fanout_gaps_total"),
            malformed: metrics::counter!("starling_fanout_malformed_total"),
            reconnects: metrics::counter!("starling_fanout_reconnects_total"),
            lagged: metrics::counter!("starling_fanout_lagged_total"),
            connected: metrics::gauge!("starling_fanout_connected"),
        }
    }
}

impl Metrics {
    /// Counts one call that published this batch and began at `started`.
    pub(crate) fn published(&self, batch: &[Publication], has_failed: bool, started: Instant) {
        let common = batch.iter().filter(|publication| publication.to == Destination::Everyone).count();
        for (publishing, count) in [(&self.partition, common), (&self.nodes, batch.len() - common)] {
            if count > 0 {
                publishing.published(count, if has_failed { count } else { 0 }, started);
            }
        }
    }
}

impl Publishing {
    fn register(kind: &'static str) -> Self {
        Self {
            publications: metrics::counter!("starling_fanout_publications_total", "kind" => kind),
            batches: metrics::counter!("starling_fanout_batches_total", "kind" => kind),
            failures: metrics::counter!("starling_fanout_failures_total", "kind" => kind),
            batch_size: metrics::histogram!("starling_fanout_batch_size", "kind" => kind),
            seconds: metrics::histogram!("starling_fanout_publish_seconds", "kind" => kind),
        }
    }

    /// Counts one call that began at `started`, with its number of publications and of failed ones.
    pub(crate) fn published(&self, publications: usize, failed: usize, started: Instant) {
        self.batches.increment(1);
        self.batch_size.record(publications as f64);
        self.seconds.record(started.elapsed().as_secs_f64());
        self.publications.increment(publications.saturating_sub(failed) as u64);
        if failed > 0 {
            self.failures.increment(failed as u64);
        }
    }
}
