//! From a `send` to the log, and from the log to everybody.

use std::sync::Arc;

use starling_conversation_store::{Append, AppendError, Appended};
use starling_fanout::Publication;
use starling_telemetry::TRACE_TARGET;
use starling_wire::protocol::{Sent, Timestamp};
use tokio::time::Instant;
use tracing::Instrument;

use crate::encoded::Encoded;
use crate::hub::Hub;
use crate::lane::{Bound, Weigh};
use crate::log::message::committed;
use crate::metrics::METRICS;
use crate::node_message::{NodeMessage, encode_message};
use crate::reply::Completion;
use crate::room::Room;
use crate::trace::{Origin, belong_to};
use crate::{CommandError, clock};

/// A message on its way into the log.
pub(crate) struct AppendJob {
    pub room: Arc<Room>,
    pub message: Append,
    pub queued_at: Instant,
    pub origin: Origin,
    pub done: Completion<Sent>,
}

/// What one transaction takes: at some 13 µs for each message, no more than a few milliseconds, and no statement that is so large
/// that it fails, and its senders' retries with it, where the database is slow.
pub(crate) const APPEND_BATCH_MAX: Bound = Bound { items: 512, bytes: 4 << 20 };
/// What may wait for the database on all lanes together, bytes.
pub(crate) const APPEND_QUEUE_BYTES: usize = 128 << 20;

impl Weigh for AppendJob {
    fn bytes(&self) -> usize {
        let Append { key, content, metadata, .. } = &self.message;
        size_of::<AppendJob>() + key.len() + content.len() + metadata.as_ref().map_or(0, |text| text.len())
    }
}

impl Hub {
    /// Puts a message on the lane of its conversation; answers at once if the lane is full.
    pub(crate) fn enqueue(&self, job: AppendJob) {
        // The id is a serial number, so that its remainder spreads evenly.
        let lane = job.room.conversation.unsigned_abs() as usize % self.append_lanes.len();
        if let Err(job) = self.append_lanes[lane].push(job) {
            let error =
                CommandError::unavailable("too many messages wait for the database; nothing was accepted");
            job.done.finish(&self.shards, Err(error));
        }
    }

    /// Commits a batch and tells everybody: this node's sockets, the other nodes, the senders.
    pub(crate) async fn append_batch(self: Arc<Self>, mut jobs: Vec<AppendJob>) {
        METRICS.append_batch.record(jobs.len() as f64);
        // What the database told before: what it numbers from here on is higher.
        let logged: Vec<u64> =
            jobs.iter().map(|job| job.room.logged.load(std::sync::atomic::Ordering::Relaxed)).collect();
        let messages: Vec<Append> = jobs.iter().map(|job| job.message.clone()).collect();
        let span = tracing::info_span!(target: TRACE_TARGET, "append", messages = messages.len());
        belong_to(&span, jobs.len(), jobs.iter().filter_map(|job| job.origin.traceparent()));
        match self.conversations.append(&messages).instrument(span).await {
            Ok(results) => {
                for ((job, result), logged) in jobs.drain(..).zip(results).zip(logged) {
                    if let Ok(Appended { seq, duplicate: false, .. }) = &result {
                        job.room.log_tells(*seq);
                        if *seq <= logged {
                            // The database told of this number before, for another message: it was set back.
                            self.report_head(&job.room, u64::MAX);
                        }
                    }
                    self.appended(job, result);
                }
            }
            Err(error) => {
                let answer = CommandError::from(error);
                for job in jobs {
                    // The transaction may have been committed although the answer was lost on the way.
                    self.suspect(&job.room);
                    job.done.finish(&self.shards, Err(answer.clone()));
                }
            }
        }
    }

    fn appended(&self, job: AppendJob, result: Result<Appended, AppendError>) {
        let AppendJob { room, message, queued_at, origin, done } = job;
        METRICS.commit_seconds.record(queued_at.elapsed());
        let appended = match result {
            Ok(appended) => appended,
            Err(AppendError::NoSuchConversation) => {
                self.apply_deleted(&room);
                done.finish(&self.shards, Err(CommandError::no_such_conversation()));
                return;
            }
            // The store has logged it.
            Err(AppendError::Refused) => {
                done.finish(&self.shards, Err(CommandError::internal()));
                return;
            }
            Err(AppendError::Unavailable | _) => {
                // The transaction may have been committed although the answer was lost on the way.
                self.suspect(&room);
                let why = "the database is not available; nothing was accepted";
                done.finish(&self.shards, Err(CommandError::unavailable(why)));
                return;
            }
        };
        if appended.duplicate {
            METRICS.duplicate.increment(1);
            self.retell(&room, appended.seq);
        } else {
            METRICS.committed.increment(1);
            self.gauges.messages.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.tell(&room, message, &appended, origin.traceparent());
        }
        let at = Timestamp(appended.at_ms);
        let sent = Sent { id: appended.id.as_u128(), seq: appended.seq, at, duplicate: appended.duplicate };
        done.finish(&self.shards, Ok(sent));
    }

    fn tell(&self, room: &Arc<Room>, message: Append, appended: &Appended, traceparent: Option<&str>) {
        let committed_at_us = clock::now_us();
        let event = committed(&room.key.name, message, appended);
        let event = Arc::new(Encoded::at(event, committed_at_us));
        if self.publisher.is_clustered() {
            let body = encode_message(
                room.conversation,
                &room.key.tenant,
                &room.key.name,
                appended.seq,
                committed_at_us,
                traceparent,
                &event.json_payload(),
            );
            self.publisher.note_commit(room, appended.seq);
            self.publisher.publish(Publication { partition: room.lane, body });
        }
        let fed = room.feed(&*self.shards, appended.seq, event);
        crate::metrics::sequencer(fed);
        if fed == crate::room::sequencer::Fed::Waits {
            self.repair(room);
        }
    }

    /// A retry found its first message: the node that committed it may have died before it could tell anybody.
    fn retell(&self, room: &Arc<Room>, seq: u64) {
        if room.learn_head(seq) {
            self.repair(room);
        }
        if self.publisher.is_clustered() {
            self.publisher.publish_message(room.lane, &NodeMessage::Heads(vec![room.head_at(seq)]));
        }
    }
}
