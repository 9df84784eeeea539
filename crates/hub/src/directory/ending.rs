//! Rooms that end: their conversation was deleted, or the database was restored to an earlier state.
//!
//! The store finds out by itself that a dump was restored, and an operator can say so. Both show as another incarnation, as does a database
//! that lost what it had committed (see [`crate::log::HeadReports`]). Another incarnation has other logs: every client is told that
//! its cursors belong to messages that are no longer there.

use std::sync::Arc;

use starling_conversation_store::{ConversationId, incarnation_of};
use starling_model::{ConversationName, TenantName, UserName};
use starling_wire::protocol::{self, CloseReason};

use super::Directory;
use crate::Set;
use crate::encoded::Encoded;
use crate::node_message::NodeMessage;
use crate::room::{Room, RoomKey};
use crate::shards::{RoomId, ShardItem};

impl Directory {
    /// Tells everybody that a conversation is gone, this node first.
    pub fn tell_deleted(&self, room: &Arc<Room>) {
        let (tenant, name, conversation) =
            (room.key.tenant.clone(), room.key.name.clone(), room.conversation);
        self.end(room);
        self.publisher.publish_message(room.lane, &NodeMessage::Deleted { tenant, name, conversation });
    }

    /// Another node says that a conversation is gone.
    pub fn hear_deleted(&self, tenant: &TenantName, name: &ConversationName, conversation: ConversationId) {
        self.deleted.enter(conversation);
        match self.rooms.known(tenant, name) {
            Some(room) if room.conversation == conversation => self.end(&room),
            _ => self.rooms.doubt_load(tenant, name),
        }
    }

    /// A conversation is gone: those who joined are told so, and all members that they are none any more.
    pub fn end(&self, room: &Arc<Room>) {
        let members: Vec<UserName> = {
            let mut state = room.state();
            if std::mem::replace(&mut state.gone, true) {
                return;
            }
            self.deleted.enter(room.conversation);
            self.presence.clear(room, &mut state);
            state.members.drain().map(|(user, _)| user).collect()
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
                // First, since it flushes the room: the last messages of a log come before its end is told.
                self.attachments.evict(&session, room);
                if was_in {
                    tell(&deleted);
                }
                tell(&event);
            }
        }
    }

    /// Forgets rooms that are not what the database has by now, and has the clients that joined them come again.
    pub(super) fn outdate(&self, rooms: &[Arc<Room>]) {
        let mut concerned: Set<RoomId> = Set::default();
        for room in rooms {
            {
                let mut state = room.state();
                if std::mem::replace(&mut state.outdated, true) {
                    continue;
                }
                self.presence.clear(room, &mut state);
            }
            self.rooms.forget(room);
            concerned.insert(room.id);
        }
        if concerned.is_empty() {
            return;
        }
        tracing::warn!(
            conversations = concerned.len(),
            "the database was restored to an earlier state; clients of these conversations connect again"
        );
        for session in self.sessions.all() {
            let is_concerned = session.state().joined.values().any(|room| concerned.contains(&room.id));
            if is_concerned {
                self.attachments.close(&session, CloseReason::Restart);
            }
        }
    }

    /// The database is in this incarnation: what is known of others is outdated.
    pub(super) fn begin_incarnation(&self, incarnation: &str) {
        self.deleted.clear();
        self.rooms.doubt_all_loads();
        let mut rooms = self.rooms.all();
        rooms.retain(|room| incarnation_of(&room.log) != incarnation);
        self.outdate(&rooms);
    }
}
