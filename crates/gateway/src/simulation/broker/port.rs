//! What is on its way to one node.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use parking_lot::Mutex;
use starling_fanout::{Delivery, Publication, Receiver};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::chance::Chance;
use super::super::line::Power;
use super::super::log::Log;
use super::super::sabotage::Sabotage;
use super::bodies::{is_interest, is_kind, is_message, renumbered, without_interest};
use super::link::Link;

/// What is on its way to one node.
pub(super) struct Port {
    receiver: Arc<dyn Receiver>,
    power: Power,
    link: Arc<Link>,
    sabotage: Option<Sabotage>,
    /// Knows the conversations, for a sabotage.
    log: Arc<Log>,
    state: Mutex<PortState>,
    arrived: Notify,
}

struct PortState {
    /// The deliveries, by time of arrival.
    coming: BinaryHeap<Reverse<Coming>>,
    count: u64,
    /// When the last delivery of each stream arrives. Nothing overtakes within a stream.
    floors: BTreeMap<u16, Instant>,
    /// Whether the last heads of a partition were lost. The next ones are not.
    heads_lost: BTreeMap<u16, bool>,
    chance: Chance,
}

struct Coming {
    due: Instant,
    count: u64,
    /// The number of the connection on which it was sent.
    life: u64,
    delivery: Delivery,
}

impl Port {
    /// Makes the port of a node. [`Port::pump`] must run for it.
    pub fn new(
        receiver: Arc<dyn Receiver>,
        power: Power,
        link: Arc<Link>,
        sabotage: Option<Sabotage>,
        log: Arc<Log>,
        chance: Chance,
    ) -> Port {
        let state = PortState {
            coming: BinaryHeap::new(),
            count: 0,
            floors: BTreeMap::new(),
            heads_lost: BTreeMap::new(),
            chance,
        };
        Port { receiver, power, link, sabotage, log, state: Mutex::new(state), arrived: Notify::new() }
    }

    /// Whether this is the port at the end of a link.
    pub fn is_of(&self, link: &Arc<Link>) -> bool {
        Arc::ptr_eq(&self.link, link)
    }

    /// Hands a delivery to the node at once.
    pub fn tell(&self, delivery: Delivery) {
        self.receiver.receive(delivery);
    }

    /// Draws whether a publication is lost. One in `one_in` is.
    pub fn loses(&self, publication: &Publication, one_in: u64) -> bool {
        let mut state = self.state.lock();
        let is_heads = is_kind(&publication.body, "Heads");
        let is_message = is_message(&publication.body);
        match self.sabotage {
            Some(Sabotage::HideEnds) => return is_kind(&publication.body, "Ended"),
            Some(Sabotage::HideInterest) if is_interest(&publication.body) => {
                return without_interest(&publication.body).is_none();
            }
            Some(Sabotage::HoldAll) => return is_kind(&publication.body, "Moved"),
            Some(Sabotage::LosePublications) => {
                return is_heads || (is_message && state.chance.one_in(2));
            }
            _ => {}
        }
        if is_heads {
            // Nodes publish their heads three times, in case that one publication is lost.
            let lost = state.chance.one_in(one_in);
            let before = state.heads_lost.insert(publication.partition, lost).unwrap_or(false);
            if before {
                state.heads_lost.insert(publication.partition, false);
            }
            return lost && !before;
        }
        (is_message || is_interest(&publication.body)) && state.chance.one_in(one_in)
    }

    /// Sends something to the node, which takes about this long.
    pub fn enqueue(&self, stream: u16, delivery: Delivery, typical_ms: u64) {
        let life = self.link.life();
        let mut state = self.state.lock();
        let delay = state.chance.delay(typical_ms);
        let floor = state.floors.get(&stream).copied();
        let due = (Instant::now() + delay).max(floor.unwrap_or_else(Instant::now));
        state.floors.insert(stream, due);
        state.count += 1;
        let count = state.count;
        state.coming.push(Reverse(Coming { due, count, life, delivery }));
        drop(state);
        self.arrived.notify_one();
    }

    /// Hands each delivery to the node when it arrives. Does not return; a dead node takes nothing more.
    pub async fn pump(self: Arc<Self>) {
        loop {
            let next = self.state.lock().coming.peek().map(|Reverse(coming)| coming.due);
            match next {
                None => self.arrived.notified().await,
                Some(due) if due > Instant::now() => {
                    // Something that arrives sooner may have been sent meanwhile.
                    let _ = tokio::time::timeout_at(due, self.arrived.notified()).await;
                }
                Some(_) => {
                    self.power.on().await;
                    let Some(Reverse(coming)) = self.state.lock().coming.pop() else { continue };
                    if self.link.carries(coming.life) {
                        self.receiver.receive(self.sabotaged(coming.delivery));
                    }
                }
            }
        }
    }

    fn sabotaged(&self, delivery: Delivery) -> Delivery {
        match (self.sabotage, delivery) {
            (Some(Sabotage::ByName(kind)), Delivery::Publication { partition, body })
                if is_kind(&body, kind) =>
            {
                Delivery::Publication { partition, body: renumbered(&body, &self.log) }
            }
            (_, delivery) => delivery,
        }
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
