//! The nodes' leases, and a short-lived copy of them that spares a question to Redis for each session.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fred::types::Value;
use parking_lot::Mutex;
use starling_redis_link::{Connection, Resend};

use super::link::Link;
use super::reply::Reply;
use super::server_clock::ServerClock;
use crate::{Beat, Error, NodeRecord};

/// How long a dead node's last beat is remembered, milliseconds: longer than any resume window.
const REMEMBER_MS: i64 = 24 * 60 * 60 * 1000;
/// How long the time at which the store was found empty is kept without any beat, milliseconds: longer than any session.
const BORN_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// The state of all nodes at one moment.
#[derive(Debug)]
pub(super) struct Nodes {
    /// The time at which Redis was asked.
    asked: Instant,
    /// The time at which Redis answered, by its own clock.
    pub(super) now_ms: i64,
    /// The time at which the store was found empty.
    pub(super) born_ms: i64,
    living: Vec<NodeRecord>,
    /// Time of the last beat per node, and whether the node is alive.
    seen: HashMap<String, (i64, bool)>,
    /// The same in the form that `attach.lua` reads.
    pub(super) line: Value,
}

impl Nodes {
    pub(super) fn lives(&self, node: &str) -> bool {
        self.seen.get(node).is_some_and(|(_, lives)| *lives)
    }

    /// Returns the time of the last beat; 0 for a living node, -1 for an unknown one.
    pub(super) fn last_beat(&self, node: &str) -> i64 {
        match self.seen.get(node) {
            Some((_, true)) => 0,
            Some((last_ms, false)) => *last_ms,
            None => -1,
        }
    }

    /// Returns the time of a dead node's last beat, 0 if that is forgotten, or `None` for a living node.
    pub(super) fn died_at(&self, node: &str) -> Option<i64> {
        match self.seen.get(node) {
            Some((_, true)) => None,
            Some((last_ms, false)) => Some(*last_ms),
            None => Some(0),
        }
    }
}

/// Renews and reads the leases.
#[derive(Debug)]
pub(super) struct Registry {
    link: Arc<Link>,
    pub(super) lease: Duration,
    /// How old the copy may be when a session is judged by it: a small part of the lease.
    fresh_for: Duration,
    memory: Mutex<Option<Arc<Nodes>>>,
    /// The server's clock, read from each answer.
    pub(super) clock: ServerClock,
    /// Held by the one caller that asks Redis; the others wait for its answer.
    asking: tokio::sync::Mutex<()>,
    /// The begin of the lease, as last acknowledged, of each node that sends its beats through this store.
    acknowledged: Mutex<HashMap<String, i64>>,
    /// Living nodes of an older version, which key presence by the conversation's name. As of the last beat.
    older: Mutex<Arc<HashSet<String>>>,
}

impl Registry {
    pub(super) fn new(link: Arc<Link>, lease: Duration) -> Self {
        Self {
            link,
            lease,
            fresh_for: lease / 32,
            memory: Mutex::default(),
            clock: ServerClock::new(),
            asking: tokio::sync::Mutex::default(),
            acknowledged: Mutex::default(),
            older: Mutex::default(),
        }
    }

    /// Renews a lease. A lost lease is noticed by its begin, so that it is noticed even if the answer to a beat was lost.
    pub(super) async fn beat(&self, node: &NodeRecord) -> Result<Beat, Error> {
        let (since_ms, nodes) = self.ask(Some(node), true).await?;
        let before = self.acknowledged.lock().insert(node.node.clone(), since_ms);
        self.link.metrics.living_nodes.set(nodes.living.len() as f64);
        let older = nodes.living.iter().filter(|record| !record.presence_by_id);
        *self.older.lock() = Arc::new(older.map(|record| record.node.clone()).collect());
        Ok(Beat { lost: before != Some(since_ms), living: nodes.living.clone() })
    }

    /// Returns the living nodes of an older version, which key presence by the conversation's name.
    pub(super) fn older(&self) -> Arc<HashSet<String>> {
        self.older.lock().clone()
    }

    pub(super) async fn leave(&self, node: &str) -> Result<(), Error> {
        let keys = vec![self.link.keys.instance(node), self.link.keys.active()];
        let leave = self.link.scripts.leave.call(keys).with(node);
        self.link.pool.call(Connection::Any, Resend::Yes, leave).await?;
        self.acknowledged.lock().remove(node);
        *self.memory.lock() = None;
        Ok(())
    }

    /// Runs the script of beats, to learn whether scripts may be run. The answer is not kept, since it was read before this node did
    /// anything.
    pub(super) async fn try_out(&self) -> Result<(), Error> {
        let tried = self.ask(None, false).await;
        *self.memory.lock() = None;
        tried.map(drop)
    }

    /// Returns the records of all living nodes.
    pub(super) async fn living(&self) -> Result<Vec<NodeRecord>, Error> {
        Ok(self.ask(None, true).await?.1.living.clone())
    }

    /// Returns the nodes as they were a moment ago.
    pub(super) async fn recent(&self) -> Result<Arc<Nodes>, Error> {
        match Instant::now().checked_sub(self.fresh_for) {
            Some(moment) => self.since(moment).await,
            None => Ok(self.ask(None, false).await?.1),
        }
    }

    /// Returns the nodes as they were at that moment or later.
    pub(super) async fn since(&self, moment: Instant) -> Result<Arc<Nodes>, Error> {
        let remembered = || self.memory.lock().as_ref().filter(|nodes| nodes.asked >= moment).map(Arc::clone);
        if let Some(nodes) = remembered() {
            return Ok(nodes);
        }
        let _turn = self.asking.lock().await;
        if let Some(nodes) = remembered() {
            return Ok(nodes);
        }
        Ok(self.ask(None, false).await?.1)
    }

    async fn ask(&self, node: Option<&NodeRecord>, records: bool) -> Result<(i64, Arc<Nodes>), Error> {
        let name = node.map_or("", |node| &node.node);
        let record = match node {
            Some(node) => {
                serde_json::to_string(node).map_err(|error| Error::Unavailable(error.to_string()))?
            }
            None => String::new(),
        };
        let keys = vec![self.link.keys.instance(name), self.link.keys.active(), self.link.keys.born()];
        let beat = self
            .link
            .scripts
            .beat
            .call(keys)
            .with(name)
            .with(record)
            .with(millis(self.lease))
            .with(REMEMBER_MS)
            .with(BORN_MS)
            .with(self.link.keys.instances())
            .with(i64::from(records));
        let asked = Instant::now();
        let answer = self.link.pool.call(Connection::Any, Resend::Yes, beat).await?;
        let answered = Instant::now();
        let (since_ms, nodes) = read(asked, answer)?;
        self.clock.read(asked, answered, nodes.now_ms);
        let nodes = Arc::new(nodes);
        let mut memory = self.memory.lock();
        if memory.as_ref().is_none_or(|known| known.asked < asked) {
            *memory = Some(nodes.clone());
        }
        Ok((since_ms, nodes))
    }
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn read(asked: Instant, answer: Value) -> Result<(i64, Nodes), Error> {
    let mut reply = Reply::of(answer);
    let (since_ms, now_ms, born_ms) = (reply.integer()?, reply.integer()?, reply.integer()?);
    let (mut living, mut seen, mut line) = (Vec::new(), HashMap::new(), String::from("|"));
    while !reply.is_empty() {
        let (node, last_ms) = (reply.text()?, reply.integer()?);
        let (lives, record) = (reply.integer()? == 1, reply.text()?);
        let _ = write!(line, "{node}={}|", if lives { 0 } else { last_ms });
        if lives && !record.is_empty() {
            // A record of another version may be unreadable, but its node is alive.
            let unknown = || NodeRecord { node: node.clone(), ..NodeRecord::default() };
            living.push(serde_json::from_str(&record).unwrap_or_else(|_| unknown()));
        }
        seen.insert(node, (last_ms, lives));
    }
    living.sort_by(|a: &NodeRecord, b| a.node.cmp(&b.node));
    Ok((since_ms, Nodes { asked, now_ms, born_ms, living, seen, line: line.into() }))
}
