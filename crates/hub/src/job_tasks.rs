//! What every node does for jobs in the background.

use std::sync::Arc;

use starling_job_service::JobService;
use tokio::runtime::Handle;

use crate::essential;
use crate::node_message::NodeMessage;
use crate::publisher::Publisher;

/// The partition of what nodes tell of jobs.
const JOBS_PARTITION: u16 = 0;

/// Starts the tasks of a node that keep its jobs going, and its own worker if it is one.
pub(crate) fn spawn(runtime: &Handle, jobs: &Arc<JobService>, publisher: &Arc<Publisher>) {
    essential::spawn(runtime, "watch_jobs", jobs.clone().watch_forever());
    essential::spawn(runtime, "keep_time_of_jobs", jobs.clone().keep_time_forever());
    essential::spawn(runtime, "count_jobs", jobs.clone().keep_counts_forever());
    essential::spawn(runtime, "do_jobs", jobs.clone().work());
    let publisher = publisher.clone();
    let tell = move || publisher.publish_message(JOBS_PARTITION, &NodeMessage::JobsReady {});
    essential::spawn(runtime, "tell_of_jobs", jobs.clone().tell_forever(tell));
}
