//! The configuration of the program: the settings of its parts, and those of the program itself.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use starling_auth::Algorithm;
use starling_database::postgres::PreparedStatements;
use starling_fanout::TopicSettings;
use starling_gateway::GatewayConfig;
use starling_hub::HubConfig;
use starling_job_service::JobSettings;
use starling_model::{NAME_RULE, is_name};
use starling_rabbitmq_bridge::RabbitmqSettings;
use starling_settings::{
    DAY_SECONDS, Loaded, Secret, Url, address, choice, count, list, optional_choice, parsed, path, seconds,
    secret, secret_url, secret_url_or, settings, switch, url,
};
use starling_telemetry::LogFormat;
use starling_webhook_service::WebhookSettings;

use crate::roles::Roles;

/// The configuration, with what was given to get there.
pub type Values = Loaded<Config>;

/// When prepared statements are used.
const PREPARED_STATEMENTS: [(&str, PreparedStatements); 3] = [
    ("auto", PreparedStatements::Auto),
    ("always", PreparedStatements::Always),
    ("never", PreparedStatements::Never),
];

/// Where the metrics port is by default.
const METRICS_LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9090));

settings! {
    /// The configuration of the program.
    pub struct Config {
        /// The edge.
        part gateway: GatewayConfig = {}
        /// The node.
        part node: NodeSettings = {}
        /// Where Redis is.
        part redis: RedisSettings = {}
        /// The database.
        part database: DatabaseSettings = {}
        /// Tokens and tickets.
        part tokens: TokenSettings = {}
        /// The meaning of commands.
        part hub: HubConfig = {}
        /// Queues of jobs.
        part jobs: JobSettings = {}
        /// Webhooks and hooks.
        part webhooks: WebhookSettings = {}
        /// Bridges to RabbitMQ.
        part rabbitmq: RabbitmqSettings = {}
        /// The history of topics.
        part topics: TopicHistory = {}
        /// Logs and traces.
        part telemetry: TelemetrySettings = {}
    }
}

settings! {
    /// Settings of the process.
    pub struct NodeSettings {
        /// Address of the metrics port: `/metrics`, and the probes of a worker.
        setting metrics_listen: SocketAddr = { Node "metrics_listen" address(METRICS_LISTEN) }
        /// What this node does, comma-separated: `gateway` takes clients, `worker` works in the background for the whole cluster. A
        /// worker alone has no public port; `/health` and `/ready` are then on the metrics port.
        setting roles: Roles = { Node "roles" parsed("LIST", Roles::parse).or(Roles::ALL) }
        /// This node's name, unique in the cluster. Without it: the host's name and a random suffix.
        setting name: Option<String> = { Node "node" parsed("NAME", optional_name) }
        /// Threads that own sockets. 0: one for each processor.
        setting shards: usize = { Node "shards" count(0, 0..=1_024) }
    }
}

settings! {
    /// Settings of Redis.
    pub struct RedisSettings {
        /// `redis://`, `rediss://`, `redis-cluster://` or `redis-sentinel://`. Without it: sessions and fan-out inside the process,
        /// for one node.
        setting url: Option<Url> = { Stores "redis_url" secret_url(); "REDIS_URL" }
        /// Prefix of all keys and channels in Redis, the same on all nodes. Clusters that share a Redis need different prefixes, or
        /// databases of their own (`redis://…/1`).
        setting prefix: String = { Stores "redis_prefix" parsed("NAME", name).or("starling") }
    }
}

settings! {
    /// Settings of the database.
    pub struct DatabaseSettings {
        /// `postgres://…` or `sqlite://PATH`, where `~/` is the home folder.
        setting url: Url = { Stores "database_url" secret_url_or("sqlite://data/starling.db"); "DATABASE_URL" }
        /// A read replica of PostgreSQL, for old history and lists.
        setting read_url: Option<Url> = { Stores "database_read_url" secret_url(); "DATABASE_READ_URL" }
        /// Most connections to PostgreSQL, to the primary and to the replica each.
        setting pool_size: usize = { Stores "database_pool_size" count(50, 1..=1_000) }
        /// Whether named prepared statements are used. They do not work with PgBouncer in transaction mode. `auto`: on connections
        /// that lead to PostgreSQL without a pooler, where settings are made once per connection, too.
        setting prepared_statements: PreparedStatements = { Stores "database_prepared_statements" choice(PreparedStatements::Auto, &PREPARED_STATEMENTS) }
        /// Whether a starting node brings the schema up to date. Otherwise `starling migrate` does.
        setting migrate: bool = { Stores "database_migrate" switch(true) }
        /// How long a starting node waits for the database.
        setting start_timeout: Duration = { Stores "start_timeout_seconds" seconds(30, 1..=DAY_SECONDS) }
    }
}

settings! {
    /// Settings of tokens and tickets.
    pub struct TokenSettings {
        /// HS256 secret, 32 bytes or more; also signs resume tickets. Without it and without `redis_url` a random one is made and
        /// kept beside the database file.
        setting jwt_secret: Option<Secret> = { Tokens "jwt_secret" secret() }
        /// PEM file with the public key of those who sign tokens, instead of the secret.
        setting public_key_file: Option<PathBuf> = { Tokens "jwt_public_key_file" path() }
        /// URL of the key set of those who sign tokens, instead of the secret.
        setting jwks_url: Option<Url> = { Tokens "jwt_jwks_url" url() }
        /// The one algorithm that is accepted. Needed with a key file or a key set.
        setting algorithm: Option<Algorithm> = { Tokens "jwt_algorithm" optional_choice(&ALGORITHMS) }
        /// Exact value of `iss` in a token; several values, comma-separated: one of them. Without it `iss` is not checked.
        setting issuers: Vec<String> = { Tokens "jwt_issuer" list() }
        /// Value that `aud` in a token must be or contain; several values, comma-separated: one of them. Without it `aud` is not
        /// checked.
        setting audiences: Vec<String> = { Tokens "jwt_audience" list() }
        /// The claim that names the user. Characters that a name can't hold are escaped: `me+x@example.com` is the user
        /// `me..2Bx@example.com`.
        setting user_claim: String = { Tokens "jwt_user_claim" parsed("CLAIM", claim).or("sub") }
        /// The claim that names the tenant.
        setting tenant_claim: String = { Tokens "jwt_tenant_claim" parsed("CLAIM", claim).or("tenant") }
        /// The claim with the scopes: text with spaces between them, or a list. Some issuers call it `scp`.
        setting scope_claim: String = { Tokens "jwt_scope_claim" parsed("CLAIM", claim).or("scope") }
        /// Signs resume tickets, 32 bytes or more, the same on all nodes. Without it: `jwt_secret`.
        setting ticket_secret: Option<Secret> = { Tokens "ticket_secret" secret() }
        /// The ticket secret before the last rotation, still accepted.
        setting ticket_secret_previous: Option<Secret> = { Tokens "ticket_secret_previous" secret() }
    }
}

/// The algorithms of tokens, by name.
const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("HS256", Algorithm::HS256),
    ("RS256", Algorithm::RS256),
    ("ES256", Algorithm::ES256),
    ("EdDSA", Algorithm::EdDSA),
];

settings! {
    /// The history of topics.
    pub struct TopicHistory {
        /// Publications of a topic that are kept for clients that come back.
        setting publications: u32 = { Delivery "topic_history" count(100, 0..=100_000) }
        /// How long they are kept.
        setting seconds: u32 = { Delivery "topic_history_seconds" count(60, 1..=DAY_SECONDS) }
    }
}

impl From<&TopicHistory> for TopicSettings {
    fn from(history: &TopicHistory) -> TopicSettings {
        TopicSettings { history: history.publications, history_seconds: history.seconds }
    }
}

settings! {
    /// Settings of logs and traces.
    pub struct TelemetrySettings {
        /// `human`, `json`, or `auto`: human on a terminal, JSON otherwise.
        setting log_format: LogFormat = { Telemetry "log_format" choice(LogFormat::Auto, &LOG_FORMATS) }
        /// What is logged: a level, or levels by module.
        setting log: String = { Telemetry "log" parsed("LEVELS", levels).or("info"); "RUST_LOG" }
        /// Where traces are sent, OTLP over HTTP. Without it: no traces.
        setting otlp_endpoint: Option<Url> = { Telemetry "otlp_endpoint" url(); "OTEL_EXPORTER_OTLP_ENDPOINT" }
        /// Where errors and panics are reported, without anything that users wrote: the DSN of Sentry or of a service that speaks its
        /// protocol, `https://KEY@HOST/PROJECT`. Without it: no reports.
        setting sentry_dsn: Option<Secret> = { Telemetry "sentry_dsn" secret(); "SENTRY_DSN" }
    }
}

/// The formats of log lines, by name.
const LOG_FORMATS: [(&str, LogFormat); 3] =
    [("auto", LogFormat::Auto), ("human", LogFormat::Human), ("json", LogFormat::Json)];

/// Reads a name: of a node, or what keys in Redis begin with, where braces would decide the slot in a cluster.
fn name(text: &str) -> Result<String, String> {
    if is_name(text) { Ok(text.to_owned()) } else { Err(format!("`{text}` is no name; {NAME_RULE}")) }
}

fn optional_name(text: &str) -> Result<Option<String>, String> {
    name(text).map(Some)
}

/// Reads which lines are logged. What is wrong with them is found when the log is set up.
fn levels(text: &str) -> Result<String, String> {
    Ok(if text.is_empty() { "info" } else { text }.to_owned())
}

/// Reads the name of a claim of tokens.
fn claim(text: &str) -> Result<String, String> {
    match text {
        "" => Err("is empty".to_owned()),
        "exp" | "nbf" | "iat" => Err(format!("`{text}` is a time, which names nobody")),
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &str) -> Result<Config, String> {
        let mut values = Values::default();
        values.read_text(&"starling.toml", file).map_err(|error| error.to_string())?;
        Ok(values.settings)
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |file| read(file).map(|_| ()).expect_err("bad");
        assert!(error("hartbeat_seconds = 1").contains("did you mean `heartbeat_seconds`?"));
        assert!(error("[tenants.acme]\nconections = 1").contains("did you mean `connections`?"));
        assert!(
            error("heartbeat_seconds = 0").contains("heartbeat_seconds: `0` is not a whole number from 1")
        );
        assert!(error("listen = 'here'").contains("listen: `here` is not an address"));
        assert!(error("allowed_origins = ['*', 'x']").contains("allowed_origins: `*` allows every origin"));
        assert!(error("trusted_proxies = 'x'").contains("trusted_proxies: `x` is neither an address nor"));
        assert!(error("node = 'a b'").contains("node: `a b` is no name"));
        assert!(error("jwt_user_claim = 'exp'").contains("jwt_user_claim: `exp` is a time"));
        assert!(error("jwt_algorithm = 'none'").contains("jwt_algorithm: `none` is not one of HS256, RS256"));
        assert!(!error("redis_url = 'user:hush@host'").contains("hush"));
    }

    #[test]
    fn a_table_that_no_tenant_can_have_is_refused() {
        for name in ["", "a b", "a/b", "..", "ä", "a\nb", "\"", &"a".repeat(101)] {
            let error =
                read(&format!("[tenants.{name:?}]\nconnections = 1")).map(|_| ()).expect_err("no name");
            assert!(error.starts_with(&format!("tenants: {name:?} is no name")), "{error}");
        }
    }

    #[test]
    fn a_setting_in_the_file_arrives_at_the_part_that_uses_it() {
        let config = read(
            "heartbeat_seconds = 9\nreplay_limit = 7\ndatabase_pool_size = 5\nlimit_tenant_connections = 4\n\
             [tenants.acme]\nconversations = 3",
        )
        .expect("good");
        assert_eq!((config.gateway.heartbeat, config.hub.replay_limit), (Duration::from_secs(9), 7));
        assert_eq!((config.database.pool_size, config.topics.publications), (5, 100));
        let limits = config.hub.limits_of(&"acme".into());
        assert_eq!((limits.user_writes_per_minute, limits.connections, limits.conversations), (100, 4, 3));
        assert_eq!(config.hub.limits_of(&"other".into()).conversations, 0);
    }

    #[test]
    fn every_default_is_a_good_value_and_every_key_has_one_meaning() {
        let mut keys = std::collections::HashSet::new();
        for setting in &Values::default().catalogue().settings {
            assert!(setting.names().all(|name| keys.insert(name.key)), "{}", setting.key);
            if let Some(default) = &setting.shape.default {
                let line = format!("{} = {}", setting.key, setting.shape.toml(default));
                assert_eq!(read(&line).map(|_| ()), Ok(()), "{line}");
            }
        }
    }
}
