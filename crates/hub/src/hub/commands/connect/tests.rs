use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use starling_auth::{Identity, Scopes};
use starling_fanout::TopicSettings;
use starling_fanout::memory::MemoryBus;
use starling_model::{TenantName, UserName};
use starling_rate::Rate;
use starling_session_store::memory::MemoryStore;
use starling_session_store::{
    Attach, Attached, Beat, ConversationKey, Dropped, Ended, Error, Held, Hold, NodeRecord, PresenceChange,
    PresenceEntry, Restored, SessionChange, SessionList, SessionRecord, SessionStore, Verdict,
};
use starling_wire::protocol::{Connect, Connected, ErrorCode, Resume};
use tokio::sync::Notify;

use crate::hub::Hub;
use crate::hub::commands::answer::{Answer, Handling};
use crate::shards::SocketId;
use crate::testing;

/// A session store that can be down, and whose next answer to a hold can be delayed or lost.
#[derive(Default)]
struct Faulty {
    store: MemoryStore,
    away: AtomicBool,
    keeps_back: AtomicBool,
    loses: AtomicBool,
    /// The stamp that every attach of an old session gets; 0: the store's own.
    stamp: AtomicI64,
    held: Notify,
    answers: Notify,
    /// Whether holds wait at the gate, before the store carries them out.
    is_gated: AtomicBool,
    at_gate: Notify,
    gate: Notify,
}

fn away() -> Error {
    Error::Unavailable("a test".to_owned())
}

#[async_trait]
impl SessionStore for Faulty {
    async fn beat(&self, node: &NodeRecord) -> Result<Beat, Error> {
        self.store.beat(node).await
    }
    async fn leave(&self, node: &str) -> Result<(), Error> {
        self.store.leave(node).await
    }
    async fn nodes(&self) -> Result<Vec<NodeRecord>, Error> {
        self.store.nodes().await
    }
    fn now_us(&self) -> i64 {
        self.store.now_us()
    }
    async fn attach(&self, attach: &Attach) -> Result<Attached, Error> {
        if self.away.load(Ordering::Relaxed) {
            return Err(away());
        }
        let mut attached = self.store.attach(attach).await;
        if let (Ok(Attached::Resumed { stamp, .. }), fixed @ 1..) =
            (&mut attached, self.stamp.load(Ordering::Relaxed))
        {
            *stamp = fixed;
        }
        attached
    }
    async fn hold(&self, hold: &Hold) -> Result<Held, Error> {
        if self.is_gated.load(Ordering::Relaxed) {
            self.at_gate.notify_one();
            self.gate.notified().await;
        }
        let held = self.store.hold(hold).await;
        if self.keeps_back.swap(false, Ordering::Relaxed) {
            self.held.notify_one();
            self.answers.notified().await;
        }
        if self.loses.swap(false, Ordering::Relaxed) { Err(away()) } else { held }
    }
    async fn restore(&self, node: &str, sessions: &[SessionRecord]) -> Result<Restored, Error> {
        self.store.restore(node, sessions).await
    }
    async fn detach(&self, node: &str, dropped: &[Dropped], now_ms: i64) -> Result<(), Error> {
        self.store.detach(node, dropped, now_ms).await
    }
    async fn update(&self, batch: &[SessionChange]) -> Result<(), Error> {
        self.store.update(batch).await
    }
    async fn knows(&self, tenant: &TenantName, session: &str) -> Result<bool, Error> {
        self.store.knows(tenant, session).await
    }
    async fn end(&self, tenant: &TenantName, session: &str) -> Result<Option<Ended>, Error> {
        self.store.end(tenant, session).await
    }
    async fn sessions(
        &self,
        tenant: &TenantName,
        user: Option<&UserName>,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<SessionList, Error> {
        self.store.sessions(tenant, user, cursor, limit).await
    }
    async fn set_presence(&self, node: &str, batch: &[PresenceChange]) -> Result<(), Error> {
        self.store.set_presence(node, batch).await
    }
    async fn presence(&self, of: &[ConversationKey]) -> Result<Vec<Vec<PresenceEntry>>, Error> {
        self.store.presence(of).await
    }
    async fn keep_presence(&self, of: &[ConversationKey]) -> Result<(), Error> {
        self.store.keep_presence(of).await
    }
    async fn set_connections(
        &self,
        node: &str,
        tenant: &TenantName,
        count: u64,
        max: Option<u64>,
    ) -> Result<bool, Error> {
        if self.away.load(Ordering::Relaxed) {
            return Err(away());
        }
        self.store.set_connections(node, tenant, count, max).await
    }
    async fn take(&self, tenant: &TenantName, user: &UserName, rate: Rate) -> Result<Verdict, Error> {
        self.store.take(tenant, user, rate).await
    }
    async fn ping(&self) -> Option<Result<(), Error>> {
        self.store.ping().await
    }
}

/// Starts three nodes with one session store.
async fn three_nodes(store: &Arc<Faulty>) -> [Arc<Hub>; 3] {
    let bus = MemoryBus::new(TopicSettings { history: 1, history_seconds: 1 });
    let node = async |name: &'static str| {
        let mut config = testing::config();
        (config.node, config.run) = (name.to_owned(), "1".to_owned());
        let fanout = bus.node(&config.lease());
        let hub = testing::hub_of(config, fanout, store.clone()).await;
        hub.start().await.expect("a start");
        hub
    };
    [node("a").await, node("b").await, node("c").await]
}

/// Begins the `connect` of a connection.
fn connect(hub: &Arc<Hub>, resume: Option<Resume>) -> impl Future<Output = Answer> + use<> {
    let identity = Identity {
        user: "ada".into(),
        tenant: "acme".into(),
        scopes: Arc::new(Scopes::parse("")),
        expires_at_ms: i64::MAX,
    };
    let socket = SocketId { shard: 0, key: 0, generation: 0 };
    match hub.connect(Some(identity), Connect { token: None, resume }, socket) {
        Handling::Async(answer) => answer,
        _ => panic!("a connect takes its time"),
    }
}

fn arrive(answer: Answer) -> Connected {
    let Answer::Connect(prepared) = answer else { panic!("not connected") };
    prepared.attach().map_err(|_| "closed").expect("nobody else attaches it").0
}

fn resume_of(connected: &Connected) -> Resume {
    let (session, ticket) = (connected.session.clone(), connected.ticket.clone());
    Resume { session, ticket, cursors: BTreeMap::new(), topics: BTreeMap::new() }
}

/// Waits until the store lists the only session as attached to this node.
async fn comes_to(store: &Faulty, node: &str) {
    let listed = async || store.sessions(&"acme".into(), None, None, 10).await.expect("an answer").sessions;
    let is_there = async || {
        let sessions = listed().await;
        sessions.len() == 1 && sessions[0].attached && sessions[0].node == node
    };
    for _ in 0..200 {
        if is_there().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{:?} is not at {node}", listed().await);
}

#[tokio::test]
async fn a_socket_that_breaks_while_the_store_is_told_gives_the_session_back() {
    for loses in [false, true] {
        let store = Arc::new(Faulty::default());
        let [a, b, _] = three_nodes(&store).await;
        let connected = arrive(connect(&a, None).await);
        store.keeps_back.store(true, Ordering::Relaxed);
        store.loses.store(loses, Ordering::Relaxed);
        let attach = connect(&b, Some(resume_of(&connected)));
        tokio::select! {
            _ = attach => panic!("the store has not answered"),
            () = store.held.notified() => {}
        }
        comes_to(&store, &b.node).await;
        store.answers.notify_one();
        comes_to(&store, &a.node).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        comes_to(&store, &a.node).await;
        assert!(a.sessions.get(&connected.session).is_some(), "the older socket was closed");
        assert!(b.sessions.get(&connected.session).is_none());
        // The drop of this connection is the one that counts.
        a.dropped(&a.sessions.get(&connected.session).expect("it is there"));
        a.writer.flush().await;
        let listed = store.sessions(&"acme".into(), None, None, 10).await.expect("an answer").sessions;
        assert!(!listed[0].attached, "{listed:?}");
    }
}

/// When the attach begins, one node has the session; when the store carries out its hold, another one does. The answer, which would say so,
/// is lost.
#[tokio::test]
async fn a_session_goes_back_to_the_node_that_really_had_it_when_the_answer_is_lost() {
    let store = Arc::new(Faulty::default());
    let [a, b, c] = three_nodes(&store).await;
    let connected = arrive(connect(&a, None).await);
    store.is_gated.store(true, Ordering::Relaxed);
    let later = tokio::spawn(connect(&b, Some(resume_of(&connected))));
    store.at_gate.notified().await;
    let breaking = tokio::spawn(connect(&c, Some(resume_of(&connected))));
    store.at_gate.notified().await;
    store.gate.notify_one();
    assert!(arrive(later.await.expect("no panic")).resumed);
    store.loses.store(true, Ordering::Relaxed);
    store.gate.notify_one();
    drop(breaking.await.expect("no panic"));
    store.is_gated.store(false, Ordering::Relaxed);
    comes_to(&store, &b.node).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    comes_to(&store, &b.node).await;
    assert!(b.sessions.get(&connected.session).is_some(), "the newest connection was closed");
    assert!(a.sessions.get(&connected.session).is_none() && c.sessions.get(&connected.session).is_none());
}

/// A later attach breaks off while an older one has everything but its connection.
#[tokio::test]
async fn an_attach_that_breaks_leaves_the_session_to_one_that_is_about_to_arrive() {
    for (by_other_node, has_socket) in [(false, false), (true, false), (false, true)] {
        let store = Arc::new(Faulty::default());
        let [a, b, _] = three_nodes(&store).await;
        let connected = arrive(connect(&a, None).await);
        if !has_socket {
            a.dropped(&a.sessions.get(&connected.session).expect("it is there"));
        }
        let older = connect(&a, Some(resume_of(&connected))).await;
        let later = connect(if by_other_node { &b } else { &a }, Some(resume_of(&connected))).await;
        assert!(matches!(later, Answer::Connect(_)));
        drop(later);
        for node in [&a, &b] {
            node.writer.flush().await;
        }
        assert!(arrive(older).resumed, "by another node: {by_other_node}, with a socket: {has_socket}");
        comes_to(&store, &a.node).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        comes_to(&store, &a.node).await;
        assert!(a.sessions.get(&connected.session).is_some());
    }
}

/// Two attaches begin on one node at the same time, so that the store gives them the same stamp. The older connection is on another node.
#[tokio::test]
async fn of_two_attaches_at_the_same_time_one_breaks_and_the_other_has_the_session() {
    for breaks_first in [true, false] {
        let store = Arc::new(Faulty::default());
        let [a, b, _] = three_nodes(&store).await;
        let connected = arrive(connect(&b, None).await);
        store.stamp.store(store.now_us() + 1_000, Ordering::Relaxed);
        let breaks = connect(&a, Some(resume_of(&connected))).await;
        let other = connect(&a, Some(resume_of(&connected))).await;
        assert!(matches!(breaks, Answer::Connect(_)));
        if breaks_first {
            drop(breaks);
            // The older connection is told that it has the session again, and finds that it has not.
            for _ in 0..200 {
                if b.sessions.get(&connected.session).is_none() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert!(arrive(other).resumed);
        } else {
            assert!(arrive(other).resumed);
            drop(breaks);
        }
        for node in [&a, &b] {
            node.writer.flush().await;
        }
        comes_to(&store, &a.node).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        comes_to(&store, &a.node).await;
        assert!(a.sessions.get(&connected.session).is_some(), "breaks first: {breaks_first}");
        assert!(b.sessions.get(&connected.session).is_none(), "breaks first: {breaks_first}");
    }
}

#[tokio::test]
async fn the_older_socket_is_closed_when_the_answer_to_the_hold_is_lost() {
    let store = Arc::new(Faulty::default());
    let [a, b, _] = three_nodes(&store).await;
    let connected = arrive(connect(&a, None).await);
    store.loses.store(true, Ordering::Relaxed);
    let resumed = arrive(connect(&b, Some(resume_of(&connected))).await);
    assert!(resumed.resumed);
    for _ in 0..200 {
        if a.sessions.get(&connected.session).is_none() {
            return comes_to(&store, &b.node).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("both have it");
}

#[tokio::test]
async fn a_resume_while_the_store_is_away_needs_a_place() {
    let store = Arc::new(Faulty::default());
    let mut config = testing::config();
    config.limits.connections = 1;
    let bus = MemoryBus::new(TopicSettings { history: 1, history_seconds: 1 });
    let fanout = bus.node(&config.lease());
    let hub = testing::hub_of(config, fanout, store.clone()).await;
    hub.start().await.expect("a start");
    let gone = arrive(connect(&hub, None).await);
    hub.dropped(&hub.sessions.get(&gone.session).expect("it is there"));
    let there = arrive(connect(&hub, None).await);
    store.away.store(true, Ordering::Relaxed);
    let Answer::Refused(error) = connect(&hub, Some(resume_of(&gone))).await else { panic!("it fits") };
    assert_eq!(error.code, ErrorCode::RateLimited);
    // A session that is attached here has its place.
    assert!(arrive(connect(&hub, Some(resume_of(&there))).await).resumed);
}
