//! Every metric of Starling, in one table: what `/metrics` describes and what `docs/metrics.md` lists.

use std::fmt::Write;

use metrics::{describe_counter, describe_gauge, describe_histogram};

/// Upper bounds for what takes time, seconds: 50 µs to 10 s.
pub const SECONDS_BUCKETS: &[f64] = &[
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0,
];

/// Upper bounds for how many are in a batch.
pub const COUNT_BUCKETS: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 2_048.0, 4_096.0];

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, from 0 at the node's start.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts samples in buckets.
    Histogram,
}

/// What a metric's number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things; which ones, the help says.
    Count,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// 1 for yes, 0 for no.
    Flag,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What its number counts.
    pub unit: Unit,
    /// What it says, in one sentence.
    pub help: &'static str,
    /// Its labels, each with the values that it takes. The number of values is bounded for every one.
    pub labels: &'static [(&'static str, &'static str)],
}

/// Metrics that belong together.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// What they are about.
    pub title: &'static str,
    /// The metrics.
    pub metrics: &'static [Metric],
}

/// All metrics, in the order of `docs/metrics.md`.
pub const SECTIONS: &[Section] =
    &[CONNECTIONS, COMMANDS, MESSAGES, DELIVERY, FANOUT, SESSION_STORE, STORE, LIMITS, NODE, PROCESS];

/// Sockets, handshakes and sessions.
pub const CONNECTIONS: Section = Section {
    title: "Connections and sessions",
    metrics: &[
        gauge("starling_connections", Unit::Count, "Sockets that are open.", &[]),
        gauge("starling_sessions", Unit::Count, "Sessions that are attached to a socket of this node.", &[]),
        counter("starling_connections_opened_total", "Handshakes that became a WebSocket.", &[]),
        counter(
            "starling_connections_closed_total",
            "Sockets that were closed, by close code.",
            &[("code", "the close code, `1006` where the socket was lost without one, `other`")],
        ),
        counter(
            "starling_handshakes_refused_total",
            "Handshakes that were answered with an HTTP error.",
            &[(
                "reason",
                "`address` (a limit), `draining`, `method`, `origin`, `storm` (too many come at once), `subprotocol`, `tls`, `token`, `upgrade`",
            )],
        ),
        histogram(
            "starling_handshake_seconds",
            Unit::Seconds,
            "From the accepted socket to the response `101 Switching Protocols`.",
            &[],
        ),
        counter(
            "starling_resumes_total",
            "Sessions that began, by whether they went on from an earlier socket.",
            &[("result", "`resumed`, `new`")],
        ),
        counter(
            "starling_presence_changes_total",
            "Times that a user came online or went offline in a conversation.",
            &[],
        ),
    ],
};

/// What clients ask for.
pub const COMMANDS: Section = Section {
    title: "Commands and frames",
    metrics: &[
        counter("starling_commands_total", "Commands of clients.", &[("op", "the command")]),
        counter(
            "starling_command_errors_total",
            "Commands that were answered with an error.",
            &[("code", "the error code")],
        ),
        histogram(
            "starling_command_seconds",
            Unit::Seconds,
            "From a command's frame to its reply being queued.",
            &[],
        ),
        counter("starling_frames_received_total", "Data frames of clients.", &[]),
        counter_of("starling_bytes_received_total", Unit::Bytes, "Bytes read from sockets.", &[]),
        counter_of("starling_bytes_sent_total", Unit::Bytes, "Bytes written to sockets.", &[]),
    ],
};

/// From a `send` to the committed row.
pub const MESSAGES: Section = Section {
    title: "Messages",
    metrics: &[
        counter("starling_messages_committed_total", "Messages that were committed to the log.", &[]),
        counter("starling_messages_duplicate_total", "Sends that found their key in the log already.", &[]),
        histogram(
            "starling_commit_seconds",
            Unit::Seconds,
            "From a message being queued for the log to its batch being committed.",
            &[],
        ),
        histogram("starling_append_batch_size", Unit::Count, "Messages in a batch for the log.", &[]),
        gauge(
            "starling_lane_depth",
            Unit::Count,
            "Entries that wait in a queue between parts of the node.",
            &[("lane", "`append`, `publish`, `topic`, `presence`")],
        ),
        gauge(
            "starling_reads_waiting",
            Unit::Count,
            "Reads that clients asked for and that wait for their turn at the database.",
            &[],
        ),
    ],
};

/// From a committed message to the sockets.
pub const DELIVERY: Section = Section {
    title: "Delivery",
    metrics: &[
        gauge(
            "starling_conversations_joined",
            Unit::Count,
            "Conversations that a socket of this node has joined.",
            &[],
        ),
        gauge(
            "starling_topics_subscribed",
            Unit::Count,
            "Topics that a socket of this node has subscribed to.",
            &[],
        ),
        counter("starling_deliveries_total", "Events that were put into a socket's queue.", &[]),
        histogram(
            "starling_delivery_seconds",
            Unit::Seconds,
            "From a message's commit to its event being in a socket's queue.",
            &[],
        ),
        gauge("starling_queue_bytes", Unit::Bytes, "Bytes that wait in the queues of sockets.", &[]),
        counter(
            "starling_drops_total",
            "Times that events which waited for one socket were dropped, ephemeral ones for good and durable ones to be read from the log; and publications that were dropped on their way to other nodes, each.",
            &[("kind", "`ephemeral`, `durable`, `publication`")],
        ),
        counter(
            "starling_catch_ups_total",
            "Times that a subscription which had been live fell behind, to be served from the log until it has caught up.",
            &[],
        ),
        counter(
            "starling_catch_up_pages_total",
            "Pages of the log that were read for sockets: for what they missed before they joined or resumed, and after they fell behind.",
            &[],
        ),
        counter(
            "starling_overloaded_closes_total",
            "Sockets that were closed because they were too far behind to be served.",
            &[],
        ),
        counter(
            "starling_sequencer_holes_total",
            "Times that a message's number was not the next one of its conversation.",
            &[],
        ),
        counter("starling_sequencer_repairs_total", "Holes that were filled from the log.", &[]),
        counter("starling_sequencer_repeats_total", "Messages that arrived again and were dropped.", &[]),
    ],
};

/// Publications between nodes.
pub const FANOUT: Section = Section {
    title: "Fan-out between nodes",
    metrics: &[
        gauge("starling_fanout_up", Unit::Flag, "Whether this node hears what the others publish.", &[]),
        histogram(
            "starling_fanout_lag_seconds",
            Unit::Seconds,
            "From a publication on another node to its arrival here; the clocks of the two nodes differ by some of it.",
            &[],
        ),
        counter(
            "starling_gaps_total",
            "Times that publications may have been missed, so that conversations were looked up in the log.",
            &[],
        ),
        histogram(
            "starling_publish_batch_size",
            Unit::Count,
            "Publications in a batch for the fan-out.",
            &[],
        ),
        counter(
            "starling_fanout_publications_total",
            "Publications that were handed to Redis.",
            &[("kind", FANOUT_KINDS)],
        ),
        counter(
            "starling_fanout_batches_total",
            "Calls of Redis that carried them.",
            &[("kind", FANOUT_KINDS)],
        ),
        counter("starling_fanout_failures_total", "Such calls that failed.", &[("kind", FANOUT_KINDS)]),
        histogram(
            "starling_fanout_batch_size",
            Unit::Count,
            "Publications in one such call.",
            &[("kind", FANOUT_KINDS)],
        ),
        histogram(
            "starling_fanout_publish_seconds",
            Unit::Seconds,
            "How long one such call took.",
            &[("kind", FANOUT_KINDS)],
        ),
        counter("starling_fanout_received_total", "Publications that came in from Redis.", &[]),
        counter("starling_fanout_gaps_total", "Times that the link to Redis may have lost something.", &[]),
        counter(
            "starling_fanout_malformed_total",
            "Publications that could not be read: something else publishes on Starling's channels.",
            &[],
        ),
        counter("starling_fanout_reconnects_total", "Times that the link to Redis was built anew.", &[]),
        counter(
            "starling_fanout_lagged_total",
            "Publications that were dropped because this node did not take them fast enough.",
            &[],
        ),
        gauge("starling_fanout_connected", Unit::Flag, "Whether the link to Redis stands.", &[]),
    ],
};

/// Sessions, presence and nodes in Redis.
pub const SESSION_STORE: Section = Section {
    title: "The session store",
    metrics: &[
        histogram(
            "starling_session_store_command_seconds",
            Unit::Seconds,
            "How long one call of the session store in Redis took.",
            &[("command", SESSION_STORE_COMMANDS)],
        ),
        counter(
            "starling_session_store_errors_total",
            "Calls of the session store that failed.",
            &[("command", SESSION_STORE_COMMANDS)],
        ),
        counter(
            "starling_session_store_attached_total",
            "Sessions that were attached to a socket; `rebuilt` ones were not in the store and came from their ticket.",
            &[("outcome", "`new`, `resumed`, `rebuilt`, `refused`")],
        ),
        counter(
            "starling_session_store_refused_total",
            "Calls that were refused at once because Redis is known to be away.",
            &[],
        ),
        counter(
            "starling_session_store_reconnects_total",
            "Connections to Redis that were made anew because it was silent or had become a replica.",
            &[],
        ),
        counter(
            "starling_session_store_script_loads_total",
            "Times that the scripts were loaded into a Redis that did not know them.",
            &[],
        ),
        counter(
            "starling_session_store_stale_presence_total",
            "Presence entries of dead nodes that were removed.",
            &[],
        ),
        gauge(
            "starling_session_store_living_nodes",
            Unit::Count,
            "Nodes with a lease, at the last beat.",
            &[],
        ),
    ],
};

/// The log in the database.
pub const STORE: Section = Section {
    title: "The database",
    metrics: &[
        histogram(
            "starling_store_commit_seconds",
            Unit::Seconds,
            "How long the database took to commit a batch of messages.",
            &[("database", DATABASES)],
        ),
        histogram(
            "starling_store_commit_messages",
            Unit::Count,
            "Messages in such a batch.",
            &[("database", DATABASES)],
        ),
        histogram(
            "starling_store_call_seconds",
            Unit::Seconds,
            "How long any other call of the database took.",
            &[("database", DATABASES), ("work", "`read`, `write`")],
        ),
        counter(
            "starling_store_messages_total",
            "What became of the messages in batches.",
            &[
                ("database", DATABASES),
                ("outcome", "`stored`, `duplicate`, `no_such_conversation`, `refused`, `unavailable`"),
            ],
        ),
        counter(
            "starling_store_errors_total",
            "Calls of the database that failed.",
            &[("database", DATABASES), ("kind", "`unavailable`, `refused`, `unsupported`, `address`")],
        ),
        counter(
            "starling_store_replica_fallbacks_total",
            "Reads that the replica failed and the primary answered.",
            &[("database", DATABASES)],
        ),
        gauge(
            "starling_pool_connections",
            Unit::Count,
            "Connections in a pool.",
            &[("pool", "which pool"), ("state", "`idle`, `used`")],
        ),
    ],
};

/// What was refused so that nobody starves the rest.
pub const LIMITS: Section = Section {
    title: "Limits",
    metrics: &[counter(
        "starling_limited_total",
        "What was refused because of a limit.",
        &[(
            "limit",
            "`address_connections`, `address_handshakes`, `node_sessions`, `connection_commands`, `connection_bytes`, \
             `connection_requests`, `user_requests`, `user_writes`, `user_reads`, `reads_waiting`, `tenant_connections`, `tenant_conversations`, `joins`, `topics`",
        )],
    )],
};

/// The node itself.
pub const NODE: Section = Section {
    title: "The node",
    metrics: &[
        gauge("starling_draining", Unit::Flag, "Whether this node is on its way out.", &[]),
        counter(
            "starling_moved_connections_total",
            "Clients that were asked to move to another node, since their connection was old or this node had too many sessions.",
            &[],
        ),
        counter(
            "starling_balance_looks_total",
            "How often this node compared its sessions with those of the others.",
            &[(
                "result",
                "`asked` (some clients were asked to move), `balanced`, `paused` (asking did not help lately), `unsure` (it is not known what the others have)",
            )],
        ),
        gauge("starling_build_info", Unit::Flag, "Always 1.", &[("version", "the program's version")]),
        counter(
            "starling_log_lines_dropped_total",
            "Log lines that were dropped because standard output did not take them fast enough.",
            &[],
        ),
    ],
};

/// The process, by the names that Prometheus' own client libraries use.
pub const PROCESS: Section = Section {
    title: "The process",
    metrics: &[
        gauge("process_resident_memory_bytes", Unit::Bytes, "Resident memory size in bytes.", &[]),
        gauge("process_virtual_memory_bytes", Unit::Bytes, "Virtual memory size in bytes.", &[]),
        counter_of(
            "process_cpu_seconds_total",
            Unit::Seconds,
            "Total user and system CPU time spent in seconds.",
            &[],
        ),
        gauge("process_open_fds", Unit::Count, "Number of open file descriptors.", &[]),
        gauge("process_max_fds", Unit::Count, "Maximum number of open file descriptors.", &[]),
        gauge("process_threads", Unit::Count, "Number of threads.", &[]),
        gauge(
            "process_start_time_seconds",
            Unit::Seconds,
            "Start time of the process since the Unix epoch in seconds.",
            &[],
        ),
    ],
};

const FANOUT_KINDS: &str = "`lane` (to all nodes), `topic`, `direct` (to one node)";
const SESSION_STORE_COMMANDS: &str = "the call: `attach`, `beat`, `set_presence` and so on";
const DATABASES: &str = "`postgres`, `sqlite`";

/// All metrics.
pub fn metrics() -> impl Iterator<Item = &'static Metric> {
    SECTIONS.iter().flat_map(|section| section.metrics)
}

/// Tells the recorder the help of every metric.
pub fn describe_all() {
    for metric in metrics() {
        let unit = metric.unit.recorded();
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, unit, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, unit, metric.help),
            Kind::Histogram => describe_histogram!(metric.name, unit, metric.help),
        }
    }
}

/// The text of `docs/metrics.md`.
pub fn page() -> String {
    let mut page = String::from(INTRODUCTION);
    for section in SECTIONS {
        // Writing to a `String` can't fail.
        let _ = write!(
            page,
            "\n## {}\n\n| metric | kind | unit | labels | meaning |\n|---|---|---|---|---|\n",
            section.title
        );
        for metric in section.metrics {
            let labels: Vec<String> =
                metric.labels.iter().map(|(name, values)| format!("`{name}`: {values}")).collect();
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} | {} |",
                metric.name,
                metric.kind.word(),
                metric.unit.word(),
                labels.join("; "),
                metric.help
            );
        }
    }
    page
}

const INTRODUCTION: &str = "\
# Metrics

Every node serves its metrics at `/metrics` on the metrics port (`metrics_listen`, by default `127.0.0.1:9090`), in
Prometheus' text format. Counters begin at 0 when the node starts. Histograms of seconds have buckets from 50 µs to 10 s,
those of batches from 1 to 4,096. A series appears when what it counts can first happen on the node.

This page is made from the table in `crates/telemetry/src/catalogue.rs`; a test compares the two, and with `UPDATE=1` writes
this page anew.
";

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

impl Unit {
    /// The buckets of a histogram that counts this.
    pub fn buckets(self) -> &'static [f64] {
        match self {
            Unit::Seconds => SECONDS_BUCKETS,
            Unit::Count | Unit::Bytes | Unit::Flag => COUNT_BUCKETS,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Unit::Count => "count",
            Unit::Seconds => "seconds",
            Unit::Bytes => "bytes",
            Unit::Flag => "0 or 1",
        }
    }

    fn recorded(self) -> metrics::Unit {
        match self {
            Unit::Count | Unit::Flag => metrics::Unit::Count,
            Unit::Seconds => metrics::Unit::Seconds,
            Unit::Bytes => metrics::Unit::Bytes,
        }
    }
}

type Labels = &'static [(&'static str, &'static str)];

const fn gauge(name: &'static str, unit: Unit, help: &'static str, labels: Labels) -> Metric {
    Metric { name, kind: Kind::Gauge, unit, help, labels }
}

const fn counter(name: &'static str, help: &'static str, labels: Labels) -> Metric {
    counter_of(name, Unit::Count, help, labels)
}

const fn counter_of(name: &'static str, unit: Unit, help: &'static str, labels: Labels) -> Metric {
    Metric { name, kind: Kind::Counter, unit, help, labels }
}

const fn histogram(name: &'static str, unit: Unit, help: &'static str, labels: Labels) -> Metric {
    Metric { name, kind: Kind::Histogram, unit, help, labels }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        let mut seen = HashSet::new();
        for metric in metrics() {
            assert!(seen.insert(metric.name), "{} stands there twice", metric.name);
            assert!(metric.help.ends_with('.') && !metric.help.contains('|'), "{}", metric.name);
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
            let bare = metric.name.trim_end_matches("_total");
            assert_eq!(metric.unit == Unit::Seconds, bare.ends_with("_seconds"), "{}", metric.name);
            let bytes = bare.split('_').any(|word| word == "bytes");
            assert_eq!(metric.unit == Unit::Bytes, bytes, "{}", metric.name);
        }
    }
}
