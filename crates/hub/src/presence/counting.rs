//! Counts users in and out of rooms, by this node's sessions and by the other nodes' messages.

use std::sync::Arc;

use starling_model::UserName;
use starling_session_store::PresenceChange;
use tokio::time::Instant;

use super::Presence;
use crate::clock;
use crate::metrics::METRICS;
use crate::node_message::NodeMessage;
use crate::publisher::Outgoing;
use crate::room::online::OnlineChange;
use crate::room::{Room, RoomState};

impl Presence {
    /// Counts a session of a user in. Must be called with the room's state locked, by the shard that attaches the session.
    pub fn count_in(&self, room: &Room, state: &mut RoomState, user: &UserName) {
        let devices = state.presence.online().on_node(user, &self.node) + 1;
        self.set_devices(room, state, user, devices, None);
    }

    /// Counts a session of a user out.
    pub fn count_out(&self, room: &Room, user: &UserName, last_seen_ms: i64) {
        let mut state = room.state();
        let devices = state.presence.online().on_node(user, &self.node).saturating_sub(1);
        self.set_devices(room, &mut state, user, devices, Some(last_seen_ms));
    }

    /// Removes this node's presence entries from a room that is gone or outdated. Must be called while the room still has its name, so that
    /// a later room of that name begins with nobody online.
    pub fn clear(&self, room: &Room, state: &mut RoomState) {
        let users: Vec<UserName> =
            state.presence.online().of_node(&self.node).map(|(user, _)| user.clone()).collect();
        for user in users {
            state.presence.set(&user, &self.node, 0);
            self.write_devices(room, &user, 0, None);
        }
    }

    /// Handles another node's message about the number of a user's sessions in a room on that node.
    pub fn hear(
        &self,
        room: &Room,
        user: &UserName,
        node: &Arc<str>,
        devices: u32,
        last_seen_ms: Option<i64>,
    ) {
        if *node == self.node {
            return;
        }
        // Nobody is on a node that has left, whatever it said before.
        let devices = if self.left.contains(node) { 0 } else { devices };
        let mut state = room.state();
        state.presence.hear(user, node, devices);
        if state.joined() == 0 && !state.presence.is_known() {
            return;
        }
        let change = state.presence.set(user, node, devices);
        self.tell(room, &state, user, change, last_seen_ms);
    }

    /// Removes the presence entries of a node that leaves. What it said before may still arrive.
    pub fn hear_leaving(&self, node: &Arc<str>) {
        self.left.enter(node, Instant::now());
        self.forget_nodes(&[node]);
    }

    /// Removes the presence entries of dead nodes in all rooms. Entries of other unknown nodes stay, since they may belong to a node whose
    /// first beat this node has not seen yet.
    pub fn forget_nodes(&self, dead: &[&str]) {
        let lives = |node: &str| !dead.contains(&node);
        let now_ms = clock::now_ms();
        // This includes rooms that somebody is about to join.
        for room in self.rooms.all() {
            let mut state = room.state();
            state.presence.lose_node();
            for user in state.presence.keep_nodes(lives) {
                self.tell(&room, &state, &user, OnlineChange::WentOffline, Some(now_ms));
                self.last_seen.note(&room.key.tenant, &user, now_ms);
            }
        }
    }

    fn set_devices(
        &self,
        room: &Room,
        state: &mut RoomState,
        user: &UserName,
        devices: u32,
        last_seen_ms: Option<i64>,
    ) {
        if state.is_gone() {
            // Nobody is online in such a room, and another room may have its name or id by now.
            return;
        }
        METRICS.presence_changes.increment(1);
        let change = state.presence.set(user, &self.node, devices);
        self.tell(room, state, user, change, last_seen_ms);
        self.write_devices(room, user, devices, last_seen_ms);
    }

    /// Tells a room's sessions if a user came online or went offline.
    fn tell(
        &self,
        room: &Room,
        state: &RoomState,
        user: &UserName,
        change: OnlineChange,
        last_seen_ms: Option<i64>,
    ) {
        let name = &room.key.name;
        match change {
            OnlineChange::CameOnline => state.tell_presence(name, &*self.shards, user, true, None),
            OnlineChange::WentOffline => state.tell_presence(name, &*self.shards, user, false, last_seen_ms),
            OnlineChange::None => {}
        }
    }

    /// Writes the number of a user's sessions in a room on this node to the session store, and then publishes it.
    fn write_devices(&self, room: &Room, user: &UserName, devices: u32, last_seen_ms: Option<i64>) {
        let conversation = room.presence_key();
        self.writer.set_presence(PresenceChange { conversation, user: user.clone(), devices });
        if self.clustered {
            let message = NodeMessage::Presence {
                tenant: room.key.tenant.clone(),
                name: room.key.name.clone(),
                conversation: Some(room.conversation),
                user: user.clone(),
                node: self.node.clone(),
                devices,
                last_seen_ms,
            };
            self.writer.publish_when_written(Outgoing::about(room, &message));
        }
    }
}
