//! What is measured: handles that are registered once.

use std::time::Instant;

use metrics::{Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram};
use metrics::{Unit, gauge, histogram};

use crate::{Attached, Error};

/// The handles of a store in Redis.
#[derive(Debug)]
pub(crate) struct Meters {
    pub(crate) beat: Meter,
    pub(crate) leave: Meter,
    pub(crate) nodes: Meter,
    pub(crate) attach: Meter,
    pub(crate) hold: Meter,
    pub(crate) restore: Meter,
    pub(crate) detach: Meter,
    pub(crate) update: Meter,
    pub(crate) end: Meter,
    pub(crate) sessions: Meter,
    pub(crate) set_presence: Meter,
    pub(crate) presence: Meter,
    pub(crate) keep_presence: Meter,
    pub(crate) take: Meter,
    pub(crate) connections: Meter,
    pub(crate) ping: Meter,
    /// Scripts loaded again because the server did not know them.
    pub(crate) script_loads: Counter,
    /// Calls refused at once because Redis is known to be away.
    pub(crate) refused: Counter,
    /// Connections made anew because a server was silent or had become a replica.
    pub(crate) reconnects: Counter,
    /// Presence entries of dead nodes that were removed.
    pub(crate) stale_presence: Counter,
    /// Nodes with a lease, as of the last beat.
    pub(crate) living_nodes: Gauge,
    attached: [Counter; 4],
}

/// How long one kind of call takes, and how often it fails.
#[derive(Debug)]
pub(crate) struct Meter {
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

impl Meters {
    pub(crate) fn register() -> Self {
        describe_histogram!(COMMAND_SECONDS, Unit::Seconds, "Time of a call to the session store in Redis");
        describe_counter!(ERRORS, "Calls to the session store that failed");
        describe_counter!(ATTACHED, "Sessions attached, by outcome");
        describe_counter!(SCRIPT_LOADS, "Loads of the scripts into a Redis that did not know them");
        describe_counter!(REFUSED, "Calls refused at once because Redis is known to be away");
        describe_counter!(RECONNECTS, "Connections to Redis made anew because it was silent or read-only");
        describe_counter!(STALE_PRESENCE, "Presence entries of dead nodes that were removed");
        describe_gauge!(LIVING_NODES, "Nodes with a lease");
        Self {
            beat: Meter::of("beat"),
            leave: Meter::of("leave"),
            nodes: Meter::of("nodes"),
            attach: Meter::of("attach"),
            hold: Meter::of("hold"),
            restore: Meter::of("restore"),
            detach: Meter::of("detach"),
            update: Meter::of("update"),
            end: Meter::of("end"),
            sessions: Meter::of("sessions"),
            set_presence: Meter::of("set_presence"),
            presence: Meter::of("presence"),
            keep_presence: Meter::of("keep_presence"),
            take: Meter::of("take"),
            connections: Meter::of("connections"),
            ping: Meter::of("ping"),
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

impl Meter {
    fn of(command: &'static str) -> Self {
        Self {
            seconds: histogram!(COMMAND_SECONDS, "command" => command),
            errors: counter!(ERRORS, "command" => command),
        }
    }

    /// Measures a call.
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
