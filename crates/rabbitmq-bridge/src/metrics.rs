//! The metrics of the bridge.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// The metrics of a bridge in.
pub(crate) struct IncomingMetrics {
    pub connected: Gauge,
    /// Messages that have become jobs.
    pub added: Counter,
    /// Messages whose job was there already.
    pub known: Counter,
    /// Messages that went to the dead letters.
    pub rejected: Counter,
    /// Messages that this node is making jobs of.
    pub unacknowledged: Gauge,
}

impl IncomingMetrics {
    /// Registers them. The series are there from the start.
    pub fn of(bridge: &str) -> Self {
        let received = |outcome: &'static str| counter!("starling_rabbitmq_received_total", "bridge" => bridge.to_owned(), "outcome" => outcome);
        let metrics = Self {
            connected: connected("in", bridge),
            added: received("added"),
            known: received("known"),
            rejected: received("rejected"),
            unacknowledged: gauge!("starling_rabbitmq_unacknowledged", "bridge" => bridge.to_owned()),
        };
        metrics.connected.set(0.0);
        metrics.unacknowledged.set(0.0);
        [&metrics.added, &metrics.known, &metrics.rejected]
            .into_iter()
            .for_each(|counter| counter.increment(0));
        metrics
    }
}

/// The metrics of a bridge out.
pub(crate) struct OutgoingMetrics {
    pub connected: Gauge,
    pub confirmed: Counter,
    pub returned: Counter,
    pub refused: Counter,
    pub timed_out: Counter,
    pub interrupted: Counter,
    confirm_seconds: Histogram,
}

impl OutgoingMetrics {
    /// Registers them. The series are there from the start.
    pub fn of(bridge: &str) -> Self {
        let published = |outcome: &'static str| {
            let counter = counter!("starling_rabbitmq_published_total", "bridge" => bridge.to_owned(), "outcome" => outcome);
            counter.increment(0);
            counter
        };
        let metrics = Self {
            connected: connected("out", bridge),
            confirmed: published("confirmed"),
            returned: published("returned"),
            refused: published("refused"),
            timed_out: published("timed_out"),
            interrupted: published("interrupted"),
            confirm_seconds: histogram!("starling_rabbitmq_confirm_seconds"),
        };
        metrics.connected.set(0.0);
        metrics
    }

    /// Notes how long RabbitMQ took to confirm a message.
    pub fn confirm_took(&self, time: Duration) {
        self.confirm_seconds.record(time.as_secs_f64());
    }
}

fn connected(direction: &'static str, bridge: &str) -> Gauge {
    gauge!("starling_rabbitmq_connected", "direction" => direction, "bridge" => bridge.to_owned())
}
