//! The simulated broker. It carries publications as Redis pub/sub does: quickly, in order within a stream, and without any promise.

mod bodies;
mod client;
mod link;
mod port;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bodies::{altered, is_kind, without_interest};
pub use client::BrokerClient;
use parking_lot::Mutex;
use port::Port;
use starling_fanout::{Delivery, Destination, Publication};

use super::line::Power;
use super::log::Log;
use super::sabotage::Sabotage;

/// How well the broker carries publications.
#[derive(Clone, Copy, Debug)]
pub struct Carriage {
    /// The typical time from node to node, milliseconds.
    pub typical_ms: u64,
    /// One message in this many is lost without notice.
    pub loses_one_in: u64,
    /// One publish in this many is carried twice. A client library does that when it repeats a command without an answer.
    pub repeats_one_in: u64,
    /// One publish in this many gets no answer although it was carried.
    pub no_answer_one_in: u64,
}

/// The broker, which all nodes share.
pub struct Broker {
    ports: Mutex<BTreeMap<String, Arc<Port>>>,
    carriage: Carriage,
    sabotage: Option<Sabotage>,
    /// Knows the conversations, for a sabotage.
    log: Arc<Log>,
    seed: u64,
    /// Whether nothing is lost, repeated or left without an answer any more.
    calm: AtomicBool,
    /// Whether no node reaches it, not even one that starts now.
    away: AtomicBool,
}

impl Broker {
    /// Makes a broker without nodes.
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

    /// Makes the client of a node.
    pub fn client(self: &Arc<Self>, node: &str, power: Power) -> Arc<BrokerClient> {
        Arc::new(BrokerClient::new(self, node, power))
    }

    /// Lets everything be carried once from now on.
    pub fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    /// Sets whether nodes that start have no link until [`BrokerClient::restore`].
    pub fn go_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// Whether nodes that start have no link.
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    fn carriage(&self) -> Carriage {
        let carriage = self.carriage;
        if self.calm.load(Ordering::Relaxed) {
            return Carriage { loses_one_in: 0, repeats_one_in: 0, no_answer_one_in: 0, ..carriage };
        }
        carriage
    }

    /// Carries publications to other nodes. What is for some nodes comes first, as over Redis.
    fn spread(&self, from: &str, batch: &[Publication]) {
        let (direct, common): (Vec<_>, Vec<_>) =
            batch.iter().partition(|publication| publication.to != Destination::Everyone);
        for (node, port) in self.ports.lock().iter().filter(|(node, _)| *node != from) {
            for publication in
                direct.iter().chain(&common).filter(|publication| publication.to.includes(node))
            {
                if port.loses(publication, self.carriage().loses_one_in) {
                    continue;
                }
                let sabotaged = match self.sabotage {
                    Some(Sabotage::AlterPublications) => Some(altered(&publication.body)),
                    Some(Sabotage::HideInterest) => without_interest(&publication.body),
                    _ => None,
                };
                let body = sabotaged.unwrap_or_else(|| publication.body.clone());
                let delivery = Delivery::Publication { partition: publication.partition, body };
                port.enqueue(publication.partition, delivery, self.carriage.typical_ms);
            }
        }
    }

    /// Carries something to one node.
    fn send(&self, node: &str, stream: u16, delivery: Delivery) {
        if self.sabotage == Some(Sabotage::KeepBack)
            && matches!(&delivery, Delivery::Direct { body } if is_kind(body, "GivenBack"))
        {
            return;
        }
        if let Some(port) = self.ports.lock().get(node) {
            port.enqueue(stream, delivery, self.carriage.typical_ms);
        }
    }
}
