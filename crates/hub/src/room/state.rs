//! The part of a room that changes.

use starling_conversation_store::Conversation;
use starling_model::{ConversationName, Seq, UserName};
use starling_wire::protocol::{self, Event, Timestamp};

use super::delivery::Delivery;
use super::membership::Membership;
use super::presence::RoomPresence;
use crate::Set;
use crate::shards::{ChannelId, Shards};

/// The part of a room that changes.
pub struct RoomState {
    /// The members, which the directory changes.
    pub members: Membership,
    /// Who is online, which [`crate::presence`] changes.
    pub presence: RoomPresence,
    pub(super) delivery: Delivery,
    /// Whether the conversation was deleted or replaced by another one of the same name. Then nothing goes in or out.
    is_deleted: bool,
    /// Whether the database was set back. Then this state belongs to another log and must be read again.
    is_outdated: bool,
}

impl RoomState {
    /// Makes the state of a conversation that was read from the database.
    pub(super) fn new(channel: ChannelId, shards: usize, conversation: &Conversation) -> RoomState {
        RoomState {
            members: Membership::of(conversation),
            presence: RoomPresence::default(),
            delivery: Delivery::new(channel, conversation.head, shards),
            is_deleted: false,
            is_outdated: false,
        }
    }

    /// Whether the room must be used no more: the conversation was deleted, or belongs to another log than the database has now.
    pub fn is_gone(&self) -> bool {
        self.is_deleted || self.is_outdated
    }

    /// Whether the conversation was deleted.
    pub fn is_deleted(&self) -> bool {
        self.is_deleted
    }

    /// Whether the database was set back, so that the room must be read again.
    pub fn is_outdated(&self) -> bool {
        self.is_outdated
    }

    /// Notes that the conversation was deleted. `false`: that was known.
    pub fn set_deleted(&mut self) -> bool {
        !std::mem::replace(&mut self.is_deleted, true)
    }

    /// Notes that the database was set back. `false`: that was known.
    pub fn set_outdated(&mut self) -> bool {
        !std::mem::replace(&mut self.is_outdated, true)
    }

    /// Removes the members of a deleted conversation, and returns them.
    pub fn take_members(&mut self) -> Vec<UserName> {
        self.members.clear()
    }

    /// Counts a session of a shard in. Returns the last seq that was delivered. Later messages go to the shard.
    pub fn attach(&mut self, shard: u16) -> Seq {
        self.delivery.attach(shard)
    }

    /// Counts a session of a shard out.
    pub fn detach(&mut self, shard: u16) {
        self.delivery.detach(shard);
        if self.delivery.joined() == 0 {
            self.presence.set_unknown();
        }
    }

    /// Returns the number of joined sessions on this node.
    pub fn joined(&self) -> u32 {
        self.delivery.joined()
    }

    /// Returns the last seq that was delivered.
    pub fn head(&self) -> Seq {
        self.delivery.head()
    }

    /// Returns the highest seq that is known to exist.
    pub fn known(&self) -> Seq {
        self.delivery.known()
    }

    /// Whether messages are missing for a joined session.
    pub fn has_hole(&self) -> bool {
        self.delivery.has_hole()
    }

    /// Assumes that the log ends with the last delivered message: see [`Delivery::give_up`].
    pub fn give_up(&mut self, known: Seq) -> bool {
        self.delivery.give_up(known)
    }

    /// Replaces the members by those that were read from the database, and learns the head. Returns the earlier members. `None`: the
    /// members must be read again.
    pub fn refresh(&mut self, known_before: u64, read: &Conversation) -> Option<Set<UserName>> {
        let before = self.members.replace(known_before, read)?;
        self.delivery.learn_head(read.head);
        Some(before)
    }

    /// Delivers an event that may be lost.
    pub fn broadcast(&self, shards: &dyn Shards, event: impl Into<Event>, except: Option<&UserName>) {
        self.delivery.broadcast(shards, event, except);
    }

    /// Tells everybody but the user that the user came online or went offline.
    pub fn tell_presence(
        &self,
        conversation: &ConversationName,
        shards: &dyn Shards,
        user: &UserName,
        online: bool,
        last_seen_ms: Option<i64>,
    ) {
        let event = protocol::Presence {
            conversation: conversation.clone(),
            user: user.clone(),
            online,
            last_seen: if online { None } else { last_seen_ms.map(Timestamp) },
        };
        self.broadcast(shards, event, Some(user));
    }
}
