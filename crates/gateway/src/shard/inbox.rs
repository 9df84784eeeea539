//! The inboxes of the shards: the only way into a shard.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use starling_hub::{Map, ShardItem, Shards, SocketId};
use starling_wire::protocol::CloseReason;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::drain_plan::DrainPlan;
use crate::accepted::Accepted;

/// Limit on the items that one turn takes before it writes.
pub(super) const TURN_MAX: usize = 512;
/// Limit on the items in a shard's inbox. Messages that do not fit are served from the log.
const INBOX_MAX: usize = 65_536;
/// Limit on the items that wait beside a full inbox because they must not be lost: replies and closes.
const OVERFLOW_MAX: usize = 262_144;

/// An item for a shard.
pub(crate) enum Item {
    /// From the hub.
    Hub(ShardItem),
    /// A new connection.
    Accepted(Box<Accepted>),
    /// The node drains: every client is told, and every connection is closed before the end.
    Drain(DrainPlan),
    /// The number of clients to ask to move to other nodes.
    Shed(usize),
}

/// The inboxes of all shards.
pub struct Inboxes {
    shards: Vec<Entry>,
}

struct Entry {
    sender: mpsc::Sender<Item>,
    overflow: Arc<Overflow>,
}

/// The receiving end of an inbox, which its shard holds.
pub struct Inbox {
    receiver: mpsc::Receiver<Item>,
    overflow: Arc<Overflow>,
}

/// The items beside a full inbox, shared by both ends.
#[derive(Default)]
struct Overflow {
    /// Whether any ordered item waits, so that later ones must wait behind it. Read without the lock.
    keeps_order: AtomicBool,
    items: Mutex<OverflowItems>,
}

#[derive(Default)]
struct OverflowItems {
    /// Number of items that the shard has taken out of the inbox.
    taken: u64,
    /// Items that overtake those in the inbox: a removed member must not be shown what is said later.
    urgent: VecDeque<Item>,
    /// Replies and events, each with the number of items that must be taken before it: items in the inbox may be for the same
    /// socket.
    ordered: VecDeque<(u64, Item)>,
    /// Sockets to close, because an item that they can't go on without did not fit even here.
    doomed: Map<SocketId, CloseReason>,
}

impl Inboxes {
    /// Creates the inboxes of `count` shards, and their receiving ends.
    pub fn new(count: usize) -> (Arc<Inboxes>, Vec<Inbox>) {
        Inboxes::holding(INBOX_MAX, count)
    }

    /// Creates inboxes that hold at most `items_max` items each.
    pub(crate) fn holding(items_max: usize, count: usize) -> (Arc<Inboxes>, Vec<Inbox>) {
        let (shards, ends) = (0..count)
            .map(|_| {
                let (sender, receiver) = mpsc::channel(items_max);
                let overflow = Arc::new(Overflow::default());
                (Entry { sender, overflow: overflow.clone() }, Inbox { receiver, overflow })
            })
            .unzip();
        (Arc::new(Inboxes { shards }), ends)
    }

    /// Number of shards.
    pub fn count(&self) -> usize {
        self.shards.len()
    }

    /// Sends an item to a shard, and waits while its inbox is full.
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
        match item {
            ShardItem::Message { .. }
            | ShardItem::Head { .. }
            | ShardItem::Publication { .. }
            | ShardItem::Ephemeral { .. } => {
                !matches!(entry.sender.try_send(Item::Hub(item)), Err(TrySendError::Full(_)))
            }
            ShardItem::Reply { .. } | ShardItem::Event { .. } => entry.post_in_order(Item::Hub(item)),
            ShardItem::Evict { .. } | ShardItem::Close { .. } => entry.post_urgent(Item::Hub(item)),
        }
    }
}

impl Entry {
    fn post_in_order(&self, item: Item) -> bool {
        let item = if self.overflow.keeps_order.load(Ordering::Acquire) {
            item
        } else {
            match self.sender.try_send(item) {
                Err(TrySendError::Full(item)) => item,
                // A closed inbox is a shard that has stopped; its sockets are gone with it.
                _ => return true,
            }
        };
        let mut overflow = self.overflow.items.lock();
        let item = if overflow.ordered.is_empty() {
            // The shard may have made room meanwhile, and would not look here before another item comes.
            let Err(TrySendError::Full(item)) = self.sender.try_send(item) else { return true };
            item
        } else {
            item
        };
        if overflow.ordered.len() >= OVERFLOW_MAX {
            // All that follows on the connection would wait for this reply, or the client would not know what it is in.
            if let Item::Hub(ShardItem::Reply { socket, .. } | ShardItem::Event { socket, .. }) = item {
                overflow.doomed.entry(socket).or_insert(CloseReason::Restart);
            }
            return false;
        }
        // The inbox holds no more than its capacity, and the shard may have taken a turn's items that it has not counted yet.
        let before = self.sender.max_capacity() + TURN_MAX;
        let due = overflow.taken + before as u64;
        overflow.ordered.push_back((due, item));
        self.overflow.keeps_order.store(true, Ordering::Release);
        true
    }

    fn post_urgent(&self, item: Item) -> bool {
        let Err(TrySendError::Full(item)) = self.sender.try_send(item) else { return true };
        let mut overflow = self.overflow.items.lock();
        // As above: while the inbox is full, the shard will look here with its next turn.
        let Err(TrySendError::Full(item)) = self.sender.try_send(item) else { return true };
        if overflow.urgent.len() >= OVERFLOW_MAX {
            match item {
                Item::Hub(ShardItem::Close { socket, reason }) => _ = overflow.doomed.insert(socket, reason),
                // A removed member must not be shown what is said.
                Item::Hub(ShardItem::Evict { socket, .. }) => {
                    overflow.doomed.entry(socket).or_insert(CloseReason::Restart);
                }
                _ => return false,
            }
            return true;
        }
        overflow.urgent.push_back(item);
        true
    }
}

impl Inbox {
    /// Waits for items and takes up to `items_max` from the inbox, and those beside it that are due. Returns `false` if the inbox is
    /// closed.
    pub(crate) async fn take(&mut self, items: &mut Vec<Item>, items_max: usize) -> bool {
        let taken = self.receiver.recv_many(items, items_max).await;
        if taken == 0 {
            return false;
        }
        let mut overflow = self.overflow.items.lock();
        overflow.taken += taken as u64;
        items.extend(overflow.urgent.drain(..));
        let doomed = std::mem::take(&mut overflow.doomed).into_iter();
        items.extend(doomed.map(|(socket, reason)| Item::Hub(ShardItem::Close { socket, reason })));
        if overflow.ordered.is_empty() {
            return true;
        }
        let is_empty = self.receiver.is_empty();
        let now = overflow.taken;
        while let Some((_, item)) = overflow.ordered.pop_front_if(|(due, _)| is_empty || *due <= now) {
            items.push(item);
        }
        if overflow.ordered.is_empty() {
            // The overload is over, so its memory is freed.
            overflow.ordered = VecDeque::new();
            self.overflow.keeps_order.store(false, Ordering::Release);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use starling_hub::{ChannelId, Encoded, Reply};
    use starling_model::Seq;
    use starling_wire::protocol;

    use super::*;

    const SOCKET: SocketId = SocketId { shard: 0, key: 0, generation: 0 };

    fn reply(id: u64) -> ShardItem {
        ShardItem::Reply { socket: SOCKET, id, reply: Ok(Reply::Empty) }
    }

    async fn turn(inbox: &mut Inbox) -> Vec<Item> {
        let mut items = Vec::new();
        assert!(inbox.take(&mut items, TURN_MAX).await);
        items
    }

    fn ids(items: &[Item]) -> Vec<u64> {
        let id = |item: &Item| match item {
            Item::Hub(ShardItem::Reply { id, .. }) => Some(*id),
            _ => None,
        };
        items.iter().filter_map(id).collect()
    }

    #[tokio::test]
    async fn replies_keep_their_order_although_the_inbox_is_full() {
        let size = 4 * TURN_MAX as u64;
        let (inboxes, mut ends) = Inboxes::holding(4 * TURN_MAX, 1);
        let (mut next, mut seen) = (0, Vec::new());
        let mut post = |count: u64| {
            for _ in 0..count {
                assert!(inboxes.post(0, reply(next)));
                next += 1;
            }
        };
        post(size + 10);
        for _ in 0..20 {
            seen.extend(ids(&turn(&mut ends[0]).await));
            // Places have become free, but what waits beside the inbox was there first.
            post(5);
        }
        while !ends[0].receiver.is_empty() || !ends[0].overflow.items.lock().ordered.is_empty() {
            seen.extend(ids(&turn(&mut ends[0]).await));
        }
        assert_eq!(seen, (0..next).collect::<Vec<_>>());
        assert!(!ends[0].overflow.keeps_order.load(Ordering::Relaxed), "the inbox is used again");
    }

    #[tokio::test]
    async fn what_waits_beside_comes_although_the_inbox_never_empties() {
        let size = 2 * TURN_MAX;
        let (inboxes, mut ends) = Inboxes::holding(size, 1);
        let typing = || ShardItem::Head { channel: ChannelId(0), seq: Seq::ZERO };
        while inboxes.post(0, typing()) {}
        assert!(inboxes.post(0, reply(1)));
        let mut turns = 0;
        loop {
            turns += 1;
            let came = ids(&turn(&mut ends[0]).await);
            while inboxes.post(0, typing()) {}
            if came == [1] {
                break;
            }
            assert!(turns < 10, "it does not come");
        }
        assert!(turns >= size / TURN_MAX, "it came before what was there first");
    }

    #[tokio::test]
    async fn a_close_comes_with_the_next_turn() {
        let (inboxes, mut ends) = Inboxes::holding(2 * TURN_MAX, 1);
        while inboxes.post(0, ShardItem::Head { channel: ChannelId(0), seq: Seq::ZERO }) {}
        assert!(inboxes.post(0, ShardItem::Close { socket: SOCKET, reason: CloseReason::Ended }));
        let items = turn(&mut ends[0]).await;
        assert!(matches!(items.last(), Some(Item::Hub(ShardItem::Close { .. }))));
    }

    #[tokio::test]
    async fn a_socket_whose_reply_or_event_fits_nowhere_is_closed_with_the_next_turn() {
        let event = Arc::new(Encoded::new(protocol::Deleted { conversation: "c".into(), log: "1".into() }));
        for item in [reply(1), ShardItem::Event { socket: SOCKET, event }] {
            is_closed_where_it_fits_nowhere(item).await;
        }
    }

    async fn is_closed_where_it_fits_nowhere(item: ShardItem) {
        let (inboxes, mut ends) = Inboxes::holding(TURN_MAX, 1);
        let other =
            |id| ShardItem::Reply { socket: SocketId { key: 1, ..SOCKET }, id, reply: Ok(Reply::Empty) };
        while inboxes.post(0, other(0)) {}
        let closes = |items: &[Item]| {
            let close = |item: &&Item| matches!(item, Item::Hub(ShardItem::Close { socket, .. }) if *socket == SOCKET);
            items.iter().filter(close).count()
        };
        assert!(!inboxes.post(0, item));
        assert_eq!(closes(&turn(&mut ends[0]).await), 1);
        assert!(ends[0].overflow.items.lock().doomed.is_empty(), "it is closed once");
    }

    #[tokio::test]
    async fn a_close_that_fits_nowhere_comes_all_the_same() {
        let (inboxes, mut ends) = Inboxes::holding(TURN_MAX, 1);
        while inboxes.post(0, ShardItem::Head { channel: ChannelId(0), seq: Seq::ZERO }) {}
        let close = |key| ShardItem::Close { socket: SocketId { key, ..SOCKET }, reason: CloseReason::Ended };
        let last = OVERFLOW_MAX as u32;
        assert!((0..=last).all(|key| inboxes.post(0, close(key))));
        let items = turn(&mut ends[0]).await;
        let is_last =
            |item: &Item| matches!(item, Item::Hub(ShardItem::Close { socket, .. }) if socket.key == last);
        assert!(items.iter().any(is_last));
    }
}
