//! Publications on topics that wait for Redis.

use std::sync::Arc;

use starling_fanout::{Fanout, TopicPublication};
use starling_model::{TenantName, TopicName, UserName};
use starling_telemetry::TRACE_TARGET;
use starling_wire::protocol::{Json, Published};
use tokio::runtime::Handle;
use tracing::Instrument;

use super::encode_publication;
use crate::completion::Completion;
use crate::lane::{self, Bound, Lane, Weigh};
use crate::shards::Shards;
use crate::trace::{Origin, belong_to};
use crate::{CommandError, clock};

/// Limit of the publications that wait for Redis.
const QUEUE: Bound = Bound { items: 8_192, bytes: 64 << 20 };
/// Limit of the publications in one call.
const BATCH_MAX: Bound = Bound { items: 512, bytes: 4 << 20 };

/// Publishes on topics.
pub(crate) struct TopicPublisher {
    fanout: Arc<dyn Fanout>,
    /// Gets the replies for connections.
    shards: Arc<dyn Shards>,
    /// Publications that wait for Redis.
    queue: Lane<TopicJob>,
}

/// A publication that waits for Redis.
struct TopicJob {
    publication: TopicPublication,
    origin: Origin,
    done: Completion<Published>,
}

impl Weigh for TopicJob {
    fn bytes(&self) -> usize {
        size_of::<TopicJob>() + self.publication.body.len()
    }
}

impl TopicPublisher {
    /// Creates a publisher whose work runs on `runtime`.
    pub fn new(fanout: Arc<dyn Fanout>, shards: Arc<dyn Shards>, runtime: &Handle) -> Arc<TopicPublisher> {
        let (queue, end) = Lane::new(QUEUE);
        let publisher = Arc::new(TopicPublisher { fanout, shards, queue });
        lane::spawn(runtime, "publish_topics", end, BATCH_MAX, &publisher, TopicPublisher::publish_batch);
        publisher
    }

    /// Publishes on a topic. The reply comes when Redis has given the publication its offset, or at once if the queue is full.
    pub fn publish(
        &self,
        tenant: &TenantName,
        user: &UserName,
        topic: &TopicName,
        data: &Json,
        done: Completion<Published>,
    ) {
        let body = encode_publication(clock::now_us(), Some(user), data);
        let publication = TopicPublication { tenant: tenant.clone(), topic: topic.clone(), body };
        if let Err(job) = self.queue.push(TopicJob { publication, origin: Origin::current(), done }) {
            let error = CommandError::unavailable("too many publications wait; nothing was accepted");
            job.done.finish(&self.shards, Err(error));
        }
    }

    /// Whether no publication waits for Redis.
    pub fn is_idle(&self) -> bool {
        self.queue.is_idle()
    }

    /// Returns the number of publications that wait for Redis.
    pub fn depth(&self) -> usize {
        self.queue.depth()
    }

    async fn publish_batch(self: Arc<Self>, jobs: Vec<TopicJob>) {
        let span = tracing::info_span!(target: TRACE_TARGET, "publish_topics", publications = jobs.len());
        belong_to(&span, jobs.len(), jobs.iter().filter_map(|job| job.origin.traceparent()));
        let (batch, waiting): (Vec<_>, Vec<_>) =
            jobs.into_iter().map(|job| (job.publication, (job.origin, job.done))).unzip();
        let results = self.fanout.publish_topics(&batch).instrument(span).await;
        for ((_origin, done), result) in waiting.into_iter().zip(results) {
            let answer = result
                .map(|position| Published { epoch: position.epoch, offset: position.offset })
                .map_err(CommandError::from);
            done.finish(&self.shards, answer);
        }
    }
}
