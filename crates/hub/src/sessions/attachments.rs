//! Attaches sessions to rooms and topics and detaches them. Only this module changes what a session has joined.

use std::sync::Arc;

use starling_model::{ConversationName, TopicName};
use starling_session_store::Change;
use starling_wire::protocol::CloseReason;

use super::Session;
use crate::presence::{LastSeenTimes, Lingerer, Presence};
use crate::room::{Joined, Room};
use crate::shards::{ChannelId, ShardItem, Shards};
use crate::store_writer::StoreWriter;
use crate::topics::{Topic, Topics};
use crate::{CommandError, clock};

/// Attaches sessions to rooms and topics and detaches them.
pub(crate) struct Attachments {
    shards: Arc<dyn Shards>,
    topics: Arc<Topics>,
    presence: Arc<Presence>,
    last_seen: Arc<LastSeenTimes>,
    writer: Arc<StoreWriter>,
}

impl Attachments {
    /// Creates it from these parts.
    pub fn new(
        shards: Arc<dyn Shards>,
        topics: Arc<Topics>,
        presence: Arc<Presence>,
        last_seen: Arc<LastSeenTimes>,
        writer: Arc<StoreWriter>,
    ) -> Arc<Attachments> {
        Arc::new(Attachments { shards, topics, presence, last_seen, writer })
    }

    /// Attaches a session to a room. Must be called on the thread of its shard.
    pub fn join(&self, session: &Arc<Session>, room: &Arc<Room>) -> Result<Joined, CommandError> {
        let mut joined = session.state();
        let mut state = room.state();
        if state.is_outdated() {
            return Err(CommandError::unavailable("the conversation is being read again"));
        }
        if state.is_deleted() || !state.members.contains(&session.user) {
            return Err(CommandError::no_such_conversation());
        }
        let head = match joined.joined.get(&room.key.name) {
            Some(found) if Arc::ptr_eq(found, room) => state.head(),
            _ => {
                if let Some(older) = joined.joined.insert(room.clone()) {
                    // The session was still attached to an earlier conversation of this name, which is gone.
                    older.state().detach(session.socket.shard);
                    self.evict_socket(session, &older);
                }
                let head = state.attach(session.socket.shard);
                if !state.presence.is_known() {
                    self.presence.reload(room.partition);
                }
                self.presence.count_in(room, &mut state, &session.user);
                self.writer.update_session(&session.id, Change::Joined(room.as_joined()));
                head
            }
        };
        Ok(Joined {
            head,
            online: state.presence.online().users().cloned().collect(),
            reads: state.members.read_marks(),
        })
    }

    /// Detaches a session from a room that it leaves. `None`: it had not joined.
    pub fn leave(&self, session: &Session, name: &ConversationName) -> Option<ChannelId> {
        let room = session.state().joined.remove(name)?;
        self.detach(session, &room);
        Some(room.channel)
    }

    /// Detaches a session from a room that its user may no longer read, unless the user has become a member again.
    pub fn evict(&self, session: &Session, room: &Arc<Room>) {
        let was_in = {
            let mut state = session.state();
            match state.joined.get(&room.key.name) {
                Some(found) if Arc::ptr_eq(found, room) && !room.is_member(&session.user) => {
                    state.joined.remove(&room.key.name).is_some()
                }
                _ => false,
            }
        };
        if was_in {
            self.detach(session, room);
            self.evict_socket(session, room);
        }
    }

    /// Attaches a session to a topic. Must be called on the thread of its shard.
    pub fn subscribe(&self, session: &Session, topic: &Arc<Topic>) {
        let mut state = session.state();
        if state.topics.insert(topic.clone()).is_none() {
            topic.attach(session.socket.shard);
            self.writer.update_session(&session.id, Change::Subscribed(topic.key.name.clone()));
        }
    }

    /// Detaches a session from a topic. `None`: it had not subscribed.
    pub fn unsubscribe(&self, session: &Session, name: &TopicName) -> Option<ChannelId> {
        let topic = session.state().topics.remove(name)?;
        self.topics.detach(&topic, session.socket.shard);
        self.writer.update_session(&session.id, Change::Unsubscribed(name.clone()));
        Some(topic.channel)
    }

    /// Detaches a session whose connection is gone from all rooms and topics. Its user lingers in the rooms.
    pub fn drop_all(&self, session: &Session) {
        let (rooms, topics, older) = {
            // The lock is held until the user lingers, so that another thread that drops the same session comes after that.
            let mut state = session.state();
            let rooms = state.joined.take();
            let lingerer = Lingerer::new(session.user.clone(), rooms.clone(), session.stamp());
            let older = self.presence.linger(&session.tenant, session.id.clone(), lingerer);
            (rooms, state.topics.take(), older)
        };
        for topic in &topics {
            self.topics.detach(topic, session.socket.shard);
        }
        for room in &rooms {
            room.state().detach(session.socket.shard);
        }
        if let Some(older) = older {
            self.presence.release(&older);
        }
    }

    /// Makes the shard close a session's connection.
    pub fn close(&self, session: &Session, reason: CloseReason) {
        let socket = session.socket;
        self.shards.post(socket.shard, ShardItem::Close { socket, reason });
    }

    /// Detaches a session from a room. Its user was online there until now.
    fn detach(&self, session: &Session, room: &Room) {
        room.state().detach(session.socket.shard);
        self.writer.update_session(&session.id, Change::Left(room.as_joined()));
        let now_ms = clock::now_ms();
        self.last_seen.note(&session.tenant, &session.user, now_ms);
        self.presence.count_out(room, &session.user, now_ms);
    }

    fn evict_socket(&self, session: &Session, room: &Room) {
        let socket = session.socket;
        self.shards.post(socket.shard, ShardItem::Evict { socket, channel: room.channel });
    }
}
