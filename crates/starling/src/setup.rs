//! The checked configuration of all parts: whatever can be wrong about it is found here, before a port is bound.

use std::fs::{OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use starling_auth::{Algorithm, ClaimNames, KeySource, TicketKey, VerifierOptions, sign_claims, user_name};
use starling_conversation_store::postgres::PostgresConfig;
use starling_conversation_store::sqlite::SqliteConfig;
use starling_database::{DatabaseAddress, Error as DatabaseError};
use starling_fanout::TopicSettings;
use starling_gateway::{AddressLimits, GatewayConfig, Origins, RequestLimits, TlsConfig};
use starling_hub::{HubConfig, TenantLimits};
use starling_model::{NAME_RULE, is_name};
use starling_redis_link::RedisAddress;
use starling_telemetry::{LogFormat, TelemetryConfig, check_filter};
use starling_wire::protocol::CLIENT_FRAME_BYTES_MAX;

use crate::Failure;
use crate::config::{BadConfig, Values, database_address, proxies, secret_file};
use crate::output::warn;

/// The fewest bytes of a secret.
const SECRET_BYTES_MIN: usize = 32;
/// How many reads of the log for sockets that are behind are under way at most: more of them don't make the database any faster. They
/// never take more than half of the connections, so that sends find some.
const LOG_READS_AT_ONCE_MAX: usize = 16;

/// How many reads that clients ask for are under way at most, for the same reason.
const READS_AT_ONCE_MAX: usize = 16;

/// The checked configuration of all parts.
pub struct Setup {
    pub gateway: GatewayConfig,
    pub hub: HubConfig,
    pub telemetry: TelemetryConfig,
    pub metrics_listen: std::net::SocketAddr,
    pub redis: Option<RedisAddress>,
    /// What names in Redis begin with, with their version.
    pub redis_prefix: String,
    pub database: Database,
    pub topics: TopicSettings,
    pub keys: Keys,
    pub shards: usize,
}

/// Where the log is, and what is done with it at the start.
pub struct Database {
    pub url: String,
    /// Where it is PostgreSQL.
    pub postgres: Option<PostgresConfig>,
    pub migrate: bool,
    pub start_timeout: std::time::Duration,
}

/// How tokens are checked and tickets signed.
pub struct Keys {
    pub algorithm: Algorithm,
    pub source: KeySource,
    pub options: VerifierOptions,
    pub tickets: TicketKey,
    /// The secret that was made for a node without configuration: a link with a token is printed.
    pub own_secret: Option<Vec<u8>>,
}

impl Setup {
    /// Checks everything that can be checked without opening or writing anything.
    pub fn check(values: &Values) -> Result<(), BadConfig> {
        gateway(values)?;
        hub(values, node_name(values)?)?;
        telemetry(values, String::new())?;
        Database::read(values)?;
        redis(values)?;
        if own_secret_file(values)?.is_none() {
            keys(values, None)?;
        }
        values.parsed::<std::net::SocketAddr>("metrics_listen")?;
        Ok(())
    }

    /// Reads everything. Makes and keeps a secret where none is configured and one node serves alone.
    pub fn read(values: &Values) -> Result<Setup, Failure> {
        Setup::check(values)?;
        let own_secret = match own_secret_file(values)? {
            Some(file) => Some(own_secret(file.as_deref())?),
            None => None,
        };
        let node = node_name(values)?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = match values.parsed::<usize>("shards")? {
            0 => processors,
            shards => shards,
        };
        let topics = TopicSettings {
            history: values.parsed("topic_history")?,
            history_seconds: values.parsed("topic_history_seconds")?,
        };
        Ok(Setup {
            gateway: gateway(values)?,
            telemetry: telemetry(values, node.clone())?,
            hub: hub(values, node)?,
            metrics_listen: values.parsed("metrics_listen")?,
            redis: redis(values)?,
            redis_prefix: redis_prefix(values)?,
            database: Database::read(values)?,
            topics,
            keys: keys(values, own_secret)?,
            shards,
        })
    }
}

impl Database {
    /// Reads what says where the log is, and nothing else: who migrates needs no key to tokens.
    pub fn read(values: &Values) -> Result<Self, BadConfig> {
        Ok(Self {
            url: values.parsed("database_url")?,
            postgres: postgres(values)?,
            migrate: values.parsed("database_migrate")?,
            start_timeout: values.seconds("start_timeout_seconds")?,
        })
    }
}

/// `starling token`
pub fn token(
    values: &Values,
    user: &str,
    tenant: &str,
    scope: &str,
    ttl_seconds: u64,
) -> Result<String, Failure> {
    if user_name(user).is_none() {
        return Err(BadConfig(format!("--user: {user:?} is empty or holds control characters")).into());
    }
    if !is_name(tenant) {
        return Err(BadConfig(format!("--tenant: `{tenant}` is no name; {NAME_RULE}")).into());
    }
    let names = claim_names(values)?;
    // A secret beside them signs tickets alone.
    if let Some(key) =
        ["jwt_public_key_file", "jwt_jwks_url"].into_iter().find(|key| values.get(key).is_some())
    {
        return Err(
            BadConfig(format!("{key}: is set, so whoever has the private key signs the tokens")).into()
        );
    }
    let secret = match (values.text("jwt_secret"), own_secret_file(values)?) {
        (Some(secret), _) => secret_bytes("jwt_secret", &secret)?,
        (None, Some(file)) => secret_of_a_node(file.as_deref())?,
        (None, None) => return Err(no_key().into()),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    Ok(sign_claims(&secret, &names.of(user, tenant, scope), now_ms, ttl_seconds))
}

/// The files of the public port's certificate, if it is to speak TLS.
pub fn tls(values: &Values) -> Result<Option<TlsConfig>, BadConfig> {
    match (values.text("tls_certificate_file"), values.text("tls_key_file")) {
        (Some(certificate), Some(key)) => {
            Ok(Some(TlsConfig { certificate: certificate.into(), key: key.into() }))
        }
        (None, None) => Ok(None),
        (Some(_), None) => Err(BadConfig("tls_key_file: is needed with tls_certificate_file".into())),
        (None, Some(_)) => Err(BadConfig("tls_certificate_file: is needed with tls_key_file".into())),
    }
}

/// Which lines are logged, in the syntax of `RUST_LOG`.
pub fn log_filter(values: &Values) -> String {
    values.text("log").unwrap_or_else(|| "info".into())
}

fn gateway(values: &Values) -> Result<GatewayConfig, BadConfig> {
    let origins = values.list("allowed_origins");
    let origins = Origins::new(origins.iter().map(String::as_str))
        .map_err(|error| BadConfig(format!("allowed_origins: {error}")))?;
    Ok(GatewayConfig {
        listen: values.parsed("listen")?,
        heartbeat: values.seconds("heartbeat_seconds")?,
        connect_timeout: values.seconds("connect_timeout_seconds")?,
        origins,
        address_limits: AddressLimits {
            connections: values.parsed("limit_address_connections")?,
            handshakes_per_second: values.parsed("limit_address_handshakes_per_second")?,
        },
        request_limits: RequestLimits {
            connection_per_second: values.parsed("limit_connection_requests_per_second")?,
            user_per_second: values.parsed("limit_user_requests_per_second")?,
        },
        trusted_proxies: proxies(values)?,
        commands_per_second: values.parsed("limit_connection_commands_per_second")?,
        bytes_per_second: values.parsed("limit_connection_bytes_per_second")?,
        queue_bytes: values.parsed("queue_bytes")?,
        deflate: values.parsed("permessage_deflate")?,
        tls: tls(values)?,
        drain_notice: values.seconds("drain_notice_seconds")?,
        drain: values.seconds("drain_seconds")?,
        drain_clients_per_second: values.parsed("drain_clients_per_second")?,
        connection_max_age: values.seconds("connection_max_age_seconds")?,
        shed_above_percent: values.parsed("shed_above_percent")?,
        shed_above_sessions: values.parsed("shed_above_sessions")?,
        handshakes_per_second: values.parsed("limit_handshakes_per_second")?,
        message_bytes_max: u32::try_from(CLIENT_FRAME_BYTES_MAX).unwrap_or(u32::MAX),
    })
}

fn hub(values: &Values, node: String) -> Result<HubConfig, BadConfig> {
    let limits = TenantLimits {
        user_writes_per_minute: values.parsed("limit_user_writes_per_minute")?,
        connections: values.parsed("limit_tenant_connections")?,
        conversations: values.parsed("limit_tenant_conversations")?,
    };
    Ok(HubConfig {
        node,
        life: HubConfig::new_life(),
        address: values.text("address"),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        resume_window: values.seconds("resume_window_seconds")?,
        heartbeat: values.seconds("heartbeat_seconds")?,
        replay_limit: values.parsed("replay_limit")?,
        limits,
        tenants: values.tenants.iter().map(|(name, own)| (name.as_str().into(), own.over(limits))).collect(),
        joins_per_session_max: values.parsed("limit_session_joins")?,
        topics_per_session_max: values.parsed("limit_session_topics")?,
        members_per_conversation_max: values.parsed("limit_conversation_members")?,
        append_lanes: values.parsed("append_lanes")?,
        append_queue: values.parsed("append_queue")?,
        user_reads_per_second: values.parsed("limit_user_reads_per_second")?,
        reads_at_once: reads_at_once(values)?,
        log_reads_at_once: (values.parsed::<usize>("database_pool_size")? / 2)
            .clamp(1, LOG_READS_AT_ONCE_MAX),
    })
}

/// How many reads that clients ask for are under way at once: as many as SQLite has readers, or a part of the connections to
/// PostgreSQL, so that what the node itself has to read finds some, too.
fn reads_at_once(values: &Values) -> Result<usize, BadConfig> {
    if postgres(values)?.is_none() {
        return Ok(SqliteConfig::default().readers);
    }
    Ok((values.parsed::<usize>("database_pool_size")? / 3).clamp(1, READS_AT_ONCE_MAX))
}

fn telemetry(values: &Values, node: String) -> Result<TelemetryConfig, BadConfig> {
    let log_format = match values.text("log_format").as_deref() {
        Some("human") => LogFormat::Human,
        Some("json") => LogFormat::Json,
        _ => LogFormat::Auto,
    };
    let filter = log_filter(values);
    check_filter(&filter).map_err(|error| BadConfig(error.to_string()))?;
    Ok(TelemetryConfig {
        log_format,
        filter,
        otlp_endpoint: values.text("otlp_endpoint"),
        node,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

fn postgres(values: &Values) -> Result<Option<PostgresConfig>, BadConfig> {
    match database_address(&values.parsed::<String>("database_url")?)? {
        DatabaseAddress::Postgres(url) => {
            let mut config = PostgresConfig::new(url);
            config.read_url = values.text("database_read_url");
            config.pool_size_max = values.parsed("database_pool_size")?;
            config.appends_at_once = values.parsed("append_lanes")?;
            config.pool.prepared_statements = values.parsed("database_prepared_statements")?;
            check_database("database_url", &config.url)?;
            config.read_url.iter().try_for_each(|url| check_database("database_read_url", url))?;
            Ok(Some(config))
        }
        DatabaseAddress::Sqlite(_) => {
            if values.get("redis_url").is_some() {
                let why = "several nodes can't share a SQLite file; with redis_url use postgres://…";
                return Err(BadConfig(format!("database_url: {why}")));
            }
            Ok(None)
        }
    }
}

fn check_database(key: &str, url: &str) -> Result<(), BadConfig> {
    PostgresConfig::new(url).check().map_err(|error| match error {
        DatabaseError::Address(why) => BadConfig(format!("{key}: {why}")),
        error => BadConfig(format!("{key}: {error}")),
    })
}

/// What the names of keys and channels begin with. The version stands for their contents.
fn redis_prefix(values: &Values) -> Result<String, BadConfig> {
    let prefix: String = values.parsed("redis_prefix")?;
    // Braces would decide the slot in a cluster.
    if !is_name(&prefix) {
        return Err(BadConfig(format!("redis_prefix: `{prefix}` is no name; {NAME_RULE}")));
    }
    Ok(format!("{prefix}:v1"))
}

/// Both parts that speak with Redis have to find its address good.
fn redis(values: &Values) -> Result<Option<RedisAddress>, BadConfig> {
    redis_prefix(values)?;
    let address = values.text("redis_url").map(|url| url.parse::<RedisAddress>()).transpose();
    address.map_err(|error| BadConfig(error.to_string()))
}

fn keys(values: &Values, own: Option<Vec<u8>>) -> Result<Keys, BadConfig> {
    let secret = values.text("jwt_secret").map(|secret| secret_bytes("jwt_secret", &secret)).transpose()?;
    let algorithm = values.text("jwt_algorithm").map(|name| name.parse::<Algorithm>());
    let algorithm = algorithm.transpose().map_err(|error| BadConfig(error.to_string()))?;
    let (file, jwks) = (values.text("jwt_public_key_file"), values.text("jwt_jwks_url"));
    let (algorithm, source) = match (secret.clone().or(own.clone()), file, jwks) {
        (Some(secret), None, None) => (algorithm.unwrap_or(Algorithm::HS256), KeySource::Secret(secret)),
        (_, Some(_), Some(_)) => {
            return Err(BadConfig("jwt_jwks_url: can't stand beside jwt_public_key_file".into()));
        }
        (_, file, jwks) => {
            let source = match (file, jwks) {
                (Some(file), _) => KeySource::PublicKeyFile(file.into()),
                (_, Some(url)) => KeySource::Jwks { url },
                _ => return Err(no_key()),
            };
            let needed = "jwt_algorithm: is needed with a key file or key set: RS256, ES256 or EdDSA";
            (algorithm.ok_or_else(|| BadConfig(needed.into()))?, source)
        }
    };
    let ticket_secret =
        values.text("ticket_secret").map(|text| secret_bytes("ticket_secret", &text)).transpose()?;
    let ticket_secret = match ticket_secret.or(secret).or(own.clone()) {
        Some(secret) => secret,
        None if values.get("redis_url").is_some() => {
            return Err(BadConfig(
                "ticket_secret: is needed on all nodes where there is no jwt_secret".into(),
            ));
        }
        // One node alone: its tickets end with it.
        None => rand::random::<[u8; 32]>().to_vec(),
    };
    let mut tickets = TicketKey::from_secret(&ticket_secret).map_err(|error| BadConfig(error.to_string()))?;
    if let Some(previous) = values.text("ticket_secret_previous") {
        let previous = secret_bytes("ticket_secret_previous", &previous)?;
        tickets = tickets.with_previous(&previous).map_err(|error| BadConfig(error.to_string()))?;
    }
    let options = VerifierOptions {
        issuers: values.list("jwt_issuer"),
        audiences: values.list("jwt_audience"),
        claims: claim_names(values)?,
        ..VerifierOptions::default()
    };
    Ok(Keys { algorithm, source, options, tickets, own_secret: own })
}

/// Which claims of tokens name the user, the tenant and the scopes.
fn claim_names(values: &Values) -> Result<ClaimNames, BadConfig> {
    let name = |key: &'static str| {
        let name: String = values.parsed(key)?;
        if matches!(name.as_str(), "exp" | "nbf" | "iat") {
            return Err(BadConfig(format!("{key}: `{name}` is a time, and no name stands there")));
        }
        Ok(name)
    };
    Ok(ClaimNames {
        user: name("jwt_user_claim")?,
        tenant: name("jwt_tenant_claim")?,
        scope: name("jwt_scope_claim")?,
    })
}

fn no_key() -> BadConfig {
    BadConfig(
        "jwt_secret: is needed with redis_url, the same on all nodes, 32 bytes or more (or jwt_public_key_file or \
         jwt_jwks_url, with ticket_secret)"
            .into(),
    )
}

fn secret_bytes(key: &str, secret: &str) -> Result<Vec<u8>, BadConfig> {
    if secret.len() < SECRET_BYTES_MIN {
        return Err(BadConfig(format!(
            "{key}: is {} bytes long; {SECRET_BYTES_MIN} or more are needed",
            secret.len()
        )));
    }
    Ok(secret.as_bytes().to_vec())
}

/// Whether this configuration calls for a secret of its own, and the file that keeps it.
fn own_secret_file(values: &Values) -> Result<Option<Option<std::path::PathBuf>>, BadConfig> {
    let configured = ["jwt_secret", "jwt_public_key_file", "jwt_jwks_url", "redis_url"];
    if configured.iter().any(|key| values.get(key).is_some()) {
        return Ok(None);
    }
    secret_file(&values.text("database_url").unwrap_or_default()).map(Some)
}

/// The secret that was made at the first start, or a new one, kept where only this user can read it. One that is there and can't
/// be used ends the start: a new one in its place would make all tokens and tickets void.
fn own_secret(file: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let made = || URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()).into_bytes();
    let Some(file) = file else { return Ok(made()) };
    let name = file.display();
    match kept_secret(file) {
        Ok(Some(secret)) => return Ok(secret),
        Ok(None) => {}
        Err(why) => {
            return Err(anyhow!(
                "{name}: the secret that signs tokens and tickets {why}. Put the right one back from a backup; or remove the \
                 file to have a new one made, and all tokens and tickets become void"
            )
            .into());
        }
    }
    keep_secret(file, &made()).with_context(|| format!("the secret could not be kept in {name}"))?;
    // Whoever started at the same moment may have been quicker.
    kept_secret(file)
        .map_err(|why| anyhow!("{name}: the new secret {why}"))?
        .ok_or_else(|| anyhow!("{name}: the new secret is gone").into())
}

/// The secret in the file; `None`: there is no file. Otherwise says what is wrong with it.
fn kept_secret(file: &Path) -> Result<Option<Vec<u8>>, String> {
    let secret = match std::fs::read(file) {
        Ok(secret) => secret,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("can't be read: {error}")),
    };
    if secret.len() < SECRET_BYTES_MIN {
        let bytes = secret.len();
        return Err(format!("is cut short: {bytes} bytes, where {SECRET_BYTES_MIN} or more are needed"));
    }
    let mode = file.metadata().map_or(0o600, |known| known.permissions().mode());
    if mode & 0o077 != 0 {
        let name = file.display();
        match std::fs::set_permissions(file, Permissions::from_mode(0o600)) {
            Ok(()) => {
                warn(&format!(
                    "warning: other users could read the secret in {name}; now only its owner can"
                ));
            }
            Err(error) => warn(&format!("warning: other users can read the secret in {name}: {error}")),
        }
    }
    Ok(Some(secret))
}

/// Writes a secret where there is none yet: first beside its place, so that nobody ever finds half of one.
fn keep_secret(file: &Path, secret: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    let mut beside = file.to_owned().into_os_string();
    beside.push(format!(".{:08x}", rand::random::<u32>()));
    let mut writing = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written = writing.write_all(secret).and_then(|()| writing.sync_all()).and_then(|()| {
        // Unlike a renaming, a link never takes the place of another file.
        match std::fs::hard_link(&beside, file) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            // A file system without links.
            Err(_) if !file.exists() => std::fs::rename(&beside, file),
            linked => linked,
        }
    });
    let _ = std::fs::remove_file(&beside);
    written
}

/// The secret that a node has made at its first start. Made by nobody else: tokens signed with another one are refused.
fn secret_of_a_node(file: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let Some(file) = file else {
        let why = "jwt_secret: is not set, and a node whose database is in memory keeps its secret nowhere";
        return Err(BadConfig(why.into()).into());
    };
    if file.exists() {
        return own_secret(Some(file));
    }
    Err(BadConfig(format!(
        "jwt_secret: is not set, and there is no {}, in which a node keeps the secret that it made at its first start; run this in \
         the node's working directory with the node's configuration",
        file.display()
    ))
    .into())
}

fn node_name(values: &Values) -> Result<String, BadConfig> {
    if let Some(name) = values.text("node") {
        if is_name(&name) {
            return Ok(name);
        }
        return Err(BadConfig(format!("node: `{name}` is no name; {NAME_RULE}")));
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(60).collect();
    let host = if host.is_empty() { "starling" } else { &host };
    Ok(format!("{host}-{:06x}", rand::random::<u32>() & 0xff_ffff))
}
