//! A node that only works in the background: it takes no clients, and has neither a public port nor sockets.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use starling_conversation_store::ConversationStore;
use starling_hub::{HubConfig, Worker, WorkerParts};
use starling_job_service::JobService;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::failure::Failure;
use crate::probes::{Parts, Probes};
use crate::redis::Shared;

/// How long the other nodes may take to be told that this one leaves.
const LEAVE_MAX: Duration = Duration::from_secs(3);

/// Does the work of the role `worker` until `drain` says to stop or an operator drains the node, then leaves the cluster.
pub async fn run(
    config: HubConfig,
    conversations: Arc<dyn ConversationStore>,
    jobs: Arc<JobService>,
    shared: Shared,
    probes: Probes,
    mut drain: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let name = config.node.clone();
    let worker = Worker::new(WorkerParts {
        config,
        conversations: conversations.clone(),
        sessions: shared.sessions.clone(),
        fanout: shared.fanout,
        jobs: Some(jobs),
        runtime: Handle::current(),
    });
    worker.start().await.map_err(|error| anyhow!(error))?;
    probes.start(Parts { worker: worker.clone(), conversations, sessions: shared.sessions });
    tracing::info!(%name, "working");
    tokio::select! {
        // An error means that the sender is gone, which is a reason to stop, too.
        _ = drain.wait_for(|wanted| *wanted) => {}
        () = worker.drain_wanted() => tracing::info!("an operator has asked this node to drain"),
    }
    tracing::info!("draining; send the signal again to stop at once");
    probes.drain();
    worker.announce_drain().await;
    worker.leave(LEAVE_MAX).await;
    tracing::info!("drained");
    Ok(())
}
