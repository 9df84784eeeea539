//! The hub: puts the parts of a node together, and holds the commands.

mod assembly;
pub(crate) mod commands;
mod gauges;
mod node;
mod receive;
mod tick;

use std::sync::Arc;

pub use assembly::HubParts;
pub use gauges::NodeGauges;
use starling_auth::{Identity, TicketKey, TokenError, Verifier};
use starling_conversation_store::ConversationStore;
use starling_fanout::Fanout;
use starling_model::UserName;
use starling_session_store::SessionStore;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};

use crate::append::Appends;
use crate::directory::{Directory, Eraser};
use crate::limits::WriteLimits;
use crate::log::{CatchUp, LogPage};
use crate::neighbours::Neighbours;
use crate::presence::{LastSeenTimes, Presence, Typing};
use crate::publisher::Publisher;
use crate::reads::Reads;
use crate::room::Room;
use crate::sessions::{Attachments, EndedSessions, Holding, Places, Sessions};
use crate::shards::Shards;
use crate::store_writer::StoreWriter;
use crate::topics::{TopicPublisher, Topics};
use crate::{CommandError, HubConfig, clock};

/// The hub: what every command means and who gets which event. One per node.
///
/// Each part owns its state and shows it to nobody; the hub holds handles of them for the commands.
pub struct Hub {
    config: Arc<HubConfig>,
    /// The node's name, for people.
    name: Arc<str>,
    /// What the node's lease is kept under, and what other nodes know it by: see [`HubConfig::lease`].
    node: Arc<str>,

    /// The durable log, for commands that read or change it.
    store: Arc<dyn ConversationStore>,
    /// Sessions of all nodes, for attaches and for operators.
    session_store: Arc<dyn SessionStore>,
    /// Histories of topics.
    fanout: Arc<dyn Fanout>,
    verifier: Arc<Verifier>,
    /// Signs and opens resume tickets.
    tickets: TicketKey,
    /// The sockets' inboxes.
    shards: Arc<dyn Shards>,

    /// Publications to the other nodes.
    publisher: Arc<Publisher>,
    /// What is written to the session store.
    writer: Arc<StoreWriter>,
    /// This node among the others.
    neighbours: Arc<Neighbours>,

    /// The conversations that this node knows, and their members.
    directory: Arc<Directory>,
    /// Erases what is left of deleted conversations.
    eraser: Arc<Eraser>,
    /// Messages on their way into the log.
    appends: Arc<Appends>,
    /// Reads of the log for sockets that are behind.
    catch_up: CatchUp,
    /// Turns and allowances of reads that clients ask for.
    reads: Arc<Reads>,

    /// Who is online.
    presence: Arc<Presence>,
    last_seen: Arc<LastSeenTimes>,
    typing: Typing,

    /// Sessions that are attached here, or are about to be.
    sessions: Arc<Sessions>,
    /// What those sessions are in.
    attachments: Arc<Attachments>,
    /// Which of several attaches holds a session.
    holding: Arc<Holding>,
    /// Sessions that operators ended.
    ended: Arc<EndedSessions>,
    /// Places of tenants whose connections are limited.
    places: Arc<Places>,
    write_limits: WriteLimits,

    /// Topics that somebody here is subscribed to.
    topics: Arc<Topics>,
    topic_publisher: Arc<TopicPublisher>,

    /// Changes of conversations and members that are under way.
    change_slots: Arc<Semaphore>,
    /// Where the hub's own tasks run: not on a shard's thread.
    runtime: Handle,
    /// An operator wants this node to drain.
    drain_wanted: Notify,
    started_at_ms: i64,
    /// What the gateway says of itself, for the node's record.
    gauges: NodeGauges,
}

impl Hub {
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

    /// A page of a conversation's log after a number, from the primary, to serve a socket that is behind. Waits its turn, however long
    /// that takes.
    pub fn read_log(
        &self,
        room: &Arc<Room>,
        reader: &UserName,
        after: u64,
    ) -> impl Future<Output = Result<LogPage, CommandError>> + use<> {
        self.catch_up.page(room, reader, after)
    }

    /// Counters that the gateway keeps for the node's record.
    pub fn gauges(&self) -> &NodeGauges {
        &self.gauges
    }

    /// Returns when an operator has asked this node to drain, by [`Hub::drain_node`] on any node.
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
}
