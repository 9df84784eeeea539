//! What this node hears from the others.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use starling_fanout::{Delivery, Receiver};
use starling_model::{ConversationName, TenantName, UserName};
use starling_telemetry::TRACE_TARGET;
use starling_wire::protocol;

use crate::clock;
use crate::directory::rooms::Taken;
use crate::encoded::Encoded;
use crate::hub::Hub;
use crate::metrics::METRICS;
use crate::node_message::{self, CommittedMessage, Head, Heard, NodeMessage};
use crate::room::online::Shift;
use crate::room::{Room, RoomKey};
use crate::shards::ShardItem;
use crate::topics::TopicKey;

/// The hub's ear: holds no hub alive.
pub(crate) struct Ear {
    hub: Weak<Hub>,
}

impl Ear {
    pub(crate) fn new(hub: &Arc<Hub>) -> Ear {
        Ear { hub: Arc::downgrade(hub) }
    }
}

impl Receiver for Ear {
    fn receive(&self, delivery: Delivery) {
        let Some(hub) = self.hub.upgrade() else { return };
        match delivery {
            Delivery::Publication { partition: lane, body } => hub.hear_body(Some(lane), &body),
            Delivery::Direct { body } => hub.hear_body(None, &body),
            Delivery::Topic { tenant, topic, epoch, offset, body } => {
                let key = TopicKey { tenant, name: topic };
                hub.topics.deliver(&*hub.shards, &key, epoch, offset, &body);
            }
            Delivery::Probe { nonce } => hub.neighbours.hear_probe(nonce),
            Delivery::Down => {
                METRICS.fanout_up.set(0.0);
                hub.topics.doubt();
            }
            Delivery::Gap { partition: lane } => {
                METRICS.gaps.increment(1);
                METRICS.fanout_up.set(1.0);
                tracing::info!(
                    ?lane,
                    "publications may have been lost; reading what is missing from the log"
                );
                hub.neighbours.hear_gap(lane.is_none());
                hub.topics.doubt();
                hub.miss(lane);
                if lane.is_none() {
                    // A session may have been ended, or attached elsewhere: that is said once, and to its node alone.
                    hub.sessions_doubted.notify_one();
                }
            }
        }
    }
}

impl Hub {
    /// What came by a lane, or to this node alone.
    fn hear_body(self: &Arc<Self>, lane: Option<u16>, body: &Bytes) {
        match node_message::decode(body) {
            Some(Heard::Message(message)) => self.hear_message(&message),
            Some(Heard::Other(message)) => self.hear(lane, message),
            None => tracing::debug!("a publication of another version was ignored"),
        }
    }

    fn hear_message(self: &Arc<Self>, message: &CommittedMessage) {
        let span = tracing::info_span!(target: TRACE_TARGET, "receive", seq = message.seq);
        if let Some(traceparent) = &message.traceparent {
            starling_telemetry::set_parent(&span, traceparent);
        }
        let _entered = span.entered();
        let now = clock::now_us();
        METRICS.fanout_lag.record(now.saturating_sub(message.committed_at_us) as f64 / 1e6);
        let taken = self.rooms.feed(
            &*self.shards,
            &message.tenant,
            &message.name,
            message.conversation,
            message.seq,
            || Encoded::from_json(&message.payload, message.committed_at_us),
        );
        match taken {
            Some(Taken::Holed(room)) => self.repair(&room),
            Some(Taken::Gone(room)) => self.apply_deleted(&room),
            None => {}
        }
    }

    fn hear(self: &Arc<Self>, lane: Option<u16>, message: NodeMessage) {
        match message {
            NodeMessage::Typing { tenant, name, conversation, user, typing } => {
                if let Some(room) = self.meant(&tenant, &name, conversation) {
                    let event = protocol::Typing { conversation: name, user: user.clone(), typing };
                    room.broadcast(&*self.shards, event, Some(&user));
                }
            }
            NodeMessage::Presence { tenant, name, conversation, user, node, devices, last_seen_ms } => {
                if node != self.node
                    && let Some(room) = self.meant(&tenant, &name, conversation)
                {
                    self.hear_presence(&room, &user, &node, devices, last_seen_ms);
                }
            }
            NodeMessage::Read { tenant, name, conversation, user, seq } => {
                self.rooms.doubt_load(&tenant, &name);
                if let Some(room) = self.meant(&tenant, &name, conversation) {
                    self.apply_read(&room, &user, seq);
                }
            }
            NodeMessage::Member(change) => self.apply_member(&change),
            NodeMessage::Members { tenant, name, conversation, version } => {
                self.doubt_members(&tenant, &name, conversation, version);
            }
            NodeMessage::Changed { tenant, name, conversation } => {
                self.rooms.doubt_load(&tenant, &name);
                if let Some(room) = self.meant(&tenant, &name, conversation)
                    && room.state().joined() > 0
                {
                    self.look(&room);
                }
            }
            NodeMessage::Deleted { tenant, name, conversation } => {
                self.hear_deleted(&tenant, &name, conversation);
            }
            NodeMessage::Heads(heads) => self.hear_heads(&heads),
            NodeMessage::Moved { session, to, stamp } => {
                if to != self.node
                    && let Some(lane) = lane
                {
                    if stamp.is_some() {
                        // It may come before what is said to this node alone, or instead of it. First its people linger.
                        self.hear_rival(&session, &to, stamp);
                    }
                    self.stop_lingering_in(lane, &session, stamp);
                }
            }
            NodeMessage::Superseded { session, to, stamp } => {
                if to != self.node {
                    self.hear_rival(&session, &to, stamp);
                }
            }
            NodeMessage::GivenBack { session, stamp } => self.take_back(&session, stamp),
            NodeMessage::Ended { session } => self.end_here(&session),
            NodeMessage::Restored { node } => {
                if node != self.node {
                    self.unread.insert_all();
                }
            }
            NodeMessage::Drain { node } => {
                if node == self.node {
                    self.drain_wanted.notify_one();
                }
            }
            NodeMessage::Missed { .. } => lane.into_iter().for_each(|lane| self.miss(Some(lane))),
            NodeMessage::Here { node } => self.neighbours.hear_here(&node),
            NodeMessage::Leaving { node } => {
                self.neighbours.hear_leaving(&node);
                self.forget_nodes(&[&node]);
            }
        }
    }

    pub(crate) fn hear_heads(self: &Arc<Self>, heads: &[Head]) {
        for head in heads {
            if let Some(room) = self.rooms.learn_head(&head.tenant, &head.name, head.conversation, head.seq) {
                self.repair(&room);
            }
        }
    }

    /// Takes over a read mark and tells those who joined.
    pub(crate) fn apply_read(&self, room: &Room, user: &UserName, seq: u64) {
        let mut state = room.state();
        let Some(mark) = state.members.get_mut(user) else { return };
        // A mark never falls, in whichever order the nodes' words arrive.
        if *mark >= seq {
            return;
        }
        *mark = seq;
        let event = protocol::ReadMark { conversation: room.key.name.clone(), user: user.clone(), seq };
        state.broadcast(room.id, &*self.shards, event, None);
    }

    /// The room that a node means: the one with this number. A node of an older version gives none, and means the one that has the
    /// name.
    pub(crate) fn meant(
        &self,
        tenant: &TenantName,
        name: &ConversationName,
        conversation: Option<i64>,
    ) -> Option<Arc<Room>> {
        let room = self.rooms.known(tenant, name)?;
        conversation.is_none_or(|conversation| conversation == room.conversation).then_some(room)
    }

    fn hear_deleted(&self, tenant: &TenantName, name: &ConversationName, conversation: i64) {
        self.deleted.enter(conversation);
        match self.rooms.known(tenant, name) {
            Some(room) if room.conversation == conversation => self.apply_deleted(&room),
            _ => self.rooms.doubt_load(tenant, name),
        }
    }

    /// A conversation is gone: those who joined are told so, and all members that they are none any more.
    pub(crate) fn apply_deleted(&self, room: &Arc<Room>) {
        let members: Vec<UserName> = {
            let mut state = room.state();
            if std::mem::replace(&mut state.gone, true) {
                return;
            }
            self.deleted.enter(room.conversation);
            self.clear_presence(room, &mut state);
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
                self.evict(&session, room);
                if was_in {
                    tell(&deleted);
                }
                tell(&event);
            }
        }
    }

    fn hear_presence(
        &self,
        room: &Room,
        user: &UserName,
        node: &Arc<str>,
        devices: u32,
        last_seen_ms: Option<i64>,
    ) {
        let mut state = room.state();
        state.presence_reads.hear(user, node, devices);
        if state.joined() == 0 && !state.online_known {
            return;
        }
        match state.online.set(user, node, devices) {
            Shift::Came => state.tell_presence(room, &*self.shards, user, true, None),
            Shift::Went => state.tell_presence(room, &*self.shards, user, false, last_seen_ms),
            Shift::None => {}
        }
    }
}
