//! Appends: commits messages to the log, and delivers them to this node's sessions and the other nodes.

mod suspects;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use starling_conversation_store::{Append, AppendError, Appended, ConversationStore, Role};
use starling_model::{Seq, UserName};
use starling_telemetry::TRACE_TARGET;
use starling_webhook_service::WebhookService;
use starling_webhook_service::webhooks::EventType;
use starling_wire::protocol::{self, Sent, Timestamp};
use suspects::Suspects;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::Instrument;

use crate::clock::every_second;
use crate::completion::Completion;
use crate::directory::Directory;
use crate::encoded::Encoded;
use crate::lane::{self, Bound, Lane, Pace, Weigh};
use crate::log::{HeadReports, Repairs, committed};
use crate::metrics::{self, METRICS};
use crate::neighbours::Lifetime;
use crate::node_message::{MessageHeader, encode_message};
use crate::publisher::Publisher;
use crate::room::Room;
use crate::room::sequencer::Fed;
use crate::shards::Shards;
use crate::trace::{Origin, belong_to};
use crate::{CommandError, HubConfig, clock};

/// Limit of the messages in one transaction. At some 13 µs per message it takes a few milliseconds. A larger statement might time out while
/// the database is slow, and so would the senders' retries.
const BATCH_MAX: Bound = Bound { items: 512, bytes: 4 << 20 };
/// At medium load, transactions start at least this far apart: committing two messages costs little more than committing one. Timers have
/// a resolution of 1 ms, so the pause may be 1 ms longer.
const PACE: Pace = Pace { interval: Duration::from_millis(2), full: 16 };
/// Limit of the messages that wait for the database on all lanes together, bytes.
const QUEUE_BYTES: usize = 128 << 20;

/// Appends messages to the log and delivers them.
pub(crate) struct Appends {
    store: Arc<dyn ConversationStore>,
    shards: Arc<dyn Shards>,
    publisher: Arc<Publisher>,
    /// Ends a conversation that turns out to be deleted.
    directory: Arc<Directory>,
    repairs: Arc<Repairs>,
    head_reports: Arc<HeadReports>,
    /// Knows whether webhooks want messages, and delivers them. `None`: nobody is told.
    webhooks: Option<Arc<WebhookService>>,
    suspects: Suspects,
    /// Messages that wait for the database. A conversation always uses the same lane.
    lanes: Vec<Lane<AppendJob>>,
    /// Messages committed since the start.
    committed: AtomicU64,
}

/// The parts that [`Appends`] works with.
pub(crate) struct AppendParts {
    pub store: Arc<dyn ConversationStore>,
    pub shards: Arc<dyn Shards>,
    pub publisher: Arc<Publisher>,
    pub directory: Arc<Directory>,
    pub repairs: Arc<Repairs>,
    pub head_reports: Arc<HeadReports>,
    pub webhooks: Option<Arc<WebhookService>>,
}

/// A message that waits to be committed.
struct AppendJob {
    message: Append,
    sending: Sending,
}

/// What follows the commit of a message.
struct Sending {
    room: Arc<Room>,
    queued_at: Instant,
    origin: Origin,
    done: Completion<Sent>,
}

impl Weigh for AppendJob {
    fn bytes(&self) -> usize {
        let Append { key, content, metadata, .. } = &self.message;
        size_of::<AppendJob>() + key.len() + content.len() + metadata.as_ref().map_or(0, |text| text.len())
    }
}

impl Appends {
    /// Starts the lanes' tasks on `runtime`.
    pub fn new(parts: AppendParts, config: &HubConfig, runtime: &Handle) -> Arc<Appends> {
        let AppendParts { store, shards, publisher, directory, repairs, head_reports, webhooks } = parts;
        let count = config.append_lanes.max(1);
        let bound = Bound { items: config.append_queue, bytes: QUEUE_BYTES / count };
        let (lanes, ends): (Vec<_>, Vec<_>) = (0..count).map(|_| Lane::new(bound)).unzip();
        let suspects = Suspects::new(directory.clone(), publisher.clone());
        let committed = AtomicU64::new(0);
        let appends = Arc::new(Appends {
            store,
            shards,
            publisher,
            directory,
            repairs,
            head_reports,
            webhooks,
            suspects,
            lanes,
            committed,
        });
        for end in ends {
            lane::spawn(runtime, "append", end.paced(PACE), BATCH_MAX, &appends, Appends::append_batch);
        }
        appends
    }

    /// Appends a message to a conversation. The reply comes when the message is committed, or at once if the conversation's lane is full.
    pub fn append(
        &self,
        room: Arc<Room>,
        sender: UserName,
        role: Role,
        send: protocol::Send,
        done: Completion<Sent>,
    ) {
        let announced = self.webhooks.as_ref();
        let announced =
            announced.is_some_and(|webhooks| webhooks.wants(&room.key.tenant, EventType::MessageCreated));
        let message = Append {
            announced,
            conversation: room.conversation,
            id: crate::random::sortable_id(),
            sender,
            key: send.key,
            role,
            content: send.content.into(),
            metadata: send.metadata.map(|json| json.shared()),
        };
        // The id is a serial number, so its remainder spreads evenly.
        let lane = room.conversation.get().unsigned_abs() as usize % self.lanes.len();
        let sending = Sending { room, queued_at: Instant::now(), origin: Origin::current(), done };
        if let Err(job) = self.lanes[lane].push(AppendJob { message, sending }) {
            let error =
                CommandError::unavailable("too many messages wait for the database; nothing was accepted");
            job.sending.done.finish(&self.shards, Err(error));
        }
    }

    /// Returns the number of messages that this node has committed since the start.
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Looks up each second whether appends without a reply were committed.
    pub async fn check_suspects_forever(self: Arc<Self>, lifetime: Lifetime) {
        let mut interval = every_second();
        while lifetime.next_tick(&mut interval).await {
            self.suspects.check().await;
        }
    }

    /// Whether no message waits for the database.
    pub fn is_idle(&self) -> bool {
        self.lanes.iter().all(Lane::is_idle)
    }

    /// Returns the number of messages that wait for the database.
    pub fn depth(&self) -> usize {
        self.lanes.iter().map(Lane::depth).sum()
    }

    /// Commits a batch, and tells this node's sessions, the other nodes and the senders.
    async fn append_batch(self: Arc<Self>, jobs: Vec<AppendJob>) {
        METRICS.append_batch.record(jobs.len() as f64);
        let (messages, sendings): (Vec<Append>, Vec<Sending>) =
            jobs.into_iter().map(|job| (job.message, job.sending)).unzip();
        // The heads that the database reported before this append. New numbers must be higher.
        let logged: Vec<Seq> = sendings.iter().map(|sending| sending.room.logged()).collect();
        let span = tracing::info_span!(target: TRACE_TARGET, "append", messages = messages.len());
        belong_to(&span, sendings.len(), sendings.iter().filter_map(|sending| sending.origin.traceparent()));
        match self.store.append(&messages).instrument(span).await {
            Ok(results) => {
                if messages.iter().any(|message| message.announced)
                    && let Some(webhooks) = &self.webhooks
                {
                    webhooks.note_announced();
                }
                let messages = messages.into_iter().zip(sendings);
                for (((message, sending), result), logged) in messages.zip(results).zip(logged) {
                    if let Ok(Appended { seq, duplicate: false, .. }) = &result {
                        sending.room.log_tells(*seq);
                        if *seq <= logged {
                            // The database had used this number for another message, so it was set back to an earlier state.
                            self.head_reports.report(&sending.room, Seq::MAX);
                        }
                    }
                    self.finish(message, sending, result);
                }
            }
            Err(error) => {
                let answer = CommandError::from(error);
                for sending in sendings {
                    // The transaction may have been committed although the reply was lost.
                    self.suspects.add(&sending.room);
                    sending.done.finish(&self.shards, Err(answer.clone()));
                }
            }
        }
    }

    /// Delivers one message, if it was committed, and replies to its sender.
    fn finish(&self, message: Append, sending: Sending, result: Result<Appended, AppendError>) {
        let Sending { room, queued_at, origin, done } = sending;
        METRICS.commit_seconds.record(queued_at.elapsed());
        let appended = match result {
            Ok(appended) => appended,
            Err(AppendError::NoSuchConversation) => {
                self.directory.end(&room);
                return done.finish(&self.shards, Err(CommandError::no_such_conversation()));
            }
            // The store has logged the error.
            Err(AppendError::Refused) => {
                return done.finish(&self.shards, Err(CommandError::internal()));
            }
            Err(AppendError::Unavailable | _) => {
                // The transaction may have been committed although the reply was lost.
                self.suspects.add(&room);
                let why = "the database did not confirm it; send it again with the same key";
                return done.finish(&self.shards, Err(CommandError::unavailable(why)));
            }
        };
        if appended.duplicate {
            METRICS.duplicate.increment(1);
            self.deliver_again(&room, appended.seq);
        } else {
            METRICS.committed.increment(1);
            self.committed.fetch_add(1, Ordering::Relaxed);
            self.deliver(&room, message, &appended, origin.traceparent());
        }
        let at = Timestamp(appended.at_ms);
        let sent =
            Sent { id: appended.id.as_u128(), seq: appended.seq.get(), at, duplicate: appended.duplicate };
        done.finish(&self.shards, Ok(sent));
    }

    /// Delivers a committed message to the other nodes and to this node's sessions.
    fn deliver(&self, room: &Arc<Room>, message: Append, appended: &Appended, traceparent: Option<&str>) {
        let committed_at_us = clock::now_us();
        let event = committed(&room.key.name, message, appended);
        let event = Arc::new(Encoded::at(event, committed_at_us));
        if self.publisher.is_clustered() {
            let header = MessageHeader {
                conversation: room.conversation,
                tenant: &room.key.tenant,
                name: &room.key.name,
                seq: appended.seq,
                log: Some(room.log_tag),
                committed_at_us,
                traceparent,
            };
            let body = encode_message(&header, &event.json_payload());
            self.publisher.publish_committed(room, appended.seq, body);
        }
        let fed = room.feed(&*self.shards, appended.seq, event);
        metrics::sequencer(fed);
        if fed == Fed::Waits {
            self.repairs.request(room);
        }
    }

    /// Announces the message that a retry repeats. The node that committed it may have died before it published it.
    fn deliver_again(&self, room: &Arc<Room>, seq: Seq) {
        if room.learn_head(seq) {
            self.repairs.request(room);
        }
        self.publisher.publish_head(room, seq);
    }
}
