//! The fan-out inside one process: for a single node, and for several nodes of one test.

mod topics;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use starling_model::{TenantName, TopicName};

use self::topics::Topics;
use crate::metrics::Metrics;
use crate::{
    BODY_BYTES_MAX, Delivery, Destination, EpochTag, Error, Fanout, LinkStatus, PARTITIONS, Position,
    Publication, Receiver, TopicHistory, TopicPublication, TopicSettings, partition_of,
};

/// The interval at which expired publications are removed from histories.
const SWEEP: Duration = Duration::from_secs(1);

/// The bus that several nodes of one process share in place of a broker.
#[derive(Clone)]
pub struct MemoryBus {
    inner: Arc<Inner>,
}

/// One node on a [`MemoryBus`].
pub struct MemoryFanout {
    bus: Arc<Inner>,
    node: Arc<str>,
    metrics: Metrics,
}

struct Inner {
    /// The topics of each partition. Its lock is held while a publication is delivered to all nodes, so that all see the same order.
    partitions: Vec<Mutex<Topics>>,
    /// Receivers by the node's name. Of several nodes with one name, the last one that started receives.
    receivers: RwLock<HashMap<Arc<str>, Arc<dyn Receiver>>>,
}

impl MemoryBus {
    /// Makes a bus without nodes.
    pub fn new(settings: TopicSettings) -> Self {
        let partitions = (0..PARTITIONS).map(|_| Mutex::new(Topics::new(settings))).collect();
        Self { inner: Arc::new(Inner { partitions, receivers: RwLock::default() }) }
    }

    /// Returns the fan-out of the node with this name.
    pub fn node(&self, name: &str) -> Arc<MemoryFanout> {
        Arc::new(MemoryFanout { bus: self.inner.clone(), node: name.into(), metrics: Metrics::register() })
    }
}

impl MemoryFanout {
    /// Returns the fan-out of a single node.
    pub fn alone(node: &str, settings: TopicSettings) -> Arc<Self> {
        MemoryBus::new(settings).node(node)
    }
}

#[async_trait]
impl Fanout for MemoryFanout {
    async fn start(&self, receiver: Arc<dyn Receiver>) -> Result<(), Error> {
        self.bus.receivers.write().insert(self.node.clone(), receiver);
        tokio::spawn(sweep(Arc::downgrade(&self.bus)));
        Ok(())
    }

    async fn publish(&self, batch: &[Publication]) -> Result<(), Error> {
        let started = Instant::now();
        if let Some(large) = batch.iter().find(|publication| publication.body.len() > BODY_BYTES_MAX) {
            return Err(Error::TooLarge(large.body.len()));
        }
        // What is for some nodes comes first, as in a batch over Redis.
        let (direct, common): (Vec<_>, Vec<_>) =
            batch.iter().partition(|publication| matches!(publication.to, Destination::Nodes(_)));
        for publication in direct.iter().chain(&common) {
            let _order = self.bus.partition(publication.partition).lock();
            for (node, receiver) in self.bus.receivers.read().iter() {
                if *node != self.node && publication.to.includes(node) {
                    self.metrics.received.increment(1);
                    receiver.receive(Delivery::Publication {
                        partition: publication.partition,
                        body: publication.body.clone(),
                    });
                }
            }
        }
        self.metrics.published(batch, false, started);
        Ok(())
    }

    async fn publish_to(&self, node: &str, body: Bytes) -> Result<(), Error> {
        let started = Instant::now();
        if body.len() > BODY_BYTES_MAX {
            return Err(Error::TooLarge(body.len()));
        }
        self.bus.send(node, Delivery::Direct { body });
        self.metrics.direct.published(1, 0, started);
        Ok(())
    }

    async fn publish_topics(&self, batch: &[TopicPublication]) -> Vec<Result<Position, Error>> {
        let started = Instant::now();
        let results: Vec<_> = batch.iter().map(|publication| self.publish_topic(publication)).collect();
        let failed = results.iter().filter(|result| result.is_err()).count();
        self.metrics.topic.published(batch.len(), failed, started);
        results
    }

    async fn topic_history(
        &self,
        tenant: &TenantName,
        topic: &TopicName,
        since: Option<&Position>,
    ) -> Result<TopicHistory, Error> {
        Ok(self.bus.partition(partition_of(tenant, topic)).lock().history(tenant, topic, since))
    }

    async fn probe(&self, nonce: u64) -> Result<(), Error> {
        self.bus.send(&self.node, Delivery::Probe { nonce });
        Ok(())
    }

    async fn reconnect(&self) {
        self.metrics.gaps.increment(1);
        self.bus.send(&self.node, Delivery::Gap { partition: None });
    }

    fn link(&self) -> Option<LinkStatus> {
        None
    }
}

impl MemoryFanout {
    fn publish_topic(&self, publication: &TopicPublication) -> Result<Position, Error> {
        let TopicPublication { tenant, topic, body } = publication;
        if body.len() > BODY_BYTES_MAX {
            return Err(Error::TooLarge(body.len()));
        }
        let mut topics = self.bus.partition(partition_of(tenant, topic)).lock();
        let position = topics.append(tenant, topic, body.clone());
        for receiver in self.bus.receivers.read().values() {
            self.metrics.received.increment(1);
            receiver.receive(Delivery::Topic {
                tenant: tenant.clone(),
                topic: topic.clone(),
                epoch: Some(EpochTag::of(&position.epoch)),
                offset: position.offset,
                body: body.clone(),
            });
        }
        Ok(position)
    }
}

impl Inner {
    fn partition(&self, partition: u16) -> &Mutex<Topics> {
        &self.partitions[usize::from(partition % PARTITIONS)]
    }

    fn send(&self, node: &str, delivery: Delivery) {
        if let Some(receiver) = self.receivers.read().get(node) {
            receiver.receive(delivery);
        }
    }
}

/// Removes expired publications, as long as the bus is in use.
async fn sweep(bus: Weak<Inner>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(bus) = bus.upgrade() else { return };
        for partition in &bus.partitions {
            partition.lock().sweep();
        }
    }
}
