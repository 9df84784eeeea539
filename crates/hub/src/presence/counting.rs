//! Counting users in and out of rooms: by this node's sockets, and by what other nodes say of theirs.

use std::sync::Arc;

use starling_model::UserName;
use starling_session_store::PresenceChange;

use super::Presence;
use crate::clock;
use crate::metrics::METRICS;
use crate::node_message::NodeMessage;
use crate::room::online::Shift;
use crate::room::{Room, RoomState};

impl Presence {
    /// Counts a session of a user in. To be called with the room's state locked, by the shard that attaches the socket.
    pub fn count_in(&self, room: &Room, state: &mut RoomState, user: &UserName) {
        let devices = state.online.on_node(user, &self.node) + 1;
        self.set_devices(room, state, user, devices, None);
    }

    /// Counts a session of a user out.
    pub fn count_out(&self, room: &Room, user: &UserName, last_seen_ms: i64) {
        let mut state = room.state();
        let devices = state.online.on_node(user, &self.node).saturating_sub(1);
        self.set_devices(room, &mut state, user, devices, Some(last_seen_ms));
    }

    /// Takes everybody who is online by this node out of a room that is gone or outdated, while it still has its name: whatever comes
    /// under the name afterwards begins with nobody.
    pub fn clear(&self, room: &Room, state: &mut RoomState) {
        let users: Vec<UserName> = state.online.of_node(&self.node).map(|(user, _)| user.clone()).collect();
        for user in users {
            state.online.set(&user, &self.node, 0);
            self.write_devices(room, &user, 0, None);
        }
    }

    /// Another node says with how many sessions a user is in a room by it.
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
        let mut state = room.state();
        state.presence_reads.hear(user, node, devices);
        if state.joined() == 0 && !state.online_known {
            return;
        }
        let shift = state.online.set(user, node, devices);
        self.tell(room, &state, user, shift, last_seen_ms);
    }

    /// Removes the presence entries of dead nodes in all rooms, and of no others: users may have come by a node whose first beat this
    /// one has not seen yet.
    pub fn forget_nodes(&self, dead: &[&str]) {
        let lives = |node: &str| !dead.contains(&node);
        let now_ms = clock::now_ms();
        // Also of rooms that somebody is about to join.
        for room in self.rooms.all() {
            let mut state = room.state();
            state.presence_reads.lose_node();
            for user in state.online.keep_nodes(lives) {
                self.tell(&room, &state, &user, Shift::Went, Some(now_ms));
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
        if state.gone || state.outdated {
            // Nobody is online there any more, and another room may have its name or number by now.
            return;
        }
        METRICS.presence_changes.increment(1);
        let shift = state.online.set(user, &self.node, devices);
        self.tell(room, state, user, shift, last_seen_ms);
        self.write_devices(room, user, devices, last_seen_ms);
    }

    /// Tells the sockets of a room what a change meant for a user.
    fn tell(&self, room: &Room, state: &RoomState, user: &UserName, shift: Shift, last_seen_ms: Option<i64>) {
        match shift {
            Shift::Came => state.tell_presence(room, &*self.shards, user, true, None),
            Shift::Went => state.tell_presence(room, &*self.shards, user, false, last_seen_ms),
            Shift::None => {}
        }
    }

    /// Tells the session store, and then the other nodes, with how many sessions a user is in a room by this node.
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
            self.writer.publish_when_written(room.lane, &message);
        }
    }
}
