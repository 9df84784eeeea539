//! The newest numbers that this node committed lately: told to the others with each beat, for the case that the last publication of a
//! conversation is the one that got lost.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::Map;
use crate::node_message::Head;
use crate::room::Room;
use crate::shards::RoomId;

/// How many conversations are remembered. While there are more, of those that could not be published the others are told to look
/// into the log.
const HEADS_MAX: usize = 20_000;
/// In how many beats a head is told: one may be lost.
const TELLINGS: u8 = 3;

/// The newest numbers that this node committed lately.
#[derive(Default)]
pub struct CommittedHeads {
    heads: Mutex<Map<RoomId, (Arc<Room>, u64, u8)>>,
}

impl CommittedHeads {
    /// Notes a commit.
    pub fn note(&self, room: &Arc<Room>, seq: u64) {
        let mut heads = self.heads.lock();
        if let Some(entry) = heads.get_mut(&room.id) {
            entry.1 = entry.1.max(seq);
            entry.2 = TELLINGS;
        } else if heads.len() < HEADS_MAX {
            heads.insert(room.id, (room.clone(), seq, TELLINGS));
        }
    }

    /// Whether every conversation with a commit lately is remembered.
    pub fn has_room(&self) -> bool {
        self.heads.lock().len() < HEADS_MAX
    }

    /// What is to be told now, by lane. Each head is told in a few beats and then forgotten; with `keep` (nobody can be
    /// told now) none is forgotten.
    pub fn to_tell(&self, keep: bool) -> Vec<(u16, Vec<Head>)> {
        let mut by_lane: Map<u16, Vec<Head>> = Map::default();
        self.heads.lock().retain(|_, (room, seq, tellings)| {
            by_lane.entry(room.lane).or_default().push(room.head_at(*seq));
            if !keep {
                *tellings -= 1;
            }
            *tellings > 0
        });
        by_lane.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use starling_conversation_store::Conversation;

    use super::*;
    use crate::room::RoomKey;

    fn room(id: u64) -> Arc<Room> {
        let conversation = Conversation {
            id: id.cast_signed(),
            conversation: "c".into(),
            owner: "ann".into(),
            title: None,
            metadata: None,
            created_at_ms: 0,
            head: 0,
            members: Vec::new(),
            members_version: 0,
            details_version: 0,
            log: "1-a".into(),
        };
        Arc::new(Room::new(RoomKey { tenant: "t".into(), name: "c".into() }, id, 1, conversation))
    }

    #[test]
    fn what_does_not_fit_while_nobody_can_be_told_shows() {
        let (heads, max) = (CommittedHeads::default(), HEADS_MAX as u64);
        (1..max).for_each(|id| heads.note(&room(id), 7));
        assert!(heads.has_room());
        heads.note(&room(max), 7);
        heads.note(&room(max + 1), 7);
        assert!(!heads.has_room());
        for keep in [true, true, false, false, false] {
            assert!(!heads.has_room());
            assert_eq!(heads.to_tell(keep).iter().map(|(_, heads)| heads.len()).sum::<usize>(), HEADS_MAX);
        }
        assert!(heads.has_room() && heads.to_tell(false).is_empty());
    }
}
