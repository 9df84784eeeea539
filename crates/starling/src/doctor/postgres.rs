//! PostgreSQL: the server, and how it is set.

use std::time::{Duration, Instant, SystemTime};

use starling_database::Error;
use starling_database::postgres::{Pool, PoolConfig, PreparedStatements, column};
use tokio::time::timeout;

use super::clock::Clocks;
use super::examination::Examination;
use super::quantity::{median, time};
use crate::config::Config;

/// What is asked of the server, in one round trip.
const ASK: &str = "SELECT current_setting('server_version'), current_setting('server_encoding'),
    current_setting('default_transaction_isolation'), current_setting('default_transaction_read_only') = 'on',
    current_setting('synchronous_commit'), pg_is_in_recovery(),
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
    (SELECT count(*)::int FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()),
    coalesce(has_schema_privilege(current_schema(), 'CREATE'), false), clock_timestamp(), current_database()";
/// How long each question to the database may take.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How often the way to the server and back is measured.
const PINGS: usize = 5;
/// A way there and back that is long for a message to wait.
const FAR: Duration = Duration::from_millis(10);
/// The lag at which a replica deserves a look.
const LAG: Duration = Duration::from_secs(10);

/// What the server said.
struct Server {
    version: String,
    encoding: String,
    isolation: String,
    read_only: bool,
    synchronous_commit: String,
    in_recovery: bool,
    connections_max: i32,
    connections: i32,
    may_create: bool,
    now: SystemTime,
    database: String,
}

/// Examines the primary. Returns whether it can be used.
pub async fn examine(examination: &mut Examination, config: &Config, url: &str, clocks: &mut Clocks) -> bool {
    let Some(pool) = reach(examination, "database_url", url) else { return false };
    let (began, before) = (Instant::now(), SystemTime::now());
    let server = match asked(&pool).await {
        Ok(server) => server,
        Err(error) => {
            unreachable(examination, "database_url", &error);
            return false;
        }
    };
    let found = format!("PostgreSQL {}, after {}", server.version, time(began.elapsed()));
    examination.good("reachable", found);
    examine_latency(examination, &pool).await;
    clocks.note("PostgreSQL", server.now, before, SystemTime::now());
    examine_server(examination, config, &server);
    true
}

/// Examines a read replica.
pub async fn examine_replica(examination: &mut Examination, url: &str) {
    let Some(pool) = reach(examination, "database_read_url", url) else { return };
    let subject = "replica";
    let lag = "SELECT pg_is_in_recovery(), coalesce(extract(epoch FROM now() - pg_last_xact_replay_timestamp()), 0)::float8";
    let asked = timeout(PATIENCE, pool.rows(lag, &[])).await.unwrap_or_else(|_| Err(late()));
    let read = asked.and_then(|rows| {
        let row = rows.first().ok_or_else(|| Error::Refused("the replica answers nothing".into()))?;
        Ok((column::<bool>(row, 0)?, column::<f64>(row, 1)?))
    });
    match read {
        Err(error) => unreachable(examination, "database_read_url", &error),
        Ok((false, _)) => examination.warning(
            subject,
            "database_read_url names a server that is no replica",
            "name a replica, or leave it out: the primary then serves these reads",
        ),
        Ok((true, lag)) if lag > LAG.as_secs_f64() => examination.warning(
            subject,
            format!("its last change is {lag:.0} s old: it lags, or nothing was written since then"),
            "compare pg_stat_replication on the primary",
        ),
        Ok((true, _)) => examination.good(subject, "is a replica, and follows"),
    }
}

fn reach(examination: &mut Examination, key: &'static str, url: &str) -> Option<Pool> {
    // Nothing is set on the connection, so that the server shows its own settings.
    let config = PoolConfig { prepared_statements: PreparedStatements::Never, ..PoolConfig::default() };
    match Pool::new("doctor", url, &config, 1) {
        Ok(pool) => Some(pool),
        Err(error) => {
            examination.problem(key, error.to_string(), "see docs/operating/cluster.md for its form");
            None
        }
    }
}

fn unreachable(examination: &mut Examination, key: &'static str, error: &Error) {
    let advice = "try psql with the same URL from here: host, port, password, pg_hba.conf, sslmode, and what lies between";
    examination.problem(key, error.to_string(), advice);
}

fn late() -> Error {
    Error::Unavailable(format!("no answer within {} s", PATIENCE.as_secs()))
}

async fn asked(pool: &Pool) -> Result<Server, Error> {
    let rows = timeout(PATIENCE, pool.rows(ASK, &[])).await.unwrap_or_else(|_| Err(late()))?;
    let row = rows.first().ok_or_else(|| Error::Refused("the server answers nothing".into()))?;
    let text = |position| column::<&str>(row, position).map(str::to_owned);
    Ok(Server {
        version: text(0)?,
        encoding: text(1)?,
        isolation: text(2)?,
        read_only: column(row, 3)?,
        synchronous_commit: text(4)?,
        in_recovery: column(row, 5)?,
        connections_max: column(row, 6)?,
        connections: column(row, 7)?,
        may_create: column(row, 8)?,
        now: column(row, 9)?,
        database: text(10)?,
    })
}

async fn examine_latency(examination: &mut Examination, pool: &Pool) {
    let mut times = Vec::new();
    for _ in 0..PINGS {
        let began = Instant::now();
        if let Ok(Ok(_)) = timeout(PATIENCE, pool.rows("SELECT 1", &[])).await {
            times.push(began.elapsed());
        }
    }
    match median(times) {
        None => examination.problem("latency", "no further answer came", "see the server's log"),
        Some(latency) if latency > FAR => examination.warning(
            "latency",
            format!("{} there and back: each message waits for one commit", time(latency)),
            "run nodes and database in one zone",
        ),
        Some(latency) => examination.good("latency", format!("{} there and back", time(latency))),
    }
}

fn examine_server(examination: &mut Examination, config: &Config, server: &Server) {
    if server.encoding == "UTF8" {
        examination.good("encoding", "UTF8");
    } else {
        examination.problem(
            "encoding",
            format!("{} can't hold every text", server.encoding),
            format!(
                "CREATE DATABASE {}_utf8 ENCODING 'UTF8' TEMPLATE template0, and name that",
                server.database
            ),
        );
    }
    if server.in_recovery {
        let advice = "name the primary, or several hosts with ?target_session_attrs=read-write";
        examination.problem("writes", "this server is a standby: nothing can be written", advice);
    } else if server.read_only {
        let advice = "ALTER ROLE … or ALTER DATABASE … RESET default_transaction_read_only, once there is room on the disk again";
        examination.problem("writes", "default_transaction_read_only is on: sends get `unavailable`", advice);
    } else {
        examination.good("writes", "are accepted");
    }
    examination
        .good("isolation", format!("{} by default; each transaction sets what it needs", server.isolation));
    if server.synchronous_commit == "off" {
        examination.warning(
            "synchronous_commit",
            "off: when the server crashes, messages are lost that clients were told are safe",
            "turn it on, at least for this role: ALTER ROLE … SET synchronous_commit = on",
        );
    } else {
        examination.good("synchronous_commit", server.synchronous_commit.clone());
    }
    if config.database.migrate && !server.may_create {
        examination.warning(
            "rights",
            "this role may not create tables, which a migration does",
            "GRANT CREATE ON SCHEMA public, or set database_migrate = false and run `starling migrate` as the owner",
        );
    }
    examine_connections(examination, config, server);
}

fn examine_connections(examination: &mut Examination, config: &Config, server: &Server) {
    let (max, used) = (i64::from(server.connections_max), i64::from(server.connections));
    let needed = i64::try_from(config.database.pool_size).unwrap_or(i64::MAX);
    let found = format!("{used} of {max} are in use, and a node opens up to {needed}");
    if max < needed {
        let advice = format!(
            "raise max_connections, lower database_pool_size below {max}, or put PgBouncer in between"
        );
        examination.problem("connections", found, advice);
    } else if max - used < needed {
        let advice = "if these are not this cluster's own nodes, raise max_connections; it must cover all nodes and one more";
        examination.warning("connections", found, advice);
    } else {
        examination.good("connections", found);
    }
}
