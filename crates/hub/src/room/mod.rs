//! A conversation on this node: its members, the order of its messages, its presence, and the shards that want its events.

mod delivery;
pub(crate) mod members_version;
mod membership;
pub(crate) mod online;
mod presence;
pub(crate) mod presence_reads;
mod rooms;
pub(crate) mod sequencer;
mod state;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
pub(crate) use rooms::{FollowUp, Rooms};
use starling_conversation_store::{Conversation, ConversationId};
use starling_model::{ConversationName, Seq, TenantName, UserName};
use starling_session_store::{ConversationKey, JoinedConversation};
use starling_wire::protocol::Event;
pub(crate) use state::RoomState;

use crate::encoded::Encoded;
use crate::interest::InterestKey;
use crate::log::LogTag;
use crate::node_message::Head;
use crate::room::sequencer::Fed;
use crate::shards::{ChannelId, Shards};

/// A conversation's name and its tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoomKey {
    /// The tenant that the conversation belongs to.
    pub tenant: TenantName,
    /// The conversation's name.
    pub name: ConversationName,
}

impl RoomKey {
    /// Returns the conversation's short name in what nodes tell of their interest.
    pub(crate) fn interest(&self) -> InterestKey {
        let partition = starling_fanout::partition_of(&self.tenant, &self.name);
        InterestKey::of(&self.tenant, &self.name, partition)
    }
}

/// A conversation on this node.
pub struct Room {
    /// The conversation's name and tenant.
    pub key: RoomKey,
    /// Its channel on this node.
    pub channel: ChannelId,
    /// The conversation's id in the database.
    pub conversation: ConversationId,
    /// The id of the conversation's log: see [`Conversation::log`].
    pub log: Arc<str>,
    /// The tag of that log in publications.
    pub log_tag: LogTag,
    /// The highest seq that the database reported to this node. A database that has fewer messages later was set back.
    logged: AtomicU64,
    /// The partition of the fan-out that the conversation's publications take.
    pub partition: u16,
    /// The conversation's short name in what nodes tell of their interest.
    pub(crate) interest: InterestKey,
    /// When the room was last used, in seconds since the node started. Unused rooms are forgotten.
    used_at_s: AtomicU64,
    /// Whether a repair is under way.
    repairing: AtomicBool,
    /// Whether the members are about to be read again.
    reading_members: AtomicBool,
    /// Whether the database is being asked if it was set back.
    reporting: AtomicBool,
    /// Whether the members changed while the room was loaded. They are read once more before the room is used.
    stale_load: AtomicBool,
    /// Whether a shard's inbox was full when a message came. The shards are then told the head until it fits.
    overrun: AtomicBool,
    state: Mutex<RoomState>,
}

/// What a session gets when it joins a room.
pub(crate) struct Joined {
    /// The seq of the last message that does not come through the inbox.
    pub head: Seq,
    /// The users who are online.
    pub online: Vec<UserName>,
    /// The members' read marks.
    pub reads: BTreeMap<UserName, u64>,
}

impl Room {
    /// Makes a room from a conversation that was read from the database.
    pub fn new(key: RoomKey, channel: ChannelId, shards: usize, conversation: &Conversation) -> Room {
        let interest = key.interest();
        let partition = interest.partition();
        Room {
            key,
            channel,
            conversation: conversation.id,
            log: conversation.log.as_str().into(),
            log_tag: LogTag::of(&conversation.log),
            logged: AtomicU64::new(conversation.head.get()),
            partition,
            interest,
            used_at_s: AtomicU64::new(0),
            repairing: AtomicBool::new(false),
            reading_members: AtomicBool::new(false),
            reporting: AtomicBool::new(false),
            stale_load: AtomicBool::new(false),
            overrun: AtomicBool::new(false),
            state: Mutex::new(RoomState::new(channel, shards, conversation)),
        }
    }

    /// Returns the name and id under which a session's record lists the room.
    pub fn as_joined(&self) -> JoinedConversation {
        JoinedConversation { name: self.key.name.clone(), id: Some(self.conversation) }
    }

    /// Returns the key under which the session store keeps the room's presence.
    pub fn presence_key(&self) -> ConversationKey {
        let RoomKey { tenant, name } = self.key.clone();
        ConversationKey { tenant, conversation: name, id: self.conversation }
    }

    /// Notes that the room is used, in seconds after the node started.
    fn touch(&self, now_s: u64) {
        self.used_at_s.store(now_s, Ordering::Relaxed);
    }

    fn used_at_s(&self) -> u64 {
        self.used_at_s.load(Ordering::Relaxed)
    }

    /// Returns the highest seq that the database reported to this node.
    pub fn logged(&self) -> Seq {
        Seq::new(self.logged.load(Ordering::Relaxed))
    }

    /// Begins a repair. `false`: one is under way.
    pub fn begin_repair(&self) -> bool {
        !self.repairing.swap(true, Ordering::AcqRel)
    }

    /// Ends a repair.
    pub fn end_repair(&self) {
        self.repairing.store(false, Ordering::Release);
    }

    /// Begins to have the members read again. `false`: they are about to be read.
    pub fn begin_members_read(&self) -> bool {
        !self.reading_members.swap(true, Ordering::AcqRel)
    }

    /// Notes that the members are being read now. A later request needs another read.
    pub fn end_members_read(&self) {
        self.reading_members.store(false, Ordering::Release);
    }

    /// Begins to report the head to the database. `false`: it is about to be reported.
    pub fn begin_report(&self) -> bool {
        !self.reporting.swap(true, Ordering::AcqRel)
    }

    /// Ends a report.
    pub fn end_report(&self) {
        self.reporting.store(false, Ordering::Release);
    }

    /// Notes that the members changed while the room was loaded.
    fn note_stale_load(&self) {
        self.stale_load.store(true, Ordering::Relaxed);
    }

    /// Returns whether the members changed while the room was loaded, and clears the flag. The caller has them read again.
    pub fn take_stale_load(&self) -> bool {
        self.stale_load.swap(false, Ordering::Relaxed)
    }

    /// Tells the shards the head again if an inbox was full.
    pub fn retry_overrun(&self, shards: &dyn Shards) {
        if self.overrun.swap(false, Ordering::Relaxed) && !self.tell_head(shards) {
            self.overrun.store(true, Ordering::Relaxed);
        }
    }

    /// Locks the part that changes. The lock must never be held across an await.
    pub fn state(&self) -> MutexGuard<'_, RoomState> {
        self.state.lock()
    }

    /// Whether a user is a member.
    pub fn is_member(&self, user: &UserName) -> bool {
        let state = self.state.lock();
        !state.is_gone() && state.members.contains(user)
    }

    /// Whether the conversation was deleted, or belongs to another log than the database has now.
    pub fn is_gone(&self) -> bool {
        self.state.lock().is_gone()
    }

    /// Passes a message to the sequencer, and delivers all messages that are in order now.
    pub fn feed(&self, shards: &dyn Shards, seq: Seq, event: Arc<Encoded>) -> Fed {
        let note_overrun = || self.overrun.store(true, Ordering::Relaxed);
        self.state.lock().delivery.feed(shards, seq, event, note_overrun)
    }

    /// Learns that messages up to `head` exist. `true`: some of them are missing here and are wanted.
    pub fn learn_head(&self, head: Seq) -> bool {
        self.state.lock().delivery.learn_head(head)
    }

    /// Notes a seq that the database reported. Returns a higher one if the database reported that before.
    pub fn log_tells(&self, seq: Seq) -> Option<Seq> {
        let before = Seq::new(self.logged.fetch_max(seq.get(), Ordering::Relaxed));
        (before > seq).then_some(before)
    }

    /// Returns a head of this room for the other nodes.
    pub fn head_at(&self, seq: Seq) -> Head {
        Head {
            tenant: self.key.tenant.clone(),
            name: self.key.name.clone(),
            conversation: self.conversation,
            log: Some(self.log.clone()),
            seq,
        }
    }

    /// Delivers an event that may be lost.
    pub fn broadcast(&self, shards: &dyn Shards, event: impl Into<Event>, except: Option<&UserName>) {
        self.state.lock().broadcast(shards, event, except);
    }

    /// Tells all shards the head. `true`: all of them got it.
    fn tell_head(&self, shards: &dyn Shards) -> bool {
        self.state.lock().delivery.tell_head(shards)
    }
}
