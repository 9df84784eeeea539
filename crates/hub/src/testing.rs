//! Creates a hub for tests: a single node with everything in the process and no connections.

use std::sync::Arc;
use std::time::Duration;

use starling_auth::{Algorithm, KeySource, TicketKey, Verifier, VerifierOptions};
use starling_conversation_store::ConversationStore;
use starling_fanout::Fanout;
use starling_session_store::SessionStore;
use starling_session_store::memory::MemoryStore;

use crate::{Hub, HubConfig, HubParts, ShardItem, Shards, TenantLimits};

const SECRET: &[u8] = b"a secret of thirty-two bytes, or more";

/// Creates a hub with changed settings and this fan-out. It is not started.
pub async fn hub(change: impl FnOnce(&mut HubConfig), fanout: Arc<dyn Fanout>) -> Arc<Hub> {
    let mut config = config();
    change(&mut config);
    hub_of(config, fanout, Arc::new(MemoryStore::new())).await
}

/// Returns the settings of a small node.
pub fn config() -> HubConfig {
    HubConfig {
        node: "a".to_owned(),
        run: HubConfig::new_run(),
        address: None,
        version: String::new(),
        resume_window: Duration::from_secs(60),
        heartbeat: Duration::from_secs(25),
        replay_limit: 1,
        limits: TenantLimits { user_writes_per_minute: 0, connections: 0, conversations: 0 },
        joins_per_session_max: 1,
        topics_per_session_max: 1,
        members_per_conversation_max: 1,
        append_lanes: 1,
        append_queue: 1,
        user_reads_per_second: 0,
        reads_at_once: 1,
        log_reads_at_once: 1,
        ..HubConfig::default()
    }
}

/// Creates a hub from these parts. It is not started.
pub async fn hub_of(config: HubConfig, fanout: Arc<dyn Fanout>, sessions: Arc<dyn SessionStore>) -> Arc<Hub> {
    let conversations = log().await;
    let secret = KeySource::Secret(SECRET.to_vec());
    let verifier = Verifier::new(Algorithm::HS256, secret, VerifierOptions::default());
    Hub::new(HubParts {
        config,
        conversations,
        sessions,
        fanout,
        jobs: None,
        webhooks: None,
        verifier: Arc::new(verifier.expect("a secret of 32 bytes")),
        tickets: TicketKey::from_secret(SECRET).expect("a secret of 32 bytes"),
        shards: Arc::new(NoShards),
        shard_count: 1,
        runtime: tokio::runtime::Handle::current(),
    })
}

/// Creates an empty log.
pub async fn log() -> Arc<dyn ConversationStore> {
    let log = starling_conversation_store::connect("sqlite://:memory:").await.expect("a log");
    log.migrate().await.expect("a schema");
    log
}

struct NoShards;

impl Shards for NoShards {
    fn post(&self, _shard: u16, _item: ShardItem) -> bool {
        true
    }
}
