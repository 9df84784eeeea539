//! Who is there: counted on each node, told to the others, kept in the session store under the node's lease.

pub(crate) mod last_seen;
pub(crate) mod lingering;
pub(crate) mod typing;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use starling_model::{TenantName, UserName};
use starling_session_store::{PresenceChange, PresenceEntry, Stamp};
use tokio::time::Instant;

use crate::hub::Hub;
use crate::metrics::METRICS;
use crate::node_message::NodeMessage;
use crate::presence::lingering::Lingerer;
use crate::room::online::Shift;
use crate::room::presence_reads::Begun;
use crate::room::{Room, RoomState};
use crate::sessions::Session;
use crate::{Set, clock};

/// How long a dropped socket's user still counts as there, so that a resume shows nothing.
pub(crate) const LINGER: Duration = Duration::from_secs(10);
/// How many conversations' presence is read in one pipeline.
const PRESENCE_PER_READ: usize = 500;

impl Hub {
    /// Counts a session of a user in. To be called with the room's state locked, by the shard that attaches the socket.
    pub(crate) fn count_in(&self, room: &Room, state: &mut RoomState, user: &UserName) {
        let devices = state.online.on_node(user, &self.node) + 1;
        self.set_devices(room, state, user, devices, None);
    }

    /// Counts a session of a user out.
    pub(crate) fn count_out(&self, room: &Room, user: &UserName, last_seen_ms: i64) {
        let mut state = room.state();
        let devices = state.online.on_node(user, &self.node).saturating_sub(1);
        self.set_devices(room, &mut state, user, devices, Some(last_seen_ms));
    }

    fn set_devices(
        &self,
        room: &Room,
        state: &mut RoomState,
        user: &UserName,
        devices: u32,
        last_seen_ms: Option<i64>,
    ) {
        if state.gone || state.outdated {
            // Nobody is there any more, and what has its name or number by now is none of this room's business.
            return;
        }
        METRICS.presence_changes.increment(1);
        match state.online.set(user, &self.node, devices) {
            Shift::Came => state.tell_presence(room, &*self.shards, user, true, None),
            Shift::Went => state.tell_presence(room, &*self.shards, user, false, last_seen_ms),
            Shift::None => {}
        }
        self.tell_devices(room, user, devices, last_seen_ms);
    }

    /// Tells the session store and the other nodes with how many sessions a user is in a room by this node.
    fn tell_devices(&self, room: &Room, user: &UserName, devices: u32, last_seen_ms: Option<i64>) {
        let conversation = room.presence_key();
        self.writer.set_presence(PresenceChange { conversation, user: user.clone(), devices });
        if self.publisher.is_clustered() {
            let message = NodeMessage::Presence {
                tenant: room.key.tenant.clone(),
                name: room.key.name.clone(),
                conversation: Some(room.conversation),
                user: user.clone(),
                node: self.node.clone(),
                devices,
                last_seen_ms,
            };
            self.writer.publish_when_written(room.lane, &message);
        }
    }

    /// Takes everybody who is there by this node out of a room that is gone or outdated, while it still has its name: what comes under
    /// the name afterwards begins with nobody.
    pub(crate) fn clear_presence(&self, room: &Room, state: &mut RoomState) {
        let users: Vec<UserName> = state.online.of_node(&self.node).map(|(user, _)| user.clone()).collect();
        for user in users {
            state.online.set(&user, &self.node, 0);
            self.tell_devices(room, &user, 0, None);
        }
    }

    /// A session's socket dropped: its user counts as there for a while longer. Answers who lingered under the same session, to be
    /// let go.
    #[must_use]
    pub(crate) fn linger(&self, session: &Session, rooms: Vec<Arc<Room>>) -> Option<Lingerer> {
        let dropped_at_ms = clock::now_ms();
        let lingerer = Lingerer {
            user: session.user.clone(),
            rooms,
            until: Instant::now() + LINGER,
            dropped_at_ms,
            stamp: session.stamp(),
        };
        self.saw(&session.tenant, &session.user, dropped_at_ms);
        self.lingering.add(session.id.clone(), lingerer)
    }

    /// The session goes on somewhere else, or has ended.
    pub(crate) fn stop_lingering(&self, session: &str) {
        if let Some(lingerer) = self.lingering.take(session) {
            self.let_go(&lingerer);
        }
    }

    /// The session goes on at another node, by an attach with this stamp, and that node's presence in the rooms of this lane has been
    /// heard.
    pub(crate) fn stop_lingering_in(&self, lane: u16, session: &str, stamp: Option<Stamp>) {
        if let Some(lingerer) = self.lingering.take_lane(session, lane, stamp) {
            self.let_go(&lingerer);
        }
    }

    pub(crate) fn let_go(&self, lingerer: &Lingerer) {
        for room in &lingerer.rooms {
            self.count_out(room, &lingerer.user, lingerer.dropped_at_ms);
        }
    }

    /// Remembers when a user was last seen, to be written with the next tick.
    pub(crate) fn saw(&self, tenant: &TenantName, user: &UserName, at_ms: i64) {
        self.last_seen.lock().enter(tenant, user, at_ms);
    }

    pub(crate) async fn write_last_seen(&self) {
        let batch = self.last_seen.lock().take();
        if batch.is_empty() {
            return;
        }
        if let Err(error) = self.conversations.touch_users(&batch).await {
            tracing::debug!(%error, "last-seen times could not be written; the next tick tries");
            let mut waiting = self.last_seen.lock();
            for seen in batch {
                waiting.enter(&seen.tenant, &seen.user, seen.at_ms);
            }
        }
    }

    /// Takes the people of nodes out that live no more, everywhere at once. Only theirs: of a node that this one has not yet heard of
    /// by its beat, people may have come already.
    pub(crate) fn forget_nodes(&self, gone: &[&str]) {
        let lives = |node: &str| !gone.contains(&node);
        let now = clock::now_ms();
        // Also of rooms that somebody is about to join.
        for room in self.rooms.all() {
            let mut state = room.state();
            state.presence_reads.lose_node();
            for user in state.online.keep_nodes(lives) {
                state.tell_presence(&room, &*self.shards, &user, false, Some(now));
                self.saw(&room.key.tenant, &user, now);
            }
        }
    }

    /// Makes sure that a room knows who is there, before somebody joins it.
    pub(crate) async fn know_presence(&self, room: &Arc<Room>) {
        if self.publisher.is_clustered() && !room.state().online_known {
            self.read_presence(std::slice::from_ref(room)).await;
        }
    }

    /// Reads from the session store who is in these rooms by other nodes, and tells what changed. `false`: the store did
    /// not answer; what is known stays, and is read later.
    pub(crate) async fn read_presence(&self, rooms: &[Arc<Room>]) -> bool {
        if !self.publisher.is_clustered() {
            return true;
        }
        for (index, chunk) in rooms.chunks(PRESENCE_PER_READ).enumerate() {
            let mut doubtful = self.read_presence_of(chunk).await;
            if let Some(rooms) = doubtful {
                doubtful = self.read_presence_of(&rooms).await;
            }
            let Some(doubtful) = doubtful else {
                // A store that is away is not asked for each of them.
                rooms[index * PRESENCE_PER_READ..].iter().for_each(|room| self.unread.insert(room.lane));
                return false;
            };
            doubtful.iter().for_each(|room| self.unread.insert(room.lane));
        }
        true
    }

    /// Reads once. Answers the rooms that are to be read again; `None`: the store did not answer.
    async fn read_presence_of(&self, rooms: &[Arc<Room>]) -> Option<Vec<Arc<Room>>> {
        if rooms.is_empty() {
            return Some(Vec::new());
        }
        let mut reading = Reading::begin(self, rooms);
        let keys: Vec<_> = rooms.iter().map(|room| room.presence_key()).collect();
        let answers = self.session_store.presence(&keys).await;
        if let Err(error) = &answers {
            tracing::debug!(%error, "presence could not be read; it will be, later");
        }
        let failed = answers.is_err();
        let mut answers = answers.unwrap_or_default().into_iter();
        let mut again = Vec::new();
        while let Some((room, begun)) = reading.under_way.pop_front() {
            if self.take_presence(room, begun, answers.next()) {
                again.push(room.clone());
            }
        }
        (!failed).then_some(again)
    }

    /// Takes over what the store answered. Answers whether it is to be read again.
    fn take_presence(&self, room: &Room, begun: Begun, answer: Option<Vec<PresenceEntry>>) -> bool {
        let mut state = room.state();
        let ended = state.presence_reads.end(begun, answer.is_some());
        let (Some(entries), Some(heard)) = (answer, ended.heard) else { return ended.again };
        let before: Set<UserName> = state.online.users().cloned().collect();
        let node = self.node.clone();
        state.online.keep_nodes(|other| other == &*node);
        for entry in entries.iter().filter(|entry| entry.node != *node) {
            state.online.set(&entry.user, &entry.node.as_str().into(), entry.devices);
        }
        for (user, node, devices) in heard {
            state.online.set(&user, &node, devices);
        }
        let known = std::mem::replace(&mut state.online_known, true);
        // Who joined while the store was away was shown what was known then.
        if !known && state.joined() == 0 {
            return ended.again;
        }
        for user in state.online.users().filter(|user| !before.contains(*user)) {
            state.tell_presence(room, &*self.shards, user, true, None);
        }
        for user in before.iter().filter(|user| state.online.devices(user) == 0) {
            state.tell_presence(room, &*self.shards, user, false, Some(clock::now_ms()));
        }
        ended.again
    }
}

/// Reads of rooms' presence that are under way. Those that are given up, because the client that they are for has gone, end without an
/// answer: a room that believed that it is still being read would take no answer any more.
struct Reading<'a> {
    hub: &'a Hub,
    under_way: VecDeque<(&'a Arc<Room>, Begun)>,
}

impl<'a> Reading<'a> {
    fn begin(hub: &'a Hub, rooms: &'a [Arc<Room>]) -> Reading<'a> {
        let under_way = rooms.iter().map(|room| (room, room.state().presence_reads.begin())).collect();
        Reading { hub, under_way }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        for (room, begun) in self.under_way.drain(..) {
            if room.state().presence_reads.end(begun, false).again {
                self.hub.unread.insert(room.lane);
            }
        }
    }
}
