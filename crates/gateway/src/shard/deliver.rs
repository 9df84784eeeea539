//! From the inbox to the outboxes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};

use starling_hub::{Attachment, Encoded, EpochTag, RoomId, ShardItem, clock};
use starling_wire::protocol::{CloseReason, Encoding};

use super::conn::{AWAITED_MAX, Conn, HELD_MAX, Held, Phase, Sub, SubState};
use super::outbox::Kind;
use super::room::{Pending, ShardRoom, SubRef, joined_frames};
use super::{Shard, ShardSettings, Table};
use crate::metrics::METRICS;

/// How long after a topic's history was read its publications may still come in by the inbox, too; for nodes of versions that do not
/// say which numbering a publication belongs to.
const SETTLE_SECONDS: u32 = 2;

impl Table {
    /// Takes one item of the inbox.
    pub(super) fn take(&mut self, item: ShardItem, shard: &Shard) {
        let tick = self.tick;
        match item {
            ShardItem::Message { room, seq, event } => self.message(room, seq, event, shard),
            ShardItem::Head { room, seq } => self.head(room, seq, shard),
            ShardItem::Publication { room, epoch, offset, event } => {
                // What is handed out in one piece is of one numbering.
                if self
                    .rooms
                    .get(&room)
                    .and_then(|room| room.pending.last())
                    .is_some_and(|last| last.epoch != epoch)
                {
                    self.flush_room(room, shard);
                }
                self.pend(room, Pending { seq: offset, event, durable: false, epoch });
            }
            ShardItem::Ephemeral { room, event, except } => {
                self.ephemeral(room, &event, except.as_deref(), shard);
            }
            ShardItem::Reply { socket, id, reply } => {
                if let Some(conn) = self.conn(socket) {
                    let was_full = conn.awaited >= AWAITED_MAX;
                    conn.awaited = conn.awaited.saturating_sub(1);
                    conn.reply(id, &reply);
                    if was_full || conn.held.is_some() || conn.waiting.is_some() || !conn.backlog.is_empty() {
                        conn.wake();
                    }
                    self.mark(socket.key);
                }
            }
            ShardItem::Event { socket, event } => {
                if let Some(conn) = self.conn(socket) {
                    conn.tell(&event, Kind::Ephemeral);
                    bound(conn, &shard.settings, tick);
                    self.mark(socket.key);
                }
            }
            ShardItem::Evict { socket, room } => {
                self.flush_room(room, shard);
                if self.conn(socket).is_some() {
                    self.unsubscribe(socket.key, room);
                }
            }
            ShardItem::Close { socket, reason } => {
                if self.conn(socket).is_some() {
                    self.close(socket.key, reason, close_text(reason));
                }
            }
        }
    }

    /// Closes a connection, from this node's side.
    pub fn close(&mut self, key: u32, reason: CloseReason, text: &str) {
        if let Some(conn) = self.conns.get_mut(key as usize) {
            conn.close(reason, text, self.tick);
            self.mark(key);
        }
    }

    /// Subscribes a connection to a room. A conversation is served from the log until it has caught up; with a
    /// topic everything is held back until [`Table::release`].
    pub fn subscribe(&mut self, key: u32, room: RoomId, attachment: Option<Attachment>) {
        let Some(conn) = self.conns.get_mut(key as usize) else { return };
        let head = attachment.as_ref().map_or(0, |attachment| attachment.head);
        let cursor = attachment.as_ref().map_or(0, |attachment| attachment.cursor);
        let state = match &attachment {
            Some(attachment) => SubState::Behind { until: attachment.head },
            None => SubState::Held(Vec::new()),
        };
        let log = attachment.map(|attachment| attachment.log);
        if let Some((index, sub)) = conn.subs.iter_mut().find(|(_, sub)| sub.room == room) {
            // Joined again: answered afresh.
            conn.outbox.disown(index);
            conn.behind -= u32::from(matches!(sub.state, SubState::Behind { .. }));
            conn.behind += u32::from(matches!(state, SubState::Behind { .. }));
            (sub.cursor, sub.epoch, sub.state) = (cursor, None, state);
            return;
        }
        conn.behind += u32::from(matches!(state, SubState::Behind { .. }));
        let sub =
            u32::try_from(conn.subs.insert(Sub { room, cursor, epoch: None, state, since: self.tick, log }))
                .unwrap_or(u32::MAX);
        let new = || ShardRoom { delivered: head, ..ShardRoom::default() };
        self.rooms.entry(room).or_insert_with(new).subs.push(SubRef { conn: key, sub });
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, key: u32, room: RoomId) {
        let Some(conn) = self.conns.get_mut(key as usize) else { return };
        if let Some(sub) = conn.subs.iter().find(|(_, sub)| sub.room == room).map(|(sub, _)| sub) {
            conn.outbox.disown(sub);
            let sub = conn.subs.remove(sub);
            conn.behind -= u32::from(matches!(sub.state, SubState::Behind { .. }));
            self.leave(room, key);
        }
    }

    /// Lets a topic's subscription go live after a position, with what was held back meanwhile: what is of another numbering was
    /// published after that one ended, or before it began and is not to be had otherwise.
    pub fn release(&mut self, key: u32, room: RoomId, epoch: &str, offset: u64) {
        let Some(conn) = self.conns.get_mut(key as usize) else { return };
        let Some((_, sub)) = conn.subs.iter_mut().find(|(_, sub)| sub.room == room) else { return };
        let SubState::Held(held) = std::mem::replace(&mut sub.state, SubState::Live) else { return };
        let own = EpochTag::of(epoch);
        (sub.cursor, sub.epoch, sub.since) = (offset, Some(own), self.tick);
        let is_new = |held: &Held| held.epoch.is_some_and(|epoch| epoch != own) || held.seq > offset;
        let news: Vec<Held> = held.into_iter().filter(is_new).collect();
        if let Some(last) = news.last() {
            (sub.cursor, sub.epoch) = (last.seq, last.epoch.or(sub.epoch));
        }
        let encoding = conn.encoding;
        for held in news {
            conn.push(held.event.frame(encoding).clone(), Kind::Ephemeral);
        }
    }

    /// The subscription that is served from the log after `last`: one page each, in turn, or a room that is busier than the socket is
    /// fast would keep all others waiting. Those that have read the log up to where their rooms stand go live.
    pub fn next_behind(&mut self, key: u32, last: usize) -> Option<usize> {
        let Conn { subs, behind, .. } = self.conns.get_mut(key as usize)?;
        let (mut first, mut next) = (None, None);
        for (index, sub) in subs {
            let SubState::Behind { until } = sub.state else { continue };
            let delivered = self.rooms.get(&sub.room).map_or(0, |room| room.delivered);
            if sub.cursor >= delivered.max(until) {
                sub.state = SubState::Live;
                *behind -= 1;
                continue;
            }
            first = first.or(Some(index));
            if index > last {
                next = next.or(Some(index));
            }
        }
        next.or(first)
    }

    /// Hands out what came in this turn.
    pub(super) fn flush_rooms(&mut self, shard: &Shard) {
        let mut touched = std::mem::take(&mut self.touched);
        for room in touched.drain(..) {
            self.flush_room(room, shard);
        }
        self.touched = touched;
    }

    /// Writes each connection that got something, once.
    pub(super) fn flush_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        let mut sent = 0;
        for key in dirty.drain(..) {
            if let Some(conn) = self.conns.get_mut(key as usize) {
                conn.dirty = false;
                sent += flush(conn, self.tick);
            }
        }
        self.dirty = dirty;
        if sent > 0 {
            METRICS.bytes_sent.increment(sent);
        }
    }

    fn message(&mut self, id: RoomId, seq: u64, event: Arc<Encoded>, shard: &Shard) {
        let Some(room) = self.rooms.get_mut(&id) else { return };
        if seq <= room.delivered {
            return;
        }
        if seq > room.delivered + 1 {
            self.skip_to(id, seq, shard);
            return;
        }
        room.delivered = seq;
        self.pend(id, Pending { seq, event, durable: true, epoch: None });
    }

    fn head(&mut self, id: RoomId, seq: u64, shard: &Shard) {
        if self.rooms.get(&id).is_some_and(|room| seq > room.delivered) {
            self.skip_to(id, seq, shard);
        }
    }

    /// Some messages did not fit the inbox: everybody in the room is served from the log.
    fn skip_to(&mut self, id: RoomId, seq: u64, shard: &Shard) {
        self.flush_room(id, shard);
        let Some(room) = self.rooms.get_mut(&id) else { return };
        room.delivered = seq;
        for sub in &room.subs {
            let Some(conn) = self.conns.get_mut(sub.conn as usize) else { continue };
            if let Some(sub) = conn.subs.get_mut(sub.sub as usize)
                && matches!(sub.state, SubState::Live)
            {
                sub.state = SubState::Behind { until: seq };
                METRICS.catch_ups.increment(1);
                conn.behind += 1;
                conn.wake();
            }
        }
    }

    fn pend(&mut self, id: RoomId, pending: Pending) {
        if let Some(room) = self.rooms.get_mut(&id) {
            if room.pending.is_empty() {
                self.touched.push(id);
            }
            room.pending.push(pending);
        }
    }

    fn ephemeral(&mut self, id: RoomId, event: &Arc<Encoded>, except: Option<&str>, shard: &Shard) {
        self.flush_room(id, shard);
        let Some(room) = self.rooms.get(&id) else { return };
        for sub in &room.subs {
            let Some(conn) = self.conns.get_mut(sub.conn as usize) else { continue };
            let is_excepted =
                except.is_some() && conn.session.as_ref().map(|session| &*session.user) == except;
            if !is_excepted {
                conn.tell(event, Kind::Ephemeral);
                bound(conn, &shard.settings, self.tick);
                if !conn.dirty {
                    conn.dirty = true;
                    self.dirty.push(sub.conn);
                }
            }
        }
    }

    fn flush_room(&mut self, id: RoomId, shard: &Shard) {
        let Some(room) = self.rooms.get_mut(&id) else { return };
        let pending = std::mem::take(&mut room.pending);
        let (Some(first), Some(last)) = (pending.first(), pending.last()) else { return };
        let (first, last, durable, epoch) = (first.seq, last.seq, first.durable, first.epoch);
        if !durable {
            room.delivered = last;
        }
        let mut joined = JoinedFrames::default();
        let mut delivered = 0;
        for sub_ref in &room.subs {
            let Some(conn) = self.conns.get_mut(sub_ref.conn as usize) else { continue };
            if conn.phase != Phase::Open {
                continue;
            }
            let Some(sub) = conn.subs.get_mut(sub_ref.sub as usize) else { continue };
            match &mut sub.state {
                SubState::Behind { .. } => continue,
                SubState::Held(held) => {
                    if held.len() + pending.len() <= HELD_MAX {
                        held.extend(pending.iter().map(Held::from));
                    } else {
                        METRICS.dropped_ephemeral.increment(pending.len() as u64);
                    }
                    continue;
                }
                SubState::Live => {}
            }
            let kind = |first| {
                if durable { Kind::Durable { sub: sub_ref.sub as usize, first } } else { Kind::Ephemeral }
            };
            let mut cursor = std::mem::replace(&mut sub.cursor, last);
            let is_anew = match (epoch, sub.epoch) {
                (Some(epoch), Some(known)) => epoch != known,
                // A node of a version that does not say it: after some time it is no echo of the history any more.
                _ => first <= cursor && self.tick.wrapping_sub(sub.since) > SETTLE_SECONDS,
            };
            if !durable && is_anew {
                cursor = 0;
                sub.epoch = epoch.or(sub.epoch);
            }
            if cursor >= last {
                sub.cursor = cursor;
                continue;
            }
            let whole = cursor < first;
            if whole && conn.deflater.is_none() {
                conn.push(joined.get(&pending, conn.encoding), kind(first));
            } else {
                let encoding = conn.encoding;
                for event in pending.iter().filter(|event| event.seq > cursor) {
                    conn.push(event.event.frame(encoding).clone(), kind(event.seq));
                }
            }
            delivered += pending.len() as u64;
            bound(conn, &shard.settings, self.tick);
            if !conn.dirty {
                conn.dirty = true;
                self.dirty.push(sub_ref.conn);
            }
        }
        measure(&pending, delivered, shard);
    }
}

/// The frames of a turn for one room, joined at most once per encoding.
#[derive(Default)]
struct JoinedFrames {
    json: Option<bytes::Bytes>,
    msgpack: Option<bytes::Bytes>,
}

impl JoinedFrames {
    fn get(&mut self, pending: &[Pending], encoding: Encoding) -> bytes::Bytes {
        let slot = match encoding {
            Encoding::Json => &mut self.json,
            Encoding::MsgPack => &mut self.msgpack,
        };
        slot.get_or_insert_with(|| joined_frames(pending, encoding)).clone()
    }
}

/// Writes what the socket takes now. Where it is full, or there is more to do, the connection's task goes on.
pub(super) fn flush(conn: &mut Conn, tick: u32) -> u64 {
    let mut sent = 0;
    if conn.phase != Phase::Broken && !conn.outbox.is_empty() {
        let (bytes, all) = conn.flush(tick, &mut Context::from_waker(Waker::noop()));
        sent = bytes;
        if !all {
            // The task polls again, and registers itself.
            conn.wake();
        }
    }
    if conn.behind > 0 {
        conn.wake();
    }
    sent
}

/// Keeps a connection's outbox within its limits.
pub(super) fn bound(conn: &mut Conn, settings: &ShardSettings, tick: u32) {
    if !conn.make_room(settings.outbox_bytes_soft) && conn.outbox.bytes() > settings.outbox_bytes_hard {
        METRICS.overloaded.increment(1);
        // What waits is given up, so that the reason at least arrives if the client reads again; the heartbeat ends the rest.
        conn.outbox.drop_chunks(|_| true);
        conn.close(CloseReason::Overloaded, "too far behind to be served", tick);
    }
}

fn measure(pending: &[Pending], delivered: u64, shard: &Shard) {
    if delivered == 0 {
        return;
    }
    METRICS.deliveries.increment(delivered);
    if let Some(gauges) = shard.gauges() {
        gauges.deliveries.fetch_add(delivered, Ordering::Relaxed);
    }
    let now = clock::now_us();
    for event in pending.iter().filter(|event| event.event.happened_at_us > 0) {
        let us = now.saturating_sub(event.event.happened_at_us);
        METRICS.delivery_seconds.record(us as f64 / 1e6);
        if let Some(gauges) = shard.gauges() {
            gauges.delivery.record(us);
        }
    }
}

pub(super) fn close_text(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Superseded => "this session was attached somewhere else",
        CloseReason::Ended => "the session was ended by an operator",
        CloseReason::Restart => "restarting; reconnect with resume",
        CloseReason::Unauthorized => "the token has expired",
        CloseReason::ConnectTimeout => "no connect in time",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use starling_hub::Reply;
    use starling_wire::protocol;

    use super::super::fixture::{attachment, connect, session, shard};
    use super::*;

    const ROOM: RoomId = RoomId(7);

    #[test]
    fn a_socket_is_served_from_the_log_although_an_older_one_that_is_closing_holds_the_room_further_back() {
        let shard = shard();
        let ((older, _), (newer, _)) = (connect(&shard), connect(&shard));
        let mut table = shard.table.borrow_mut();
        table.subscribe(older, ROOM, Some(attachment(ROOM, 5, 5)));
        assert_eq!(table.next_behind(older, 0), None, "it has all there is");
        // Its session went elsewhere, so that 6 to 10 were not handed to this shard, and has come back.
        table.subscribe(newer, ROOM, Some(attachment(ROOM, 10, 5)));
        assert_eq!(table.next_behind(newer, 0), Some(0), "6 to 10 stand in the log alone");
        table.conns[newer as usize].subs[0].cursor = 10;
        assert_eq!(table.next_behind(newer, 0), None);
        assert_eq!(table.conns[newer as usize].behind, 0);
    }

    #[test]
    fn a_quiet_room_is_served_from_the_log_although_another_is_busier_than_the_socket_is_fast() {
        const BUSY: RoomId = RoomId(1);
        const QUIET: RoomId = RoomId(2);
        let shard = shard();
        let (key, _near) = connect(&shard);
        let mut table = shard.table.borrow_mut();
        table.subscribe(key, BUSY, Some(attachment(BUSY, 1_000, 0)));
        table.subscribe(key, QUIET, Some(attachment(QUIET, 2, 1)));
        let (mut last, mut served) = (0, Vec::new());
        for _ in 0..4 {
            let Some(sub) = table.next_behind(key, last) else { break };
            last = sub;
            let sub = &mut table.conns[key as usize].subs[sub];
            served.push(sub.room);
            if sub.room == QUIET {
                sub.cursor = 2;
            } else {
                // A page of the log, while more than a page is said.
                sub.cursor += 100;
                let busy = table.rooms.get_mut(&BUSY).expect("joined");
                busy.delivered += 200;
            }
        }
        assert!(served[..2].contains(&QUIET), "{served:?}");
        assert!(matches!(table.conns[key as usize].subs[1].state, SubState::Live));
        assert_eq!(served.iter().filter(|room| **room == BUSY).count(), 3, "{served:?}");
    }

    #[test]
    fn events_for_a_socket_alone_wait_within_its_limit_too() {
        let shard = shard();
        let (key, _near) = connect(&shard);
        let mut table = shard.table.borrow_mut();
        let socket = table.conns[key as usize].id(0, key);
        let event = Arc::new(Encoded::new(protocol::Typing {
            conversation: "room".into(),
            user: "u".repeat(1_000).into(),
            typing: true,
        }));
        for _ in 0..100 {
            table.take(ShardItem::Event { socket, event: event.clone() }, &shard);
            let waiting = table.conns[key as usize].outbox.bytes();
            assert!(waiting <= shard.settings.outbox_bytes_soft, "{waiting} bytes wait");
        }
    }

    #[test]
    fn the_answer_to_connect_comes_before_events_that_are_quicker() {
        let shard = shard();
        let (key, _near) = connect(&shard);
        let mut table = shard.table.borrow_mut();
        let conn = &mut table.conns[key as usize];
        conn.session = Some(session());
        conn.early = Some(Box::default());
        let socket = conn.id(0, key);
        table.subscribe(key, ROOM, Some(attachment(ROOM, 0, 0)));
        let typing = |user: &str| {
            Arc::new(Encoded::new(protocol::Typing {
                conversation: "room".into(),
                user: user.into(),
                typing: true,
            }))
        };
        table.take(ShardItem::Event { socket, event: typing("first") }, &shard);
        table.take(ShardItem::Ephemeral { room: ROOM, event: typing("second"), except: None }, &shard);
        table.ask_to_move(key);
        let conn = &mut table.conns[key as usize];
        assert!(conn.outbox.is_empty());
        conn.reply(1, &Ok(Reply::Empty));
        conn.tell_early();
        let written = conn.outbox.waiting();
        let written = String::from_utf8_lossy(&written);
        let at = |words: &str| written.find(words).unwrap_or_else(|| panic!("no {words} in {written:?}"));
        assert!(at("\"ok\"") < at("first") && at("first") < at("second") && at("second") < at("draining"));
        assert!(conn.early.is_none());
    }
}
