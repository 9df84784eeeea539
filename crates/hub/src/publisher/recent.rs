//! What was sent past some nodes lately. A node that becomes interested in a conversation gets it afterwards, since it may have read the
//! conversation before.

use std::collections::VecDeque;

use bytes::Bytes;
use starling_fanout::PARTITIONS;

use super::PartitionSet;
use crate::Map;
use crate::interest::{InterestKey, NewRooms};

/// Most publications that are remembered.
const ITEMS_MAX: usize = 1 << 17;
/// Most bytes of them.
const BYTES_MAX: usize = 32 << 20;
/// How long they are remembered, in beats. Another node's change reaches this one within milliseconds. If it was lost, the next beats show
/// it, and a node that is silent for longer than two counts as interested in everything.
pub(super) const KEPT_BEATS: u8 = 6;

/// The publications that were sent past some nodes lately.
#[derive(Default)]
pub(super) struct Recent {
    items: Map<InterestKey, VecDeque<Item>>,
    /// The conversations of all items, in the order in which they were added.
    order: VecDeque<InterestKey>,
    bytes: usize,
    beat: u64,
    /// The beat in which something of each partition was last forgotten too early.
    forgotten: [Option<u64>; PARTITIONS as usize],
}

struct Item {
    beat: u64,
    body: Bytes,
}

impl Recent {
    /// Remembers a publication about this conversation.
    pub fn note(&mut self, key: InterestKey, body: Bytes) {
        self.bytes += body.len();
        self.items.entry(key).or_default().push_back(Item { beat: self.beat, body });
        self.order.push_back(key);
        while self.order.len() > ITEMS_MAX || self.bytes > BYTES_MAX {
            if let Some(key) = self.forget_oldest() {
                self.forgotten[usize::from(key.partition())] = Some(self.beat);
            }
        }
    }

    /// Whether anything is remembered about this conversation.
    pub fn has(&self, key: InterestKey) -> bool {
        self.items.contains_key(&key)
    }

    /// Returns what is remembered about these conversations, oldest first, and adds to `lacking` the partitions of those about which
    /// something was forgotten too early.
    pub fn about(&self, rooms: &NewRooms, lacking: &PartitionSet) -> Vec<(InterestKey, Bytes)> {
        let keys: Vec<InterestKey> = match rooms {
            NewRooms::Rooms(keys) => keys.clone(),
            NewRooms::All => self.items.keys().copied().collect(),
        };
        for partition in rooms.partitions() {
            let forgotten = self.forgotten[usize::from(partition)];
            if forgotten.is_some_and(|beat| self.beat - beat <= u64::from(KEPT_BEATS)) {
                lacking.insert(partition);
            }
        }
        let of = |key: InterestKey| self.items.get(&key).into_iter().flatten().map(move |item| (key, item));
        keys.into_iter().flat_map(of).map(|(key, item)| (key, item.body.clone())).collect()
    }

    /// Begins the next beat, and forgets what was sent long ago.
    pub fn age(&mut self) {
        self.beat += 1;
        let oldest = |recent: &Recent| recent.items.get(recent.order.front()?)?.front().map(|item| item.beat);
        while oldest(self).is_some_and(|beat| self.beat - beat > u64::from(KEPT_BEATS)) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) -> Option<InterestKey> {
        let key = self.order.pop_front()?;
        let items = self.items.get_mut(&key)?;
        self.bytes -= items.pop_front().map_or(0, |item| item.body.len());
        if items.is_empty() {
            self.items.remove(&key);
        }
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bits: u64) -> InterestKey {
        InterestKey::from_bits(bits)
    }

    fn bodies(recent: &Recent, keys: &[u64]) -> (Vec<Bytes>, Vec<u16>) {
        let lacking = PartitionSet::default();
        let rooms = NewRooms::Rooms(keys.iter().copied().map(key).collect());
        let bodies = recent.about(&rooms, &lacking).into_iter().map(|(_, body)| body).collect();
        (bodies, lacking.take())
    }

    #[test]
    fn what_was_sent_lately_is_found_by_conversation_in_its_order_until_it_is_old() {
        let mut recent = Recent::default();
        recent.note(key(1), "a".into());
        recent.note(key(2), "b".into());
        recent.age();
        recent.note(key(1), "c".into());
        assert_eq!(bodies(&recent, &[1, 3]), (vec!["a".into(), "c".into()], vec![]));
        assert_eq!(recent.about(&NewRooms::All, &PartitionSet::default()).len(), 3);
        (0..KEPT_BEATS).for_each(|_| recent.age());
        assert_eq!(bodies(&recent, &[1, 2]), (vec!["c".into()], vec![]));
        recent.age();
        assert!(recent.items.is_empty() && recent.order.is_empty() && recent.bytes == 0);
    }

    #[test]
    fn what_did_not_fit_shows_for_as_long_as_it_would_have_been_kept() {
        let mut recent = Recent::default();
        let large = Bytes::from(vec![0; BYTES_MAX / 2 + 1]);
        recent.note(key(5 << 60), large.clone());
        recent.note(key(7 << 60), large);
        assert_eq!(bodies(&recent, &[(5 << 60) + 1]).1, [5], "any conversation of the partition");
        assert_eq!(bodies(&recent, &[7 << 60]).1, [0; 0]);
        (0..=KEPT_BEATS).for_each(|_| recent.age());
        assert_eq!(bodies(&recent, &[5 << 60]).1, [0; 0]);
    }
}
