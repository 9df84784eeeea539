//! The conversations and topics that a connection is in, and how each of them is served.

use std::sync::Arc;

use slab::Slab;
use starling_hub::{Attachment, ChannelId, Encoded, EpochTag, Room};

use super::channel::{Pending, Turn};
use crate::metrics::METRICS;

/// Limit on the publications that a subscription holds back while its topic's history is read.
const HELD_MAX: usize = 1_024;
/// How long after a topic's history was read its publications may still come through the inbox, too, seconds; for nodes of versions that
/// do not say which numbering a publication belongs to.
const SETTLE_SECONDS: u32 = 2;

/// The subscriptions of a connection. Each keeps its slot as long as it lasts.
#[derive(Default)]
pub(super) struct Subscriptions {
    all: Slab<Subscription>,
    /// Number of those that are served from the log.
    behind: u32,
    /// The slot of the one that was served from the log last: they take turns.
    served: u32,
}

/// A subscription of a connection.
pub(super) struct Subscription {
    channel: ChannelId,
    /// The last number that was put into the outbox, or that the client has.
    cursor: u64,
    /// For a topic: the numbering that `cursor` belongs to, where that is known.
    epoch: Option<EpochTag>,
    source: Source,
    /// For a topic: the shard's tick at which it went live.
    live_since: u32,
    /// The conversation's room; `None` for a topic.
    room: Option<Arc<Room>>,
}

/// Where a subscription's events come from.
enum Source {
    /// The inbox.
    Live,
    /// The log, until the subscription has caught up with its channel.
    Log {
        /// The number up to which the log is read at least. What came before the socket was attached may never come through the inbox:
        /// perhaps nobody of this shard was attached then, although an older connection, about to close, still holds the channel.
        until: u64,
    },
    /// Nowhere yet: a topic's history is being read. Holds back what comes meanwhile.
    Held(Vec<Held>),
}

/// A publication that is held back.
struct Held {
    seq: u64,
    /// The numbering that `seq` belongs to, where it is known.
    epoch: Option<EpochTag>,
    event: Arc<Encoded>,
}

/// The part of a turn's events that a subscription is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    None,
    All,
    /// Those with larger numbers.
    After(u64),
}

/// A page of the log that a subscription needs.
pub(super) struct NeededPage {
    /// The subscription's slot.
    pub sub: usize,
    pub room: Arc<Room>,
    /// The number after which the page begins.
    pub after: u64,
}

impl Subscriptions {
    /// Begins a subscription to a channel, or begins it afresh. A conversation is served from its log until it has caught up; a topic's
    /// events are held back until [`release`](Self::release). Returns its slot, and whether it is new.
    pub fn begin(&mut self, channel: ChannelId, attachment: Option<Attachment>, tick: u32) -> (usize, bool) {
        let cursor = attachment.as_ref().map_or(0, |attachment| attachment.cursor.get());
        let source = match &attachment {
            Some(attachment) => Source::Log { until: attachment.head.get() },
            None => Source::Held(Vec::new()),
        };
        self.behind += u32::from(matches!(source, Source::Log { .. }));
        if let Some(slot) = self.slot(channel) {
            let sub = &mut self.all[slot];
            self.behind -= u32::from(sub.is_behind());
            (sub.cursor, sub.epoch, sub.source) = (cursor, None, source);
            return (slot, false);
        }
        let room = attachment.map(|attachment| attachment.room);
        let sub = Subscription { channel, cursor, epoch: None, source, live_since: tick, room };
        if self.all.capacity() == 0 {
            // Otherwise the first one would allocate four slots.
            self.all = Slab::with_capacity(1);
        }
        (self.all.insert(sub), true)
    }

    /// Ends the subscription to a channel. Returns the slot that it had.
    pub fn end(&mut self, channel: ChannelId) -> Option<usize> {
        let slot = self.slot(channel)?;
        self.behind -= u32::from(self.all.remove(slot).is_behind());
        Some(slot)
    }

    /// Ends all subscriptions. Returns their channels.
    pub fn end_all(&mut self) -> impl Iterator<Item = ChannelId> + '_ {
        self.behind = 0;
        self.all.drain().map(|sub| sub.channel)
    }

    /// Returns the subscription in a slot.
    pub fn get_mut(&mut self, slot: usize) -> Option<&mut Subscription> {
        self.all.get_mut(slot)
    }

    /// Returns whether any subscription is served from the log.
    pub fn any_behind(&self) -> bool {
        self.behind > 0
    }

    /// Serves a live subscription from the log from now on, beginning after its cursor, up to `until` at least.
    pub fn fall_behind(&mut self, slot: usize, until: u64) -> bool {
        let Some(sub) = self.all.get_mut(slot).filter(|sub| matches!(sub.source, Source::Live)) else {
            return false;
        };
        sub.source = Source::Log { until };
        self.behind += 1;
        METRICS.catch_ups.increment(1);
        true
    }

    /// Removes what was queued for a subscription from the number `first` on: the log has it. Nothing happens where the subscription
    /// has ended.
    pub fn rewind(&mut self, slot: usize, first: u64) {
        let Some(sub) = self.all.get_mut(slot) else { return };
        sub.cursor = sub.cursor.min(first - 1);
        if !sub.is_behind() {
            sub.source = Source::Log { until: 0 };
            self.behind += 1;
            METRICS.catch_ups.increment(1);
        }
    }

    /// Makes a topic's subscription live after a position. Returns what was held back meanwhile and is new: publications of another
    /// numbering were made after that one ended, or before it began, and can't be had otherwise.
    pub fn release(&mut self, channel: ChannelId, epoch: &str, offset: u64, tick: u32) -> Vec<Arc<Encoded>> {
        let Some(slot) = self.slot(channel) else { return Vec::new() };
        let sub = &mut self.all[slot];
        if !matches!(sub.source, Source::Held(_)) {
            return Vec::new();
        }
        let Source::Held(held) = std::mem::replace(&mut sub.source, Source::Live) else { return Vec::new() };
        let own = EpochTag::of(epoch);
        (sub.cursor, sub.epoch, sub.live_since) = (offset, Some(own), tick);
        let is_new = |held: &Held| held.epoch.is_some_and(|epoch| epoch != own) || held.seq > offset;
        let mut news = Vec::new();
        for held in held.into_iter().filter(is_new) {
            (sub.cursor, sub.epoch) = (held.seq, held.epoch.or(Some(own)));
            news.push(held.event);
        }
        news
    }

    /// Returns the next page of the log that is needed. Subscriptions take turns, page by page: otherwise a channel with more messages than
    /// the socket can carry would keep all others waiting. Subscriptions that have caught up go live. `delivered` returns the last number
    /// of a channel that came through the inbox.
    pub fn next_page(&mut self, delivered: impl Fn(ChannelId) -> u64) -> Option<NeededPage> {
        let (mut first, mut next) = (None, None);
        for (slot, sub) in &mut self.all {
            let Source::Log { until } = sub.source else { continue };
            if sub.cursor >= delivered(sub.channel).max(until) {
                sub.source = Source::Live;
                self.behind -= 1;
                continue;
            }
            first = first.or(Some(slot));
            if slot > self.served as usize {
                next = next.or(Some(slot));
            }
        }
        let sub = next.or(first)?;
        self.served = u32::try_from(sub).unwrap_or(u32::MAX);
        let Subscription { room, cursor, .. } = self.all.get(sub)?;
        Some(NeededPage { sub, room: room.clone()?, after: *cursor })
    }

    fn slot(&self, channel: ChannelId) -> Option<usize> {
        self.all.iter().find(|(_, sub)| sub.channel == channel).map(|(slot, _)| slot)
    }
}

impl Subscription {
    /// Advances the cursor over the events of a turn. Returns the events to send now.
    pub fn take_turn(&mut self, turn: &Turn, tick: u32) -> Share {
        match &mut self.source {
            Source::Live => {}
            Source::Log { .. } => return Share::None,
            Source::Held(held) => {
                hold(held, &turn.events);
                return Share::None;
            }
        }
        let mut cursor = std::mem::replace(&mut self.cursor, turn.last);
        if !turn.durable && self.is_renumbered(turn, cursor, tick) {
            cursor = 0;
            self.epoch = turn.epoch.or(self.epoch);
        }
        if cursor >= turn.last {
            self.cursor = cursor;
            Share::None
        } else if cursor < turn.first {
            Share::All
        } else {
            Share::After(cursor)
        }
    }

    /// Advances the cursor to the end of a page of the log, which began after `after` and ends with `last`. `None`: the page is empty, so
    /// the conversation is gone and nothing more of it is sent. Returns `false` if the subscription has ended or begun again.
    pub fn take_page(&mut self, room: &Arc<Room>, after: u64, last: Option<u64>) -> bool {
        if !self.is_behind() {
            return false;
        }
        let is_same = self.room.as_ref().is_some_and(|own| Arc::ptr_eq(own, room));
        if !is_same || self.cursor != after {
            return false;
        }
        self.cursor = last.unwrap_or(u64::MAX);
        true
    }

    /// Returns whether a topic's publications belong to another numbering than the cursor.
    fn is_renumbered(&self, turn: &Turn, cursor: u64, tick: u32) -> bool {
        match (turn.epoch, self.epoch) {
            (Some(epoch), Some(known)) => epoch != known,
            // From a node of a version that does not say it. After some time it is no echo of the history any more.
            _ => turn.first <= cursor && tick.wrapping_sub(self.live_since) > SETTLE_SECONDS,
        }
    }

    fn is_behind(&self) -> bool {
        matches!(self.source, Source::Log { .. })
    }
}

fn hold(held: &mut Vec<Held>, events: &[Pending]) {
    if held.len() + events.len() > HELD_MAX {
        METRICS.dropped_ephemeral.increment(events.len() as u64);
        return;
    }
    held.extend(events.iter().map(|event| Held {
        seq: event.seq,
        epoch: event.epoch,
        event: event.event.clone(),
    }));
}
