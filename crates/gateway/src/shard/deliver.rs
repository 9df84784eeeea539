//! From the inbox to the outboxes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use starling_hub::{ChannelId, CommandError, Encoded, Reply, ShardItem, SocketId, clock};
use starling_wire::protocol::CloseReason;

use super::channel::Pending;
use super::chunks::Kind;
use super::close_text::close_text;
use super::settings::Env;
use super::subscriptions::Share;
use super::table::Table;
use crate::metrics::METRICS;

impl Table {
    /// Handles one item of the inbox.
    pub(super) fn take(&mut self, item: ShardItem, env: &Env) {
        match item {
            ShardItem::Message { channel, seq, event } => self.message(channel, seq.get(), event, env),
            ShardItem::Head { channel, seq } => self.head(channel, seq.get(), env),
            ShardItem::Publication { channel, epoch, offset, event } => {
                self.publication(channel, Pending { seq: offset, event, durable: false, epoch }, env);
            }
            ShardItem::Ephemeral { channel, event, except } => {
                self.ephemeral(channel, &event, except.as_deref(), env);
            }
            ShardItem::Reply { socket, id, reply } => self.reply(socket, id, &reply),
            ShardItem::Event { socket, event } => self.event(socket, &event, env),
            ShardItem::Evict { socket, channel } => {
                self.flush_channel(channel, env);
                if self.conn(socket).is_some() {
                    self.unsubscribe(socket.key, channel);
                }
            }
            ShardItem::Close { socket, reason } => {
                if self.conn(socket).is_some() {
                    self.close(socket.key, reason, close_text(reason));
                }
            }
        }
    }

    /// Delivers what came in this turn.
    pub(super) fn flush_channels(&mut self, env: &Env) {
        let mut touched = std::mem::take(&mut self.touched);
        for channel in touched.drain(..) {
            self.flush_channel(channel, env);
        }
        self.touched = touched;
    }

    fn reply(&mut self, socket: SocketId, id: u64, reply: &Result<Reply, CommandError>) {
        let Some(conn) = self.conn(socket) else { return };
        conn.reply(id, reply);
        if conn.queue.answer_came() {
            conn.wake();
        }
        self.mark(socket.key);
    }

    fn event(&mut self, socket: SocketId, event: &Arc<Encoded>, env: &Env) {
        let tick = self.tick;
        let Some(conn) = self.conn(socket) else { return };
        if conn.early.is_full() {
            self.close(socket.key, CloseReason::Overloaded, "too far behind to be served");
            return;
        }
        // It may say that the client is no longer in a conversation. A client that misses that waits for ever.
        conn.tell(event, Kind::Reply);
        conn.bound(&env.settings, tick);
        self.mark(socket.key);
    }

    fn message(&mut self, id: ChannelId, seq: u64, event: Arc<Encoded>, env: &Env) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if seq <= channel.delivered {
            return;
        }
        if seq > channel.delivered + 1 {
            self.skip_to(id, seq, env);
            return;
        }
        channel.delivered = seq;
        self.pend(id, Pending { seq, event, durable: true, epoch: None });
    }

    fn head(&mut self, id: ChannelId, seq: u64, env: &Env) {
        if self.channels.get(&id).is_some_and(|channel| seq > channel.delivered) {
            self.skip_to(id, seq, env);
        }
    }

    fn publication(&mut self, id: ChannelId, publication: Pending, env: &Env) {
        let last = self.channels.get(&id).and_then(|channel| channel.pending.last());
        // What is delivered in one piece is of one numbering.
        if last.is_some_and(|last| last.epoch != publication.epoch) {
            self.flush_channel(id, env);
        }
        self.pend(id, publication);
    }

    /// Serves everybody in a channel from the log up to a number: some messages did not fit the inbox.
    fn skip_to(&mut self, id: ChannelId, seq: u64, env: &Env) {
        self.flush_channel(id, env);
        let Some(channel) = self.channels.get_mut(&id) else { return };
        channel.delivered = seq;
        for sub in &channel.subs {
            if let Some(conn) = self.conns.get_mut(sub.conn as usize)
                && conn.subs.fall_behind(sub.sub as usize, seq)
            {
                conn.wake();
            }
        }
    }

    fn pend(&mut self, id: ChannelId, pending: Pending) {
        if let Some(channel) = self.channels.get_mut(&id) {
            if channel.pending.is_empty() {
                self.touched.push(id);
            }
            channel.pending.push(pending);
        }
    }

    fn ephemeral(&mut self, id: ChannelId, event: &Arc<Encoded>, except: Option<&str>, env: &Env) {
        self.flush_channel(id, env);
        let Table { channels, conns, dirty, tick, .. } = self;
        let Some(channel) = channels.get(&id) else { return };
        for sub in &channel.subs {
            let Some(conn) = conns.get_mut(sub.conn as usize) else { continue };
            if !except.is_some_and(|user| conn.client.is_user(user)) {
                conn.tell(event, Kind::Ephemeral);
                conn.bound(&env.settings, *tick);
                conn.mark(sub.conn, dirty);
            }
        }
    }

    /// Delivers the events of a channel that came in this turn.
    fn flush_channel(&mut self, id: ChannelId, env: &Env) {
        let Table { channels, conns, dirty, tick, .. } = self;
        let Some(channel) = channels.get_mut(&id) else { return };
        let Some(mut turn) = channel.take_turn() else { return };
        if !turn.durable {
            channel.delivered = turn.last;
        }
        let mut delivered = 0;
        for sub in &channel.subs {
            let Some(conn) = conns.get_mut(sub.conn as usize).filter(|conn| conn.is_open()) else { continue };
            let Some(subscription) = conn.subs.get_mut(sub.sub as usize) else { continue };
            let after = match subscription.take_turn(&turn, *tick) {
                Share::None => continue,
                Share::All => None,
                Share::After(cursor) => Some(cursor),
            };
            let kind = |first| match turn.durable {
                true => Kind::Durable { sub: sub.sub as usize, first },
                false => Kind::Ephemeral,
            };
            if after.is_none() && conn.framing.is_shared() {
                let kind = kind(turn.first);
                conn.push(turn.joined(conn.framing.encoding()), kind);
            } else {
                for event in turn.events.iter().filter(|event| after.is_none_or(|cursor| event.seq > cursor))
                {
                    conn.push(conn.framing.event(&event.event), kind(event.seq));
                }
            }
            delivered += turn.events.len() as u64;
            conn.bound(&env.settings, *tick);
            conn.mark(sub.conn, dirty);
        }
        measure(&turn.events, delivered, env);
    }
}

fn measure(events: &[Pending], delivered: u64, env: &Env) {
    if delivered == 0 {
        return;
    }
    METRICS.deliveries.increment(delivered);
    if let Some(gauges) = env.gauges() {
        gauges.deliveries.fetch_add(delivered, Ordering::Relaxed);
    }
    let now = clock::now_us();
    for event in events.iter().filter(|event| event.event.happened_at_us > 0) {
        let us = now.saturating_sub(event.event.happened_at_us);
        METRICS.delivery_seconds.record(us as f64 / 1e6);
        if let Some(gauges) = env.gauges() {
            gauges.delivery.record(us);
        }
    }
}

#[cfg(test)]
#[path = "deliver_tests.rs"]
mod tests;
