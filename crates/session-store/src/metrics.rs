//! The store's metrics, with their handles registered once.

use std::time::Instant;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::{Attached, Error};

/// The metrics of a store in Redis.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) beat: CallMetrics,
    pub(crate) leave: CallMetrics,
    pub(crate) nodes: CallMetrics,
    pub(crate) attach: CallMetrics,
    pub(crate) hold: CallMetrics,
    pub(crate) restore: CallMetrics,
    pub(crate) detach: CallMetrics,
    pub(crate) update: CallMetrics,
    pub(crate) end: CallMetrics,
    pub(crate) sessions: CallMetrics,
    pub(crate) set_presence: CallMetrics,
    pub(crate) presence: CallMetrics,
    pub(crate) keep_presence: CallMetrics,
    pub(crate) take: CallMetrics,
    pub(crate) connections: CallMetrics,
    pub(crate) ping: CallMetrics,
    /// Loads of the scripts into a server that did not know them.
    pub(crate) script_loads: Counter,
    /// Calls that failed at once because Redis was known to be away.
    pub(crate) refused: Counter,
    /// Connections that were made again because a server was silent or had become a replica.
    pub(crate) reconnects: Counter,
    /// Presence entries of dead nodes that were removed.
    pub(crate) stale_presence: Counter,
    /// Nodes with a lease, as of the last beat.
    pub(crate) living_nodes: Gauge,
    attached: [Counter; 4],
}

/// The duration of one kind of call, and the number of failures.
#[derive(Debug)]
pub(crate) struct CallMetrics {
    seconds: Histogram,
    errors: Counter,
}

const COMMAND_SECONDS: &str = "starling_session_store_command_seconds";
const ERRORS: &str = "starling_session_store_errors_total";
const ATTACHED: &str = "starling_session_store_attached_total";
const SCRIPT_LOADS: &str = "starling_session_store_script_loads_total";
const REFUSED: &str = "starling_session_store_refused_total";
const RECONNECTS: &str = "starling_session_store_reconnects_total";
const STALE_PRESENCE: &str = "starling_session_store_stale_presence_total";
const LIVING_NODES: &str = "starling_session_store_living_nodes";

impl Metrics {
    pub(crate) fn register() -> Self {
        Self {
            beat: CallMetrics::of("beat"),
            leave: CallMetrics::of("leave"),
            nodes: CallMetrics::of("nodes"),
            attach: CallMetrics::of("attach"),
            hold: CallMetrics::of("hold"),
            restore: CallMetrics::of("restore"),
            detach: CallMetrics::of("detach"),
            update: CallMetrics::of("update"),
            end: CallMetrics::of("end"),
            sessions: CallMetrics::of("sessions"),
            set_presence: CallMetrics::of("set_presence"),
            presence: CallMetrics::of("presence"),
            keep_presence: CallMetrics::of("keep_presence"),
            take: CallMetrics::of("take"),
            connections: CallMetrics::of("connections"),
            ping: CallMetrics::of("ping"),
            script_loads: counter!(SCRIPT_LOADS),
            refused: counter!(REFUSED),
            reconnects: counter!(RECONNECTS),
            stale_presence: counter!(STALE_PRESENCE),
            living_nodes: gauge!(LIVING_NODES),
            attached: ["new", "resumed", "rebuilt", "refused"]
                .map(|outcome| counter!(ATTACHED, "outcome" => outcome)),
        }
    }

    pub(crate) fn count(&self, attached: &Attached) {
        let outcome = match attached {
            Attached::New { .. } => 0,
            Attached::Resumed { .. } => 1,
            Attached::Rebuilt { .. } => 2,
            Attached::Refused => 3,
        };
        self.attached[outcome].increment(1);
    }
}

impl CallMetrics {
    fn of(command: &'static str) -> Self {
        Self {
            seconds: histogram!(COMMAND_SECONDS, "command" => command),
            errors: counter!(ERRORS, "command" => command),
        }
    }

    /// Runs a call and measures it.
    pub(crate) async fn measure<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let begun = Instant::now();
        let outcome = call.await;
        self.seconds.record(begun.elapsed());
        if outcome.is_err() {
            self.errors.increment(1);
        }
        outcome
    }
}
