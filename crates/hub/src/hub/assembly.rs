//! Puts the hub together from its parts, and starts their background tasks.

use std::sync::Arc;

use starling_auth::{TicketKey, Verifier};
use starling_conversation_store::ConversationStore;
use starling_fanout::Fanout;
use starling_job_service::JobService;
use starling_session_store::SessionStore;
use starling_webhook_service::WebhookService;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};

use super::receive::HubReceiver;
use super::{Hub, NodeGauges};
use crate::append::{AppendParts, Appends};
use crate::directory::{Directory, DirectoryParts, Eraser};
use crate::essential;
use crate::limits::WriteLimits;
use crate::log::{HeadReports, LogPages, Repairs};
use crate::neighbours::Neighbours;
use crate::presence::{LINGER, LastSeenTimes, Presence, PresenceParts, Typing};
use crate::publisher::Publisher;
use crate::reads::Reads;
use crate::room::Rooms;
use crate::sessions::{Attachments, EndedSessions, Holding, HoldingParts, Places, Sessions};
use crate::shards::{ChannelIds, Shards};
use crate::store_writer::StoreWriter;
use crate::topics::{TopicPublisher, Topics};
use crate::{HubConfig, clock, job_tasks};

/// Most changes of conversations and members that may be under way at once. Further ones wait.
const CHANGES_AT_ONCE: usize = 64;
/// Most actions on many jobs that may be under way at once. Each may take minutes, so that further ones are refused.
const BULK_ACTIONS_AT_ONCE: usize = 4;

/// The parts that the hub consists of.
pub struct HubParts {
    /// The node's settings.
    pub config: HubConfig,
    /// The durable log.
    pub conversations: Arc<dyn ConversationStore>,
    /// The session store.
    pub sessions: Arc<dyn SessionStore>,
    /// Publications between nodes.
    pub fanout: Arc<dyn Fanout>,
    /// Durable jobs. `None`: this node offers none.
    pub jobs: Option<Arc<JobService>>,
    /// Hooks that ask first, which the service must have learned. `None`: this node asks nobody.
    pub webhooks: Option<Arc<WebhookService>>,
    /// Checks tokens.
    pub verifier: Arc<Verifier>,
    /// Signs and opens resume tickets.
    pub tickets: TicketKey,
    /// The shards' inboxes.
    pub shards: Arc<dyn Shards>,
    /// Number of shards.
    pub shard_count: usize,
    /// Runs the hub's own tasks, which must not run on a shard's thread.
    pub runtime: Handle,
}

impl Hub {
    /// Puts the hub together and starts its lanes. Nothing is received before [`Hub::start`]. Each part gets handles of the parts created
    /// before it.
    pub fn new(parts: HubParts) -> Arc<Hub> {
        let HubParts {
            config,
            conversations: store,
            sessions: session_store,
            fanout,
            jobs,
            webhooks,
            verifier,
            tickets,
            shards,
            shard_count,
            runtime,
        } = parts;
        let config = Arc::new(config);
        let node: Arc<str> = config.lease().into();
        let channel_ids = Arc::new(ChannelIds::default());
        let publisher = Publisher::new(node.clone(), fanout.clone(), &runtime);
        let rooms = Arc::new(Rooms::new(shard_count, channel_ids.clone(), publisher.interest().clone()));
        let neighbours = Neighbours::new(
            node.clone(),
            session_store.clone(),
            fanout.clone(),
            store.clone(),
            publisher.clone(),
            runtime.clone(),
        );
        let writer =
            StoreWriter::new(node.clone(), session_store.clone(), publisher.clone(), rooms.clone(), &runtime);
        let last_seen = LastSeenTimes::new(store.clone());
        let presence_parts = PresenceParts {
            node: node.clone(),
            shards: shards.clone(),
            store: session_store.clone(),
            writer: writer.clone(),
            rooms: rooms.clone(),
            last_seen: last_seen.clone(),
        };
        let presence = Presence::new(presence_parts, publisher.is_clustered());
        let topics = Arc::new(Topics::new(shard_count, channel_ids));
        let topic_publisher = TopicPublisher::new(fanout.clone(), shards.clone(), &runtime);

        let sessions = Arc::new(Sessions::new(webhooks.clone()));
        let attachments = Attachments::new(
            shards.clone(),
            topics.clone(),
            presence.clone(),
            last_seen.clone(),
            writer.clone(),
        );
        let ended = EndedSessions::new(
            store.clone(),
            session_store.clone(),
            sessions.clone(),
            attachments.clone(),
            presence.clone(),
            &runtime,
        );
        let holding_parts = HoldingParts {
            node: node.clone(),
            store: session_store.clone(),
            sessions: sessions.clone(),
            attachments: attachments.clone(),
            ended: ended.clone(),
            writer: writer.clone(),
            publisher: publisher.clone(),
        };
        let holding = Holding::new(holding_parts, runtime.clone());
        let places = Places::new(
            node.clone(),
            config.clone(),
            session_store.clone(),
            sessions.clone(),
            neighbours.clone(),
        );

        let reads = Reads::new(config.reads_at_once, config.user_reads_per_second);
        let repairs = Repairs::new(store.clone(), shards.clone(), &runtime);
        let head_reports = HeadReports::new(store.clone(), &runtime);
        let directory_parts = DirectoryParts {
            store: store.clone(),
            shards: shards.clone(),
            rooms,
            reads: reads.clone(),
            sessions: sessions.clone(),
            attachments: attachments.clone(),
            presence: presence.clone(),
            publisher: publisher.clone(),
            repairs: repairs.clone(),
            head_reports: head_reports.clone(),
        };
        let directory = Directory::new(directory_parts, &runtime);
        let append_parts = AppendParts {
            store: store.clone(),
            shards: shards.clone(),
            publisher: publisher.clone(),
            directory: directory.clone(),
            repairs,
            head_reports,
            webhooks: webhooks.clone(),
        };
        let appends = Appends::new(append_parts, &config, &runtime);

        Arc::new(Hub {
            name: config.node.as_str().into(),
            node,
            eraser: Eraser::new(store.clone()),
            log_pages: LogPages::new(store.clone(), reads.clone(), config.log_reads_at_once, runtime.clone()),
            typing: Typing::new(shards.clone(), publisher.clone()),
            write_limits: WriteLimits::new(config.clone(), session_store.clone()),
            config,
            store,
            session_store,
            fanout,
            jobs,
            webhooks,
            verifier,
            tickets,
            shards,
            publisher,
            writer,
            neighbours,
            directory,
            appends,
            reads,
            presence,
            last_seen,
            sessions,
            attachments,
            holding,
            ended,
            places,
            topics,
            topic_publisher,
            change_slots: Arc::new(Semaphore::new(CHANGES_AT_ONCE)),
            bulk_slots: Arc::new(Semaphore::new(BULK_ACTIONS_AT_ONCE)),
            runtime,
            drain_wanted: Notify::new(),
            started_at_ms: clock::now_ms(),
            gauges: NodeGauges::default(),
        })
    }

    /// Starts to hear other nodes, to beat, and to keep caches up to date. Returns when the node may serve. If Redis is down it returns at
    /// once, and the link is repaired in the background.
    pub async fn start(self: &Arc<Self>) -> Result<(), starling_fanout::Error> {
        let runtime = &self.runtime;
        self.fanout.start(Arc::new(HubReceiver::new(self))).await?;
        self.neighbours.start(self.clone()).await;
        let lifetime = || self.neighbours.lifetime().clone();
        let directory = || self.directory.clone();
        essential::spawn(runtime, "tick", self.clone().tick_forever());
        essential::spawn(runtime, "check_suspects", self.appends.clone().check_suspects_forever(lifetime()));
        essential::spawn(runtime, "write_last_seen", self.last_seen.clone().write_forever(lifetime()));
        essential::spawn(runtime, "reload", directory().reload_forever(lifetime()));
        essential::spawn(runtime, "compare", directory().compare_forever());
        essential::spawn(runtime, "erase", self.eraser.clone().erase_forever());
        essential::spawn(runtime, "watch_incarnation", directory().watch_incarnation_forever(lifetime()));
        if let Some(jobs) = &self.jobs {
            job_tasks::spawn(runtime, jobs, &self.publisher);
        }
        if let Some(webhooks) = &self.webhooks {
            essential::spawn(runtime, "watch_hooks", webhooks.clone().watch_forever());
            let following = webhooks.clone().follow_users_forever(self.sessions.clone(), LINGER);
            essential::spawn(runtime, "follow_users", following);
        }
        if self.publisher.is_clustered() {
            let (presence, holding) = (|| self.presence.clone(), || self.holding.clone());
            let neighbours = || self.neighbours.clone();
            essential::spawn(runtime, "announce_holds", holding().announce_forever(neighbours()));
            essential::spawn(runtime, "prolong_presence", presence().prolong_forever(lifetime()));
            essential::spawn(runtime, "tell_connections", self.places.clone().report_forever());
            essential::spawn(runtime, "follow_log", directory().follow_log_forever(neighbours()));
            essential::spawn(runtime, "check_sessions", holding().check_forever(lifetime()));
            essential::spawn(runtime, "reload_presence", presence().reload_forever(lifetime()));
            essential::spawn(runtime, "watch_ended", self.ended.clone().watch_forever(neighbours()));
        }
        Ok(())
    }
}
