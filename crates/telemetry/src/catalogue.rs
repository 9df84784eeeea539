//! Table of every Starling metric. `/metrics` takes its descriptions from here, and `docs/metrics.md` is generated from it.

use std::fmt::Write;

use metrics::{describe_counter, describe_gauge, describe_histogram};

/// Bucket bounds of histograms of seconds: 50 µs to 10 s.
pub const SECONDS_BUCKETS: &[f64] = &[
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0,
];

/// Bucket bounds of histograms of the seconds that work in the background takes: 1 ms to an hour.
pub const LONG_SECONDS_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0,
    3_600.0,
];

/// Bucket bounds of histograms of batch sizes.
pub const COUNT_BUCKETS: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 2_048.0, 4_096.0];

/// Kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, starting from 0 when the node starts.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts samples in buckets.
    Histogram,
}

/// Unit of a metric's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things, named in the help text.
    Count,
    /// Seconds. A histogram of them ends at 10 s.
    Seconds,
    /// Seconds of work that may take an hour, up to which a histogram of them goes.
    LongSeconds,
    /// A number of bytes.
    Bytes,
    /// 1 for yes, 0 for no.
    Flag,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name, as Prometheus sees it.
    pub name: &'static str,
    /// How the value changes.
    pub kind: Kind,
    /// Unit of the value.
    pub unit: Unit,
    /// Help text: one sentence that says what the value means.
    pub help: &'static str,
    /// Labels, each with a description of its values. Every label has a bounded number of values.
    pub labels: &'static [(&'static str, &'static str)],
}

/// A group of related metrics.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Heading in `docs/metrics.md`.
    pub title: &'static str,
    /// Metrics of the group.
    pub metrics: &'static [Metric],
}

/// All metrics, in the order of `docs/metrics.md`.
pub const SECTIONS: &[Section] = &[
    CONNECTIONS,
    COMMANDS,
    MESSAGES,
    DELIVERY,
    FANOUT,
    SESSION_STORE,
    STORE,
    JOBS,
    RABBITMQ,
    HOOKS,
    LIMITS,
    NODE,
    PROCESS,
];

/// Connections, handshakes and sessions.
pub const CONNECTIONS: Section = Section {
    title: "Connections and sessions",
    metrics: &[
        gauge("starling_connections", Unit::Count, "Open connections.", &[]),
        gauge("starling_sessions", Unit::Count, "Sessions attached to a connection of this node.", &[]),
        counter("starling_connections_opened_total", "Handshakes that succeeded.", &[]),
        counter(
            "starling_connections_closed_total",
            "Connections that were closed, by close code.",
            &[("code", "the close code, `1006` if the connection was lost without one, `other`")],
        ),
        counter(
            "starling_handshakes_refused_total",
            "Handshakes that were refused with an HTTP error.",
            &[(
                "reason",
                "`address` (a limit), `draining`, `method`, `origin`, `storm` (too many at once), `subprotocol`, `tls`, `token`, `upgrade`",
            )],
        ),
        histogram(
            "starling_handshake_seconds",
            Unit::Seconds,
            "Time from accepting the connection to the response `101 Switching Protocols`.",
            &[],
        ),
        counter(
            "starling_resumes_total",
            "Successful `connect` commands, by whether they resumed an earlier session.",
            &[("result", "`resumed`, `new`")],
        ),
        counter(
            "starling_presence_changes_total",
            "Times that a user went online or offline in a conversation.",
            &[],
        ),
    ],
};

/// Commands and frames of clients.
pub const COMMANDS: Section = Section {
    title: "Commands and frames",
    metrics: &[
        counter("starling_commands_total", "Commands received from clients.", &[("op", "the command")]),
        counter(
            "starling_command_errors_total",
            "Commands that failed, by error code.",
            &[("code", "the error code")],
        ),
        histogram(
            "starling_command_seconds",
            Unit::Seconds,
            "Time from receiving a command to queueing its reply.",
            &[],
        ),
        counter("starling_frames_received_total", "Data frames received from clients.", &[]),
        counter_of("starling_bytes_received_total", Unit::Bytes, "Bytes read from connections.", &[]),
        counter_of("starling_bytes_sent_total", Unit::Bytes, "Bytes written to connections.", &[]),
    ],
};

/// From a `send` to the committed row.
pub const MESSAGES: Section = Section {
    title: "Messages",
    metrics: &[
        counter("starling_messages_committed_total", "Messages committed to the log.", &[]),
        counter("starling_messages_duplicate_total", "Sends whose key was already in the log.", &[]),
        histogram(
            "starling_commit_seconds",
            Unit::Seconds,
            "Time from queueing a message for the log to the commit of its batch.",
            &[],
        ),
        histogram("starling_append_batch_size", Unit::Count, "Messages per batch for the log.", &[]),
        gauge(
            "starling_lane_depth",
            Unit::Count,
            "Entries waiting in a lane, a queue inside the node.",
            &[(
                "lane",
                "`append` (messages for the log), `publish` (for the other nodes), `topic` (publications on topics), `presence` (writes to the session store)",
            )],
        ),
        gauge(
            "starling_reads_waiting",
            Unit::Count,
            "Reads requested by clients that wait for their turn at the database.",
            &[],
        ),
    ],
};

/// Delivery of events to connections.
pub const DELIVERY: Section = Section {
    title: "Delivery",
    metrics: &[
        gauge(
            "starling_conversations_joined",
            Unit::Count,
            "Conversations joined by at least one connection of this node.",
            &[],
        ),
        gauge(
            "starling_topics_subscribed",
            Unit::Count,
            "Topics subscribed to by at least one connection of this node.",
            &[],
        ),
        counter("starling_deliveries_total", "Events put into the queues of connections.", &[]),
        histogram(
            "starling_delivery_seconds",
            Unit::Seconds,
            "Time from a message's commit to its event entering a connection's queue.",
            &[],
        ),
        gauge("starling_queue_bytes", Unit::Bytes, "Bytes waiting in the queues of connections.", &[]),
        counter(
            "starling_drops_total",
            "Times that waiting events of one connection were dropped: `ephemeral` ones are lost, `durable` ones are read from the log later. `publication` counts each publication that was dropped on its way to other nodes.",
            &[("kind", "`ephemeral`, `durable`, `publication`")],
        ),
        counter(
            "starling_catch_ups_total",
            "Times that a live subscription fell behind and had to be served from the log until it caught up.",
            &[],
        ),
        counter(
            "starling_catch_up_pages_total",
            "Pages of the log read for connections: to replay messages after a join or resume, and to catch up.",
            &[],
        ),
        counter(
            "starling_overloaded_closes_total",
            "Connections that were closed because they were too far behind to be served.",
            &[],
        ),
        counter(
            "starling_sequencer_holes_total",
            "Times that a message arrived whose number was not the next one of its conversation.",
            &[],
        ),
        counter("starling_sequencer_repairs_total", "Holes that were filled from the log.", &[]),
        counter(
            "starling_sequencer_repeats_total",
            "Messages that arrived more than once, and were dropped.",
            &[],
        ),
    ],
};

/// Fan-out of publications between nodes.
pub const FANOUT: Section = Section {
    title: "Fan-out between nodes",
    metrics: &[
        gauge(
            "starling_fanout_up",
            Unit::Flag,
            "Whether this node receives what the other nodes publish.",
            &[],
        ),
        histogram(
            "starling_fanout_lag_seconds",
            Unit::Seconds,
            "Time from a publication on another node to its arrival here. It includes the difference between the two nodes' clocks.",
            &[],
        ),
        counter(
            "starling_fanout_unwanted_total",
            "Publications received about conversations that this node does not know.",
            &[],
        ),
        gauge(
            "starling_interest_conversations",
            Unit::Count,
            "Conversations that this node knows, of which the other nodes send it what happens.",
            &[],
        ),
        gauge(
            "starling_interest_known",
            Unit::Count,
            "Pairs of a conversation and another node that knows it, as this node was told.",
            &[],
        ),
        gauge(
            "starling_interest_uncertain_nodes",
            Unit::Count,
            "Other nodes that are sent everything, because it is not known which conversations they know.",
            &[],
        ),
        counter(
            "starling_gaps_total",
            "Times that this node may have missed publications and checked its conversations in the log.",
            &[],
        ),
        histogram("starling_publish_batch_size", Unit::Count, "Publications per batch for the fan-out.", &[]),
        counter(
            "starling_fanout_publications_total",
            "Publications sent to Redis.",
            &[("kind", FANOUT_KINDS)],
        ),
        counter(
            "starling_fanout_batches_total",
            "Calls to Redis that carried publications.",
            &[("kind", FANOUT_KINDS)],
        ),
        counter(
            "starling_fanout_failures_total",
            "Calls to Redis that carried publications and failed.",
            &[("kind", FANOUT_KINDS)],
        ),
        histogram(
            "starling_fanout_batch_size",
            Unit::Count,
            "Publications per call to Redis.",
            &[("kind", FANOUT_KINDS)],
        ),
        histogram(
            "starling_fanout_publish_seconds",
            Unit::Seconds,
            "Duration of a call to Redis that carried publications.",
            &[("kind", FANOUT_KINDS)],
        ),
        counter("starling_fanout_received_total", "Publications received from Redis.", &[]),
        counter(
            "starling_fanout_gaps_total",
            "Times that the link to Redis may have lost publications.",
            &[],
        ),
        counter(
            "starling_fanout_malformed_total",
            "Publications that could not be decoded, because something else publishes on Starling's channels.",
            &[],
        ),
        counter("starling_fanout_reconnects_total", "Times that the link to Redis was reconnected.", &[]),
        counter(
            "starling_fanout_lagged_total",
            "Publications that were dropped because this node did not process them fast enough.",
            &[],
        ),
        gauge("starling_fanout_connected", Unit::Flag, "Whether the link to Redis is connected.", &[]),
    ],
};

/// Sessions, presence and nodes in Redis.
pub const SESSION_STORE: Section = Section {
    title: "The session store",
    metrics: &[
        histogram(
            "starling_session_store_command_seconds",
            Unit::Seconds,
            "Duration of a call to the session store in Redis.",
            &[("command", SESSION_STORE_COMMANDS)],
        ),
        counter(
            "starling_session_store_errors_total",
            "Calls to the session store that failed.",
            &[("command", SESSION_STORE_COMMANDS)],
        ),
        counter(
            "starling_session_store_attached_total",
            "Attaches of sessions to connections, by outcome. A `rebuilt` session was not in the store and was restored from its ticket.",
            &[("outcome", "`new`, `resumed`, `rebuilt`, `refused`")],
        ),
        counter(
            "starling_session_store_refused_total",
            "Calls that failed at once because Redis is known to be down.",
            &[],
        ),
        counter(
            "starling_session_store_reconnects_total",
            "Connections to Redis that were replaced because the server was silent or had become a replica.",
            &[],
        ),
        counter(
            "starling_session_store_script_loads_total",
            "Times that the scripts had to be loaded into Redis.",
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
            "Nodes with a valid lease, at the last beat.",
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
            "Time that the database took to commit a batch of messages.",
            &[("database", DATABASES)],
        ),
        histogram(
            "starling_store_commit_messages",
            Unit::Count,
            "Messages per committed batch.",
            &[("database", DATABASES)],
        ),
        histogram(
            "starling_store_call_seconds",
            Unit::Seconds,
            "Duration of any other call to the database.",
            &[("database", DATABASES), ("work", "`read`, `write`")],
        ),
        counter(
            "starling_store_messages_total",
            "Messages in batches for the log, by outcome.",
            &[
                ("database", DATABASES),
                ("outcome", "`stored`, `duplicate`, `no_such_conversation`, `refused`, `unavailable`"),
            ],
        ),
        counter(
            "starling_store_errors_total",
            "Calls to the database that failed.",
            &[("database", DATABASES), ("kind", "`unavailable`, `refused`, `unsupported`, `address`")],
        ),
        counter(
            "starling_store_replica_fallbacks_total",
            "Reads that failed on the replica and were answered by the primary.",
            &[("database", DATABASES)],
        ),
        gauge(
            "starling_pool_connections",
            Unit::Count,
            "Connections in a pool, by state.",
            &[("pool", "the name of the pool, as in `/health`"), ("state", "`idle`, `used`")],
        ),
        gauge(
            "starling_pool_waiting",
            Unit::Count,
            "Calls that wait for a connection of a pool.",
            &[("pool", "the name of the pool, as in `/health`")],
        ),
    ],
};

/// Caches in the process and in Redis.
///
/// No node has a cache yet, so the section is not among [`SECTIONS`] and not on the page.
pub const CACHES: Section = Section {
    title: "Caches",
    metrics: &[
        counter("starling_cache_hits_total", "Lookups that a level answered.", &[CACHE, CACHE_LEVEL]),
        counter(
            "starling_cache_misses_total",
            "Lookups that a level could not answer.",
            &[CACHE, CACHE_LEVEL],
        ),
        counter(
            "starling_cache_outdated_total",
            "Values that a level refused because they were older than a known change.",
            &[CACHE, CACHE_LEVEL],
        ),
        counter(
            "starling_cache_loads_total",
            "Loads from the source, by outcome.",
            &[CACHE, ("outcome", "`found`, `absent`, `failed`, `timed_out`")],
        ),
        histogram(
            "starling_cache_load_seconds",
            Unit::Seconds,
            "Duration of a load from the source.",
            &[CACHE],
        ),
        counter(
            "starling_cache_early_refreshes_total",
            "Entries that were loaded again shortly before they expired.",
            &[CACHE],
        ),
        counter(
            "starling_cache_gaps_total",
            "Times that everything in the process was dropped because invalidations may have been missed.",
            &[CACHE],
        ),
        counter("starling_cache_malformed_total", "Entries in Redis that could not be decoded.", &[CACHE]),
        gauge(
            "starling_cache_bytes",
            Unit::Bytes,
            "Approximate size of the values in the process.",
            &[CACHE],
        ),
        gauge(
            "starling_cache_pending_invalidations",
            Unit::Count,
            "Changed keys that Redis has not been told of because it was down.",
            &[CACHE],
        ),
        counter("starling_cache_redis_errors_total", "Calls of caches to Redis that failed.", &[]),
        counter(
            "starling_cache_redis_refused_total",
            "Calls of caches that failed at once because Redis is known to be down.",
            &[],
        ),
        counter(
            "starling_cache_redis_reconnects_total",
            "Connections of caches to Redis that were replaced because the server was silent or had become a replica.",
            &[],
        ),
        counter(
            "starling_cache_redis_script_loads_total",
            "Times that the caches' scripts had to be loaded into Redis.",
            &[],
        ),
    ],
};

/// Refusals that keep one client from starving the rest.
pub const LIMITS: Section = Section {
    title: "Limits",
    metrics: &[counter(
        "starling_limited_total",
        "Refusals because of a limit, by limit.",
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
        gauge("starling_draining", Unit::Flag, "Whether this node is draining.", &[]),
        counter(
            "starling_moved_connections_total",
            "Clients that were asked to move to another node, because their connection was old or this node had too many sessions.",
            &[],
        ),
        counter(
            "starling_balance_looks_total",
            "Times that this node compared its number of sessions with those of the other nodes, by result.",
            &[(
                "result",
                "`asked` (some clients were asked to move), `balanced`, `paused` (asking did not help lately), `unsure` (the load of the other nodes is not known)",
            )],
        ),
        gauge("starling_build_info", Unit::Flag, "Always 1.", &[("version", "the program's version")]),
        counter(
            "starling_log_lines_dropped_total",
            "Log lines that were dropped because standard output was too slow.",
            &[],
        ),
        counter(
            "starling_error_reports_total",
            "Reports of errors and panics for the service that `sentry_dsn` names, by result.",
            &[(
                "result",
                "`sent`, `failed` (the service could not be reached, or refused it), `dropped` (too many at once)",
            )],
        ),
    ],
};

/// Queues of jobs and the workers that do them.
pub const JOBS: Section = Section {
    title: "Jobs",
    metrics: &[
        gauge(
            "starling_jobs",
            Unit::Count,
            "Jobs in the database by state, over all queues and tenants. Every node shows the same.",
            &[(
                "state",
                "`scheduled`, `ready`, `running`, `done`, `failed` (all attempts failed: the dead letters), `cancelled`",
            )],
        ),
        gauge(
            "starling_jobs_oldest_ready_seconds",
            Unit::Seconds,
            "How long the first ready job has waited for a worker, in queues that are not paused. Every node shows about the same.",
            &[QUEUES],
        ),
        gauge(
            "starling_job_queues_without_worker",
            Unit::Count,
            "Queues of tenants, without paused ones, and without those with a rate, in which a job has been ready for a minute while none is running. Every node shows about the same.",
            &[QUEUES],
        ),
        counter("starling_jobs_enqueued_total", "Jobs that were added through this node.", &[]),
        counter("starling_schedules_fired_total", "Jobs that this node added for schedules.", &[]),
        counter(
            "starling_schedules_missed_total",
            "Schedules that this node found with a moment that no node had kept within 30 s. Several nodes may find the same one.",
            &[(
                "policy",
                "what follows for the moments that were missed: `skip` (nothing), `once` (one job), `all` (a job for each, a hundred at most)",
            )],
        ),
        counter("starling_jobs_taken_total", "Jobs that this node gave to workers outside.", &[]),
        gauge(
            "starling_jobs_running_here",
            Unit::Count,
            "Jobs that this node is doing: those of Starling's own queues, and those that go to RabbitMQ. 0 on a node without the role `worker`.",
            &[],
        ),
        counter(
            "starling_job_attempts_total",
            "Attempts that ended, by how.",
            &[(
                "outcome",
                "`done`, `retried` (failed, and another attempt follows), `failed` (failed for good), `lost` (the worker had died, or its lease was over), `handed_back` (the worker had gone before it got the job, or was about to end), `late` (a report after the attempt was lost, which changed nothing)",
            )],
        ),
        counter(
            "starling_job_claims_held_total",
            "Times that this node found jobs which a limit of their queue let not begin, by which. Jobs that wait are asked for again, so they count more than once.",
            &[("by", "`concurrency` (as many run as may), `rate` (the next one has a time)")],
        ),
        histogram(
            "starling_job_wait_seconds",
            Unit::LongSeconds,
            "Time from a job's becoming ready to its being given to a worker.",
            &[],
        ),
        histogram(
            "starling_job_run_seconds",
            Unit::LongSeconds,
            "Time from a job's being given to a worker to the worker's report.",
            &[],
        ),
        gauge("starling_job_workers_waiting", Unit::Count, "Workers that wait for jobs at this node.", &[]),
        gauge(
            "starling_job_worker_locked",
            Unit::Flag,
            "Whether other nodes notice at once if this node is killed while it does jobs. Otherwise they notice by its beats, after 3 s.",
            &[],
        ),
        counter(
            "starling_job_workers_dead_total",
            "Workers inside nodes that this node found dead, by how.",
            &[("noticed", "`lock` (its lock was gone: it was killed), `beats` (it had been silent for 3 s)")],
        ),
    ],
};

/// Bridges to RabbitMQ.
pub const RABBITMQ: Section = Section {
    title: "RabbitMQ (on nodes with bridges)",
    metrics: &[
        gauge(
            "starling_rabbitmq_connected",
            Unit::Flag,
            "Whether a bridge of this node works: it is connected, and has the exchanges and queues that it needs.",
            &[("direction", "`in`, `out`"), ("bridge", BRIDGE)],
        ),
        counter(
            "starling_rabbitmq_received_total",
            "Messages that this node acknowledged, by what became of them.",
            &[
                ("bridge", BRIDGE),
                (
                    "outcome",
                    "`added` (a job was added), `known` (its job was there already), `rejected` (it can't become a job, and is with the dead letters)",
                ),
            ],
        ),
        gauge(
            "starling_rabbitmq_unacknowledged",
            Unit::Count,
            "Messages that this node is making jobs of. They stay while the database is away.",
            &[("bridge", BRIDGE)],
        ),
        counter(
            "starling_rabbitmq_published_total",
            "Attempts to publish a job, by outcome.",
            &[
                ("bridge", BRIDGE),
                (
                    "outcome",
                    "`confirmed`, `returned` (no queue takes it), `refused` (by RabbitMQ), `timed_out` (not confirmed in time), `interrupted` (the connection broke, or the node was about to end: the job was handed back)",
                ),
            ],
        ),
        histogram(
            "starling_rabbitmq_confirm_seconds",
            Unit::Seconds,
            "Time from publishing a job to RabbitMQ's confirmation.",
            &[],
        ),
    ],
};

/// The values of the label `bridge`.
const BRIDGE: &str = "the bridge's name in the settings";

/// Webhooks, and hooks that ask first.
pub const HOOKS: Section = Section {
    title: "Webhooks and hooks",
    metrics: &[
        gauge("starling_webhooks", Unit::Count, "Webhooks of all tenants. Every node shows the same.", &[]),
        gauge(
            "starling_webhooks_paused",
            Unit::Count,
            "Webhooks that are paused. Every node shows the same.",
            &[(
                "reason",
                "`failed` (its newest attempt failed: all had failed for `webhook_pause_after_seconds`), `wanted` (somebody paused it)",
            )],
        ),
        gauge(
            "starling_webhook_oldest_waiting_seconds",
            Unit::Seconds,
            "How long ago the first event happened that is not delivered to a webhook, without paused ones. Every node shows about the same.",
            &[],
        ),
        gauge(
            "starling_webhook_oldest_due_seconds",
            Unit::Seconds,
            "How long the first delivery whose time has come has waited for a node that makes it, without those that wait for other attempts of their own webhook or tenant to end. Every node shows about the same.",
            &[],
        ),
        gauge(
            "starling_webhook_users_online",
            Unit::Count,
            "Users with sessions on this node, or until a moment ago, whose coming and going webhooks are told.",
            &[],
        ),
        counter(
            "starling_webhook_deliveries_recorded_total",
            "Deliveries that this node recorded: one for each event and webhook.",
            &[],
        ),
        counter(
            "starling_webhook_events_lost_total",
            "Events that webhooks are not told of: they could not be recorded, or waited at one webhook when more than 10,000 did.",
            &[],
        ),
        counter(
            "starling_webhook_attempts_total",
            "Attempts to deliver that this node made, by outcome.",
            &[(
                "outcome",
                "`delivered`, `retried` (failed, and another attempt follows), `failed` (failed for good), `gone` (status 410, which removes the webhook unless it has another address by then)",
            )],
        ),
        histogram(
            "starling_webhook_attempt_seconds",
            Unit::Seconds,
            "Time that an attempt to deliver took.",
            &[],
        ),
        gauge(
            "starling_webhook_attempts_under_way",
            Unit::Count,
            "Attempts to deliver that are under way.",
            &[],
        ),
        gauge("starling_hooks", Unit::Count, "Hooks of all tenants. Every node shows the same.", &[]),
        counter(
            "starling_hook_questions_total",
            "Questions to the backends of hooks, by outcome.",
            &[(
                "outcome",
                "`allowed`, `refused`, `failed` (no usable answer in time), `open` (not asked: the backend had failed several times in a row), `busy` (not asked: too many questions of its tenant were under way)",
            )],
        ),
        histogram(
            "starling_hook_question_seconds",
            Unit::Seconds,
            "Time from the beginning of a question to its outcome, including the wait for its turn.",
            &[],
        ),
        gauge(
            "starling_hook_questions_under_way",
            Unit::Count,
            "Questions that are under way or wait for their turn.",
            &[],
        ),
        gauge(
            "starling_hook_breakers_open",
            Unit::Count,
            "Hooks whose backend has failed five times in a row and has not answered since, on this node.",
            &[],
        ),
    ],
};

/// The process, with the metric names that Prometheus' own client libraries use.
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

const FANOUT_KINDS: &str = "`lane` (to all nodes), `nodes` (to those that a conversation concerns), `topic`, `direct` (a message to one node)";
const QUEUES: (&str, &str) = (
    "queues",
    "`internal` (those whose jobs nodes with the role `worker` do: of Starling itself, and of bridges as the nodes see them that carry these), `outside` (those of applications)",
);
const CACHE: (&str, &str) = ("cache", "the name of the cache");
const CACHE_LEVEL: (&str, &str) = ("level", "`process`, `redis`");
const SESSION_STORE_COMMANDS: &str = "the call: `attach`, `beat`, `set_presence` and so on";
const DATABASES: &str = "`postgres`, `sqlite`";

/// All metrics.
pub fn metrics() -> impl Iterator<Item = &'static Metric> {
    SECTIONS.iter().flat_map(|section| section.metrics)
}

/// Registers the help text of every metric with the recorder.
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

/// Returns the text of `docs/metrics.md`.
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
Prometheus' text format. Counters start at 0 when the node starts. Histograms of seconds have buckets from 50 µs to 10 s, those
of jobs from 1 ms to an hour, those of batches from 1 to 4,096. A series appears once the counted event can first happen on the node.

This page is generated from the table in `crates/telemetry/src/catalogue.rs`. A test compares the two, and with `UPDATE=1` it
writes this page again.
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
    /// Returns the bucket bounds for a histogram with this unit.
    pub fn buckets(self) -> &'static [f64] {
        match self {
            Unit::Seconds => SECONDS_BUCKETS,
            Unit::LongSeconds => LONG_SECONDS_BUCKETS,
            Unit::Count | Unit::Bytes | Unit::Flag => COUNT_BUCKETS,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Unit::Count => "count",
            Unit::Seconds | Unit::LongSeconds => "seconds",
            Unit::Bytes => "bytes",
            Unit::Flag => "0 or 1",
        }
    }

    fn recorded(self) -> metrics::Unit {
        match self {
            Unit::Count | Unit::Flag => metrics::Unit::Count,
            Unit::Seconds | Unit::LongSeconds => metrics::Unit::Seconds,
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
            assert!(seen.insert(metric.name), "{} is listed twice", metric.name);
            assert!(metric.help.ends_with('.') && !metric.help.contains('|'), "{}", metric.name);
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
            let bare = metric.name.trim_end_matches("_total");
            let seconds = matches!(metric.unit, Unit::Seconds | Unit::LongSeconds);
            assert_eq!(seconds, bare.ends_with("_seconds"), "{}", metric.name);
            let bytes = bare.split('_').any(|word| word == "bytes");
            assert_eq!(metric.unit == Unit::Bytes, bytes, "{}", metric.name);
        }
    }
}
