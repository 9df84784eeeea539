//! The topics that sessions on this node are subscribed to.

mod publishing;

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
pub(crate) use publishing::TopicPublisher;
use starling_fanout::{EpochTag, Position};
use starling_model::{TenantName, TopicName, UserName};
use starling_wire::protocol::{self, Json};

use crate::Map;
use crate::encoded::Encoded;
use crate::shards::{ChannelId, ChannelIds, ShardItem, Shards};

/// A topic's name and its tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicKey {
    /// The tenant that the topic belongs to.
    pub tenant: TenantName,
    /// The topic's name.
    pub name: TopicName,
}

/// A topic that a session on this node is subscribed to.
pub struct Topic {
    /// The topic's name and tenant.
    pub key: TopicKey,
    /// Its channel on this node.
    pub channel: ChannelId,
    state: Mutex<TopicState>,
}

struct TopicState {
    interest: Vec<u32>,
    subscribed: u32,
    /// The topic's position in Redis, if this node knows it without asking.
    position: Option<Position>,
    /// Number of publications received. A position that was asked for before the latest one may be outdated.
    heard: u64,
}

impl Topic {
    /// Counts a subscription of a shard.
    pub fn attach(&self, shard: u16) {
        let mut state = self.state.lock();
        if let Some(count) = state.interest.get_mut(usize::from(shard)) {
            *count += 1;
            state.subscribed += 1;
        }
    }

    /// Returns the topic's position, if this node has followed it without a gap.
    pub fn position(&self) -> Option<Position> {
        self.state.lock().position.clone()
    }

    /// Returns the number of publications received so far, to be passed to [`Topic::learn`].
    pub fn heard(&self) -> u64 {
        self.state.lock().heard
    }

    /// Stores a position that Redis returned. It is ignored if publications have come since Redis was asked, since it may then be outdated.
    pub fn learn(&self, position: &Position, heard: u64) {
        let mut state = self.state.lock();
        if state.heard == heard {
            state.position = Some(position.clone());
        }
    }

    /// Forgets the position, since publications may have been lost.
    pub fn forget_position(&self) {
        self.state.lock().position = None;
    }

    fn deliver(&self, shards: &dyn Shards, epoch: Option<EpochTag>, offset: u64, event: &Arc<Encoded>) {
        let mut state = self.state.lock();
        state.heard += 1;
        let same = |known: &Position| epoch.is_none_or(|epoch| epoch == EpochTag::of(&known.epoch));
        // An offset that does not follow the last one means that publications were lost or that a new epoch began.
        match &mut state.position {
            Some(known) if known.offset + 1 == offset && same(known) => known.offset = offset,
            position => *position = None,
        }
        for (shard, _) in state.interest.iter().enumerate().filter(|(_, count)| **count > 0) {
            if let Ok(shard) = u16::try_from(shard) {
                let event = event.clone();
                shards.post(shard, ShardItem::Publication { channel: self.channel, epoch, offset, event });
            }
        }
    }
}

/// The topics that sessions on this node are subscribed to.
pub struct Topics {
    /// Number of shards.
    shards: usize,
    ids: Arc<ChannelIds>,
    inner: Mutex<Map<TopicKey, Arc<Topic>>>,
}

impl Topics {
    /// Creates an empty map.
    pub(crate) fn new(shards: usize, ids: Arc<ChannelIds>) -> Topics {
        Topics { shards, ids, inner: Mutex::default() }
    }

    /// Returns the topic, and adds it if it is not there.
    pub fn enter(&self, key: &TopicKey) -> Arc<Topic> {
        let mut inner = self.inner.lock();
        if let Some(topic) = inner.get(key) {
            return topic.clone();
        }
        let state = TopicState { interest: vec![0; self.shards], subscribed: 0, position: None, heard: 0 };
        let topic = Arc::new(Topic { key: key.clone(), channel: self.ids.next(), state: Mutex::new(state) });
        inner.insert(key.clone(), topic.clone());
        topic
    }

    /// Removes one subscription of a shard, and forgets the topic after the last one.
    pub fn detach(&self, topic: &Arc<Topic>, shard: u16) {
        let mut inner = self.inner.lock();
        let mut state = topic.state.lock();
        if let Some(count) = state.interest.get_mut(usize::from(shard)).filter(|count| **count > 0) {
            *count -= 1;
            state.subscribed -= 1;
        }
        // A caller that is about to attach has a reference to the topic. If the topic were removed here, it would get no publications.
        let last = state.subscribed == 0 && Arc::strong_count(topic) <= 2;
        drop(state);
        if last && inner.get(&topic.key).is_some_and(|found| Arc::ptr_eq(found, topic)) {
            inner.remove(&topic.key);
        }
    }

    /// Forgets topics without a subscription: those that were entered and never attached.
    pub fn sweep(&self) {
        self.inner
            .lock()
            .retain(|_, topic| topic.state.lock().subscribed > 0 || Arc::strong_count(topic) > 1);
    }

    /// Delivers a publication to the shards that have subscriptions.
    pub fn deliver(
        &self,
        shards: &dyn Shards,
        key: &TopicKey,
        epoch: Option<EpochTag>,
        offset: u64,
        body: &Bytes,
    ) {
        let Some(topic) = self.inner.lock().get(key).cloned() else { return };
        let Some((happened_at_us, sender, data)) = decode_publication(body) else {
            tracing::warn!(topic = %key.name, "a publication can't be read");
            return;
        };
        let event = protocol::Publication { topic: key.name.clone(), offset, data, sender };
        topic.deliver(shards, epoch, offset, &Arc::new(Encoded::at(event, happened_at_us)));
    }

    /// Forgets all positions, since publications may have been lost.
    pub fn forget_positions(&self) {
        for topic in self.inner.lock().values() {
            topic.forget_position();
        }
    }

    /// Returns the number of topics.
    pub fn count(&self) -> usize {
        self.inner.lock().len()
    }
}

/// Encodes a publication for the history and for the other nodes: `u64 published_at_us | u8 len sender | sender | data`.
pub fn encode_publication(published_at_us: u64, sender: Option<&UserName>, data: &Json) -> Bytes {
    let sender = sender.map_or("", UserName::as_str);
    let mut out = BytesMut::with_capacity(9 + sender.len() + data.as_str().len());
    out.put_u64(published_at_us);
    out.put_u8(u8::try_from(sender.len()).unwrap_or(0));
    out.put_slice(sender.as_bytes());
    out.put_slice(data.as_str().as_bytes());
    out.freeze()
}

/// Reverses [`encode_publication`].
pub fn decode_publication(body: &[u8]) -> Option<(u64, Option<UserName>, Json)> {
    let published_at_us = u64::from_be_bytes(body.get(..8)?.try_into().ok()?);
    let length = usize::from(*body.get(8)?);
    let sender = std::str::from_utf8(body.get(9..9 + length)?).ok()?;
    let data = std::str::from_utf8(body.get(9 + length..)?).ok()?;
    Some((published_at_us, (!sender.is_empty()).then(|| sender.into()), Json::from_compact(data)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_survives_the_way() {
        let data = Json::from_compact(r#"{"a":[1,2]}"#);
        let body = encode_publication(7, Some(&"ann".into()), &data);
        assert_eq!(decode_publication(&body), Some((7, Some("ann".into()), data)));
        assert_eq!(decode_publication(&body[..5]), None);
    }
}
