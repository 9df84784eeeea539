//! Knows whether another node may have committed messages that it did not publish.
//!
//! Every node publishes each second that it is there. A node that is cut off from Redis commits messages and can't publish them, while the
//! nodes that hear each other notice nothing. A node that was killed, or has just left, may not have published its last messages. While
//! there is such a node, the others compare their conversations with the log.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::Map;

/// A node that has been silent for this long may be cut off, since every node publishes each second that it is there.
const SILENT_AFTER: Duration = Duration::from_millis(1_500);
/// A node that has been silent for this long may be dead, although its lease has not expired.
const DEAD_AFTER: Duration = Duration::from_secs(3);
/// How long a silent node counts as possibly cut off. A killed node can't be told apart from one that is cut off.
const SILENT_FOR: Duration = Duration::from_secs(600);
/// How long a node that left may still have something committed: longer than the last statement that it began may take.
const LEFT_FOR: Duration = Duration::from_secs(15);
/// Most nodes that are remembered.
const PEERS_MAX: usize = 4_096;

/// The other nodes, by what was heard of them through Redis.
#[derive(Debug, Default)]
pub(super) struct Peers {
    inner: Mutex<Map<Arc<str>, Peer>>,
}

#[derive(Clone, Copy, Debug)]
enum Peer {
    /// The time at which the node was last heard.
    Heard(Instant),
    /// The time at which the node said that it leaves.
    Left(Instant),
}

impl Peers {
    /// Notes that a node was heard.
    pub fn hear(&self, node: &Arc<str>, now: Instant) {
        let mut inner = self.inner.lock();
        match inner.get_mut(node) {
            Some(Peer::Heard(heard)) => *heard = now,
            Some(Peer::Left(_)) => {}
            None => Self::add(&mut inner, node, Peer::Heard(now)),
        }
    }

    /// Notes that a node has a lease, so that it must be heard from now on.
    pub fn expect(&self, node: &str, now: Instant) {
        let mut inner = self.inner.lock();
        if !inner.contains_key(node) {
            Self::add(&mut inner, &node.into(), Peer::Heard(now));
        }
    }

    /// Notes that a node said that it leaves.
    pub fn leave(&self, node: &Arc<str>, now: Instant) {
        let mut inner = self.inner.lock();
        match inner.get_mut(node) {
            Some(peer) => *peer = Peer::Left(now),
            None => Self::add(&mut inner, node, Peer::Left(now)),
        }
    }

    /// Whether this node has said lately that it leaves.
    pub fn has_left(&self, node: &str) -> bool {
        matches!(self.inner.lock().get(node), Some(Peer::Left(_)))
    }

    /// Whether a node has been heard lately, or has just got its lease.
    pub fn is_heard(&self, node: &str, now: Instant) -> bool {
        let heard_lately =
            |peer: &Peer| matches!(peer, Peer::Heard(at) if now.duration_since(*at) < DEAD_AFTER);
        self.inner.lock().get(node).is_some_and(heard_lately)
    }

    /// Whether a node may have committed messages that it did not publish.
    pub fn may_have_unpublished(&self, now: Instant) -> bool {
        let mut inner = self.inner.lock();
        inner.retain(|_, peer| match *peer {
            Peer::Heard(at) => now.duration_since(at) < SILENT_FOR,
            Peer::Left(at) => now.duration_since(at) < LEFT_FOR,
        });
        inner.values().any(|peer| match *peer {
            Peer::Heard(at) => now.duration_since(at) >= SILENT_AFTER,
            Peer::Left(_) => true,
        })
    }

    fn add(inner: &mut Map<Arc<str>, Peer>, node: &Arc<str>, peer: Peer) {
        if inner.len() < PEERS_MAX {
            inner.insert(node.clone(), peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_falls_silent_is_reckoned_with_until_it_is_heard_or_long_gone() {
        let (peers, began) = (Peers::default(), Instant::now());
        let after = |seconds: f64| began + Duration::from_secs_f64(seconds);
        assert!(!peers.may_have_unpublished(began), "alone");
        peers.expect("a", began);
        peers.hear(&"b".into(), began);
        assert!(!peers.may_have_unpublished(after(1.4)));
        assert!(peers.is_heard("a", after(2.9)) && !peers.is_heard("a", after(3.0)));
        assert!(!peers.is_heard("c", began), "never heard of");
        peers.hear(&"b".into(), after(1.4));
        assert!(peers.may_have_unpublished(after(1.5)), "nothing was heard of one that has a lease");
        peers.hear(&"a".into(), after(1.6));
        assert!(!peers.may_have_unpublished(after(2.8)));
        // A renewed lease does not prove that the node can be heard.
        peers.expect("a", after(3.0));
        assert!(peers.may_have_unpublished(after(3.2)) && peers.may_have_unpublished(after(600.0)));
        assert!(!peers.may_have_unpublished(after(602.0)));
    }

    #[test]
    fn a_node_that_left_is_reckoned_with_for_a_while_whatever_is_heard_late() {
        let (peers, began) = (Peers::default(), Instant::now());
        let after = |seconds: u64| began + Duration::from_secs(seconds);
        peers.leave(&"a".into(), began);
        peers.hear(&"a".into(), after(1));
        peers.expect("a", after(2));
        assert!(peers.may_have_unpublished(began) && peers.may_have_unpublished(after(14)));
        assert!(!peers.may_have_unpublished(after(15)));
    }
}
