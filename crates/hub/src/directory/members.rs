//! Who is a member, as this node has it: changes are applied in the order in which the database made them, and where that order
//! is not known the members are read anew.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use starling_conversation_store::{Conversation, ConversationHead, ConversationId};
use starling_model::{ConversationName, TenantName, UserName};
use starling_wire::protocol::{self, Json};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::Map;
use crate::encoded::Encoded;
use crate::hub::Hub;
use crate::node_message::{MemberChange, NodeMessage};
use crate::room::members_version::Heard;
use crate::room::{Room, RoomState};
use crate::shards::ShardItem;

/// How many conversations are read anew in one query, with all their members.
pub(crate) const READ_AT_ONCE: usize = 200;
/// How often all that is cached is compared with the database, whatever was heard: the longest that a change stays unknown to a node
/// whose database answers.
const COMPARE: Duration = Duration::from_secs(60);

impl Hub {
    /// Takes over a change of membership; tells those who joined, and the user's sessions here.
    pub(crate) fn apply_member(&self, change: &MemberChange) {
        let MemberChange { tenant, name, conversation, version, user, member, owner } = change;
        self.rooms.doubt_load(tenant, name);
        if self.deleted.contains(*conversation) {
            // Everybody was told that they are no members any more, and may be members of another one of that name by now.
            return;
        }
        let room = match self.rooms.known(tenant, name) {
            // Ids grow: what was deleted has a smaller one than what was made later under its name.
            Some(room) if room.conversation > *conversation => return,
            Some(room) if room.conversation < *conversation => {
                self.apply_deleted(&room);
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
            match state.members_version.hear(*version) {
                Heard::Next => {
                    if *member {
                        state.members.entry(user.clone()).or_insert(0);
                    } else {
                        state.members.remove(user);
                    }
                    match owner {
                        Some(owner) => state.owner = owner.clone(),
                        // A node of an older version says nothing of whom the conversation was handed on to.
                        None => owner_left = !state.members.contains_key(&state.owner),
                    }
                    self.tell_change(&room, &state, user, *member);
                }
                Heard::Loaded => {
                    self.tell_user(tenant, name, user, !state.gone && state.members.contains_key(user));
                }
                Heard::Repeat => {}
                Heard::Ahead => {
                    drop(state);
                    self.look(&room);
                    return;
                }
            }
        }
        self.evict_user(&room, user);
        if owner_left {
            self.look(&room);
        }
    }

    /// Hears that members are at a version now, or that they may have changed (`None`): what is older is read anew.
    pub(crate) fn doubt_members(
        &self,
        tenant: &TenantName,
        name: &ConversationName,
        conversation: ConversationId,
        version: Option<u64>,
    ) {
        self.rooms.doubt_load(tenant, name);
        let Some(room) = self.rooms.known(tenant, name).filter(|room| room.conversation == conversation)
        else {
            return;
        };
        if version.is_none_or(|version| room.state().members_version.learn(version)) {
            self.look(&room);
        }
    }

    /// Learns where a conversation stands in the database, and has read what is missing here. `false`: the database has another log
    /// under the room's number, and the room is to be outdated.
    pub(crate) fn learn(&self, room: &Arc<Room>, head: &ConversationHead) -> bool {
        if *head.log != *room.log {
            return false;
        }
        self.hear_log(room, head.head);
        if room.learn_head(head.head) {
            self.repair(room);
        }
        let is_behind = {
            let mut state = room.state();
            state.members_version.learn(head.members_version) || state.details_version < head.details_version
        };
        if is_behind {
            self.look(room);
        }
        true
    }

    /// Has a conversation's members read anew, soon and once.
    pub(crate) fn look(&self, room: &Arc<Room>) {
        if !room.looking.swap(true, Ordering::AcqRel) && self.look_lane.try_send(room.clone()).is_err() {
            room.looking.store(false, Ordering::Release);
            // All of the lane is read instead.
            self.missed.insert(room.lane);
        }
    }

    /// Reads what comes along the lane of [`Hub::look`]; what comes while it reads is the next read.
    pub(crate) async fn look_forever(self: Arc<Self>, mut rooms: mpsc::Receiver<Arc<Room>>) {
        let mut some = Vec::new();
        while rooms.recv_many(&mut some, READ_AT_ONCE).await > 0 {
            for room in &some {
                // Whoever asks from here on wants what is read after this.
                room.looking.store(false, Ordering::Release);
            }
            self.read_members(&some).await;
            some.clear();
        }
    }

    /// Reads the members, marks and heads of these conversations anew, in one query, and evicts who is no member any more. What
    /// can't be read now is missed still; `false`, then.
    pub(crate) async fn read_members(&self, rooms: &[Arc<Room>]) -> bool {
        let known: Vec<u64> = rooms.iter().map(|room| room.state().members_version.known()).collect();
        let ids: Vec<ConversationId> = rooms.iter().map(|room| room.conversation).collect();
        let read = match self.conversations.open_many(&ids).await {
            Ok(read) => read,
            Err(error) => {
                tracing::debug!(%error, "members could not be read anew; they will be, later");
                rooms.iter().for_each(|room| self.missed.insert(room.lane));
                return false;
            }
        };
        let read: Map<ConversationId, Conversation> =
            read.into_iter().map(|conversation| (conversation.id, conversation)).collect();
        let mut outdated = Vec::new();
        for (room, known) in rooms.iter().zip(known) {
            match read.get(&room.conversation) {
                Some(conversation) if *conversation.log != *room.log => outdated.push(room.clone()),
                Some(conversation) => self.take_members(room, known, conversation),
                None => self.apply_deleted(room),
            }
        }
        self.outdate(&outdated);
        true
    }

    /// Compares all that is cached with the database, now and then, for what no node was told of: a change whose statement the
    /// database finished only after the node that asked for it had given up, or died.
    pub(crate) async fn compare_forever(self: Arc<Self>) {
        let mut interval = tokio::time::interval(COMPARE);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            // With the database away everybody knows that something is missed.
            if self.conversations.ping().await.is_ok() {
                self.check_heads(&self.rooms.in_use(self.seconds())).await;
            }
        }
    }

    /// Tells everybody of a change, this node first.
    pub(crate) fn tell_member(&self, change: MemberChange) {
        self.apply_member(&change);
        let lane = starling_fanout::partition_of(&change.tenant, &change.name);
        self.publisher.publish_message(lane, &NodeMessage::Member(change));
    }

    /// Has everybody look whose members are older than this version, or everybody.
    pub(crate) fn tell_doubt(&self, room: &Room, version: Option<u64>) {
        let (tenant, name) = (room.key.tenant.clone(), room.key.name.clone());
        self.doubt_members(&tenant, &name, room.conversation, version);
        let message = NodeMessage::Members { tenant, name, conversation: room.conversation, version };
        self.publisher.publish_message(room.lane, &message);
    }

    /// Takes over what was read of a conversation, and tells what changed by it.
    fn take_members(&self, room: &Arc<Room>, known_before: u64, read: &Conversation) {
        let mut gone = Vec::new();
        {
            let mut state = room.state();
            if state.gone || state.outdated {
                return;
            }
            if !state.members_version.read(known_before, read.members_version) {
                drop(state);
                self.look(room);
                return;
            }
            let before = state.refresh(read);
            if read.details_version > state.details_version {
                state.details_version = read.details_version;
                let event = protocol::Updated {
                    conversation: room.key.name.clone(),
                    title: read.title.as_deref().map(Into::into),
                    metadata: read.metadata.clone().map(Json::from_compact),
                };
                state.broadcast(room.id, &*self.shards, event, None);
            }
            let state = &*state;
            for user in state.members.keys().filter(|user| !before.contains_key(*user)) {
                self.tell_change(room, state, user, true);
            }
            for user in before.into_keys().filter(|user| !state.members.contains_key(user)) {
                self.tell_change(room, state, &user, false);
                gone.push(user);
            }
        }
        for user in gone {
            self.evict_user(room, &user);
        }
        self.hear_log(room, read.head);
        if room.state().has_hole() {
            self.repair(room);
        }
    }

    /// Tells those who joined, and the user's own sockets, joined or not, once. Under the room's lock, so that changes are told in
    /// their order.
    fn tell_change(&self, room: &Room, state: &RoomState, user: &UserName, member: bool) {
        let event = protocol::Membership { conversation: room.key.name.clone(), user: user.clone(), member };
        state.broadcast(room.id, &*self.shards, event, Some(user));
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

    /// Takes the user's sessions out of the room, unless they may be there.
    fn evict_user(&self, room: &Arc<Room>, user: &UserName) {
        if !room.is_member(user) {
            for session in self.sessions.of_user(&room.key.tenant, user) {
                self.evict(&session, room);
            }
        }
    }
}
