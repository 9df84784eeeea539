//! Ends rooms whose conversation was deleted, or whose database was restored to an earlier state.
//!
//! The store detects a restored dump by itself, and an operator can report one. Both begin another incarnation, as does a database that
//! lost what it had committed (see [`crate::log::HeadReports`]). Another incarnation has other logs, so every client is told that its
//! cursors belong to messages that are no longer there.

use std::sync::Arc;

use starling_conversation_store::{ConversationId, incarnation_of};
use starling_model::{ConversationName, TenantName, UserName};
use starling_wire::protocol::{self, CloseReason};

use super::Directory;
use crate::Set;
use crate::encoded::Encoded;
use crate::node_message::NodeMessage;
use crate::room::{Room, RoomKey};
use crate::shards::{ChannelId, ShardItem};

impl Directory {
    /// Ends a conversation that was deleted, on this node first and then on the others.
    pub fn tell_deleted(&self, room: &Arc<Room>) {
        let (tenant, name, conversation) =
            (room.key.tenant.clone(), room.key.name.clone(), room.conversation);
        self.end(room);
        self.publisher.publish_message(room.partition, &NodeMessage::Deleted { tenant, name, conversation });
    }

    /// Handles another node's message that a conversation was deleted.
    pub fn hear_deleted(&self, tenant: &TenantName, name: &ConversationName, conversation: ConversationId) {
        self.deleted.enter(conversation);
        match self.rooms.known(tenant, name) {
            Some(room) if room.conversation == conversation => self.end(&room),
            _ => self.rooms.restart_load(tenant, name),
        }
    }

    /// Ends the room of a deleted conversation. Tells the sessions that joined that it is deleted, and all members that they are no longer
    /// members.
    pub fn end(&self, room: &Arc<Room>) {
        let members: Vec<UserName> = {
            let mut state = room.state();
            if !state.set_deleted() {
                return;
            }
            self.deleted.enter(room.conversation);
            self.presence.clear(room, &mut state);
            state.take_members()
        };
        self.rooms.forget(room);
        let RoomKey { tenant, name } = &room.key;
        let deleted = protocol::Deleted { conversation: name.clone(), log: room.log.clone() };
        let deleted = Arc::new(Encoded::new(deleted));
        for user in members {
            let event =
                protocol::Membership { conversation: name.clone(), user: user.clone(), member: false };
            let event = Arc::new(Encoded::new(event));
            for session in self.sessions.of_user(tenant, &user) {
                let socket = session.socket;
                let tell = |event: &Arc<Encoded>| {
                    self.shards.post(socket.shard, ShardItem::Event { socket, event: event.clone() })
                };
                let was_in = session.is_in(room);
                // Evict first, since that flushes the room. The last messages of a log must come before its end.
                self.attachments.evict(&session, room);
                if was_in {
                    tell(&deleted);
                }
                tell(&event);
            }
        }
    }

    /// Forgets rooms whose log is not the one that the database has now. Closes the connections that joined them, so that the clients
    /// reconnect.
    pub(super) fn outdate(&self, rooms: &[Arc<Room>]) {
        let mut concerned: Set<ChannelId> = Set::default();
        for room in rooms {
            {
                let mut state = room.state();
                if !state.set_outdated() {
                    continue;
                }
                self.presence.clear(room, &mut state);
            }
            self.rooms.forget(room);
            concerned.insert(room.channel);
        }
        if concerned.is_empty() {
            return;
        }
        tracing::warn!(
            conversations = concerned.len(),
            "the database was restored to an earlier state; clients of these conversations connect again"
        );
        for session in self.sessions.all() {
            let is_concerned = session.state().joined.iter().any(|room| concerned.contains(&room.channel));
            if is_concerned {
                self.attachments.close(&session, CloseReason::Restart);
            }
        }
    }

    /// Begins an incarnation of the database. Rooms of other incarnations are outdated.
    pub(super) fn begin_incarnation(&self, incarnation: &str) {
        self.deleted.clear();
        self.rooms.restart_all_loads();
        let mut rooms = self.rooms.all();
        rooms.retain(|room| incarnation_of(&room.log) != incarnation);
        self.outdate(&rooms);
    }
}
