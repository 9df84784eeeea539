//! Two stores over one server, and what the cases do to it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use starling_session_store::memory::{MemoryConfig, MemoryStore};
use starling_session_store::redis::{RedisConfig, RedisStore};
use starling_session_store::{
    Attach, Attached, Beat, Dropped, Held, Hold, NodeRecord, ResumeAttach, SessionRecord, SessionStore, Stamp,
};
use starling_testkit::redis::{Redis, RedisCluster, RedisSentinel};
use tokio::task::AbortHandle;

/// The resume window in all cases, milliseconds.
pub const WINDOW_MS: u64 = 60_000;
/// Short, so that the cases are; long enough for a machine that stands still for some seconds.
const LEASE: Duration = Duration::from_secs(4);
/// A busy machine is no reason for a failure, so this is long.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// Two nodes' stores.
pub struct World<'a> {
    pub a: Arc<dyn SessionStore>,
    pub b: Arc<dyn SessionStore>,
    server: Server<'a>,
}

enum Server<'a> {
    Memory(Arc<MemoryStore>),
    Redis(Box<Redis>),
    Cluster(&'a RedisCluster),
    Sentinel(&'a RedisSentinel),
}

impl<'a> World<'a> {
    pub fn in_memory() -> Self {
        let lease_ms = LEASE.as_millis() as u64;
        let store = Arc::new(MemoryStore::with(MemoryConfig { lease_ms, ..MemoryConfig::default() }));
        Self { a: store.clone(), b: store.clone(), server: Server::Memory(store) }
    }

    pub async fn in_redis() -> Self {
        let redis = Redis::start().await.expect("Redis starts");
        Self {
            a: store(redis.url()).await,
            b: store(redis.url()).await,
            server: Server::Redis(Box::new(redis)),
        }
    }

    pub async fn in_cluster(cluster: &'a RedisCluster) -> Self {
        cluster.flushall().await.expect("the cluster is emptied");
        let (a, b) = (store(cluster.url()).await, store(cluster.url()).await);
        Self { a, b, server: Server::Cluster(cluster) }
    }

    pub async fn behind_sentinel(sentinel: &'a RedisSentinel) -> Self {
        sentinel.master().await.expect("there is a master").flushall().await.expect("it is emptied");
        let (a, b) = (store(sentinel.url()).await, store(sentinel.url()).await);
        Self { a, b, server: Server::Sentinel(sentinel) }
    }

    /// Removes everything from the server, as a restart without a disk would.
    pub async fn wipe(&self) {
        match &self.server {
            Server::Memory(store) => store.wipe(),
            Server::Redis(redis) => redis.flushall().await.expect("Redis is emptied"),
            Server::Cluster(cluster) => cluster.flushall().await.expect("the cluster is emptied"),
            Server::Sentinel(sentinel) => {
                let master = sentinel.master().await.expect("there is a master");
                master.flushall().await.expect("it is emptied");
            }
        }
    }

    /// Lets a node live until what is returned is dropped.
    pub async fn live(&self, store: &Arc<dyn SessionStore>, node: &str) -> Beating {
        beat(store, node).await;
        let (store, record) = (store.clone(), record(node));
        let beating = tokio::spawn(async move {
            loop {
                tokio::time::sleep(LEASE / 8).await;
                // A beat that is lost is made up for by the next one.
                let _ = store.beat(&record).await;
            }
        });
        Beating(beating.abort_handle())
    }

    /// Returns when a node's lease has run out as this store sees it.
    pub async fn wait_for_death(&self, store: &Arc<dyn SessionStore>, node: &str) {
        starling_testkit::wait::until_true(LEASE * 10, "the end of a lease", async || {
            Ok(store.nodes().await?.iter().all(|living| living.node != node))
        })
        .await
        .expect("a node that does not beat dies");
    }
}

/// A node that beats; dropped, it is killed.
pub struct Beating(AbortHandle);

impl Drop for Beating {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn store(url: String) -> Arc<dyn SessionStore> {
    let config = RedisConfig {
        lease: LEASE,
        command_timeout: COMMAND_TIMEOUT,
        ..RedisConfig::new(url.parse().expect("an address"))
    };
    let store = RedisStore::connect(config).await.expect("the address is right");
    store.check().await.expect("Redis is there");
    Arc::new(store)
}

pub async fn beat(store: &Arc<dyn SessionStore>, node: &str) -> Beat {
    store.beat(&record(node)).await.expect("a beat is taken")
}

pub fn record(node: &str) -> NodeRecord {
    NodeRecord {
        node: node.into(),
        address: Some("10.0.0.1:8080".into()),
        connections: Some(3),
        version: "1.2.3".into(),
        tenants: [("acme".into(), 3)].into(),
        presence_by_id: true,
        ..NodeRecord::default()
    }
}

pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970").as_millis() as i64
}

/// A new session of `acme`'s alice.
pub fn fresh(session: &str, node: &str) -> Attach {
    Attach {
        session: session.into(),
        tenant: "acme".into(),
        user: "alice".into(),
        node: node.into(),
        now_ms: now_ms(),
        resume: None,
        waited: Duration::ZERO,
        after: 0,
        again: false,
        window_ms: WINDOW_MS,
    }
}

/// The same, resumed with a ticket of this moment.
pub fn resume(session: &str, node: &str) -> Attach {
    with_ticket(session, node, now_ms())
}

/// The same, resumed with a ticket of this time.
pub fn with_ticket(session: &str, node: &str, ticket_issued_at_ms: i64) -> Attach {
    Attach { resume: Some(ResumeAttach { ticket_issued_at_ms }), ..fresh(session, node) }
}

/// The end of a resume that began with this stamp.
pub fn hold_of(attach: &Attach, stamp: Stamp) -> Hold {
    Hold {
        session: attach.session.clone(),
        tenant: attach.tenant.clone(),
        user: attach.user.clone(),
        node: attach.node.clone(),
        stamp,
        created_at_ms: attach.now_ms,
        now_ms: attach.now_ms,
        window_ms: attach.window_ms,
    }
}

pub async fn hold(store: &Arc<dyn SessionStore>, attach: &Attach, stamp: Stamp) -> Held {
    store.hold(&hold_of(attach, stamp)).await.expect("holding is answered")
}

/// The socket of an attach drops.
pub async fn drop_socket(store: &Arc<dyn SessionStore>, node: &str, session: &str, stamp: Stamp, at_ms: i64) {
    let dropped = [Dropped { session: session.into(), stamp }];
    store.detach(node, &dropped, at_ms).await.expect("the store answers");
}

/// A session of `acme`'s alice as her node has it, with the stamp of a moment ago.
pub fn state(session: &str) -> SessionRecord {
    SessionRecord {
        session: session.into(),
        tenant: "acme".into(),
        user: "alice".into(),
        created_at_ms: now_ms(),
        conversations: vec!["plans".into()],
        topics: vec!["prices".into()],
        stamp: now_ms() * 1_000,
    }
}

/// Begins to attach.
pub async fn claim(store: &Arc<dyn SessionStore>, attach: &Attach) -> Attached {
    store.attach(attach).await.expect("attaching is answered")
}

/// Attaches, from beginning to end.
pub async fn attach(store: &Arc<dyn SessionStore>, attach: &Attach) -> Attached {
    let attached = claim(store, attach).await;
    if let Attached::Resumed { stamp, .. } | Attached::Rebuilt { stamp } = attached {
        let held = hold(store, attach, stamp).await;
        assert!(matches!(held, Held::Held { .. }), "{held:?}");
    }
    attached
}

/// The stamp of an attach.
pub fn stamp(attached: &Attached) -> Stamp {
    match attached {
        Attached::New { stamp } | Attached::Resumed { stamp, .. } | Attached::Rebuilt { stamp } => *stamp,
        Attached::Refused => panic!("refused"),
    }
}

/// The node that a session was attached to before it was resumed.
pub fn previous(attached: &Attached) -> Option<&str> {
    match attached {
        Attached::Resumed { previous_node, .. } => previous_node.as_deref(),
        other => panic!("not resumed but {other:?}"),
    }
}
