//! The simulated broker: carries publications as Redis pub/sub does, that is quickly, in order within a lane, and without any promise.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use starling_fanout::{
    Delivery, Error, Fanout, LinkStatus, PARTITIONS, Position, Publication, Receiver, TopicHistory,
    TopicPublication,
};
use starling_model::{TenantName, TopicName};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::chance::Chance;
use super::line::Power;
use super::log::Log;
use super::sabotage::Sabotage;

/// The lane of what goes to one node alone.
const DIRECT: u16 = PARTITIONS;
/// The lane of probes.
const PROBES: u16 = PARTITIONS + 1;
/// The first byte of a publication that is a conversation's message.
const MESSAGE: u8 = 1;

/// How well the broker carries.
#[derive(Clone, Copy, Debug)]
pub struct Carriage {
    /// How long a way takes, milliseconds.
    pub typical_ms: u64,
    /// One message in so many is lost without a word.
    pub loses_one_in: u64,
    /// One publish in so many is carried twice, as a client library does that sends again what had no answer.
    pub repeats_one_in: u64,
    /// One publish in so many has no answer although it was carried.
    pub no_answer_one_in: u64,
}

/// What all nodes publish through.
pub struct Broker {
    ports: Mutex<BTreeMap<String, Arc<Port>>>,
    carriage: Carriage,
    sabotage: Option<Sabotage>,
    /// Which conversations there are, for a sabotage.
    log: Arc<Log>,
    seed: u64,
    /// Nothing is lost, repeated or left without an answer any more.
    calm: AtomicBool,
    /// Nobody reaches it, whoever starts meanwhile included.
    away: AtomicBool,
}

/// Where one node hears.
struct Port {
    receiver: Arc<dyn Receiver>,
    broker: Arc<Broker>,
    power: Power,
    link: Arc<Link>,
    state: Mutex<PortState>,
    arrived: Notify,
}

struct PortState {
    /// What is on its way, by time of arrival.
    coming: BinaryHeap<Reverse<Coming>>,
    count: u64,
    /// When the last one of each lane arrives: nothing overtakes within a lane.
    floors: BTreeMap<u16, Instant>,
    /// Whether the last heads of a lane were lost: the next ones are not.
    heads_lost: BTreeMap<u16, bool>,
    chance: Chance,
}

struct Coming {
    due: Instant,
    count: u64,
    /// The life of the link that it travels on.
    life: u64,
    delivery: Delivery,
}

/// A node's connection to the broker.
#[derive(Debug, Default)]
struct Link {
    state: Mutex<LinkState>,
}

#[derive(Debug, Default)]
struct LinkState {
    /// Nothing passes.
    cut: bool,
    /// It stays cut until it is restored from outside.
    held: bool,
    /// Nothing comes in, although all looks well.
    deaf: bool,
    /// The node knows that it is cut.
    known: bool,
    /// Which connection it is.
    life: u64,
}

/// The broker, as one node reaches it.
pub struct BrokerClient {
    broker: Arc<Broker>,
    node: String,
    power: Power,
    link: Arc<Link>,
    chance: Mutex<Chance>,
}

impl Broker {
    pub fn new(seed: u64, carriage: Carriage, sabotage: Option<Sabotage>, log: Arc<Log>) -> Arc<Broker> {
        Arc::new(Broker {
            ports: Mutex::default(),
            carriage,
            sabotage,
            log,
            seed,
            calm: AtomicBool::new(false),
            away: AtomicBool::new(false),
        })
    }

    pub fn client(self: &Arc<Self>, node: &str, power: Power) -> Arc<BrokerClient> {
        let chance = Mutex::new(Chance::new(self.seed, &format!("publisher {node}")));
        Arc::new(BrokerClient {
            broker: self.clone(),
            node: node.to_owned(),
            power,
            link: Arc::default(),
            chance,
        })
    }

    /// From now on everything is carried, once.
    pub fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    /// Whether nodes that start are without a link until [`BrokerClient::restore`].
    pub fn go_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    fn carriage(&self) -> Carriage {
        let carriage = self.carriage;
        if self.calm.load(Ordering::Relaxed) {
            return Carriage { loses_one_in: 0, repeats_one_in: 0, no_answer_one_in: 0, ..carriage };
        }
        carriage
    }

    fn spread(&self, from: &str, batch: &[Publication]) {
        for (_, port) in self.ports.lock().iter().filter(|(node, _)| *node != from) {
            for publication in batch {
                if port.loses(publication, self.carriage(), self.sabotage) {
                    continue;
                }
                let body = match self.sabotage {
                    Some(Sabotage::AlterPublications) => altered(&publication.body),
                    _ => publication.body.clone(),
                };
                let delivery = Delivery::Publication { partition: publication.partition, body };
                port.enqueue(publication.partition, delivery, self.carriage.typical_ms);
            }
        }
    }

    fn send(&self, node: &str, lane: u16, delivery: Delivery) {
        if self.sabotage == Some(Sabotage::KeepBack)
            && matches!(&delivery, Delivery::Direct { body } if is_kind(body, "GivenBack"))
        {
            return;
        }
        if let Some(port) = self.ports.lock().get(node) {
            port.enqueue(lane, delivery, self.carriage.typical_ms);
        }
    }
}

impl Port {
    fn loses(&self, publication: &Publication, carriage: Carriage, sabotage: Option<Sabotage>) -> bool {
        let mut state = self.state.lock();
        let is_heads = is_kind(&publication.body, "Heads");
        let is_message = publication.body.first() == Some(&MESSAGE);
        if sabotage == Some(Sabotage::HideEnds) {
            return is_kind(&publication.body, "Ended");
        }
        if sabotage == Some(Sabotage::HoldAll) {
            return is_kind(&publication.body, "Moved");
        }
        if sabotage == Some(Sabotage::LosePublications) {
            return is_heads || (is_message && state.chance.one_in(2));
        }
        if is_heads {
            // They are told three times for the case that one is lost.
            let lost = state.chance.one_in(carriage.loses_one_in);
            let before = state.heads_lost.insert(publication.partition, lost).unwrap_or(false);
            if before {
                state.heads_lost.insert(publication.partition, false);
            }
            return lost && !before;
        }
        is_message && state.chance.one_in(carriage.loses_one_in)
    }

    fn enqueue(&self, lane: u16, delivery: Delivery, typical_ms: u64) {
        let life = self.link.state.lock().life;
        let mut state = self.state.lock();
        let delay = state.chance.delay(typical_ms);
        let floor = state.floors.get(&lane).copied();
        let due = (Instant::now() + delay).max(floor.unwrap_or_else(Instant::now));
        state.floors.insert(lane, due);
        state.count += 1;
        let count = state.count;
        state.coming.push(Reverse(Coming { due, count, life, delivery }));
        drop(state);
        self.arrived.notify_one();
    }

    /// Hands out what arrives, when it does, for as long as the node lives.
    async fn pump(self: Arc<Self>) {
        let by_name = match self.broker.sabotage {
            Some(Sabotage::ByName(kind)) => Some(kind),
            _ => None,
        };
        loop {
            let next = self.state.lock().coming.peek().map(|Reverse(coming)| coming.due);
            match next {
                None => self.arrived.notified().await,
                Some(due) if due > Instant::now() => {
                    // In time or not, the queue is looked at again.
                    let _ = tokio::time::timeout_at(due, self.arrived.notified()).await;
                }
                Some(_) => {
                    self.power.on().await;
                    let Some(Reverse(coming)) = self.state.lock().coming.pop() else { continue };
                    if self.link.carries(coming.life) {
                        let delivery = match coming.delivery {
                            Delivery::Publication { partition, body }
                                if by_name.is_some_and(|kind| is_kind(&body, kind)) =>
                            {
                                Delivery::Publication { partition, body: renumbered(&body, &self.broker.log) }
                            }
                            delivery => delivery,
                        };
                        self.receiver.receive(delivery);
                    }
                }
            }
        }
    }
}

impl Link {
    fn carries(&self, life: u64) -> bool {
        let state = self.state.lock();
        !state.cut && !state.deaf && state.life == life
    }

    fn is_cut(&self) -> bool {
        self.state.lock().cut
    }
}

impl BrokerClient {
    /// Cuts the link until [`BrokerClient::restore`]; the node notices a little later.
    pub async fn cut(&self) {
        {
            let mut state = self.link.state.lock();
            (state.cut, state.held) = (true, true);
            state.life += 1;
        }
        let notices = self.chance.lock().millis(0, 400);
        tokio::time::sleep(notices).await;
        if self.link.is_cut() {
            self.link.state.lock().known = true;
            self.tell(Delivery::Down).await;
        }
    }

    /// Lets the link be built anew.
    pub async fn restore(&self) {
        self.link.state.lock().held = false;
        self.connect_anew().await;
    }

    /// Lets nothing in any more, although all looks well, until the node builds the link anew.
    pub fn deafen(&self) {
        self.link.state.lock().deaf = true;
    }

    async fn connect_anew(&self) {
        let takes = self.chance.lock().millis(5, 500);
        tokio::time::sleep(takes).await;
        {
            let mut state = self.link.state.lock();
            if state.held {
                return;
            }
            (state.cut, state.deaf, state.known) = (false, false, false);
            state.life += 1;
        }
        self.tell(Delivery::Gap { partition: None }).await;
    }

    async fn tell(&self, delivery: Delivery) {
        if self.power.is_dead() {
            return;
        }
        self.power.on().await;
        let port = self.broker.ports.lock().get(&self.node).cloned();
        if let Some(port) = port.filter(|port| Arc::ptr_eq(&port.link, &self.link)) {
            port.receiver.receive(delivery);
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
}

fn away() -> Error {
    Error::Unavailable("simulated".to_owned())
}

/// Whether a publication is of this kind of those that are no conversation's messages.
fn is_kind(body: &[u8], kind: &str) -> bool {
    let rest = body.get(1..).and_then(|json| json.strip_prefix(b"{\"")?.strip_prefix(kind.as_bytes()));
    rest.is_some_and(|rest| rest.starts_with(b"\":"))
}

/// The same publication with the number of the conversation that has its name now.
fn renumbered(body: &Bytes, log: &Log) -> Bytes {
    let renumber = || {
        let (kind, json) = body.split_first()?;
        let mut message: serde_json::Value = serde_json::from_slice(json).ok()?;
        let fields = message.as_object_mut()?.values_mut().next()?;
        let now = log.number_of(fields["name"].as_str()?)?;
        fields["conversation"] = serde_json::json!(now);
        Some(Bytes::from([&[*kind], message.to_string().as_bytes()].concat()))
    };
    renumber().unwrap_or_else(|| body.clone())
}

/// The same message with another text in it, of the same length.
fn altered(body: &Bytes) -> Bytes {
    let mut body = body.to_vec();
    let text = b"\"content\":\"";
    if let Some(at) = body.windows(text.len()).position(|window| window == text) {
        body[at + text.len()] = b'#';
    }
    body.into()
}

#[async_trait]
impl Fanout for BrokerClient {
    async fn start(&self, receiver: Arc<dyn Receiver>) -> Result<(), Error> {
        let port = Arc::new(Port {
            receiver,
            broker: self.broker.clone(),
            power: self.power.clone(),
            link: self.link.clone(),
            state: Mutex::new(PortState {
                coming: BinaryHeap::new(),
                count: 0,
                floors: BTreeMap::new(),
                heads_lost: BTreeMap::new(),
                chance: self.chance.lock().clone(),
            }),
            arrived: Notify::new(),
        });
        self.broker.ports.lock().insert(self.node.clone(), port.clone());
        if self.broker.away.load(Ordering::Relaxed) {
            let mut state = self.link.state.lock();
            (state.cut, state.held, state.known) = (true, true, true);
        }
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
        self.travel().await;
        self.power.on().await;
        if unanswered { Err(away()) } else { Ok(()) }
    }

    async fn publish_to(&self, node: &str, body: Bytes) -> Result<(), Error> {
        self.reach().await?;
        self.broker.send(node, DIRECT, Delivery::Direct { body });
        self.travel().await;
        self.power.on().await;
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
        self.travel().await;
        self.power.on().await;
        Ok(())
    }

    async fn reconnect(&self) {
        self.power.on().await;
        {
            let mut state = self.link.state.lock();
            (state.cut, state.known) = (true, true);
            state.life += 1;
        }
        self.tell(Delivery::Down).await;
        self.connect_anew().await;
    }

    fn link(&self) -> Option<LinkStatus> {
        let stands = !self.link.state.lock().known;
        Some(LinkStatus { connected: stands, subscribed: stands, fault: None })
    }
}

impl PartialEq for Coming {
    fn eq(&self, other: &Coming) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Coming {}

impl PartialOrd for Coming {
    fn partial_cmp(&self, other: &Coming) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Coming {
    fn cmp(&self, other: &Coming) -> std::cmp::Ordering {
        (self.due, self.count).cmp(&(other.due, other.count))
    }
}
