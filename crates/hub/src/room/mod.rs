//! A conversation on this node: its members, the order of its messages, its presence, and the shards that want its events.

pub(crate) mod members_version;
pub(crate) mod online;
pub(crate) mod presence_reads;
mod rooms;
pub(crate) mod sequencer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
pub(crate) use rooms::{FollowUp, Rooms};
use starling_conversation_store::{Conversation, ConversationId};
use starling_model::{ConversationName, Seq, TenantName, UserName};
use starling_session_store::{ConversationKey, JoinedConversation};
use starling_wire::protocol::{self, Event, Timestamp};

use crate::Map;
use crate::encoded::Encoded;
use crate::node_message::Head;
use crate::room::members_version::MembersVersion;
use crate::room::online::Online;
use crate::room::presence_reads::PresenceReads;
use crate::room::sequencer::{Fed, Sequencer};
use crate::shards::{ChannelId, ShardItem, Shards};

/// A conversation's name and its tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoomKey {
    /// The tenant that the conversation belongs to.
    pub tenant: TenantName,
    /// The conversation's name.
    pub name: ConversationName,
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
    /// The highest seq that the database reported to this node. A database that has fewer messages later was set back.
    logged: AtomicU64,
    /// The partition of the fan-out that the conversation's publications take.
    pub partition: u16,
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

/// The part of a room that changes.
pub struct RoomState {
    /// All members, with their read marks.
    pub members: Map<UserName, Seq>,
    /// The version of `members`.
    pub members_version: MembersVersion,
    /// The user who owns the conversation.
    pub owner: UserName,
    /// The users who are online, on all nodes.
    pub online: Online,
    /// Whether `online` was read from the session store since a session here joined.
    pub online_known: bool,
    /// Presence that was heard while the session store is being read.
    pub presence_reads: PresenceReads,
    /// Whether the conversation was deleted or replaced by another one of the same name. Then nothing goes in or out.
    pub gone: bool,
    /// Whether the database was set back. Then this state belongs to another log and must be read again.
    pub outdated: bool,
    /// The version of title and metadata that the joined sessions have been told.
    pub details_version: u64,
    sequencer: Sequencer<Arc<Encoded>>,
    /// Number of joined sessions per shard.
    interest: Vec<u32>,
    joined: u32,
}

impl Room {
    /// Makes a room from a conversation that was read from the database.
    pub fn new(key: RoomKey, channel: ChannelId, shards: usize, conversation: Conversation) -> Room {
        let partition = starling_fanout::partition_of(&key.tenant, &key.name);
        Room {
            key,
            channel,
            conversation: conversation.id,
            log: conversation.log.as_str().into(),
            logged: AtomicU64::new(conversation.head.get()),
            partition,
            used_at_s: AtomicU64::new(0),
            repairing: AtomicBool::new(false),
            reading_members: AtomicBool::new(false),
            reporting: AtomicBool::new(false),
            stale_load: AtomicBool::new(false),
            overrun: AtomicBool::new(false),
            state: Mutex::new(RoomState {
                members: members_of(&conversation),
                members_version: MembersVersion::loaded(conversation.members_version),
                owner: conversation.owner,
                online: Online::default(),
                online_known: false,
                presence_reads: PresenceReads::default(),
                gone: false,
                outdated: false,
                details_version: conversation.details_version,
                sequencer: Sequencer::new(conversation.head),
                interest: vec![0; shards],
                joined: 0,
            }),
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
        !state.gone && !state.outdated && state.members.contains_key(user)
    }

    /// Whether the conversation was deleted, or belongs to another log than the database has now.
    pub fn is_gone(&self) -> bool {
        let state = self.state.lock();
        state.gone || state.outdated
    }

    /// Passes a message to the sequencer, and delivers all messages that are in order now.
    pub fn feed(&self, shards: &dyn Shards, seq: Seq, event: Arc<Encoded>) -> Fed {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.joined == 0 {
            // Nobody has joined, so no order has to be kept. A later reader reads the log.
            state.sequencer.skip_to(seq);
            return Fed::Released;
        }
        let (interest, overrun) = (&state.interest, &self.overrun);
        state.sequencer.feed(seq, event, |seq, event| {
            for (shard, _) in wanting(interest) {
                if !shards
                    .post(shard, ShardItem::Message { channel: self.channel, seq, event: event.clone() })
                {
                    overrun.store(true, Ordering::Relaxed);
                }
            }
        })
    }

    /// Learns that messages up to `head` exist. `true`: some of them are missing here and are wanted.
    pub fn learn_head(&self, head: Seq) -> bool {
        let mut state = self.state.lock();
        if state.joined == 0 {
            state.sequencer.skip_to(head);
            return false;
        }
        state.sequencer.learn(head);
        state.sequencer.has_hole()
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
            seq,
        }
    }

    /// Delivers an event that may be lost.
    pub fn broadcast(&self, shards: &dyn Shards, event: impl Into<Event>, except: Option<&UserName>) {
        self.state.lock().broadcast(self.channel, shards, event, except);
    }

    /// Tells all shards the head. `true`: all of them got it.
    fn tell_head(&self, shards: &dyn Shards) -> bool {
        let state = self.state.lock();
        let seq = state.sequencer.head();
        wanting(&state.interest)
            .all(|(shard, _)| shards.post(shard, ShardItem::Head { channel: self.channel, seq }))
    }
}

impl RoomState {
    /// Counts a session of a shard in. Returns the last seq that was delivered. Later messages go to the shard.
    pub fn attach(&mut self, shard: u16) -> Seq {
        if let Some(count) = self.interest.get_mut(usize::from(shard)) {
            *count += 1;
            self.joined += 1;
        }
        self.sequencer.head()
    }

    /// Counts a session of a shard out.
    pub fn detach(&mut self, shard: u16) {
        if let Some(count) = self.interest.get_mut(usize::from(shard)).filter(|count| **count > 0) {
            *count -= 1;
            self.joined -= 1;
        }
        if self.joined == 0 {
            self.online_known = false;
        }
    }

    /// Returns the number of joined sessions on this node.
    pub fn joined(&self) -> u32 {
        self.joined
    }

    /// Returns the last seq that was delivered.
    pub fn head(&self) -> Seq {
        self.sequencer.head()
    }

    /// Returns the highest seq that is known to exist.
    pub fn known(&self) -> Seq {
        self.sequencer.known()
    }

    /// Assumes that the log ends with the last delivered message, unless messages above `known` were heard of meanwhile. Returns whether a
    /// hole was given up.
    pub fn give_up(&mut self, known: Seq) -> bool {
        let gives_up = self.sequencer.has_hole() && self.sequencer.known() == known;
        if gives_up {
            self.sequencer.give_up();
        }
        gives_up
    }

    /// Whether messages are missing for a joined session.
    pub fn has_hole(&self) -> bool {
        self.joined > 0 && self.sequencer.has_hole()
    }

    /// Applies the members and the head that the database reported. Returns the earlier members.
    pub fn refresh(&mut self, conversation: &Conversation) -> Map<UserName, Seq> {
        let before = std::mem::replace(&mut self.members, members_of(conversation));
        for (user, read) in &before {
            if let Some(mark) = self.members.get_mut(user) {
                *mark = (*mark).max(*read);
            }
        }
        self.owner = conversation.owner.clone();
        if self.joined == 0 {
            self.sequencer.skip_to(conversation.head);
        } else {
            self.sequencer.learn(conversation.head);
        }
        before
    }

    /// Returns the read marks above 0, by user.
    pub fn reads(&self) -> BTreeMap<UserName, u64> {
        let marks = self.members.iter().filter(|(_, read)| **read > Seq::ZERO);
        marks.map(|(user, read)| (user.clone(), read.get())).collect()
    }

    /// Delivers an event that may be lost.
    pub fn broadcast(
        &self,
        channel: ChannelId,
        shards: &dyn Shards,
        event: impl Into<Event>,
        except: Option<&UserName>,
    ) {
        if self.joined == 0 {
            return;
        }
        let event = Arc::new(Encoded::new(event));
        for (shard, _) in wanting(&self.interest) {
            shards
                .post(shard, ShardItem::Ephemeral { channel, event: event.clone(), except: except.cloned() });
        }
    }

    /// Tells everybody but the user that the user came online or went offline.
    pub fn tell_presence(
        &self,
        room: &Room,
        shards: &dyn Shards,
        user: &UserName,
        online: bool,
        last_seen_ms: Option<i64>,
    ) {
        let event = protocol::Presence {
            conversation: room.key.name.clone(),
            user: user.clone(),
            online,
            last_seen: if online { None } else { last_seen_ms.map(Timestamp) },
        };
        self.broadcast(room.channel, shards, event, Some(user));
    }
}

fn members_of(conversation: &Conversation) -> Map<UserName, Seq> {
    conversation.members.iter().map(|member| (member.user.clone(), member.read)).collect()
}

fn wanting(interest: &[u32]) -> impl Iterator<Item = (u16, u32)> + '_ {
    interest
        .iter()
        .enumerate()
        .filter(|(_, count)| **count > 0)
        .filter_map(|(shard, count)| Some((u16::try_from(shard).ok()?, *count)))
}
