//! Reads presence from the session store: before a join, and when what is known may be outdated.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use starling_model::UserName;
use starling_session_store::{ConversationKey, Error, PresenceEntry};

use super::Presence;
use crate::clock::{self, TICK};
use crate::neighbours::Lifetime;
use crate::room::Room;
use crate::room::presence_reads::Begun;
use crate::{Map, Set};

/// Most conversations whose presence is read in one pipeline.
const ROOMS_PER_READ: usize = 500;
/// How often the lifetimes of presence keys are extended.
const PROLONG_EVERY: Duration = Duration::from_secs(20 * 60);

impl Presence {
    /// Requests that the presence in a partition's rooms is read again.
    pub fn reload(&self, partition: u16) {
        self.to_reload.insert(partition);
    }

    /// Requests that the presence in all rooms is read again.
    pub fn reload_all(&self) {
        self.to_reload.insert_all();
    }

    /// Reads presence again after it could not be read or may be outdated.
    pub async fn reload_forever(self: Arc<Self>, lifetime: Lifetime) {
        while !lifetime.has_ended() {
            let partitions = self.to_reload.taken().await;
            self.rooms.forget_idle_presence();
            let mut rooms = self.rooms.joined();
            rooms.retain(|room| partitions.contains(&room.partition));
            if !self.read(&rooms).await {
                tokio::time::sleep(TICK).await;
            }
        }
    }

    /// Extends the lifetimes of presence in the session store.
    pub async fn prolong_forever(self: Arc<Self>, lifetime: Lifetime) {
        while !lifetime.has_ended() {
            tokio::time::sleep(PROLONG_EVERY).await;
            let keys: Vec<ConversationKey> =
                self.rooms.joined().iter().map(|room| room.presence_key()).collect();
            if let Err(error) = self.store.keep_presence(&keys).await {
                tracing::debug!(%error, "the lifetime of presence could not be extended");
            }
        }
    }

    /// Makes sure that a room's presence is known before a session joins it.
    pub async fn know(&self, room: &Arc<Room>) {
        if self.clustered && !room.state().presence.is_known() {
            self.read(std::slice::from_ref(room)).await;
        }
    }

    /// Returns the number of each user's sessions in a room on other nodes, from the session store. `None`: the room knows it already.
    pub async fn elsewhere(&self, room: &Room) -> Result<Option<Map<UserName, u32>>, Error> {
        // What the room knew when the last session here left may be outdated, even if the store lists nobody.
        if !self.clustered || room.state().presence.is_known() {
            return Ok(None);
        }
        let entries = self.store.presence(&[room.presence_key()]).await?.pop().unwrap_or_default();
        let mut devices: Map<UserName, u32> = Map::default();
        for entry in entries.iter().filter(|entry| self.counts(entry)) {
            let count = devices.entry(entry.user.clone()).or_default();
            *count = count.saturating_add(entry.devices);
        }
        Ok(Some(devices))
    }

    /// Whether an entry of the session store is of another node that has not left.
    fn counts(&self, entry: &PresenceEntry) -> bool {
        entry.node != *self.node && !self.left.contains(&entry.node)
    }

    /// Reads the presence of these rooms on other nodes from the session store, and tells the rooms' sessions of changes. `false`: the
    /// store did not respond. Then nothing changes, and the presence is read later.
    async fn read(&self, rooms: &[Arc<Room>]) -> bool {
        if !self.clustered {
            return true;
        }
        for (index, chunk) in rooms.chunks(ROOMS_PER_READ).enumerate() {
            let mut doubtful = self.read_once(chunk).await;
            if let Some(rooms) = doubtful {
                doubtful = self.read_once(&rooms).await;
            }
            let Some(doubtful) = doubtful else {
                // If the store is down, don't ask it for each of the other rooms.
                rooms[index * ROOMS_PER_READ..].iter().for_each(|room| self.reload(room.partition));
                return false;
            };
            doubtful.iter().for_each(|room| self.reload(room.partition));
        }
        true
    }

    /// Reads once. Returns the rooms that must be read again. `None`: the store did not respond.
    async fn read_once(&self, rooms: &[Arc<Room>]) -> Option<Vec<Arc<Room>>> {
        if rooms.is_empty() {
            return Some(Vec::new());
        }
        let mut reading = Reading::begin(self, rooms);
        let keys: Vec<_> = rooms.iter().map(|room| room.presence_key()).collect();
        let answers = self.store.presence(&keys).await;
        if let Err(error) = &answers {
            tracing::debug!(%error, "presence could not be read; trying again later");
        }
        let is_answered = answers.is_ok();
        let mut answers = answers.unwrap_or_default().into_iter();
        let mut again = Vec::new();
        while let Some((room, begun)) = reading.under_way.pop_front() {
            if self.take_over(room, begun, answers.next()) {
                again.push(room.clone());
            }
        }
        is_answered.then_some(again)
    }

    /// Applies the store's answer to a room. Returns whether the room must be read again.
    fn take_over(&self, room: &Room, begun: Begun, answer: Option<Vec<PresenceEntry>>) -> bool {
        let mut state = room.state();
        let ended = state.presence.end_read(begun, answer.is_some());
        let (Some(entries), Some(heard)) = (answer, ended.heard) else { return ended.again };
        let before: Set<UserName> = state.presence.online().users().cloned().collect();
        let node = self.node.clone();
        state.presence.keep_nodes(|other| other == &*node);
        for entry in entries.iter().filter(|entry| self.counts(entry)) {
            state.presence.set(&entry.user, &entry.node.as_str().into(), entry.devices);
        }
        for (user, node, devices) in heard {
            state.presence.set(&user, &node, devices);
        }
        let known = state.presence.set_known();
        // A session that joined while the store was down was told what was known then, so it must be told the changes.
        if !known && state.joined() == 0 {
            return ended.again;
        }
        for user in state.presence.online().users().filter(|user| !before.contains(*user)) {
            state.tell_presence(&room.key.name, &*self.shards, user, true, None);
        }
        for user in before.iter().filter(|user| state.presence.online().devices(user) == 0) {
            state.tell_presence(&room.key.name, &*self.shards, user, false, Some(clock::now_ms()));
        }
        ended.again
    }
}

/// Reads of rooms' presence that are under way. A read that is given up, because its client has gone, ends without an answer. Otherwise the
/// room would wait for it and accept no other answer.
struct Reading<'a> {
    presence: &'a Presence,
    under_way: VecDeque<(&'a Arc<Room>, Begun)>,
}

impl<'a> Reading<'a> {
    fn begin(presence: &'a Presence, rooms: &'a [Arc<Room>]) -> Reading<'a> {
        let under_way = rooms.iter().map(|room| (room, room.state().presence.begin_read())).collect();
        Reading { presence, under_way }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        for (room, begun) in self.under_way.drain(..) {
            if room.state().presence.end_read(begun, false).again {
                self.presence.reload(room.partition);
            }
        }
    }
}
