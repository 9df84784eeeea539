//! Publications of topics on their way to the broker.

use std::sync::Arc;

use starling_fanout::TopicPublication;
use starling_telemetry::TRACE_TARGET;
use starling_wire::protocol::Published;
use tracing::Instrument;

use crate::CommandError;
use crate::hub::Hub;
use crate::lane::Weigh;
use crate::reply::Completion;
use crate::trace::{Origin, belong_to};

/// A publication of a topic on its way to the broker.
pub(crate) struct TopicJob {
    pub publication: TopicPublication,
    pub origin: Origin,
    pub done: Completion<Published>,
}

impl Weigh for TopicJob {
    fn bytes(&self) -> usize {
        size_of::<TopicJob>() + self.publication.body.len()
    }
}

impl Hub {
    pub(crate) async fn publish_topics_batch(self: Arc<Self>, jobs: Vec<TopicJob>) {
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
