//! What this node is interested in, and what it has told the others of it.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::message::KEYS_MAX;
use super::{Announced, InterestKey, InterestMessage, ROOMS_MAX, Told};
use crate::Map;

/// The conversations that this node knows or is about to read.
pub(crate) struct OwnInterest {
    node: Arc<str>,
    /// Whether there may be other nodes. Otherwise nothing is counted.
    clustered: bool,
    inner: Mutex<Inner>,
    /// Notified when something new must be announced.
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    /// The number of conversations with each key. Seldom more than one.
    counts: Map<InterestKey, u32>,
    /// The keys that have become new (`true`) or gone since the last announcement.
    pending: Map<InterestKey, bool>,
    version: u64,
    announced: Announced,
}

impl OwnInterest {
    /// Begins without interest.
    pub fn new(node: Arc<str>, clustered: bool) -> OwnInterest {
        OwnInterest { node, clustered, inner: Mutex::default(), changed: Notify::new() }
    }

    /// Counts a conversation in. It must be called before the conversation is read from the database.
    pub fn add(&self, key: InterestKey) {
        if self.clustered {
            let mut inner = self.inner.lock();
            let count = inner.counts.entry(key).or_default();
            *count += 1;
            if *count == 1 {
                inner.note(key, true);
                self.changed.notify_one();
            }
        }
    }

    /// Counts a conversation out, when it has been forgotten.
    pub fn remove(&self, key: InterestKey) {
        if self.clustered {
            let mut inner = self.inner.lock();
            let Some(count) = inner.counts.get_mut(&key) else { return };
            *count -= 1;
            if *count == 0 {
                inner.counts.remove(&key);
                // It is announced with something new or with the next beat. Until then the others send more than is needed.
                inner.note(key, false);
            }
        }
    }

    /// Waits until something new must be announced. Only one task may wait.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Returns the number of keys.
    pub fn count(&self) -> usize {
        self.inner.lock().counts.len()
    }

    /// Returns the messages that announce the changes since the last call. They must be sent to all other nodes, in their order.
    pub fn announce(&self) -> Vec<InterestMessage> {
        let mut inner = self.inner.lock();
        let pending = std::mem::take(&mut inner.pending);
        if inner.set_everything() {
            return vec![self.message(&inner, Told::Beat(inner.announced))];
        }
        if inner.announced.everything {
            return Vec::new();
        }
        let pending: Vec<(InterestKey, bool)> = pending.into_iter().collect();
        let announce = |some: &[(InterestKey, bool)]| {
            inner.version += 1;
            let (mut added, mut removed) = (Vec::new(), Vec::new());
            for (key, is_new) in some {
                if *is_new {
                    inner.announced.add(*key);
                    added.push(*key);
                } else {
                    inner.announced.remove(*key);
                    removed.push(*key);
                }
            }
            self.message(&inner, Told::Change { added, removed })
        };
        pending.chunks(KEYS_MAX).map(announce).collect()
    }

    /// Returns the summary of what has been announced.
    pub fn beat(&self) -> InterestMessage {
        let inner = self.inner.lock();
        self.message(&inner, Told::Beat(inner.announced))
    }

    /// Returns everything that has been announced, as the answer to another node's question. All changes must have been announced before.
    pub fn set(&self) -> Vec<InterestMessage> {
        let inner = self.inner.lock();
        if inner.announced.everything {
            return vec![self.message(&inner, Told::Beat(inner.announced))];
        }
        // What has changed since the announcement is not part of it.
        let mut keys: Vec<InterestKey> =
            inner.counts.keys().copied().filter(|key| inner.pending.get(key) != Some(&true)).collect();
        keys.extend(inner.pending.iter().filter(|(_, is_new)| !**is_new).map(|(key, _)| *key));
        let pieces = keys.len().div_ceil(KEYS_MAX).max(1) as u32;
        let piece = |piece: u32| {
            let from = piece as usize * KEYS_MAX;
            let keys = keys[from..(from + KEYS_MAX).min(keys.len())].to_vec();
            self.message(&inner, Told::Set { piece, pieces, keys })
        };
        (0..pieces).map(piece).collect()
    }

    /// Returns the question for another node's whole interest.
    pub fn question(&self) -> InterestMessage {
        self.message(&self.inner.lock(), Told::Question)
    }

    fn message(&self, inner: &Inner, told: Told) -> InterestMessage {
        InterestMessage { node: self.node.clone(), version: inner.version, told }
    }
}

impl Inner {
    /// Notes that a key is new or gone. Of a change and its opposite nothing needs to be announced.
    fn note(&mut self, key: InterestKey, is_new: bool) {
        if self.pending.remove(&key).is_none() {
            self.pending.insert(key, is_new);
        }
    }

    /// Sets whether the conversations are too many to be told one by one. Returns whether that has changed.
    fn set_everything(&mut self) -> bool {
        let was = self.announced.everything;
        let is = self.counts.len() > if was { ROOMS_MAX / 2 } else { ROOMS_MAX };
        if is == was {
            return false;
        }
        // The others see from the version that something has changed, and ask.
        self.version += 1;
        self.announced = Announced { everything: is, ..Announced::default() };
        if !is {
            self.counts.keys().for_each(|key| self.announced.add(*key));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bits: u64) -> InterestKey {
        InterestKey::from_bits(bits)
    }

    fn own() -> OwnInterest {
        OwnInterest::new("a".into(), true)
    }

    #[test]
    fn changes_are_announced_once_with_growing_versions() {
        let own = own();
        own.add(key(1));
        own.add(key(2));
        own.add(key(2));
        own.remove(key(2));
        let changes = own.announce();
        let [InterestMessage { version: 1, told: Told::Change { added, removed }, .. }] = &changes[..] else {
            panic!("{changes:?}")
        };
        assert!(added.len() == 2 && removed.is_empty());
        assert_eq!(own.announce(), []);
        own.remove(key(2));
        own.add(key(3));
        own.remove(key(3));
        let change = Told::Change { added: vec![], removed: vec![key(2)] };
        assert_eq!(own.announce(), [InterestMessage { node: "a".into(), version: 2, told: change }]);
        let beat = Told::Beat(Announced { count: 1, checksum: 1, everything: false });
        assert_eq!(own.beat(), InterestMessage { node: "a".into(), version: 2, told: beat });
    }

    #[test]
    fn a_set_is_what_was_announced_whatever_has_changed_since() {
        let own = own();
        (1..=3).for_each(|bits| own.add(key(bits)));
        own.announce();
        own.remove(key(1));
        own.add(key(4));
        let sets = own.set();
        let [InterestMessage { version: 1, told: Told::Set { piece: 0, pieces: 1, keys }, .. }] = &sets[..]
        else {
            panic!("{sets:?}")
        };
        let mut keys = keys.clone();
        keys.sort();
        assert_eq!(keys, [key(1), key(2), key(3)]);
    }

    #[test]
    fn a_node_that_knows_too_many_conversations_is_interested_in_everything_until_they_are_few() {
        let (own, max) = (own(), ROOMS_MAX as u64);
        (0..=max).for_each(|bits| own.add(key(bits)));
        let is_everything = |messages: &[InterestMessage]| match messages {
            [InterestMessage { told: Told::Beat(announced), .. }] => announced.everything,
            _ => panic!("{} messages", messages.len()),
        };
        assert!(is_everything(&own.announce()) && is_everything(&own.set()));
        (0..max / 2).for_each(|bits| own.remove(key(bits)));
        assert_eq!(own.announce(), [], "still too many");
        own.remove(key(max));
        assert!(!is_everything(&own.announce()));
        assert_eq!(own.set().len(), (ROOMS_MAX / 2).div_ceil(KEYS_MAX));
    }

    #[test]
    fn a_node_without_others_counts_nothing() {
        let own = OwnInterest::new("a".into(), false);
        own.add(key(1));
        assert_eq!(own.count(), 0);
    }
}
