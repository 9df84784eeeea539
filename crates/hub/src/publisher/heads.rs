//! The heads that this node committed lately. They are announced with a few beats, in case the last publication of a conversation is the
//! one that was lost, and to nodes that have just become interested in the conversation.

use std::sync::Arc;

use parking_lot::Mutex;
use starling_model::Seq;

use super::recent::KEPT_BEATS;
use crate::Map;
use crate::interest::{InterestKey, NewRooms};
use crate::node_message::Head;
use crate::room::Room;

/// Most conversations that are remembered. While there are more, the partitions of lost publications are remembered instead.
const HEADS_MAX: usize = 50_000;
/// Number of beats with which a head is announced, since one beat may be lost.
const ANNOUNCEMENTS: u8 = 3;

/// The heads that this node committed lately.
#[derive(Default)]
pub(super) struct CommittedHeads {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The heads by conversation. Seldom have two conversations one key.
    heads: Map<InterestKey, Vec<CommittedHead>>,
    count: usize,
    /// The number of beats during which a head that did not fit would still be remembered.
    lacking: u8,
}

/// The head that this node committed last in one conversation.
struct CommittedHead {
    room: Arc<Room>,
    seq: Seq,
    announcements_left: u8,
    beats_left: u8,
}

impl CommittedHeads {
    /// Notes a commit.
    pub fn note(&self, room: &Arc<Room>, seq: Seq) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let is_full = inner.count >= HEADS_MAX;
        let known = inner.heads.get_mut(&room.interest);
        let found = known.and_then(|heads| heads.iter_mut().find(|head| head.room.channel == room.channel));
        if let Some(head) = found {
            head.seq = head.seq.max(seq);
            head.refresh();
        } else if is_full {
            inner.lacking = KEPT_BEATS;
        } else {
            let mut head = CommittedHead { room: room.clone(), seq, announcements_left: 0, beats_left: 0 };
            head.refresh();
            inner.heads.entry(room.interest).or_insert_with(|| Vec::with_capacity(1)).push(head);
            inner.count += 1;
        }
    }

    /// Whether every conversation with a recent commit is remembered.
    pub fn has_room(&self) -> bool {
        self.inner.lock().count < HEADS_MAX
    }

    /// Returns the heads to announce now, by partition. Each head is announced in a few beats and then forgotten. `is_heard`: whether the
    /// other nodes can hear it now; if not, it is announced again. `is_certain`: whether it may be forgotten, because it is known which
    /// nodes want it.
    pub fn to_announce(&self, is_heard: bool, is_certain: bool) -> Vec<(u16, Vec<(InterestKey, Head)>)> {
        let mut by_partition: Map<u16, Vec<(InterestKey, Head)>> = Map::default();
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        inner.heads.retain(|key, heads| {
            heads.retain_mut(|head| {
                if head.announcements_left > 0 {
                    let announced = (*key, head.room.head_at(head.seq));
                    by_partition.entry(head.room.partition).or_default().push(announced);
                }
                let keeps = head.pass_beat(is_heard, is_certain);
                inner.count -= usize::from(!keeps);
                keeps
            });
            !heads.is_empty()
        });
        if is_heard && is_certain {
            inner.lacking = inner.lacking.saturating_sub(1);
        }
        by_partition.into_iter().collect()
    }

    /// Returns the heads of conversations in which a node has become interested, by partition. They are announced with the next beats
    /// again. `None`: not all are remembered.
    pub fn about(&self, rooms: &NewRooms) -> Option<Vec<(u16, Vec<Head>)>> {
        let mut by_partition: Map<u16, Vec<Head>> = Map::default();
        let mut inner = self.inner.lock();
        let mut add = |heads: &mut Vec<CommittedHead>| {
            for head in heads {
                head.refresh();
                by_partition.entry(head.room.partition).or_default().push(head.room.head_at(head.seq));
            }
        };
        match rooms {
            NewRooms::All => inner.heads.values_mut().for_each(&mut add),
            NewRooms::Rooms(keys) => {
                keys.iter().for_each(|key| _ = inner.heads.get_mut(key).map(&mut add));
            }
        }
        (inner.lacking == 0).then(|| by_partition.into_iter().collect())
    }
}

impl CommittedHead {
    fn refresh(&mut self) {
        (self.announcements_left, self.beats_left) = (ANNOUNCEMENTS, KEPT_BEATS);
    }

    /// Counts a beat. Returns whether the head must be remembered for longer.
    fn pass_beat(&mut self, is_heard: bool, is_certain: bool) -> bool {
        if is_heard {
            self.announcements_left = self.announcements_left.saturating_sub(1);
        }
        if is_heard && is_certain {
            self.beats_left = self.beats_left.saturating_sub(1);
        }
        self.announcements_left > 0 || self.beats_left > 0
    }
}

#[cfg(test)]
mod tests {
    use starling_conversation_store::{Conversation, ConversationId};

    use super::*;
    use crate::room::RoomKey;
    use crate::shards::ChannelId;

    const SEVEN: Seq = Seq::new(7);

    fn room(id: u64) -> Arc<Room> {
        let conversation = Conversation {
            id: ConversationId::new(id.cast_signed()),
            conversation: "c".into(),
            owner: "ann".into(),
            title: None,
            metadata: None,
            created_at_ms: 0,
            head: Seq::ZERO,
            members: Vec::new(),
            members_version: 0,
            details_version: 0,
            log: "1-a".into(),
        };
        let key = RoomKey { tenant: "t".into(), name: format!("c{id}").into() };
        Arc::new(Room::new(key, ChannelId(id), 1, &conversation))
    }

    #[test]
    fn what_does_not_fit_while_nobody_can_be_told_shows() {
        let (heads, max) = (CommittedHeads::default(), HEADS_MAX as u64);
        let count = |announced: Vec<(u16, Vec<(InterestKey, Head)>)>| {
            announced.iter().map(|(_, heads)| heads.len()).sum::<usize>()
        };
        (1..max).for_each(|id| heads.note(&room(id), SEVEN));
        assert!(heads.has_room());
        heads.note(&room(max), SEVEN);
        assert!(heads.about(&NewRooms::default()).is_some());
        heads.note(&room(max + 1), SEVEN);
        assert!(!heads.has_room());
        assert!(heads.about(&NewRooms::default()).is_none(), "some are not remembered");
        for is_heard in [false, false, true, true, true] {
            assert_eq!(count(heads.to_announce(is_heard, true)), HEADS_MAX);
        }
        for _ in ANNOUNCEMENTS..KEPT_BEATS {
            assert!(!heads.has_room());
            assert_eq!(count(heads.to_announce(true, true)), 0, "they are only remembered");
        }
        assert!(heads.has_room() && heads.about(&NewRooms::All).is_some_and(|heads| heads.is_empty()));
    }

    #[test]
    fn a_node_that_becomes_interested_is_told_the_head_for_a_while_and_it_is_announced_again() {
        let heads = CommittedHeads::default();
        let (one, other) = (room(1), room(2));
        heads.note(&one, SEVEN);
        let about = |key| heads.about(&NewRooms::Rooms(vec![key])).expect("all are remembered");
        (0..ANNOUNCEMENTS).for_each(|_| assert_eq!(heads.to_announce(true, true).len(), 1));
        assert!(heads.to_announce(true, true).is_empty());
        assert_eq!(about(one.interest), [(one.partition, vec![one.head_at(SEVEN)])]);
        assert!(about(other.interest).is_empty());
        assert_eq!(heads.to_announce(true, true).len(), 1, "again");
        for _ in 0..100 {
            heads.to_announce(true, false);
        }
        assert_eq!(about(one.interest).len(), 1, "it is not known who wants it");
        (0..KEPT_BEATS).for_each(|_| _ = heads.to_announce(true, true));
        assert!(about(one.interest).is_empty());
    }
}
