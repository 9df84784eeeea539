//! Nodes that have left. Publications that they sent on other partitions may arrive after they have left, and the session store may list
//! their users until their leases have ended.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::Map;

/// How long a node that left is remembered. No publication is under way for longer. A node that starts again has another lease.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// Most nodes that are remembered.
const REMEMBERED_MAX: usize = 4_096;

/// The nodes that have left lately, and when.
#[derive(Default)]
pub(super) struct LeftNodes {
    nodes: Mutex<Map<Arc<str>, Instant>>,
}

impl LeftNodes {
    /// Notes that a node leaves.
    pub fn enter(&self, node: &Arc<str>, now: Instant) {
        let mut nodes = self.nodes.lock();
        nodes.retain(|_, at| now.duration_since(*at) < REMEMBERED_FOR);
        if nodes.len() < REMEMBERED_MAX {
            nodes.insert(node.clone(), now);
        }
    }

    /// Whether a node has left.
    pub fn contains(&self, node: &str) -> bool {
        self.nodes.lock().contains_key(node)
    }
}

#[cfg(test)]
mod tests {
    use starling_conversation_store::NewConversation;
    use starling_fanout::TopicSettings;
    use starling_fanout::memory::MemoryFanout;
    use starling_model::UserName;
    use starling_session_store::memory::MemoryStore;
    use starling_session_store::{NodeRecord, PresenceChange, SessionStore};
    use tokio::runtime::Handle;

    use super::super::{LastSeenTimes, Presence, PresenceParts};
    use super::*;
    use crate::publisher::Publisher;
    use crate::room::Rooms;
    use crate::shards::{ShardItem, Shards};
    use crate::store_writer::StoreWriter;
    use crate::testing;

    struct Deaf;

    impl Shards for Deaf {
        fn post(&self, _: u16, _: ShardItem) -> bool {
            true
        }
    }

    /// What a node published before it left may arrive afterwards, and its lease may end later.
    #[tokio::test]
    async fn nobody_is_online_on_a_node_that_has_left() {
        let (store, log) = (Arc::new(MemoryStore::new()), testing::log().await);
        let fanout = MemoryFanout::alone("a", TopicSettings { history: 1, history_seconds: 1 });
        let publisher = Publisher::new("a".into(), fanout, &Handle::current());
        let rooms = Arc::new(Rooms::new(1, Arc::default(), publisher.interest().clone()));
        let writer =
            StoreWriter::new("a".into(), store.clone(), publisher, rooms.clone(), &Handle::current());
        let parts = PresenceParts {
            node: "a".into(),
            shards: Arc::new(Deaf),
            store: store.clone(),
            writer,
            rooms: rooms.clone(),
            last_seen: LastSeenTimes::new(log.clone()),
        };
        let presence = Presence::new(parts, true);
        let new = NewConversation {
            tenant: "acme".into(),
            conversation: "c".into(),
            owner: "ann".into(),
            title: None,
            metadata: None,
            members: Vec::new(),
        };
        log.create(&new).await.expect("a conversation");
        let room = rooms.get(&*log, &Deaf, &new.tenant, &new.conversation).await;
        let room = room.ok().flatten().expect("the conversation");
        let bob: UserName = "bob".into();
        let devices = || room.state().presence.online().devices(&bob);
        // Control: a node that stays.
        for (node, leaves) in [("b", true), ("c", false)] {
            let node: Arc<str> = node.into();
            let record = NodeRecord { node: node.to_string(), ..NodeRecord::default() };
            store.beat(&record).await.expect("a lease");
            let change = PresenceChange { conversation: room.presence_key(), user: bob.clone(), devices: 1 };
            store.set_presence(&node, &[change]).await.expect("an entry");
            room.state().presence.set_known();
            presence.hear(&room, &bob, &node, 1, None);
            assert_eq!(devices(), 1);
            if leaves {
                presence.hear_leaving(&node);
                assert_eq!(devices(), 0);
                presence.hear(&room, &bob, &node, 1, None);
            }
            assert_eq!(devices(), u32::from(!leaves), "heard late");
            room.state().presence.set_unknown();
            let elsewhere = presence.elsewhere(&room).await.expect("an answer").expect("it is not known");
            assert_eq!(elsewhere.contains_key(&bob), !leaves, "asked");
            presence.know(&room).await;
            assert_eq!(devices(), u32::from(!leaves), "read from the store");
        }
    }

    #[test]
    fn nodes_that_left_are_forgotten_after_a_while() {
        let (left, began) = (LeftNodes::default(), Instant::now());
        left.enter(&"a".into(), began);
        left.enter(&"b".into(), began + Duration::from_secs(59));
        assert!(left.contains("a") && left.contains("b") && !left.contains("c"));
        left.enter(&"c".into(), began + Duration::from_secs(60));
        assert!(!left.contains("a") && left.contains("b") && left.contains("c"));
    }
}
