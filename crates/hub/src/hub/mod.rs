//! The hub: what every command means and who gets which event.

pub(crate) mod commands;
mod node;
mod receive;
mod recovery;
pub(crate) mod tick;

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use parking_lot::Mutex;
use starling_auth::{Identity, TicketKey, TokenError, Verifier};
use starling_conversation_store::{ConversationStore, Range};
use starling_fanout::Fanout;
use starling_model::UserName;
use starling_session_store::SessionStore;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::Instant;

use crate::directory::Rooms;
use crate::directory::deleted::Deleted;
use crate::lane::{self, Bound, Lane};
use crate::latency::LatencyWindow;
use crate::limits::Limits;
use crate::log::append::{APPEND_BATCH_MAX, APPEND_QUEUE_BYTES, AppendJob};
use crate::log::catch_up::{self, LogPage, LogReads};
use crate::neighbours::Neighbours;
use crate::presence::last_seen::Sightings;
use crate::presence::lingering::Lingering;
use crate::presence::typing::Typists;
use crate::publisher::{PartitionSet, Publisher};
use crate::reads::{Reads, further_reads};
use crate::room::Room;
use crate::sessions::Sessions;
use crate::sessions::ended::{ENDED_BATCH_MAX, ENDED_QUEUE, EndedQuestion, EndedSessions};
use crate::sessions::holding::UntoldHolds;
use crate::shards::Shards;
use crate::store_writer::StoreWriter;
use crate::topics::Topics;
use crate::topics::topic_lane::TopicJob;
use crate::vital::vital;
use crate::{CommandError, HubConfig, clock};

/// How many publications of topics go in one call.
const TOPIC_BATCH_MAX: Bound = Bound { items: 512, bytes: 4 << 20 };
/// How many publications of topics may wait for the broker.
const TOPIC_QUEUE: Bound = Bound { items: 8_192, bytes: 64 << 20 };
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
    pub(crate) rooms: Arc<Rooms>,
    /// Publications to the other nodes.
    pub(crate) publisher: Arc<Publisher>,
    /// This node among the others.
    pub(crate) neighbours: Arc<Neighbours>,
    /// What is written to the session store.
    pub(crate) writer: Arc<StoreWriter>,
    pub(crate) topics: Topics,
    pub(crate) sessions: Sessions,
    pub(crate) lingering: Lingering,
    pub(crate) typing: Typists,
    pub(crate) limits: Limits,
    pub(crate) append_lanes: Vec<Lane<AppendJob>>,
    pub(crate) topic_lane: Lane<TopicJob>,
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
    /// What was said of this node's sessions alone may have been missed: they are to be compared with the session store.
    pub(crate) sessions_doubted: Notify,
    /// Conversations whose head in the database is to be looked up: an append had no answer.
    pub(crate) suspects: Mutex<VecDeque<Arc<Room>>>,
    /// Users whose last-seen time is to be written.
    pub(crate) last_seen: Mutex<Sightings>,
    /// What the session store was told of the connections of limited tenants.
    pub(crate) told_connections: crate::sessions::places::Told,
    /// Where something was or may have been missed of the log, and is to be read.
    pub(crate) missed: PartitionSet,
    /// Where who is there is to be read.
    pub(crate) unread: PartitionSet,
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

impl Hub {
    /// Puts the hub together and starts its lanes. [`Hub::start`] begins to receive.
    pub fn new(parts: HubParts) -> Arc<Hub> {
        let append_lanes = parts.config.append_lanes.max(1);
        let append_queue =
            Bound { items: parts.config.append_queue, bytes: APPEND_QUEUE_BYTES / append_lanes };
        let (append_lanes, append_ends): (Vec<_>, Vec<_>) =
            (0..append_lanes).map(|_| Lane::new(append_queue)).unzip();
        let (topic_lane, topic_end) = Lane::new(TOPIC_QUEUE);
        let (ended_lane, ended_end) = Lane::new(ENDED_QUEUE);
        let (repair_lane, repair_end) = mpsc::channel(REPAIR_QUEUE);
        let (look_lane, look_end) = mpsc::channel(REPAIR_QUEUE);
        let (doubt_lane, doubt_end) = mpsc::channel(REPAIR_QUEUE);
        let (runtime, log_reads_at_once) = (parts.runtime, parts.config.log_reads_at_once);
        let reads = Reads::new(parts.config.reads_at_once, parts.config.user_reads_per_second);
        let node: Arc<str> = parts.config.lease().into();
        let rooms = Arc::new(Rooms::new(parts.shard_count));
        let publisher = Publisher::new(parts.fanout.clone(), &runtime);
        let writer = StoreWriter::new(
            node.clone(),
            parts.sessions.clone(),
            publisher.clone(),
            rooms.clone(),
            &runtime,
        );
        let neighbours = Neighbours::new(
            node.clone(),
            parts.sessions.clone(),
            parts.fanout.clone(),
            parts.conversations.clone(),
            publisher.clone(),
            runtime.clone(),
        );
        let hub = Arc::new(Hub {
            name: parts.config.node.as_str().into(),
            node,
            limits: Limits::default(),
            config: parts.config,
            conversations: parts.conversations,
            session_store: parts.sessions,
            fanout: parts.fanout,
            verifier: parts.verifier,
            tickets: parts.tickets,
            shards: parts.shards,
            shard_count: parts.shard_count,
            rooms,
            publisher,
            neighbours,
            writer,
            topics: Topics::default(),
            sessions: Sessions::default(),
            lingering: Lingering::default(),
            typing: Typists::default(),
            append_lanes,
            topic_lane,
            repair_lane,
            look_lane,
            doubt_lane,
            change_slots: Arc::new(Semaphore::new(CHANGES_AT_ONCE)),
            deleted: Deleted::default(),
            erase_wanted: Notify::new(),
            reads,
            log_reads: LogReads::new(log_reads_at_once),
            runtime: runtime.clone(),
            sessions_doubted: Notify::new(),
            suspects: Mutex::default(),
            last_seen: Mutex::default(),
            told_connections: crate::sessions::places::Told::default(),
            missed: PartitionSet::default(),
            unread: PartitionSet::default(),
            untold_holds: Mutex::default(),
            ended: EndedSessions::default(),
            ended_lane,
            drain_wanted: Notify::new(),
            started_at: Instant::now(),
            started_at_ms: clock::now_ms(),
            gauges: NodeGauges::default(),
        });
        for end in append_ends {
            lane::spawn(&runtime, "append", end, APPEND_BATCH_MAX, &hub, Hub::append_batch);
        }
        lane::spawn(&runtime, "publish_topics", topic_end, TOPIC_BATCH_MAX, &hub, Hub::publish_topics_batch);
        lane::spawn(&runtime, "ended", ended_end, ENDED_BATCH_MAX, &hub, Hub::look_up_ended);
        runtime.spawn(vital("look", hub.clone().look_forever(look_end)));
        runtime.spawn(vital("report_heads", hub.clone().report_heads(doubt_end)));
        runtime.spawn(vital("repair", hub.clone().repair_all(repair_end)));
        hub
    }

    /// Begins to hear other nodes, to beat, and to keep what is cached true. Returns when the node may serve, or at once with the
    /// broker away (the link is then repaired in the background).
    pub async fn start(self: &Arc<Self>) -> Result<(), starling_fanout::Error> {
        self.fanout.start(Arc::new(crate::hub::receive::Ear::new(self))).await?;
        self.neighbours.start(self.clone()).await;
        tokio::spawn(vital("tick", self.clone().tick_forever()));
        tokio::spawn(vital("tend_log", self.clone().tend_log_forever()));
        tokio::spawn(vital("recover", self.clone().recover_forever()));
        tokio::spawn(vital("compare", self.clone().compare_forever()));
        tokio::spawn(vital("erase", self.clone().erase_forever()));
        tokio::spawn(vital("watch_incarnation", self.clone().watch_incarnation_forever()));
        if self.publisher.is_clustered() {
            tokio::spawn(vital("announce_holds", self.clone().announce_holds_forever()));
            tokio::spawn(vital("keep_presence", self.clone().keep_presence_forever()));
            tokio::spawn(vital("tell_connections", self.clone().tell_connections_forever()));
            tokio::spawn(vital("listen", self.clone().listen_forever()));
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
}
