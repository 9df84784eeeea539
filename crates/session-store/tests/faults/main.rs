//! What only a store in Redis can meet: servers that are away, silent, restarted, failed over or too old, and keys that
//! nobody would ever remove.

mod full;
mod keys;
mod outage;
mod start;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use starling_rate::Rate;
use starling_session_store::redis::{RedisConfig, RedisStore};
use starling_session_store::{Attach, NodeRecord};

/// How long a test waits for something that takes a second on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);

async fn store(url: String) -> Arc<RedisStore> {
    with(RedisConfig::new(url.parse().expect("an address"))).await
}

async fn with(config: RedisConfig) -> Arc<RedisStore> {
    Arc::new(RedisStore::connect(config).await.expect("the address is right"))
}

fn node(name: &str) -> NodeRecord {
    NodeRecord { node: name.into(), presence_by_id: true, ..NodeRecord::default() }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970").as_millis() as i64
}

fn ten_a_minute() -> Rate {
    Rate::new(10, Duration::from_secs(60)).expect("a rate")
}

fn fresh(session: &str) -> Attach {
    Attach {
        session: session.into(),
        tenant: "acme".into(),
        user: "alice".into(),
        node: "n1".into(),
        now_ms: now_ms(),
        resume: None,
        waited: Duration::ZERO,
        after: 0,
        again: false,
        window_ms: 60_000,
    }
}
