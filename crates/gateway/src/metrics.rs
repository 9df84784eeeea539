//! The gateway's metrics. Each handle is registered once.

use std::sync::LazyLock;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use starling_wire::protocol::{Command, ErrorCode, Operation};

/// The gateway's metrics.
pub(crate) struct Metrics {
    pub connections: Gauge,
    pub opened: Counter,
    pub handshake_seconds: Histogram,
    pub command_seconds: Histogram,
    pub delivery_seconds: Histogram,
    pub frames_received: Counter,
    pub bytes_received: Counter,
    pub bytes_sent: Counter,
    pub deliveries: Counter,
    pub dropped_ephemeral: Counter,
    pub dropped_durable: Counter,
    pub catch_ups: Counter,
    pub catch_up_pages: Counter,
    pub overloaded: Counter,
    pub limited_commands: Counter,
    pub limited_bytes: Counter,
    pub limited_connections: Counter,
    pub limited_handshakes: Counter,
    pub limited_sessions: Counter,
    pub limited_requests: Counter,
    pub limited_user_requests: Counter,
    pub draining: Gauge,
    pub moved: Counter,
    /// By [`Comparison`].
    looks: [Counter; Comparison::ALL.len()],
    pub queue_bytes: Gauge,
    /// By [`Operation`].
    commands: Vec<Counter>,
    errors: Vec<(ErrorCode, Counter)>,
    closes: Vec<(u16, Counter)>,
    closed_other: Counter,
    /// By [`HandshakeRefusal`].
    refusals: [Counter; HandshakeRefusal::ALL.len()],
}

/// The result of a node's comparison with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// Some clients were asked to move.
    Asked,
    /// There is no surplus worth moving.
    Balanced,
    /// There is a surplus, but asking did not help lately.
    Paused,
    /// The sessions of the other nodes are not known.
    Unknown,
}

impl Comparison {
    const ALL: [Comparison; 4] =
        [Comparison::Asked, Comparison::Balanced, Comparison::Paused, Comparison::Unknown];

    fn label(self) -> &'static str {
        match self {
            Comparison::Asked => "asked",
            Comparison::Balanced => "balanced",
            Comparison::Paused => "paused",
            Comparison::Unknown => "unsure",
        }
    }
}

/// The reason why a handshake was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandshakeRefusal {
    /// Its address is at a limit.
    Address,
    /// The node drains.
    Draining,
    /// Its method is not GET.
    Method,
    /// It comes from a page of another origin.
    Origin,
    /// Too many come at once.
    Storm,
    /// It offers no sub-protocol that the node knows.
    Subprotocol,
    /// The TLS handshake failed.
    Tls,
    /// Its token is not valid.
    Token,
    /// It is not a valid upgrade to WebSocket.
    Upgrade,
}

impl HandshakeRefusal {
    /// All reasons, in the order of the enum.
    const ALL: [HandshakeRefusal; 9] = [
        HandshakeRefusal::Address,
        HandshakeRefusal::Draining,
        HandshakeRefusal::Method,
        HandshakeRefusal::Origin,
        HandshakeRefusal::Storm,
        HandshakeRefusal::Subprotocol,
        HandshakeRefusal::Tls,
        HandshakeRefusal::Token,
        HandshakeRefusal::Upgrade,
    ];

    /// The value of the label `reason`.
    fn label(self) -> &'static str {
        match self {
            HandshakeRefusal::Address => "address",
            HandshakeRefusal::Draining => "draining",
            HandshakeRefusal::Method => "method",
            HandshakeRefusal::Origin => "origin",
            HandshakeRefusal::Storm => "storm",
            HandshakeRefusal::Subprotocol => "subprotocol",
            HandshakeRefusal::Tls => "tls",
            HandshakeRefusal::Token => "token",
            HandshakeRefusal::Upgrade => "upgrade",
        }
    }
}

const CODES: [ErrorCode; 9] = [
    ErrorCode::BadRequest,
    ErrorCode::Unauthorized,
    ErrorCode::Forbidden,
    ErrorCode::NotFound,
    ErrorCode::Conflict,
    ErrorCode::TooLarge,
    ErrorCode::RateLimited,
    ErrorCode::Unavailable,
    ErrorCode::Internal,
];

const CLOSES: [u16; 16] =
    [1000, 1001, 1002, 1003, 1005, 1006, 1007, 1009, 1011, 1012, 4400, 4401, 4408, 4409, 4410, 4429];

/// The gateway's handles.
#[expect(clippy::disallowed_macros, reason = "handles are registered here, once")]
pub(crate) static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    connections: gauge!("starling_connections"),
    opened: counter!("starling_connections_opened_total"),
    handshake_seconds: histogram!("starling_handshake_seconds"),
    command_seconds: histogram!("starling_command_seconds"),
    delivery_seconds: histogram!("starling_delivery_seconds"),
    frames_received: counter!("starling_frames_received_total"),
    bytes_received: counter!("starling_bytes_received_total"),
    bytes_sent: counter!("starling_bytes_sent_total"),
    deliveries: counter!("starling_deliveries_total"),
    dropped_ephemeral: counter!("starling_drops_total", "kind" => "ephemeral"),
    dropped_durable: counter!("starling_drops_total", "kind" => "durable"),
    catch_ups: counter!("starling_catch_ups_total"),
    catch_up_pages: counter!("starling_catch_up_pages_total"),
    overloaded: counter!("starling_overloaded_closes_total"),
    limited_commands: counter!("starling_limited_total", "limit" => "connection_commands"),
    limited_bytes: counter!("starling_limited_total", "limit" => "connection_bytes"),
    limited_connections: counter!("starling_limited_total", "limit" => "address_connections"),
    limited_handshakes: counter!("starling_limited_total", "limit" => "address_handshakes"),
    limited_sessions: counter!("starling_limited_total", "limit" => "node_sessions"),
    limited_requests: counter!("starling_limited_total", "limit" => "connection_requests"),
    limited_user_requests: counter!("starling_limited_total", "limit" => "user_requests"),
    draining: gauge!("starling_draining"),
    moved: counter!("starling_moved_connections_total"),
    looks: Comparison::ALL.map(|look| counter!("starling_balance_looks_total", "result" => look.label())),
    queue_bytes: gauge!("starling_queue_bytes"),
    commands: (Operation::ALL.iter())
        .map(|operation| counter!("starling_commands_total", "op" => operation.name()))
        .collect(),
    errors: CODES
        .map(|code| (code, counter!("starling_command_errors_total", "code" => code.as_str())))
        .into(),
    closes: CLOSES
        .map(|code| (code, counter!("starling_connections_closed_total", "code" => code.to_string())))
        .into(),
    closed_other: counter!("starling_connections_closed_total", "code" => "other"),
    refusals: HandshakeRefusal::ALL
        .map(|refusal| counter!("starling_handshakes_refused_total", "reason" => refusal.label())),
});

impl Metrics {
    /// Counts a command.
    pub fn command(&self, command: &Command) {
        self.commands[command.operation() as usize].increment(1);
    }

    /// Counts a command's error.
    pub fn command_error(&self, code: ErrorCode) {
        if let Some((_, counter)) = self.errors.iter().find(|(other, _)| *other == code) {
            counter.increment(1);
        }
    }

    /// Counts a connection's end.
    pub fn closed(&self, code: u16) {
        let counter =
            self.closes.iter().find(|(other, _)| *other == code).map_or(&self.closed_other, |(_, c)| c);
        counter.increment(1);
    }

    /// Counts a comparison with the other nodes.
    pub fn looked(&self, look: Comparison) {
        self.looks[look as usize].increment(1);
    }

    /// Counts a handshake that was refused.
    pub fn refused(&self, refusal: HandshakeRefusal) {
        self.refusals[refusal as usize].increment(1);
    }
}

#[cfg(test)]
mod tests {
    use starling_telemetry::catalogue;

    use super::*;

    #[test]
    fn the_catalogue_lists_the_reasons_of_refusals_and_no_others() {
        let mut metrics = catalogue::metrics();
        let metric = metrics.find(|metric| metric.name == "starling_handshakes_refused_total");
        let (name, values) = metric.expect("listed").labels[0];
        let listed: Vec<&str> = values.split('`').skip(1).step_by(2).collect();
        assert_eq!((name, listed), ("reason", HandshakeRefusal::ALL.map(HandshakeRefusal::label).to_vec()));
        assert!(HandshakeRefusal::ALL.iter().enumerate().all(|(at, refusal)| *refusal as usize == at));
    }
}
