//! The order of a room's messages, and the shards that want its events.

use std::sync::Arc;

use starling_model::{Seq, UserName};
use starling_wire::protocol::Event;

use super::sequencer::{Fed, Sequencer};
use crate::encoded::Encoded;
use crate::shards::{ChannelId, ShardItem, Shards};

/// The order of a room's messages, and the shards that want its events.
pub(super) struct Delivery {
    channel: ChannelId,
    sequencer: Sequencer<Arc<Encoded>>,
    /// Number of joined sessions per shard.
    joined_per_shard: Vec<u32>,
    joined: u32,
}

impl Delivery {
    /// Begins after `head`, with no joined session.
    pub fn new(channel: ChannelId, head: Seq, shards: usize) -> Delivery {
        Delivery { channel, sequencer: Sequencer::new(head), joined_per_shard: vec![0; shards], joined: 0 }
    }

    /// Counts a session of a shard in. Returns the last seq that was delivered. Later messages go to the shard.
    pub fn attach(&mut self, shard: u16) -> Seq {
        if let Some(count) = self.joined_per_shard.get_mut(usize::from(shard)) {
            *count += 1;
            self.joined += 1;
        }
        self.sequencer.head()
    }

    /// Counts a session of a shard out.
    pub fn detach(&mut self, shard: u16) {
        if let Some(count) = self.joined_per_shard.get_mut(usize::from(shard)).filter(|count| **count > 0) {
            *count -= 1;
            self.joined -= 1;
        }
    }

    /// Returns the number of joined sessions on this node.
    pub fn joined(&self) -> u32 {
        self.joined
    }

    /// Returns the last seq that was delivered.
    pub fn head(&self) -> Seq {
        self.sequencer.head()
    }

    /// Returns the highest seq that is known to exist.
    pub fn known(&self) -> Seq {
        self.sequencer.known()
    }

    /// Passes a message to the sequencer, and delivers all messages that are in order now. `missed` is called for each one that did not
    /// fit into a shard's inbox.
    pub fn feed(&mut self, shards: &dyn Shards, seq: Seq, event: Arc<Encoded>, missed: impl Fn()) -> Fed {
        if self.joined == 0 {
            // Nobody has joined, so no order has to be kept. A later reader reads the log.
            self.sequencer.skip_to(seq);
            return Fed::Released;
        }
        let (joined_per_shard, channel) = (&self.joined_per_shard, self.channel);
        self.sequencer.feed(seq, event, |seq, event| {
            for shard in wanting(joined_per_shard) {
                if !shards.post(shard, ShardItem::Message { channel, seq, event: event.clone() }) {
                    missed();
                }
            }
        })
    }

    /// Learns that messages up to `head` exist. `true`: some of them are missing here and are wanted.
    pub fn learn_head(&mut self, head: Seq) -> bool {
        if self.joined == 0 {
            self.sequencer.skip_to(head);
            return false;
        }
        self.sequencer.learn(head);
        self.sequencer.has_hole()
    }

    /// Whether messages are missing for a joined session.
    pub fn has_hole(&self) -> bool {
        self.joined > 0 && self.sequencer.has_hole()
    }

    /// Assumes that the log ends with the last delivered message, unless messages above `known` were heard of meanwhile. Returns whether a
    /// hole was given up.
    pub fn give_up(&mut self, known: Seq) -> bool {
        let gives_up = self.sequencer.has_hole() && self.sequencer.known() == known;
        if gives_up {
            self.sequencer.give_up();
        }
        gives_up
    }

    /// Tells all shards the head. `true`: all of them got it.
    pub fn tell_head(&self, shards: &dyn Shards) -> bool {
        let (channel, seq) = (self.channel, self.sequencer.head());
        wanting(&self.joined_per_shard).all(|shard| shards.post(shard, ShardItem::Head { channel, seq }))
    }

    /// Delivers an event that may be lost.
    pub fn broadcast(&self, shards: &dyn Shards, event: impl Into<Event>, except: Option<&UserName>) {
        if self.joined == 0 {
            return;
        }
        let (channel, event) = (self.channel, Arc::new(Encoded::new(event)));
        for shard in wanting(&self.joined_per_shard) {
            let item = ShardItem::Ephemeral { channel, event: event.clone(), except: except.cloned() };
            shards.post(shard, item);
        }
    }
}

/// Returns the shards with a joined session.
fn wanting(joined_per_shard: &[u32]) -> impl Iterator<Item = u16> + '_ {
    let wanting = joined_per_shard.iter().enumerate().filter(|(_, count)| **count > 0);
    wanting.filter_map(|(shard, _)| u16::try_from(shard).ok())
}
