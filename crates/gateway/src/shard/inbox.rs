//! The only way into a shard.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use starling_hub::{ShardItem, Shards};
use tokio::sync::mpsc;

use super::leaving::DrainPlan;
use crate::listener::Accepted;

/// How many items a shard's inbox holds. What does not fit of a conversation is served from the log.
const INBOX_MAX: usize = 65_536;
/// How many items that must not be lost (replies, closes) wait beside a full inbox.
const URGENT_MAX: usize = 262_144;

/// Something for a shard.
pub(crate) enum Item {
    /// From the hub.
    Hub(ShardItem),
    /// A new socket.
    Accepted(Box<Accepted>),
    /// The node drains: every socket is told, and closed before the end.
    Drain(DrainPlan),
    /// So many sockets are asked to go to other nodes.
    Shed(usize),
}

/// The inboxes of all shards.
pub struct Inboxes {
    shards: Vec<Entry>,
}

struct Entry {
    sender: mpsc::Sender<Item>,
    urgent: Arc<Mutex<VecDeque<Item>>>,
}

/// The end of an inbox that its shard holds.
pub struct Inbox {
    pub(crate) receiver: mpsc::Receiver<Item>,
    pub(crate) urgent: Arc<Mutex<VecDeque<Item>>>,
}

impl Inboxes {
    /// Makes the inboxes of `count` shards, and their ends.
    pub fn new(count: usize) -> (Arc<Inboxes>, Vec<Inbox>) {
        Inboxes::holding(INBOX_MAX, count)
    }

    /// The same, each inbox holding so many items.
    pub(crate) fn holding(items_max: usize, count: usize) -> (Arc<Inboxes>, Vec<Inbox>) {
        let (shards, ends) = (0..count)
            .map(|_| {
                let (sender, receiver) = mpsc::channel(items_max);
                let urgent = Arc::new(Mutex::new(VecDeque::new()));
                (Entry { sender, urgent: urgent.clone() }, Inbox { receiver, urgent })
            })
            .unzip();
        (Arc::new(Inboxes { shards }), ends)
    }

    /// How many shards there are.
    pub fn count(&self) -> usize {
        self.shards.len()
    }

    /// Puts an item in, waiting for a place.
    pub(crate) async fn send(&self, shard: usize, item: Item) {
        if let Some(entry) = self.shards.get(shard) {
            // A closed inbox is a shard that has stopped; its sockets are gone with it.
            let _ = entry.sender.send(item).await;
        }
    }
}

impl Shards for Inboxes {
    fn post(&self, shard: u16, item: ShardItem) -> bool {
        let Some(entry) = self.shards.get(usize::from(shard)) else { return false };
        let Err(mpsc::error::TrySendError::Full(item)) = entry.sender.try_send(Item::Hub(item)) else {
            return true;
        };
        let needed = matches!(
            item,
            Item::Hub(
                ShardItem::Reply { .. }
                    | ShardItem::Close { .. }
                    | ShardItem::Evict { .. }
                    | ShardItem::Event { .. }
            )
        );
        let mut urgent = entry.urgent.lock();
        if needed && urgent.len() < URGENT_MAX {
            // The full inbox wakes the shard anyway, which looks here after it.
            urgent.push_back(item);
            return true;
        }
        false
    }
}
