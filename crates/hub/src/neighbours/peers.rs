//! Which of the other nodes may have committed something that the rest was not told.
//!
//! Every node says each second that it is there. One that is cut off from the broker commits and can't tell, while those who hear the
//! others notice nothing; one that was killed, or has just left, may have committed last what it never told. While there is such a
//! node, the others look into the log.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::Map;

/// A node that has not been heard for this long may be cut off: it says that it is there each second.
const SILENT_AFTER: Duration = Duration::from_millis(1_500);
/// A node that has not been heard for this long may be dead, although it has a lease still.
const DEAD_AFTER: Duration = Duration::from_secs(3);
/// For how long a node that is not heard is reckoned with. One that was killed looks like one that is cut off.
const SILENT_FOR: Duration = Duration::from_secs(600);
/// For how long a node that left is reckoned with: longer than the last statement that it began may take.
const LEFT_FOR: Duration = Duration::from_secs(15);
/// How many nodes are remembered.
const PEERS_MAX: usize = 4_096;

/// The other nodes, by what the broker carried of them.
#[derive(Debug, Default)]
pub(super) struct Peers {
    inner: Mutex<Map<Arc<str>, Peer>>,
}

#[derive(Clone, Copy, Debug)]
enum Peer {
    /// Heard last at this time.
    Heard(Instant),
    /// Said at this time that it goes.
    Left(Instant),
}

impl Peers {
    /// A node said that it is there.
    pub fn hear(&self, node: &Arc<str>, now: Instant) {
        let mut inner = self.inner.lock();
        match inner.get_mut(node) {
            Some(Peer::Heard(heard)) => *heard = now,
            Some(Peer::Left(_)) => {}
            None => Self::add(&mut inner, node, Peer::Heard(now)),
        }
    }

    /// A node has a lease: it is to be heard from now on.
    pub fn expect(&self, node: &str, now: Instant) {
        let mut inner = self.inner.lock();
        if !inner.contains_key(node) {
            Self::add(&mut inner, &node.into(), Peer::Heard(now));
        }
    }

    /// A node said that it goes.
    pub fn leave(&self, node: &Arc<str>, now: Instant) {
        let mut inner = self.inner.lock();
        match inner.get_mut(node) {
            Some(peer) => *peer = Peer::Left(now),
            None => Self::add(&mut inner, node, Peer::Left(now)),
        }
    }

    /// Whether this node has said lately that it goes.
    pub fn has_left(&self, node: &str) -> bool {
        matches!(self.inner.lock().get(node), Some(Peer::Left(_)))
    }

    /// Whether a node has been heard lately, or has just got its lease.
    pub fn is_heard(&self, node: &str, now: Instant) -> bool {
        let heard_lately =
            |peer: &Peer| matches!(peer, Peer::Heard(at) if now.duration_since(*at) < DEAD_AFTER);
        self.inner.lock().get(node).is_some_and(heard_lately)
    }

    /// Whether some node may have committed what it did not tell.
    pub fn may_owe(&self, now: Instant) -> bool {
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
        assert!(!peers.may_owe(began), "alone");
        peers.expect("a", began);
        peers.hear(&"b".into(), began);
        assert!(!peers.may_owe(after(1.4)));
        assert!(peers.is_heard("a", after(2.9)) && !peers.is_heard("a", after(3.0)));
        assert!(!peers.is_heard("c", began), "never heard of");
        peers.hear(&"b".into(), after(1.4));
        assert!(peers.may_owe(after(1.5)), "nothing was heard of one that has a lease");
        peers.hear(&"a".into(), after(1.6));
        assert!(!peers.may_owe(after(2.8)));
        // A lease alone is no word.
        peers.expect("a", after(3.0));
        assert!(peers.may_owe(after(3.2)) && peers.may_owe(after(600.0)));
        assert!(!peers.may_owe(after(602.0)));
    }

    #[test]
    fn a_node_that_left_is_reckoned_with_for_a_while_whatever_is_heard_late() {
        let (peers, began) = (Peers::default(), Instant::now());
        let after = |seconds: u64| began + Duration::from_secs(seconds);
        peers.leave(&"a".into(), began);
        peers.hear(&"a".into(), after(1));
        peers.expect("a", after(2));
        assert!(peers.may_owe(began) && peers.may_owe(after(14)));
        assert!(!peers.may_owe(after(15)));
    }
}
