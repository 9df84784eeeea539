//! Taking connections into channels and out of them.

use starling_hub::{Attachment, ChannelId};

use super::channel::{Channel, SubRef};
use super::chunks::Kind;
use super::table::Table;

impl Table {
    /// Subscribes a connection to a conversation, which is served from its log until it has caught up; or to a topic, of which
    /// everything is held back until [`Table::release`].
    pub(super) fn subscribe(&mut self, key: u32, channel: ChannelId, attachment: Option<Attachment>) {
        let tick = self.tick;
        let Some(conn) = self.conns.get_mut(key as usize) else { return };
        let delivered = attachment.as_ref().map_or(0, |attachment| attachment.head.get());
        let (slot, is_new) = conn.subs.begin(channel, attachment, tick);
        if is_new {
            let sub = SubRef { conn: key, sub: u32::try_from(slot).unwrap_or(u32::MAX) };
            let new = || Channel { delivered, ..Channel::default() };
            self.channels.entry(channel).or_insert_with(new).subs.push(sub);
        } else {
            // What waits belongs to the earlier subscription.
            conn.outbox.disown(slot);
        }
    }

    /// Ends a subscription.
    pub(super) fn unsubscribe(&mut self, key: u32, channel: ChannelId) {
        let Some(conn) = self.conns.get_mut(key as usize) else { return };
        if let Some(slot) = conn.subs.end(channel) {
            conn.outbox.disown(slot);
            self.leave(channel, key);
        }
    }

    /// Makes a topic's subscription live after a position, and sends what was held back meanwhile.
    pub(super) fn release(&mut self, key: u32, channel: ChannelId, epoch: &str, offset: u64) {
        let tick = self.tick;
        let Some(conn) = self.conns.get_mut(key as usize) else { return };
        for event in conn.subs.release(channel, epoch, offset, tick) {
            conn.push(conn.framing.event(&event), Kind::Ephemeral);
        }
    }
}
