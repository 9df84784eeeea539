//! Shards that mistreat what the hub gives them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use starling_hub::{ChannelId, Encoded, ShardItem, Shards};
use starling_model::Seq;
use starling_wire::protocol::{self, CloseReason};

use crate::sabotage::Sabotage;

/// One message in this many is mistreated.
const EVERY: u64 = 20;

/// A layer before the shards of the node.
pub struct FaultyShards {
    inner: Arc<dyn Shards>,
    sabotage: Sabotage,
    count: AtomicU64,
    /// By shard and channel: the event that is held back until the next one has been shown.
    held: Mutex<HashMap<(u16, ChannelId), (Seq, Arc<Encoded>)>>,
    /// The channel of the last message.
    last_channel: Mutex<Option<ChannelId>>,
}

impl FaultyShards {
    /// Stands before the real shards.
    pub fn new(inner: Arc<dyn Shards>, sabotage: Sabotage) -> Self {
        let (count, held, last_channel) = (AtomicU64::new(1), Mutex::default(), Mutex::default());
        Self { inner, sabotage, count, held, last_channel }
    }

    fn is_chosen(&self) -> bool {
        self.count.fetch_add(1, Ordering::Relaxed).is_multiple_of(EVERY)
    }

    fn message(&self, shard: u16, channel: ChannelId, seq: Seq, event: Arc<Encoded>) -> bool {
        let post = |seq, event| self.inner.post(shard, ShardItem::Message { channel, seq, event });
        match self.sabotage {
            Sabotage::Lose if self.is_chosen() => {
                let user = "nobody".into();
                let nothing = protocol::Typing { conversation: "nowhere".into(), user, typing: false };
                post(seq, Arc::new(Encoded::new(nothing)))
            }
            Sabotage::Duplicate if self.is_chosen() => {
                let again = ShardItem::Ephemeral { channel, event: event.clone(), except: None };
                post(seq, event) && self.inner.post(shard, again)
            }
            Sabotage::Swap => {
                let mut held = self.held.lock();
                match held.remove(&(shard, channel)) {
                    // The numbers stay in order; the events under them are exchanged.
                    Some((before, earlier)) => post(before, event) && post(seq, earlier),
                    None if self.is_chosen() => held.insert((shard, channel), (seq, event)).is_none(),
                    None => post(seq, event),
                }
            }
            Sabotage::Leak => {
                let other = self.last_channel.lock().replace(channel).filter(|other| *other != channel);
                if let Some(other) = other.filter(|_| self.is_chosen()) {
                    let leak = ShardItem::Ephemeral { channel: other, event: event.clone(), except: None };
                    self.inner.post(shard, leak);
                }
                post(seq, event)
            }
            _ => post(seq, event),
        }
    }
}

impl Shards for FaultyShards {
    fn post(&self, shard: u16, item: ShardItem) -> bool {
        match item {
            ShardItem::Message { channel, seq, event } => self.message(shard, channel, seq, event),
            ShardItem::Close { reason: CloseReason::Superseded, .. }
                if self.sabotage == Sabotage::KeepOlder =>
            {
                true
            }
            item => self.inner.post(shard, item),
        }
    }
}
