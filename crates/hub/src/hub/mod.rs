//! The hub: what every command means and who gets which event.

pub(crate) mod commands;
mod receive;
mod recovery;
pub(crate) mod tick;

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use starling_auth::{Identity, TicketKey, TokenError, Verifier};
use starling_conversation_store::{ConversationStore, Range};
use starling_fanout::{Fanout, Publication};
use starling_model::UserName;
use starling_session_store::{
    ConversationKey, Dropped, NodeRecord, PresenceChange, SessionChange, SessionStore, Stamp,
};
use starling_telemetry::TRACE_TARGET;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tracing::Instrument;

use crate::directory::deleted::Deleted;
use crate::directory::rooms::Rooms;
use crate::lane::{self, Bound, Lane, LaneEnd, Weigh};
use crate::latency::LatencyWindow;
use crate::limits::Limits;
use crate::log::append::{APPEND_BATCH_MAX, APPEND_QUEUE_BYTES, AppendJob};
use crate::log::catch_up::{self, LogPage, LogReads};
use crate::metrics::METRICS;
use crate::neighbours::loads::Freshness;
use crate::neighbours::peers::Peers;
use crate::neighbours::standing::Standings;
use crate::node_message::{NodeMessage, traceparent_of};
use crate::presence::last_seen::Sightings;
use crate::presence::lingering::Lingering;
use crate::presence::typing::Typists;
use crate::publisher::heads::CommittedHeads;
use crate::publisher::untold::Lanes;
use crate::reads::{Reads, further_reads};
use crate::room::Room;
use crate::sessions::Sessions;
use crate::sessions::ended::{ENDED_BATCH_MAX, ENDED_QUEUE, EndedQuestion, EndedSessions};
use crate::sessions::holding::UntoldHolds;
use crate::shards::Shards;
use crate::topics::Topics;
use crate::topics::topic_lane::TopicJob;
use crate::vital::vital;
use crate::{CommandError, HubConfig, Map, Set, clock};

/// How many publications may wait for the broker. What does not fit is found in the log.
const PUBLISH_QUEUE: Bound = Bound { items: 65_536, bytes: 64 << 20 };
/// How many publications go in one call.
const PUBLISH_BATCH_MAX: Bound = Bound { items: 512, bytes: 4 << 20 };
/// How many publications of topics may wait for the broker.
const TOPIC_QUEUE: Bound = Bound { items: 8_192, bytes: 64 << 20 };
/// How long a resume waits for what its session did last to be written.
const CHANGES_WAIT: std::time::Duration = std::time::Duration::from_secs(1);
/// How many changes of presence and of sessions may wait for the session store.
const PRESENCE_QUEUE: Bound = Bound { items: 65_536, bytes: 64 << 20 };
/// How many of these changes are written at once.
const PRESENCE_BATCH_MAX: Bound = Bound { items: 2_048, bytes: 4 << 20 };
/// How many conversations may wait to be repaired, to be reported, or for their members to be read; what did not fit is found again by
/// the next tick or comparison.
const REPAIR_QUEUE: usize = 4_096;
/// How many changes of conversations and members are made at once; further ones wait.
const CHANGES_AT_ONCE: usize = 64;
/// The most bytes of one page that is read from the log, contents and metadata.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// The most bytes that are read from the log at once for one socket that is behind.
const CATCH_UP_BYTES_MAX: usize = 128 * 1024;
/// The most messages that are read from the log at once for one socket that is behind.
const CATCH_UP_PAGE: u32 = 100;

/// What the hub is put together from.
pub struct HubParts {
    /// Settings.
    pub config: HubConfig,
    /// The durable log.
    pub conversations: Arc<dyn ConversationStore>,
    /// Who is connected where.
    pub sessions: Arc<dyn SessionStore>,
    /// Publications between nodes.
    pub fanout: Arc<dyn Fanout>,
    /// Checks tokens.
    pub verifier: Arc<Verifier>,
    /// Signs and opens resume tickets.
    pub tickets: TicketKey,
    /// The sockets' inboxes.
    pub shards: Arc<dyn Shards>,
    /// How many shards there are.
    pub shard_count: usize,
    /// Where the hub's own tasks run: not on a shard's thread.
    pub runtime: Handle,
}

/// The hub: what every command means and who gets which event. One per node.
pub struct Hub {
    pub(crate) config: HubConfig,
    /// The node's name, for people.
    pub(crate) name: Arc<str>,
    /// What the node's lease stands under, for other nodes: see [`HubConfig::lease`].
    pub(crate) node: Arc<str>,
    pub(crate) conversations: Arc<dyn ConversationStore>,
    pub(crate) session_store: Arc<dyn SessionStore>,
    pub(crate) fanout: Arc<dyn Fanout>,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) tickets: TicketKey,
    pub(crate) shards: Arc<dyn Shards>,
    pub(crate) shard_count: usize,
    /// Whether there may be other nodes.
    pub(crate) clustered: bool,
    pub(crate) rooms: Rooms,
    pub(crate) topics: Topics,
    pub(crate) sessions: Sessions,
    pub(crate) lingering: Lingering,
    pub(crate) typing: Typists,
    pub(crate) limits: Limits,
    pub(crate) append_lanes: Vec<Lane<AppendJob>>,
    pub(crate) publish_lane: Lane<Publication>,
    pub(crate) topic_lane: Lane<TopicJob>,
    pub(crate) presence_lane: Lane<StoreChange>,
    pub(crate) repair_lane: mpsc::Sender<Arc<Room>>,
    /// Conversations whose members are to be read anew.
    pub(crate) look_lane: mpsc::Sender<Arc<Room>>,
    /// Conversations of which the database told less than before, and how far it once said that they reach.
    pub(crate) doubt_lane: mpsc::Sender<(Arc<Room>, u64)>,
    /// Changes of conversations and members that are under way.
    pub(crate) change_slots: Arc<Semaphore>,
    /// Conversations that were deleted a moment ago.
    pub(crate) deleted: Deleted,
    /// A conversation was deleted: its messages are to be erased.
    pub(crate) erase_wanted: Notify,
    /// Reads of the database that clients ask for.
    pub(crate) reads: Arc<Reads>,
    /// Reads of the log for sockets that are behind.
    log_reads: Arc<LogReads>,
    /// Where the hub's own tasks run.
    pub(crate) runtime: Handle,
    /// Newest numbers that this node committed and has not yet told in a beat.
    pub(crate) committed_heads: CommittedHeads,
    /// What was said of this node's sessions alone may have been missed: they are to be compared with the session store.
    pub(crate) sessions_doubted: Notify,
    /// Conversations whose head in the database is to be looked up: an append had no answer.
    pub(crate) suspects: Mutex<VecDeque<Arc<Room>>>,
    /// Users whose last-seen time is to be written.
    pub(crate) last_seen: Mutex<Sightings>,
    /// What is known of the other nodes.
    pub(crate) nodes: Mutex<Vec<NodeRecord>>,
    /// How well the above is known.
    pub(crate) freshness: Freshness,
    /// Which of them can be heard.
    pub(crate) peers: Peers,
    /// What the session store was told of the connections of limited tenants.
    pub(crate) told_connections: crate::sessions::places::Told,
    /// Held while the lease is renewed or ended.
    pub(crate) beating: tokio::sync::Mutex<()>,
    /// This node has taken leave of the others.
    pub(crate) left: AtomicBool,
    /// Whether the link to the broker carried this node's last probes.
    pub(crate) link: crate::neighbours::link::Link,
    /// Whether it serves as well as the other nodes while it does not.
    pub(crate) standings: Standings,
    /// Whether the session store may lack what this node wrote: to be written again.
    pub(crate) presence_lost: AtomicBool,
    /// Where this node could not publish: to be told when it can.
    pub(crate) untold: Lanes,
    /// Where something was or may have been missed of the log, and is to be read.
    pub(crate) missed: Lanes,
    /// Where who is there is to be read.
    pub(crate) unread: Lanes,
    /// Who went while the session store did not take it.
    pub(crate) unwritten: Mutex<Set<(ConversationKey, UserName)>>,
    /// Sessions whose sockets dropped while the session store did not take it: the stamp of the attach that ended, and when, Unix
    /// milliseconds.
    pub(crate) undetached: Mutex<Map<String, (Stamp, i64)>>,
    /// Nodes that had a session which this node has now, and could not be told.
    pub(crate) untold_holds: Mutex<UntoldHolds>,
    /// Sessions that operators ended.
    pub(crate) ended: EndedSessions,
    /// Questions to the database whether a session was ended.
    pub(crate) ended_lane: Lane<EndedQuestion>,
    /// An operator wants this node to drain.
    pub(crate) drain_wanted: Notify,
    pub(crate) started_at: Instant,
    pub(crate) started_at_ms: i64,
    /// What the gateway says of itself, for the node's record.
    pub(crate) gauges: NodeGauges,
}

/// What the gateway says of itself, for the node's record. All are set by the gateway.
#[derive(Debug, Default)]
pub struct NodeGauges {
    /// Open sockets.
    pub connections: AtomicU64,
    /// Whether the node drains.
    pub draining: AtomicBool,
    /// Messages committed since the start (set by the hub).
    pub messages: AtomicU64,
    /// Events put into sockets' queues since the start.
    pub deliveries: AtomicU64,
    /// How long messages took from their commit to the sockets' queues.
    pub delivery: LatencyWindow,
    /// Percentiles of the last seconds, from `delivery`, microseconds (set by the hub).
    pub delivery_p50_us: AtomicU64,
    /// See `delivery_p50_us`.
    pub delivery_p99_us: AtomicU64,
}

/// Something to be written to the session store.
pub(crate) enum StoreChange {
    Presence(PresenceChange),
    Session(SessionChange),
    /// The socket of an attach dropped at this time.
    Detached {
        dropped: Dropped,
        at_ms: i64,
    },
    /// To be published when all that came before has been written.
    Publish(Publication),
    /// To be told when all that came before has been written.
    Told(oneshot::Sender<()>),
    /// Everything that is so now, and whether it was written.
    AllPresence(oneshot::Sender<bool>),
}

impl Weigh for StoreChange {
    fn bytes(&self) -> usize {
        let publication = if let StoreChange::Publish(publication) = self { publication.bytes() } else { 0 };
        // Names are short.
        size_of::<StoreChange>() + publication
    }
}

impl Weigh for Publication {
    fn bytes(&self) -> usize {
        size_of::<Publication>() + self.body.len()
    }
}

impl Hub {
    /// Puts the hub together and starts its lanes. [`Hub::start`] begins to receive.
    pub fn new(parts: HubParts) -> Arc<Hub> {
        let append_lanes = parts.config.append_lanes.max(1);
        let append_queue =
            Bound { items: parts.config.append_queue, bytes: APPEND_QUEUE_BYTES / append_lanes };
        let (append_lanes, append_ends): (Vec<_>, Vec<_>) =
            (0..append_lanes).map(|_| Lane::new(append_queue)).unzip();
        let (publish_lane, publish_end) = Lane::new(PUBLISH_QUEUE);
        let (topic_lane, topic_end) = Lane::new(TOPIC_QUEUE);
        let (presence_lane, presence_end) = Lane::new(PRESENCE_QUEUE);
        let (ended_lane, ended_end) = Lane::new(ENDED_QUEUE);
        let (repair_lane, repair_end) = mpsc::channel(REPAIR_QUEUE);
        let (look_lane, look_end) = mpsc::channel(REPAIR_QUEUE);
        let (doubt_lane, doubt_end) = mpsc::channel(REPAIR_QUEUE);
        let (runtime, log_reads_at_once) = (parts.runtime, parts.config.log_reads_at_once);
        let reads = Reads::new(parts.config.reads_at_once, parts.config.user_reads_per_second);
        let hub = Arc::new(Hub {
            name: parts.config.node.as_str().into(),
            node: parts.config.lease().into(),
            limits: Limits::default(),
            config: parts.config,
            conversations: parts.conversations,
            session_store: parts.sessions,
            clustered: parts.fanout.link().is_some(),
            fanout: parts.fanout,
            verifier: parts.verifier,
            tickets: parts.tickets,
            shards: parts.shards,
            shard_count: parts.shard_count,
            rooms: Rooms::new(parts.shard_count),
            topics: Topics::default(),
            sessions: Sessions::default(),
            lingering: Lingering::default(),
            typing: Typists::default(),
            append_lanes,
            publish_lane,
            topic_lane,
            presence_lane,
            repair_lane,
            look_lane,
            doubt_lane,
            change_slots: Arc::new(Semaphore::new(CHANGES_AT_ONCE)),
            deleted: Deleted::default(),
            erase_wanted: Notify::new(),
            reads,
            log_reads: LogReads::new(log_reads_at_once),
            runtime: runtime.clone(),
            committed_heads: CommittedHeads::default(),
            sessions_doubted: Notify::new(),
            suspects: Mutex::default(),
            last_seen: Mutex::default(),
            nodes: Mutex::default(),
            freshness: Freshness::default(),
            peers: Peers::default(),
            told_connections: crate::sessions::places::Told::default(),
            beating: tokio::sync::Mutex::default(),
            left: AtomicBool::new(false),
            link: crate::neighbours::link::Link::default(),
            standings: Standings::default(),
            presence_lost: AtomicBool::new(false),
            untold: Lanes::default(),
            missed: Lanes::default(),
            unread: Lanes::default(),
            unwritten: Mutex::default(),
            undetached: Mutex::default(),
            untold_holds: Mutex::default(),
            ended: EndedSessions::default(),
            ended_lane,
            drain_wanted: Notify::new(),
            started_at: Instant::now(),
            started_at_ms: clock::now_ms(),
            gauges: NodeGauges::default(),
        });
        for end in append_ends {
            hub.work("append", &runtime, end, APPEND_BATCH_MAX, Hub::append_batch);
        }
        hub.work("publish", &runtime, publish_end, PUBLISH_BATCH_MAX, Hub::publish_batch);
        hub.work("publish_topics", &runtime, topic_end, PUBLISH_BATCH_MAX, Hub::publish_topics_batch);
        hub.work("presence", &runtime, presence_end, PRESENCE_BATCH_MAX, Hub::write_changes);
        hub.work("ended", &runtime, ended_end, ENDED_BATCH_MAX, Hub::look_up_ended);
        runtime.spawn(vital("look", hub.clone().look_forever(look_end)));
        runtime.spawn(vital("report_heads", hub.clone().report_heads(doubt_end)));
        runtime.spawn(vital("repair", hub.clone().repair_all(repair_end)));
        hub
    }

    /// Begins to hear other nodes, to beat, and to keep what is cached true. Returns when the node may serve, or at once with the
    /// broker away (the link is then repaired in the background).
    pub async fn start(self: &Arc<Self>) -> Result<(), starling_fanout::Error> {
        self.fanout.start(Arc::new(crate::hub::receive::Ear::new(self))).await?;
        self.beat().await;
        tokio::spawn(vital("beat", self.clone().beat_forever()));
        tokio::spawn(vital("tick", self.clone().tick_forever()));
        tokio::spawn(vital("tend_log", self.clone().tend_log_forever()));
        tokio::spawn(vital("recover", self.clone().recover_forever()));
        tokio::spawn(vital("compare", self.clone().compare_forever()));
        tokio::spawn(vital("erase", self.clone().erase_forever()));
        tokio::spawn(vital("watch_incarnation", self.clone().watch_incarnation_forever()));
        if self.clustered {
            tokio::spawn(vital("tend_link", self.clone().tend_link_forever()));
            tokio::spawn(vital("tell_connections", self.clone().tell_connections_forever()));
            tokio::spawn(vital("listen", self.clone().listen_forever()));
            tokio::spawn(vital("compare_links", self.clone().compare_links_forever()));
            tokio::spawn(vital("check_sessions", self.clone().check_sessions_forever()));
            tokio::spawn(vital("read_presence", self.clone().read_presence_forever()));
            tokio::spawn(vital("watch_ended", self.clone().watch_ended_forever()));
        }
        Ok(())
    }

    /// Who a token says its bearer is, without waiting, if that can be told at once.
    pub fn authenticate_now(&self, token: &str) -> Option<Result<Identity, TokenError>> {
        self.verifier.verify_now(token, clock::now_ms())
    }

    /// Who a token says its bearer is.
    pub async fn authenticate(&self, token: &str) -> Result<Identity, TokenError> {
        self.verifier.verify(token, clock::now_ms()).await
    }

    /// Whether there is a key to verify tokens with.
    pub fn has_keys(&self) -> bool {
        self.verifier.has_keys()
    }

    /// A page of a conversation's log after a number, from the primary, to serve a socket. Sockets that want the same at the same time
    /// share it; with many that want different ones, it waits its turn, however long that takes. Charged to whose turn it was made in.
    pub fn read_log(
        &self,
        room: &Arc<Room>,
        reader: &UserName,
        after: u64,
    ) -> impl Future<Output = Result<LogPage, CommandError>> + use<> {
        let (store, reads, room) = (self.conversations.clone(), self.reads.clone(), room.clone());
        let reader = (room.key.tenant.clone(), reader.clone());
        self.log_reads.read(&self.runtime, (room.conversation, after), reader, move |reader| async move {
            let (id, range) = (room.conversation, Range::After(after));
            let page = store.messages(id, range, CATCH_UP_PAGE, CATCH_UP_BYTES_MAX, true).await?;
            reads.charge(&reader.0, &reader.1, further_reads(&page));
            Ok(catch_up::events(&room.key.name, page))
        })
    }

    /// Counters that the gateway keeps for the node's record.
    pub fn gauges(&self) -> &NodeGauges {
        &self.gauges
    }

    /// Returns when an operator wants this node to drain, by [`Hub::drain_node`] on any node.
    pub async fn drain_wanted(&self) {
        self.drain_wanted.notified().await;
    }

    /// What the other nodes that live and do not drain said of themselves in their last beats.
    pub fn other_nodes(&self) -> Vec<NodeRecord> {
        let nodes = self.nodes.lock();
        nodes.iter().filter(|record| record.node != *self.node && !record.draining).cloned().collect()
    }

    /// This node's name.
    #[expect(
        clippy::misnamed_getters,
        reason = "what is a node's name outside is not what it is called among nodes"
    )]
    pub fn node(&self) -> &Arc<str> {
        &self.name
    }

    /// Settings.
    pub fn config(&self) -> &HubConfig {
        &self.config
    }

    pub(crate) fn seconds(&self) -> u64 {
        self.started_at.elapsed().as_secs()
    }

    /// Publishes to the other nodes. What does not fit is lost, and found by them through the beats' heads.
    pub(crate) fn publish(&self, publication: Publication) {
        if let Err(publication) = self.publish_lane.push(publication) {
            self.untold.lost(&publication, self.committed_heads.has_room());
            METRICS.publications_dropped.increment(1);
        }
    }

    pub(crate) fn publish_message(&self, lane: u16, message: &NodeMessage) {
        if self.clustered {
            self.publish(Publication { lane, body: message.encode() });
        }
    }

    /// Publishes once all changes so far have been written. Another node that begins to read the store before the write hears of
    /// the change afterwards; were it the other way round, it could miss both.
    pub(crate) fn publish_when_written(&self, lane: u16, message: &NodeMessage) {
        if self.clustered {
            self.change(StoreChange::Publish(Publication { lane, body: message.encode() }));
        }
    }

    pub(crate) fn change(&self, change: StoreChange) {
        match self.presence_lane.push(change) {
            Ok(()) => {}
            Err(StoreChange::Publish(publication)) => self.publish(publication),
            Err(change) => {
                match change {
                    StoreChange::Presence(change) => self.keep_departures(&[change]),
                    StoreChange::Detached { dropped, at_ms } => self.keep_detached(vec![dropped], at_ms),
                    _ => {}
                }
                self.presence_lost.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Waits until what is known of sessions and presence so far has been written, or for as long as that is worth it.
    pub(crate) async fn changes_written(&self) {
        let (teller, told) = oneshot::channel();
        if self.presence_lane.push(StoreChange::Told(teller)).is_ok() {
            // In time or not: what is not written by then is written later.
            let _ = tokio::time::timeout(CHANGES_WAIT, told).await;
        }
    }

    /// Writes everybody who is there by this node, after all changes so far. `false`: it could not be written.
    pub(crate) async fn rewrite_presence(&self) -> bool {
        let (teller, told) = oneshot::channel();
        self.presence_lane.push(StoreChange::AllPresence(teller)).is_ok() && told.await.unwrap_or(false)
    }

    async fn publish_batch(self: Arc<Self>, batch: Vec<Publication>) {
        METRICS.publish_batch.record(batch.len() as f64);
        let span = tracing::info_span!(target: TRACE_TARGET, "publish", publications = batch.len());
        let traceparents = batch.iter().filter_map(|publication| traceparent_of(&publication.body));
        crate::trace::belong_to(&span, batch.len(), traceparents);
        if let Err(error) = self.fanout.publish(&batch).instrument(span).await {
            METRICS.publications_dropped.increment(batch.len() as u64);
            let heads = self.committed_heads.has_room();
            batch.iter().for_each(|publication| self.untold.lost(publication, heads));
            tracing::debug!(%error, lost = batch.len(), "publications were lost; other nodes are told to look for them");
        }
    }

    /// Writes to the session store what gathered. What it does not take is written again when it is back.
    async fn write_changes(self: Arc<Self>, batch: Vec<StoreChange>) {
        let (mut presence, mut sessions, mut detached) = (Vec::new(), Vec::new(), Vec::new());
        let (mut detached_at_ms, mut waiting, mut publications) = (0, Vec::new(), Vec::new());
        let mut rewriters = Vec::new();
        for change in batch {
            match change {
                StoreChange::Presence(change) => presence.push(change),
                StoreChange::Session(change) => sessions.push(change),
                StoreChange::Publish(publication) => publications.push(publication),
                StoreChange::Told(teller) => waiting.push(teller),
                StoreChange::AllPresence(teller) => rewriters.push(teller),
                StoreChange::Detached { dropped, at_ms } => {
                    detached.push(dropped);
                    detached_at_ms = detached_at_ms.max(at_ms);
                }
            }
        }
        let mut fault = None;
        if !sessions.is_empty() {
            fault = self.session_store.update(&sessions).await.err();
        }
        if !presence.is_empty() && fault.is_none() {
            fault = self.session_store.set_presence(&self.node, &presence).await.err();
        }
        if !rewriters.is_empty() && fault.is_none() {
            let all = self.own_presence();
            fault = self.session_store.set_presence(&self.node, &all).await.err();
            if fault.is_none() {
                self.forget_departures(&all);
            }
            // Those whose drop could not be written. One that has been attached again meanwhile has another stamp.
            let kept = std::mem::take(&mut *self.undetached.lock());
            for (session, (stamp, at_ms)) in kept {
                detached.push(Dropped { session, stamp });
                detached_at_ms = detached_at_ms.max(at_ms);
            }
        }
        if !detached.is_empty() && fault.is_none() {
            fault = self.session_store.detach(&self.node, &detached, detached_at_ms).await.err();
        }
        let failed = fault.is_some();
        if let Some(error) = fault {
            tracing::debug!(%error, "sessions and presence could not be written; they will be, later");
            self.keep_departures(&presence);
            self.keep_detached(detached, detached_at_ms);
            self.presence_lost.store(true, Ordering::Relaxed);
        }
        for teller in rewriters {
            // Whoever asked may have stopped waiting.
            let _ = teller.send(!failed);
        }
        for publication in publications {
            self.publish(publication);
        }
        for teller in waiting {
            // Whoever asked may have stopped waiting.
            let _ = teller.send(());
        }
    }

    fn work<T, F>(
        self: &Arc<Self>,
        name: &'static str,
        runtime: &Handle,
        end: LaneEnd<T>,
        batch_max: Bound,
        work: impl Fn(Arc<Hub>, Vec<T>) -> F + Send + 'static,
    ) where
        T: Weigh + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let hub = self.clone();
        runtime.spawn(vital(name, lane::run(end, batch_max, move |batch| work(hub.clone(), batch))));
    }
}
