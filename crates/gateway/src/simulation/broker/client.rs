//! The broker as one node reaches it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use starling_fanout::{
    Delivery, Error, Fanout, LinkStatus, PARTITIONS, Position, Publication, Receiver, TopicHistory,
    TopicPublication,
};
use starling_model::{TenantName, TopicName};

use super::super::chance::Chance;
use super::super::line::Power;
use super::link::Link;
use super::port::Port;
use super::{Broker, Carriage};

/// The stream of what is sent to one node alone.
const DIRECT: u16 = PARTITIONS;
/// The stream of probes.
const PROBES: u16 = PARTITIONS + 1;

/// The broker as one node reaches it.
pub struct BrokerClient {
    broker: Arc<Broker>,
    node: String,
    power: Power,
    link: Arc<Link>,
    chance: Mutex<Chance>,
}

impl BrokerClient {
    pub(super) fn new(broker: &Arc<Broker>, node: &str, power: Power) -> BrokerClient {
        let chance = Mutex::new(Chance::new(broker.seed, &format!("publisher {node}")));
        BrokerClient { broker: broker.clone(), node: node.to_owned(), power, link: Arc::default(), chance }
    }

    /// Whether nothing passes.
    pub fn is_cut(&self) -> bool {
        self.link.is_cut()
    }

    /// Cuts the link until [`BrokerClient::restore`]. The node notices a little later.
    pub async fn cut(&self) {
        self.link.cut();
        let notices = self.chance.lock().millis(0, 400);
        tokio::time::sleep(notices).await;
        if self.link.notice() {
            self.tell(Delivery::Down).await;
        }
    }

    /// Connects the link again.
    pub async fn restore(&self) {
        self.link.release();
        self.connect_again().await;
    }

    /// Lets nothing arrive any more, although the link looks well, until the node connects it again.
    pub fn deafen(&self) {
        self.link.deafen();
    }

    async fn connect_again(&self) {
        let takes = self.chance.lock().millis(5, 500);
        tokio::time::sleep(takes).await;
        if self.link.connect() {
            self.tell(Delivery::Gap { partition: None }).await;
        }
    }

    /// Tells the node something about its link, unless it is dead or another node has its name by now.
    async fn tell(&self, delivery: Delivery) {
        if self.power.is_dead() {
            return;
        }
        self.power.on().await;
        let port = self.broker.ports.lock().get(&self.node).cloned();
        if let Some(port) = port.filter(|port| port.is_of(&self.link)) {
            port.tell(delivery);
        }
    }

    async fn travel(&self) {
        let delay = self.chance.lock().delay(self.broker.carriage.typical_ms);
        tokio::time::sleep(delay).await;
    }

    async fn reach(&self) -> Result<(), Error> {
        self.power.on().await;
        self.travel().await;
        if self.link.is_cut() {
            let patience = self.chance.lock().millis(20, 500);
            tokio::time::sleep(patience).await;
            self.power.on().await;
            return Err(away());
        }
        Ok(())
    }

    async fn return_from_broker(&self) {
        self.travel().await;
        self.power.on().await;
    }
}

fn away() -> Error {
    Error::Unavailable("simulated".to_owned())
}

#[async_trait]
impl Fanout for BrokerClient {
    async fn start(&self, receiver: Arc<dyn Receiver>) -> Result<(), Error> {
        let broker = &self.broker;
        let chance = self.chance.lock().clone();
        let (power, link, log) = (self.power.clone(), self.link.clone(), broker.log.clone());
        let port = Arc::new(Port::new(receiver, power, link, broker.sabotage, log, chance));
        broker.ports.lock().insert(self.node.clone(), port.clone());
        if broker.is_away() {
            self.link.begin_cut();
        }
        #[expect(clippy::disallowed_methods, reason = "the simulated broker ends with its run")]
        tokio::spawn(port.pump());
        Ok(())
    }

    async fn publish(&self, batch: &[Publication]) -> Result<(), Error> {
        self.reach().await?;
        let Carriage { repeats_one_in, no_answer_one_in, .. } = self.broker.carriage();
        self.broker.spread(&self.node, batch);
        if self.chance.lock().one_in(repeats_one_in) {
            self.broker.spread(&self.node, batch);
        }
        let unanswered = self.chance.lock().one_in(no_answer_one_in);
        self.return_from_broker().await;
        if unanswered { Err(away()) } else { Ok(()) }
    }

    async fn publish_to(&self, node: &str, body: Bytes) -> Result<(), Error> {
        self.reach().await?;
        self.broker.send(node, DIRECT, Delivery::Direct { body });
        self.return_from_broker().await;
        Ok(())
    }

    async fn publish_topics(&self, batch: &[TopicPublication]) -> Vec<Result<Position, Error>> {
        batch.iter().map(|_| Err(away())).collect()
    }

    async fn topic_history(
        &self,
        _tenant: &TenantName,
        _topic: &TopicName,
        _since: Option<&Position>,
    ) -> Result<TopicHistory, Error> {
        Err(away())
    }

    async fn probe(&self, nonce: u64) -> Result<(), Error> {
        self.reach().await?;
        self.broker.send(&self.node, PROBES, Delivery::Probe { nonce });
        self.return_from_broker().await;
        Ok(())
    }

    async fn reconnect(&self) {
        self.power.on().await;
        self.link.drop_by_node();
        self.tell(Delivery::Down).await;
        self.connect_again().await;
    }

    fn link(&self) -> Option<LinkStatus> {
        let stands = !self.link.is_known_to_be_cut();
        Some(LinkStatus { connected: stands, subscribed: stands, fault: None })
    }
}
