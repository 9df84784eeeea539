//! What a run measured.

use serde::{Deserialize, Serialize};

/// What a run measured. Processor times are in microseconds, of all nodes together.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Outcome {
    /// Seconds that count.
    pub seconds: f64,
    /// Connections that became ready.
    pub connected: u64,
    /// Connections that were refused or ended.
    pub dropped: u64,
    /// Why the first of them was.
    pub refusal: Option<String>,
    /// Messages that were sent in the time that counts.
    pub sent: u64,
    /// Messages that arrived.
    pub delivered: u64,
    /// Deliveries that did not happen until five seconds after the end.
    pub lost: u64,
    /// Deliveries beyond the expected ones.
    pub extra: u64,
    /// Messages that a server refused.
    pub errors: u64,
    /// What it said to the first of them.
    pub error: Option<String>,
    /// Messages a second.
    pub messages_per_second: f64,
    /// Deliveries a second.
    pub deliveries_per_second: f64,
    /// From when a message was due to its arrival.
    pub delivery_p50_ms: Option<f64>,
    /// The same, in the slowest hundredth.
    pub delivery_p99_ms: Option<f64>,
    /// From when a message was due to its acknowledgement, where the server acknowledges.
    pub acknowledge_p50_ms: Option<f64>,
    /// The same, in the slowest hundredth.
    pub acknowledge_p99_ms: Option<f64>,
    /// How late the generator sent its messages, in the slowest hundredth.
    pub late_p99_ms: Option<f64>,
    /// Processor time of the nodes.
    pub nodes_us: f64,
    /// Processor time of Redis.
    pub redis_us: f64,
    /// Processor time of PostgreSQL.
    pub postgres_us: f64,
    /// Processor time of the generator.
    pub generator_us: f64,
    /// Commands that Redis ran.
    pub redis_commands: u64,
    /// Bytes that Redis sent.
    pub redis_output_bytes: u64,
    /// Processor time of the nodes for one connection, until it was ready.
    pub handshake_nodes_us: f64,
    /// Processor time of Redis for one connection.
    pub handshake_redis_us: f64,
    /// Processor time of PostgreSQL for one connection.
    pub handshake_postgres_us: f64,
    /// Resident memory of the nodes for each connection.
    pub connection_bytes: f64,
    /// Processor time of the nodes while nothing happened, of one second.
    pub idle_us_per_second: f64,
    /// Statements that PostgreSQL ran for the nodes. The one who starts the generator counts them.
    pub statements: Option<u64>,
}

impl Outcome {
    /// Processor time of the nodes per delivery.
    pub fn nodes_us_per_delivery(&self) -> f64 {
        self.nodes_us / (self.delivered.max(1)) as f64
    }

    /// Share of one processor that the nodes used.
    pub fn nodes_share(&self) -> f64 {
        self.nodes_us / 1e6 / self.seconds.max(1e-9)
    }

    /// Share of one processor that the generator used.
    pub fn generator_share(&self) -> f64 {
        self.generator_us / 1e6 / self.seconds.max(1e-9)
    }
}
