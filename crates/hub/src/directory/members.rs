//! The members of conversations. Changes are applied in the order in which the database made them. If that order is not known, the members
//! are read again.

use std::sync::Arc;

use starling_conversation_store::{Conversation, ConversationId};
use starling_model::{ConversationName, Seq, TenantName, UserName};
use starling_wire::protocol::{self, Json};
use tokio::sync::mpsc;

use super::Directory;
use super::comparing::CONVERSATIONS_PER_QUERY;
use crate::encoded::Encoded;
use crate::node_message::{MemberChange, NodeMessage};
use crate::room::members_version::VersionOrder;
use crate::room::{Room, RoomState};
use crate::shards::ShardItem;

impl Directory {
    /// Applies a change of membership. Tells the sessions that joined, and all of the user's sessions on this node.
    pub fn hear_member(&self, change: &MemberChange) {
        let MemberChange { tenant, name, conversation, user, member, owner, .. } = change;
        self.rooms.restart_load(tenant, name);
        if self.deleted.contains(*conversation) {
            // All members were told that they are no longer members. They may be members of another conversation of that name by now.
            return;
        }
        let room = match self.rooms.known(tenant, name) {
            // Ids only grow, so a deleted conversation has a lower id than a later one of the same name.
            Some(room) if room.conversation > *conversation => return,
            Some(room) if room.conversation < *conversation => {
                self.end(&room);
                None
            }
            known => known,
        };
        let Some(room) = room else {
            self.tell_user(tenant, name, user, *member);
            return;
        };
        let mut owner_left = false;
        {
            let mut state = room.state();
            match state.members.hear(change) {
                VersionOrder::Next => {
                    // A node of an older version does not say who the new owner is.
                    owner_left = owner.is_none() && state.members.has_lost_owner();
                    self.tell_change(&room, &state, user, *member);
                }
                VersionOrder::Loaded => {
                    self.tell_user(tenant, name, user, !state.is_deleted() && state.members.contains(user));
                }
                VersionOrder::Repeat => {}
                VersionOrder::Ahead => {
                    drop(state);
                    self.reload_members(&room);
                    return;
                }
            }
        }
        self.evict_user(&room, user);
        if owner_left {
            self.reload_members(&room);
        }
    }

    /// Handles another node's message about the version of a conversation's members. `None`: they may have changed. Older ones are read
    /// again.
    pub fn hear_members_version(
        &self,
        tenant: &TenantName,
        name: &ConversationName,
        conversation: ConversationId,
        version: Option<u64>,
    ) {
        self.rooms.restart_load(tenant, name);
        let Some(room) = self.rooms.known(tenant, name).filter(|room| room.conversation == conversation)
        else {
            return;
        };
        if version.is_none_or(|version| room.state().members.learn_version(version)) {
            self.reload_members(&room);
        }
    }

    /// Requests that a conversation's members are read again. Requests before that begins count as one.
    pub fn reload_members(&self, room: &Arc<Room>) {
        if room.begin_members_read() && self.member_reads.try_send(room.clone()).is_err() {
            room.end_members_read();
            // The whole partition is read instead.
            self.reload(room.partition);
        }
    }

    /// Reads the members of the rooms that [`Directory::reload_members`] requests. Requests that come during a read make the next batch.
    pub(super) async fn read_members_forever(self: Arc<Self>, mut rooms: mpsc::Receiver<Arc<Room>>) {
        let mut some = Vec::new();
        while rooms.recv_many(&mut some, CONVERSATIONS_PER_QUERY).await > 0 {
            some.iter().for_each(|room| room.end_members_read());
            self.read_members(&some).await;
            some.clear();
        }
    }

    /// Applies a change of membership on this node first, and then tells the others.
    pub fn tell_member(&self, change: MemberChange) {
        self.hear_member(&change);
        let partition = starling_fanout::partition_of(&change.tenant, &change.name);
        self.publisher.publish_message(partition, &NodeMessage::Member(change));
    }

    /// Makes every node read the members again that knows an older version of them. `None`: every node reads them.
    pub fn tell_members_version(&self, room: &Room, version: Option<u64>) {
        let (tenant, name) = (room.key.tenant.clone(), room.key.name.clone());
        self.hear_members_version(&tenant, &name, room.conversation, version);
        let message = NodeMessage::Members { tenant, name, conversation: room.conversation, version };
        self.publisher.publish_message(room.partition, &message);
    }

    /// Applies the members that were read, and tells what changed.
    pub(super) fn take_members(&self, room: &Arc<Room>, known_before: u64, read: &Conversation) {
        let mut gone = Vec::new();
        {
            let mut state = room.state();
            if state.is_gone() {
                return;
            }
            let Some(before) = state.refresh(known_before, read) else {
                drop(state);
                self.reload_members(room);
                return;
            };
            if state.members.learn_details(read.details_version) {
                let event = protocol::Updated {
                    conversation: room.key.name.clone(),
                    title: read.title.as_deref().map(Into::into),
                    metadata: read.metadata.clone().map(Json::from_compact),
                };
                state.broadcast(&*self.shards, event, None);
            }
            let state = &*state;
            for user in state.members.users().filter(|user| !before.contains(*user)) {
                self.tell_change(room, state, user, true);
            }
            for user in before.iter().filter(|user| !state.members.contains(user)) {
                self.tell_change(room, state, user, false);
                gone.push(user.clone());
            }
        }
        for user in gone {
            self.evict_user(room, &user);
        }
        self.head_reports.check(room, read.head);
        if room.state().has_hole() {
            self.repairs.request(room);
        }
    }

    /// Tells the sessions that joined and all of the user's own sessions about a change, each session once. Must be called with the room's
    /// state locked, so that changes are told in their order.
    fn tell_change(&self, room: &Room, state: &RoomState, user: &UserName, member: bool) {
        let event = protocol::Membership { conversation: room.key.name.clone(), user: user.clone(), member };
        state.broadcast(&*self.shards, event, Some(user));
        self.tell_user(&room.key.tenant, &room.key.name, user, member);
    }

    fn tell_user(&self, tenant: &TenantName, name: &ConversationName, user: &UserName, member: bool) {
        let sessions = self.sessions.of_user(tenant, user);
        if sessions.is_empty() {
            return;
        }
        let event = protocol::Membership { conversation: name.clone(), user: user.clone(), member };
        let event = Arc::new(Encoded::new(event));
        for session in sessions {
            let socket = session.socket;
            self.shards.post(socket.shard, ShardItem::Event { socket, event: event.clone() });
        }
    }

    /// Evicts the user's sessions from the room, unless the user is a member.
    fn evict_user(&self, room: &Arc<Room>, user: &UserName) {
        if !room.is_member(user) {
            for session in self.sessions.of_user(&room.key.tenant, user) {
                self.attachments.evict(&session, room);
            }
        }
    }

    /// Handles another node's message that the title or metadata changed.
    pub fn hear_details(
        &self,
        tenant: &TenantName,
        name: &ConversationName,
        conversation: Option<ConversationId>,
    ) {
        self.rooms.restart_load(tenant, name);
        if let Some(room) = self.room_meant(tenant, name, conversation)
            && room.state().joined() > 0
        {
            self.reload_members(&room);
        }
    }

    /// Handles another node's message that a read mark rose.
    pub fn hear_read_mark(
        &self,
        tenant: &TenantName,
        name: &ConversationName,
        conversation: Option<ConversationId>,
        user: &UserName,
        seq: Seq,
    ) {
        self.rooms.restart_load(tenant, name);
        if let Some(room) = self.room_meant(tenant, name, conversation) {
            self.raise_read_mark(&room, user, seq);
        }
    }

    /// Raises a read mark on this node first, and then tells the others.
    pub fn tell_read_mark(&self, room: &Room, user: &UserName, seq: Seq) {
        let (tenant, name) = (room.key.tenant.clone(), room.key.name.clone());
        self.rooms.restart_load(&tenant, &name);
        self.raise_read_mark(room, user, seq);
        let (conversation, user) = (Some(room.conversation), user.clone());
        let message = NodeMessage::Read { tenant, name, conversation, user, seq };
        self.publisher.publish_about(room, &message);
    }

    /// Raises a read mark and tells the sessions that joined.
    fn raise_read_mark(&self, room: &Room, user: &UserName, seq: Seq) {
        let mut state = room.state();
        if !state.members.raise_read_mark(user, seq) {
            return;
        }
        let event =
            protocol::ReadMark { conversation: room.key.name.clone(), user: user.clone(), seq: seq.get() };
        state.broadcast(&*self.shards, event, None);
    }

    /// Returns the room that another node means by a name and an id. Nodes of older versions send no id, and mean the conversation that has
    /// the name now.
    pub fn room_meant(
        &self,
        tenant: &TenantName,
        name: &ConversationName,
        conversation: Option<ConversationId>,
    ) -> Option<Arc<Room>> {
        let room = self.rooms.known(tenant, name)?;
        conversation.is_none_or(|conversation| conversation == room.conversation).then_some(room)
    }
}
