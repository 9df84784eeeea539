//! The hub: puts the parts of a node together, and has the commands.

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
use starling_job_service::JobService;
use starling_model::{Seq, UserName};
use starling_session_store::SessionStore;
use starling_webhook_service::WebhookService;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};

use crate::append::Appends;
use crate::directory::{Directory, Eraser};
use crate::limits::WriteLimits;
use crate::log::{LogPage, LogPages};
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

/// The hub: what every command does, and who receives which event. There is one per node.
///
/// Each part owns its state. The hub has handles of the parts, for the commands.
pub struct Hub {
    config: Arc<HubConfig>,
    /// The node's name, as operators know it.
    name: Arc<str>,
    /// The name under which the node's lease is kept, and by which other nodes know it: see [`HubConfig::lease`].
    node: Arc<str>,

    /// The durable log, for commands that read or change it.
    store: Arc<dyn ConversationStore>,
    /// Sessions of all nodes, for attaches and for operators.
    session_store: Arc<dyn SessionStore>,
    /// Histories of topics.
    fanout: Arc<dyn Fanout>,
    /// Durable jobs. `None`: this node offers none.
    jobs: Option<Arc<JobService>>,
    /// Hooks that ask first. `None`: this node asks nobody.
    webhooks: Option<Arc<WebhookService>>,
    verifier: Arc<Verifier>,
    /// Signs and opens resume tickets.
    tickets: TicketKey,
    /// The shards' inboxes.
    shards: Arc<dyn Shards>,

    /// Publications to the other nodes.
    publisher: Arc<Publisher>,
    /// Writes to the session store.
    writer: Arc<StoreWriter>,
    /// This node's view of the other nodes.
    neighbours: Arc<Neighbours>,

    /// The conversations that this node knows, and their members.
    directory: Arc<Directory>,
    /// Erases the messages of deleted conversations.
    eraser: Arc<Eraser>,
    /// Messages that wait to be committed.
    appends: Arc<Appends>,
    /// Reads of the log for subscriptions that are behind.
    log_pages: LogPages,
    /// Turns and allowances of reads that clients ask for.
    reads: Arc<Reads>,

    /// Who is online in which conversation.
    presence: Arc<Presence>,
    last_seen: Arc<LastSeenTimes>,
    typing: Typing,

    /// Sessions that are attached here, or are about to be.
    sessions: Arc<Sessions>,
    /// Attaches these sessions to rooms and topics.
    attachments: Arc<Attachments>,
    /// Decides which attach holds a session.
    holding: Arc<Holding>,
    /// Sessions that operators ended.
    ended: Arc<EndedSessions>,
    /// Limits the connections of tenants.
    places: Arc<Places>,
    write_limits: WriteLimits,

    /// Topics that sessions on this node are subscribed to.
    topics: Arc<Topics>,
    topic_publisher: Arc<TopicPublisher>,

    /// Semaphore for the changes of conversations and members that are under way.
    change_slots: Arc<Semaphore>,
    /// Semaphore for the actions on many jobs that are under way.
    bulk_slots: Arc<Semaphore>,
    /// Runs the hub's own tasks, which must not run on a shard's thread.
    runtime: Handle,
    /// Notified when an operator wants this node to drain.
    drain_wanted: Notify,
    started_at_ms: i64,
    /// The gateway's numbers for the node's record.
    gauges: NodeGauges,
}

impl Hub {
    /// Returns the identity that a token names, if that needs no waiting.
    pub fn authenticate_now(&self, token: &str) -> Option<Result<Identity, TokenError>> {
        self.verifier.verify_now(token, clock::now_ms())
    }

    /// Returns the identity that a token names.
    pub async fn authenticate(&self, token: &str) -> Result<Identity, TokenError> {
        self.verifier.verify(token, clock::now_ms()).await
    }

    /// Whether there is a key to verify tokens with.
    pub fn has_keys(&self) -> bool {
        self.verifier.has_keys()
    }

    /// Reads from the primary the page of a conversation's log that follows the seq `after`, for a subscription that is behind. Waits for
    /// its turn without a time limit.
    pub fn read_log(
        &self,
        room: &Arc<Room>,
        reader: &UserName,
        after: Seq,
    ) -> impl Future<Output = Result<LogPage, CommandError>> + use<> {
        self.log_pages.page(room, reader, after)
    }

    /// Returns the gateway's numbers for the node's record.
    pub fn gauges(&self) -> &NodeGauges {
        &self.gauges
    }

    /// Returns when an operator has asked this node to drain, by [`Hub::drain_node`] on any node.
    pub async fn drain_wanted(&self) {
        self.drain_wanted.notified().await;
    }

    /// Returns this node's name.
    #[expect(
        clippy::misnamed_getters,
        reason = "operators see the node's name; other nodes use the name of its lease"
    )]
    pub fn node(&self) -> &Arc<str> {
        &self.name
    }

    /// Returns the node's settings.
    pub fn config(&self) -> &HubConfig {
        &self.config
    }
}
