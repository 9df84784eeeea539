//! Every setting, in one table: the key in the file, the flag, the variables, the default and the help all come from here, and
//! so does `docs/configuration.md`.

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// Text that is masked wherever it is shown.
    Secret,
    /// A URL, whose password is masked wherever it is shown.
    Url,
    /// HOST:PORT.
    Address,
    /// A whole number from 0 to this.
    Number(u64),
    /// A whole number from 1 to this.
    Positive(u64),
    /// `true` or `false`.
    Switch,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The key in the file; with `-` for `_` the flag, and in capitals after `STARLING_` the variable.
    pub key: &'static str,
    /// A variable of another name that means the same.
    pub variable: Option<&'static str>,
    /// What a value looks like.
    pub kind: Kind,
    /// What holds when nothing is set, as it would be written; empty: nothing.
    pub default: &'static str,
    /// What it means, in one or two sentences.
    pub help: &'static str,
}

impl Setting {
    /// The flag, without dashes.
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }
    /// The variable.
    pub fn variable(&self) -> String {
        format!("STARLING_{}", self.key.to_uppercase())
    }
    /// Whether values are to be masked.
    pub fn is_secret(&self) -> bool {
        self.kind == Kind::Secret
    }
}

const fn setting(key: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Setting {
    Setting { key, variable: None, kind, default, help }
}

const fn known_as(variable: &'static str, setting: Setting) -> Setting {
    Setting { variable: Some(variable), ..setting }
}

/// A day: longer than any of these times makes sense.
const DAY: u64 = 86_400;
const MANY: u64 = u32::MAX as u64;
/// Conversations, and topics, of one session: what the session store keeps of both together.
const NAMES_MAX: u64 = starling_session_store::NAMES_PER_SESSION_MAX as u64 / 2;

/// Settings by section, in the order of the documentation.
pub const SECTIONS: &[(&str, &[Setting])] = &[
    (
        "The node",
        &[
            setting(
                "listen",
                Kind::Address,
                "127.0.0.1:8080",
                "Address of the public port: WebSocket, HTTP and the console page. Loopback until told otherwise.",
            ),
            setting(
                "metrics_listen",
                Kind::Address,
                "127.0.0.1:9090",
                "Address of the metrics port (`/metrics`).",
            ),
            setting(
                "node",
                Kind::Text,
                "",
                "This node's name, unique in the cluster. Without it: the host's name and a random suffix.",
            ),
            setting(
                "address",
                Kind::Text,
                "",
                "Where operators can reach this node; shown in the list of nodes.",
            ),
            setting(
                "shards",
                Kind::Number(1_024),
                "0",
                "Threads that own sockets. 0: one for each processor.",
            ),
            setting(
                "tls_certificate_file",
                Kind::Text,
                "",
                "PEM file with the certificate chain, for TLS on the public port. Cheaper at the load balancer.",
            ),
            setting(
                "tls_key_file",
                Kind::Text,
                "",
                "PEM file with the private key of `tls_certificate_file`.",
            ),
            setting(
                "allowed_origins",
                Kind::Text,
                "",
                "Origins of pages that may connect and call over HTTP (CORS), comma-separated: `https://app.example`, `https://*.app.example` (all sub-domains), `capacitor://localhost`, `null`; or `*`. Without it: pages of the same host.",
            ),
            setting(
                "trusted_proxies",
                Kind::Text,
                "",
                "Addresses (`10.0.0.1`) and networks (`10.0.0.0/8`, `fd00::/8`) of load balancers whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed, comma-separated. Limits per address then hold for the clients behind them.",
            ),
            setting(
                "permessage_deflate",
                Kind::Switch,
                "false",
                "Whether compression is negotiated with clients that offer it. Costs processor time; no memory is kept between messages.",
            ),
        ],
    ),
    (
        "Redis and the database",
        &[
            known_as(
                "REDIS_URL",
                setting(
                    "redis_url",
                    Kind::Url,
                    "",
                    "`redis://`, `rediss://`, `redis-cluster://` or `redis-sentinel://`. Without it: sessions and fan-out inside the process, for one node.",
                ),
            ),
            setting(
                "redis_prefix",
                Kind::Text,
                "starling",
                "What the names of all keys and channels in Redis begin with, the same on all nodes. Clusters that share a Redis need different ones, or databases of their own (`redis://…/1`).",
            ),
            known_as(
                "DATABASE_URL",
                setting(
                    "database_url",
                    Kind::Url,
                    "sqlite://data/starling.db",
                    "`postgres://…` or `sqlite://PATH`, where `~/` is the home folder.",
                ),
            ),
            known_as(
                "DATABASE_READ_URL",
                setting(
                    "database_read_url",
                    Kind::Url,
                    "",
                    "A read replica of PostgreSQL, for old history and lists.",
                ),
            ),
            setting(
                "database_pool_size",
                Kind::Positive(1_000),
                "50",
                "Connections to PostgreSQL at most, to the primary and the replica each.",
            ),
            setting(
                "database_prepared_statements",
                Kind::Switch,
                "false",
                "Named prepared statements. Not with PgBouncer in transaction mode.",
            ),
            setting(
                "database_migrate",
                Kind::Switch,
                "true",
                "Whether a starting node brings the schema up to date. Otherwise `starling migrate` does.",
            ),
            setting(
                "start_timeout_seconds",
                Kind::Positive(DAY),
                "30",
                "How long a starting node waits for the database.",
            ),
            setting(
                "append_lanes",
                Kind::Positive(64),
                "2",
                "Batches of messages that may be on their way to the database at once.",
            ),
            setting(
                "append_queue",
                Kind::Positive(1_000_000),
                "16384",
                "Messages that may wait for the database on each lane, before senders are told `unavailable`. All lanes together hold 128 MiB at most.",
            ),
        ],
    ),
    (
        "Tokens",
        &[
            setting(
                "jwt_secret",
                Kind::Secret,
                "",
                "HS256 secret, 32 bytes or more; also signs resume tickets. Without it and without `redis_url` a random one is made and kept beside the database file.",
            ),
            setting(
                "jwt_public_key_file",
                Kind::Text,
                "",
                "PEM file with the public key of those who sign tokens, instead of the secret.",
            ),
            setting(
                "jwt_jwks_url",
                Kind::Url,
                "",
                "Where the key set of those who sign tokens is, instead of the secret.",
            ),
            setting(
                "jwt_algorithm",
                Kind::Word(&["HS256", "RS256", "ES256", "EdDSA"]),
                "",
                "The one algorithm that is accepted. Needed with a key file or a key set.",
            ),
            setting(
                "jwt_issuer",
                Kind::Text,
                "",
                "What `iss` in a token must be, to the letter; several, comma-separated. Without it `iss` is not looked at.",
            ),
            setting(
                "jwt_audience",
                Kind::Text,
                "",
                "What `aud` in a token must be or contain; several, comma-separated: one of them. Without it `aud` is not looked at.",
            ),
            setting(
                "jwt_user_claim",
                Kind::Text,
                "sub",
                "The claim that names the user. What a name can't hold is escaped: `me+x@example.com` is the user `me..2Bx@example.com`.",
            ),
            setting("jwt_tenant_claim", Kind::Text, "tenant", "The claim that names the tenant."),
            setting(
                "jwt_scope_claim",
                Kind::Text,
                "scope",
                "The claim with the scopes: text with spaces between them, or a list. Some issuers call it `scp`.",
            ),
            setting(
                "ticket_secret",
                Kind::Secret,
                "",
                "Signs resume tickets, 32 bytes or more, the same on all nodes. Without it: `jwt_secret`.",
            ),
            setting(
                "ticket_secret_previous",
                Kind::Secret,
                "",
                "The ticket secret before the last rotation, still accepted.",
            ),
        ],
    ),
    (
        "Sessions and delivery",
        &[
            setting(
                "resume_window_seconds",
                Kind::Positive(DAY),
                "120",
                "How long a session outlives its socket.",
            ),
            setting(
                "heartbeat_seconds",
                Kind::Positive(3_600),
                "25",
                "How often the node pings. A peer silent for twice as long is gone.",
            ),
            setting(
                "connect_timeout_seconds",
                Kind::Positive(3_600),
                "10",
                "How long after the upgrade the first command may take.",
            ),
            setting(
                "replay_limit",
                Kind::Positive(1_000_000),
                "1000",
                "Messages that a join or resume replays at most, per conversation.",
            ),
            setting(
                "topic_history",
                Kind::Number(100_000),
                "100",
                "Publications of a topic that are kept for those who come back.",
            ),
            setting("topic_history_seconds", Kind::Positive(DAY), "60", "For how long they are kept."),
            setting(
                "queue_bytes",
                Kind::Positive(1 << 30),
                "262144",
                "What may wait for one socket, bytes. A slower reader is served from the log instead.",
            ),
            setting("drain_seconds", Kind::Number(DAY), "30", "How long a drain may take."),
            setting(
                "drain_notice_seconds",
                Kind::Number(DAY),
                "3",
                "How long a draining node still takes connections, so that load balancers notice. At most a quarter of the drain.",
            ),
            setting(
                "drain_clients_per_second",
                Kind::Positive(1_000_000),
                "500",
                "How many clients a draining node sends to each of the other nodes a second, as far as the drain's time allows.",
            ),
            setting(
                "connection_max_age_seconds",
                Kind::Number(30 * DAY),
                "0",
                "How old a connection may get before its client is asked to move to another node, up to a fifth earlier at random, and again each time it is as old once more. The node never closes it for that. 0 switches this off.",
            ),
            setting(
                "shed_above_percent",
                Kind::Number(10_000),
                "50",
                "How many percent above the mean of all nodes a node's sessions may be before it asks clients to move. Clients that stay are never closed for that. 0 switches this off.",
            ),
            setting(
                "shed_above_sessions",
                Kind::Number(MANY),
                "300",
                "How many sessions above the mean a node must also be before it asks clients to move.",
            ),
        ],
    ),
    (
        "Limits (0: none, unless it says otherwise)",
        &[
            setting(
                "limit_user_writes_per_minute",
                Kind::Number(MANY),
                "100",
                "Writes of one user, over all nodes: `send`, `publish`, `create`, and each change of a conversation or its members.",
            ),
            setting(
                "limit_connection_commands_per_second",
                Kind::Number(MANY),
                "50",
                "Commands on one connection.",
            ),
            setting(
                "limit_connection_bytes_per_second",
                Kind::Number(MANY),
                "1048576",
                "Bytes from one connection; it is read slower beyond that.",
            ),
            setting(
                "limit_connection_requests_per_second",
                Kind::Number(MANY),
                "1000",
                "HTTP requests per second on one connection; behind `trusted_proxies`, of one address. A response counts as one request per started 16 KiB.",
            ),
            setting(
                "limit_user_requests_per_second",
                Kind::Number(MANY),
                "5000",
                "HTTP requests per second of one user on one node, counted in the same way.",
            ),
            setting(
                "limit_user_reads_per_second",
                Kind::Number(MANY),
                "1000",
                "Reads of one user on one node, over all of their connections: `history`, `presence`, and what joins, resumes and other commands look up in the database. A page counts as one read per started 16 KiB, a resume as one per started 100 conversations. Reads beyond the limit wait, or get `rate_limited`.",
            ),
            setting(
                "limit_session_joins",
                Kind::Positive(NAMES_MAX),
                "1000",
                "Conversations that one session may be in; not 0.",
            ),
            setting(
                "limit_session_topics",
                Kind::Positive(NAMES_MAX),
                "1000",
                "Topics that one session may be subscribed to; not 0.",
            ),
            setting(
                "limit_conversation_members",
                Kind::Positive(1_000_000),
                "10000",
                "Members of a conversation; not 0.",
            ),
            setting(
                "limit_address_connections",
                Kind::Number(MANY),
                "1000",
                "Connections of one address on one node.",
            ),
            setting(
                "limit_address_handshakes_per_second",
                Kind::Number(MANY),
                "100",
                "Handshakes of one address on one node.",
            ),
            setting(
                "limit_handshakes_per_second",
                Kind::Number(MANY),
                "6000",
                "Handshakes per second on one node, of all clients together. At most a third as many sessions may start per second; resumes go first. Rejected clients are told when to retry.",
            ),
            setting(
                "limit_tenant_connections",
                Kind::Number(u64::MAX >> 1),
                "0",
                "Connections of one tenant, over all nodes.",
            ),
            setting(
                "limit_tenant_conversations",
                Kind::Number(u64::MAX >> 1),
                "0",
                "Conversations of one tenant.",
            ),
        ],
    ),
    (
        "Telemetry",
        &[
            setting(
                "log_format",
                Kind::Word(&["auto", "human", "json"]),
                "auto",
                "`human`, `json`, or `auto`: human on a terminal, JSON otherwise.",
            ),
            known_as(
                "RUST_LOG",
                setting("log", Kind::Text, "info", "What is logged: a level, or levels by module."),
            ),
            known_as(
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                setting(
                    "otlp_endpoint",
                    Kind::Url,
                    "",
                    "Where traces go, OTLP over HTTP. Without it: no traces.",
                ),
            ),
        ],
    ),
];

/// All settings.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    SECTIONS.iter().flat_map(|(_, settings)| settings.iter())
}

/// The setting of that key.
pub fn find(key: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.key == key)
}
