//! All bridges of a node.

use std::sync::Arc;
use std::time::Duration;

use starling_job_service::{Handler, Handlers, JobService};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::JobSink;
use crate::address::Address;
use crate::check::Plan;
use crate::incoming::Intake;
use crate::outgoing::Publisher;

/// How long the bridges of a node that ends may take: what is under way is finished, and connections are closed.
const END_MAX: Duration = Duration::from_secs(10);

/// All bridges of a node.
pub struct Bridge {
    address: Address,
    intakes: Vec<Arc<Intake>>,
    publishers: Vec<Arc<Publisher>>,
    /// Becomes true when no further messages are to become jobs.
    intakes_ending: watch::Sender<bool>,
    /// Becomes true when no further jobs are published.
    publishers_ending: watch::Sender<bool>,
    /// Becomes true when all connections are closed.
    ended: watch::Sender<bool>,
}

/// How many bridges of a node work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgeHealth {
    /// All bridges.
    pub bridges: usize,
    /// Those that are connected, and have all that they need.
    pub working: usize,
}

impl Bridge {
    /// Makes the bridges of a node, which connect when [`Self::run`] is called.
    #[must_use]
    pub fn new(plan: Plan, node: &str) -> Arc<Self> {
        let Plan { address, incoming, outgoing } = plan;
        Arc::new(Self {
            address,
            intakes: incoming.into_iter().map(|bridge| Arc::new(Intake::new(bridge, node))).collect(),
            publishers: outgoing.into_iter().map(|bridge| Arc::new(Publisher::new(bridge, node))).collect(),
            intakes_ending: watch::channel(false).0,
            publishers_ending: watch::channel(false).0,
            ended: watch::channel(false).0,
        })
    }

    /// Adds what publishes jobs to what a node's worker can do.
    #[must_use]
    pub fn handlers(&self, handlers: Handlers) -> Handlers {
        self.publishers.iter().fold(handlers, |handlers, publisher| {
            let handler: Arc<dyn Handler> = publisher.clone();
            handlers.with_queue(publisher.queue(), publisher.tenant().cloned(), publisher.at_once(), handler)
        })
    }

    /// Runs all bridges. When the node's jobs are drained, no further messages are taken; connections are closed when [`Self::end`] is called.
    ///
    /// # Panics
    /// If a bridge does.
    pub async fn run(self: Arc<Self>, jobs: Arc<JobService>, sink: Arc<dyn JobSink>) {
        let mut tasks = JoinSet::new();
        for intake in &self.intakes {
            let (intake, address, sink) = (intake.clone(), self.address.clone(), sink.clone());
            let ending = self.intakes_ending.subscribe();
            tasks.spawn(async move { intake.run(&address, &*sink, ending).await });
        }
        for publisher in &self.publishers {
            let (publisher, address) = (publisher.clone(), self.address.clone());
            let ending = self.publishers_ending.subscribe();
            tasks.spawn(async move { publisher.run(&address, ending).await });
        }
        let bridge = self.clone();
        tasks.spawn(async move {
            jobs.drain_begun().await;
            bridge.intakes_ending.send_replace(true);
        });
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        self.ended.send_replace(true);
    }

    /// Ends all bridges. Returns when their connections are closed, or could not be closed in time.
    pub async fn end(&self) {
        self.intakes_ending.send_replace(true);
        self.publishers_ending.send_replace(true);
        let mut ended = self.ended.subscribe();
        if timeout(END_MAX, ended.wait_for(|ended| *ended)).await.is_err() {
            tracing::warn!("some connections to RabbitMQ were not closed in time");
        }
    }

    /// Returns how many bridges work.
    #[must_use]
    pub fn health(&self) -> BridgeHealth {
        let intakes = self.intakes.iter().map(|intake| &intake.reconnector);
        let reconnectors = intakes.chain(self.publishers.iter().map(|publisher| &publisher.reconnector));
        let working = reconnectors.filter(|reconnector| reconnector.works()).count();
        BridgeHealth { bridges: self.intakes.len() + self.publishers.len(), working }
    }
}
