//! Redis: the server, how it is set, and whether this user may do what nodes do.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use starling_fanout::{Delivery, Fanout, Receiver};
use starling_redis_link::{Command, Error, Pool, check_version, version};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::clock::Clocks;
use super::examination::Examination;
use super::quantity::{bytes, median, time};
use crate::config::Config;
use crate::redis::Redis;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the way to the server and back is measured.
const PINGS: usize = 5;
/// A way there and back that is long for a delivery to wait.
const FAR: Duration = Duration::from_millis(10);
/// The part of the memory that may be in use, percent.
const FULL_PERCENT: u64 = 90;

/// Examines Redis, where nodes use one.
pub async fn examine(examination: &mut Examination, config: &Config, clocks: &mut Clocks) {
    examination.section("redis");
    // What is wrong with the settings was found with the configuration.
    let Ok(redis) = Redis::read(config) else {
        return examination.skipped("redis_url", "the setting has to be mended first");
    };
    match redis.try_connect(PATIENCE).await {
        None => return examination.good("redis_url", "is not set: one node works without"),
        Some(Ok(())) => {}
        Some(Err(error)) => return unreachable(examination, &error),
    }
    let pool = match redis.pool(PATIENCE) {
        Some(Ok(pool)) => pool,
        Some(Err(error)) => return unreachable(examination, &error),
        None => return,
    };
    let began = Instant::now();
    match version(|command| pool.try_command(command)).await {
        Ok(Some(version)) => examine_version(examination, &version, began.elapsed()),
        Ok(None) => {
            examination.good("reachable", format!("after {}", time(began.elapsed())));
            examination.skipped("version", "this user has no right to INFO or HELLO; it must be 7 or later");
        }
        Err(error) => return unreachable(examination, &error),
    }
    examine_latency(examination, &pool).await;
    read_clock(&pool, clocks).await;
    examine_memory(examination, &pool).await;
    examine_persistence(examination, &pool).await;
    pool.close().await;
    examine_use(examination, &redis).await;
}

const REACH: &str = "try redis-cli with the same URL from here: host, port, password, TLS, and what lies between. Until Redis is \
     back, nodes serve from the database";
const CAN_NOT_SAVE: &str =
    "Redis could not save to its disk, and refuses writes until it can (stop-writes-on-bgsave-error)";
const SAVE: &str =
    "make room on its disk; or turn saving off (CONFIG SET save \"\"), since Starling needs none of it";
const RIGHTS: &str = "ACL LOG names what was refused; the user needs the keys and the channels that begin with redis_prefix (~starling:* \
     &starling:*), scripts and pub/sub";

/// Why no question could be asked. A Redis that can't save refuses even the first PING of a connection.
fn unreachable(examination: &mut Examination, error: &Error) {
    match error {
        Error::Refused(_) => examination.problem("rights", error.to_string(), RIGHTS),
        error if error.to_string().contains("MISCONF") => {
            examination.problem("persistence", CAN_NOT_SAVE, SAVE);
        }
        error => examination.problem("redis_url", error.to_string(), REACH),
    }
}

fn examine_version(examination: &mut Examination, version: &str, took: Duration) {
    let found = format!("Redis {version}, after {}", time(took));
    match check_version(version) {
        Ok(()) => examination.good("reachable", found),
        Err(error) => examination.problem(
            "version",
            error.to_string(),
            "install a newer one; no node starts with this one",
        ),
    }
}

async fn examine_latency(examination: &mut Examination, pool: &Pool) {
    let mut times = Vec::new();
    for _ in 0..PINGS {
        let began = Instant::now();
        if pool.try_command(Command::keyless("PING", Vec::new())).await.is_ok() {
            times.push(began.elapsed());
        }
    }
    match median(times) {
        None => examination.skipped("latency", "this user has no right to PING"),
        Some(latency) if latency > FAR => examination.warning(
            "latency",
            format!("{} there and back: events between nodes wait for it", time(latency)),
            "run nodes and Redis in one zone; SLOWLOG GET shows commands of others that hold it up",
        ),
        Some(latency) => examination.good("latency", format!("{} there and back", time(latency))),
    }
}

/// Reads the server's clock. A user without the right to TIME leaves it unread.
async fn read_clock(pool: &Pool, clocks: &mut Clocks) {
    let before = SystemTime::now();
    let Ok(answer) = pool.try_command(Command::keyless("TIME", Vec::new())).await else { return };
    let after = SystemTime::now();
    let parts: Vec<u64> = answer.into_array().iter().filter_map(|part| part.as_u64()).collect();
    if let [seconds, microseconds] = parts[..] {
        let said = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(microseconds);
        clocks.note("Redis", said, before, after);
    }
}

/// A part of INFO; `None`: this user may not read it.
async fn info(pool: &Pool, part: &'static str) -> Option<String> {
    let answer = pool.try_command(Command::keyless("INFO", vec![part.into()])).await.ok()?;
    answer.as_string()
}

/// The value of a line of INFO.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

async fn examine_memory(examination: &mut Examination, pool: &Pool) {
    let Some(info) = info(pool, "memory").await else {
        return examination.skipped("memory", "this user has no right to INFO");
    };
    let number = |name| field(&info, name).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    let (used, max) = (number("used_memory"), number("maxmemory"));
    let policy = field(&info, "maxmemory_policy").unwrap_or("unknown");
    if max == 0 {
        return examination.good("memory", format!("{} in use, without a limit (maxmemory)", bytes(used)));
    }
    let found = format!("{} of {} in use, {policy}", bytes(used), bytes(max));
    if used.saturating_mul(100) > max.saturating_mul(FULL_PERCENT) {
        let advice = "raise maxmemory: a full Redis refuses publications on topics, or evicts sessions";
        examination.problem("memory", found, advice);
    } else if policy != "noeviction" {
        let advice = "CONFIG SET maxmemory-policy noeviction: a session that was evicted can only be resumed by its ticket, and \
                      presence may be wrong";
        examination.warning("memory", found, advice);
    } else {
        examination.good("memory", found);
    }
}

async fn examine_persistence(examination: &mut Examination, pool: &Pool) {
    let subject = "persistence";
    let Some(info) = info(pool, "persistence").await else {
        return examination.skipped(subject, "this user has no right to INFO");
    };
    let failed = |name| field(&info, name).is_some_and(|status| status != "ok");
    if failed("rdb_last_bgsave_status")
        || failed("aof_last_write_status")
        || failed("aof_last_bgrewrite_status")
    {
        examination.problem(subject, CAN_NOT_SAVE, SAVE);
    } else if field(&info, "aof_enabled") == Some("1") {
        examination.good(subject, "append-only file; Starling needs none, and Redis may be wiped");
    } else {
        examination.good(subject, "no append-only file, and none is needed");
    }
}

/// Does what nodes do: runs a script of the session store, subscribes, and publishes to itself.
async fn examine_use(examination: &mut Examination, redis: &Redis) {
    // A name that no node has, so that nothing of this reaches one.
    let name = format!("doctor-{:016x}", rand::random::<u64>());
    let Some((sessions, fanout)) = redis.connect(&name).await.ok().flatten() else {
        return examination.skipped("use", "no connection could be set up");
    };
    match sessions.check().await {
        Ok(()) => examination.good("scripts", "run, with all that they use"),
        Err(error @ starling_session_store::Error::Refused(_)) => {
            examination.problem("scripts", error.to_string(), RIGHTS);
        }
        Err(error) => examination.problem("scripts", error.to_string(), REACH),
    }
    sessions.close().await;
    let subject = "pub/sub";
    match fanout.check().await {
        Ok(()) => {}
        Err(error @ starling_fanout::Error::Refused(_)) => {
            return examination.problem(subject, error.to_string(), RIGHTS);
        }
        Err(error) => return examination.problem(subject, error.to_string(), REACH),
    }
    let (probes, mut heard) = mpsc::channel(1);
    if let Err(error) = fanout.start(Arc::new(ProbeReceiver(probes))).await {
        return examination.problem(subject, error.to_string(), REACH);
    }
    let began = Instant::now();
    let round_trip = async {
        fanout.probe(1).await.map_err(|error| error.to_string())?;
        heard.recv().await.ok_or_else(|| "the link has ended".to_owned())
    };
    match timeout(PATIENCE, round_trip).await {
        Ok(Ok(())) => {
            examination.good(subject, format!("a publication came back after {}", time(began.elapsed())));
        }
        Ok(Err(error)) => examination.problem(subject, error, RIGHTS),
        Err(_) => examination.problem(subject, "a publication to itself did not come back", RIGHTS),
    }
}

/// Reports the probe that comes back, and drops everything else.
struct ProbeReceiver(mpsc::Sender<()>);

impl Receiver for ProbeReceiver {
    fn receive(&self, delivery: Delivery) {
        if let Delivery::Probe { .. } = delivery {
            // A second probe would say nothing new.
            let _ = self.0.try_send(());
        }
    }
}
