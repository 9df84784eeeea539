//! The heads that this node committed lately. They are announced with a few beats, in case the last publication of a conversation is the
//! one that was lost.

use std::sync::Arc;

use parking_lot::Mutex;
use starling_model::Seq;

use crate::Map;
use crate::node_message::Head;
use crate::room::Room;
use crate::shards::ChannelId;

/// Most conversations that are remembered. While there are more, the partitions of lost publications are remembered instead.
const HEADS_MAX: usize = 20_000;
/// Number of beats with which a head is announced, since one beat may be lost.
const ANNOUNCEMENTS: u8 = 3;

/// The heads that this node committed lately.
#[derive(Default)]
pub(super) struct CommittedHeads {
    heads: Mutex<Map<ChannelId, CommittedHead>>,
}

/// The head that this node committed last in one conversation.
struct CommittedHead {
    room: Arc<Room>,
    seq: Seq,
    announcements_left: u8,
}

impl CommittedHeads {
    /// Notes a commit.
    pub fn note(&self, room: &Arc<Room>, seq: Seq) {
        let mut heads = self.heads.lock();
        if let Some(head) = heads.get_mut(&room.channel) {
            head.seq = head.seq.max(seq);
            head.announcements_left = ANNOUNCEMENTS;
        } else if heads.len() < HEADS_MAX {
            let room = room.clone();
            heads.insert(room.channel, CommittedHead { room, seq, announcements_left: ANNOUNCEMENTS });
        }
    }

    /// Whether every conversation with a recent commit is remembered.
    pub fn has_room(&self) -> bool {
        self.heads.lock().len() < HEADS_MAX
    }

    /// Returns the heads to announce now, by partition. Each head is announced in a few beats and then forgotten. `keep`: no head is
    /// forgotten, because the other nodes can't hear it now.
    pub fn to_announce(&self, keep: bool) -> Vec<(u16, Vec<Head>)> {
        let mut by_partition: Map<u16, Vec<Head>> = Map::default();
        self.heads.lock().retain(|_, head| {
            by_partition.entry(head.room.partition).or_default().push(head.room.head_at(head.seq));
            if !keep {
                head.announcements_left -= 1;
            }
            head.announcements_left > 0
        });
        by_partition.into_iter().collect()
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
        Arc::new(Room::new(RoomKey { tenant: "t".into(), name: "c".into() }, ChannelId(id), 1, &conversation))
    }

    #[test]
    fn what_does_not_fit_while_nobody_can_be_told_shows() {
        let (heads, max) = (CommittedHeads::default(), HEADS_MAX as u64);
        (1..max).for_each(|id| heads.note(&room(id), SEVEN));
        assert!(heads.has_room());
        heads.note(&room(max), SEVEN);
        heads.note(&room(max + 1), SEVEN);
        assert!(!heads.has_room());
        for keep in [true, true, false, false, false] {
            assert!(!heads.has_room());
            assert_eq!(
                heads.to_announce(keep).iter().map(|(_, heads)| heads.len()).sum::<usize>(),
                HEADS_MAX
            );
        }
        assert!(heads.has_room() && heads.to_announce(false).is_empty());
    }
}
