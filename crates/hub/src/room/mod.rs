//! A conversation that is known to this node: its members, its order, who is there and which shards want its events.

pub(crate) mod members_version;
pub(crate) mod online;
pub(crate) mod presence_reads;
mod rooms;
pub(crate) mod sequencer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
pub(crate) use rooms::{Rooms, Taken};
use starling_conversation_store::{Conversation, ConversationId};
use starling_model::{ConversationName, TenantName, UserName};
use starling_session_store::{ConversationKey, JoinedConversation};
use starling_wire::protocol::{self, Event, Timestamp};

use crate::Map;
use crate::encoded::Encoded;
use crate::node_message::Head;
use crate::room::members_version::MembersVersion;
use crate::room::online::Online;
use crate::room::presence_reads::PresenceReads;
use crate::room::sequencer::{Fed, Sequencer};
use crate::shards::{RoomId, ShardItem, Shards};

/// A conversation's name, with its tenant's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoomKey {
    /// The tenant that it belongs to.
    pub tenant: TenantName,
    /// Its name.
    pub name: ConversationName,
}

/// A conversation that is known to this node.
pub struct Room {
    /// Its name.
    pub key: RoomKey,
    /// Its id on this node.
    pub id: RoomId,
    /// Its number in the database.
    pub conversation: ConversationId,
    /// Which log it is: see [`Conversation::log`].
    pub log: Arc<str>,
    /// The highest number that the database itself told this node of. A database that has fewer messages later was set back.
    logged: AtomicU64,
    /// The partition of the fan-out that its publications take.
    pub lane: u16,
    /// When it was last used, in seconds since the node started. Rooms that nobody uses are forgotten.
    used_at_s: AtomicU64,
    /// Whether a repair of its order is under way.
    repairing: AtomicBool,
    /// Whether its members are about to be read anew.
    reading_members: AtomicBool,
    /// Whether the database is being asked if it was set back.
    reporting: AtomicBool,
    /// Whether its members changed while it was loaded: they are read once more before anybody uses the room.
    stale_load: AtomicBool,
    /// Whether a shard's inbox was full when a message came: its sockets are told the head until it fits.
    overrun: AtomicBool,
    state: Mutex<RoomState>,
}

/// What a session gets that joins a room.
pub(crate) struct Joined {
    /// The last message that does not come through the inbox.
    pub head: u64,
    /// Who is online.
    pub online: Vec<UserName>,
    /// The members' read marks.
    pub reads: BTreeMap<UserName, u64>,
}

/// What changes about a room.
pub struct RoomState {
    /// Everybody in the conversation, with their read marks.
    pub members: Map<UserName, u64>,
    /// Which changes of the members `members` holds.
    pub members_version: MembersVersion,
    /// The user who owns the conversation.
    pub owner: UserName,
    /// Who is online, on all nodes.
    pub online: Online,
    /// Whether `online` was read from the session store since somebody here joined.
    pub online_known: bool,
    /// What was heard of presence while the session store is being read.
    pub presence_reads: PresenceReads,
    /// The conversation was deleted, or replaced by another one of the same name: nothing goes in or out any more.
    pub gone: bool,
    /// The database was set back: what is known here is of another log, and is to be read again.
    pub outdated: bool,
    /// Which change of title and metadata those who joined have been told of.
    pub details_version: u64,
    sequencer: Sequencer<Arc<Encoded>>,
    /// How many sockets of each shard are joined.
    interest: Vec<u32>,
    joined: u32,
}

impl Room {
    /// Makes a room from what the database says.
    pub fn new(key: RoomKey, id: RoomId, shards: usize, conversation: Conversation) -> Room {
        let lane = starling_fanout::partition_of(&key.tenant, &key.name);
        Room {
            key,
            id,
            conversation: conversation.id,
            log: conversation.log.as_str().into(),
            logged: AtomicU64::new(conversation.head),
            lane,
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

    /// How a session's record names the room.
    pub fn as_joined(&self) -> JoinedConversation {
        JoinedConversation { name: self.key.name.clone(), id: Some(self.conversation) }
    }

    /// What the session store keeps its presence under.
    pub fn presence_key(&self) -> ConversationKey {
        let RoomKey { tenant, name } = self.key.clone();
        ConversationKey { tenant, conversation: name, id: self.conversation }
    }

    /// Notes that the room is used, at this many seconds after the node started.
    fn touch(&self, now_s: u64) {
        self.used_at_s.store(now_s, Ordering::Relaxed);
    }

    fn used_at_s(&self) -> u64 {
        self.used_at_s.load(Ordering::Relaxed)
    }

    /// The highest number that the database itself told this node of.
    pub fn logged(&self) -> u64 {
        self.logged.load(Ordering::Relaxed)
    }

    /// Begins a repair of the order; `false`: one is under way.
    pub fn begin_repair(&self) -> bool {
        !self.repairing.swap(true, Ordering::AcqRel)
    }

    /// The repair has ended.
    pub fn end_repair(&self) {
        self.repairing.store(false, Ordering::Release);
    }

    /// Begins to have the members read again; `false`: they are about to be read.
    pub fn begin_members_read(&self) -> bool {
        !self.reading_members.swap(true, Ordering::AcqRel)
    }

    /// The members are being read: whoever asks from here on wants what is read after this.
    pub fn end_members_read(&self) {
        self.reading_members.store(false, Ordering::Release);
    }

    /// Begins to report the head to the database; `false`: it is about to be reported.
    pub fn begin_report(&self) -> bool {
        !self.reporting.swap(true, Ordering::AcqRel)
    }

    /// The report has ended.
    pub fn end_report(&self) {
        self.reporting.store(false, Ordering::Release);
    }

    /// The members changed while the room was loaded.
    fn note_stale_load(&self) {
        self.stale_load.store(true, Ordering::Relaxed);
    }

    /// Whether the members changed while the room was loaded. Whoever asks has them read again.
    pub fn take_stale_load(&self) -> bool {
        self.stale_load.swap(false, Ordering::Relaxed)
    }

    /// Tells the shards the head again if an inbox was full.
    pub fn retry_overrun(&self, shards: &dyn Shards) {
        if self.overrun.swap(false, Ordering::Relaxed) && !self.tell_head(shards) {
            self.overrun.store(true, Ordering::Relaxed);
        }
    }

    /// Access to what changes. Never held across an await.
    pub fn state(&self) -> MutexGuard<'_, RoomState> {
        self.state.lock()
    }

    /// Whether a user is a member.
    pub fn is_member(&self, user: &UserName) -> bool {
        let state = self.state.lock();
        !state.gone && !state.outdated && state.members.contains_key(user)
    }

    /// Whether the conversation is gone, or is another one than the database has by now.
    pub fn is_gone(&self) -> bool {
        let state = self.state.lock();
        state.gone || state.outdated
    }

    /// Takes a message from wherever it came, and hands out all that is in order now.
    pub fn feed(&self, shards: &dyn Shards, seq: u64, event: Arc<Encoded>) -> Fed {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.joined == 0 {
            // Nobody listens, so order has no one to serve; a reader will read the log.
            state.sequencer.skip_to(seq);
            return Fed::Released;
        }
        let (interest, overrun) = (&state.interest, &self.overrun);
        state.sequencer.feed(seq, event, |seq, event| {
            for (shard, _) in wanting(interest) {
                if !shards.post(shard, ShardItem::Message { room: self.id, seq, event: event.clone() }) {
                    overrun.store(true, Ordering::Relaxed);
                }
            }
        })
    }

    /// Learns that numbers up to `head` exist. `true`: some of them have not been seen here and are wanted.
    pub fn learn_head(&self, head: u64) -> bool {
        let mut state = self.state.lock();
        if state.joined == 0 {
            state.sequencer.skip_to(head);
            return false;
        }
        state.sequencer.learn(head);
        state.sequencer.has_hole()
    }

    /// The database told of this number. Answers a higher one, if it told of that before.
    pub fn log_tells(&self, seq: u64) -> Option<u64> {
        let before = self.logged.fetch_max(seq, Ordering::Relaxed);
        (before > seq).then_some(before)
    }

    /// This room's head, as other nodes are told of it.
    pub fn head_at(&self, seq: u64) -> Head {
        Head {
            tenant: self.key.tenant.clone(),
            name: self.key.name.clone(),
            conversation: self.conversation,
            seq,
        }
    }

    /// Hands out an event that may be lost.
    pub fn broadcast(&self, shards: &dyn Shards, event: impl Into<Event>, except: Option<&UserName>) {
        self.state.lock().broadcast(self.id, shards, event, except);
    }

    /// `true`: all shards know the head now.
    fn tell_head(&self, shards: &dyn Shards) -> bool {
        let state = self.state.lock();
        let seq = state.sequencer.head();
        wanting(&state.interest).all(|(shard, _)| shards.post(shard, ShardItem::Head { room: self.id, seq }))
    }
}

impl RoomState {
    /// Counts a socket of a shard in. Answers the last number that was handed out: what comes later goes to the shard.
    pub fn attach(&mut self, shard: u16) -> u64 {
        if let Some(count) = self.interest.get_mut(usize::from(shard)) {
            *count += 1;
            self.joined += 1;
        }
        self.sequencer.head()
    }

    /// Counts a socket out.
    pub fn detach(&mut self, shard: u16) {
        if let Some(count) = self.interest.get_mut(usize::from(shard)).filter(|count| **count > 0) {
            *count -= 1;
            self.joined -= 1;
        }
        if self.joined == 0 {
            self.online_known = false;
        }
    }

    /// How many sockets here are joined.
    pub fn joined(&self) -> u32 {
        self.joined
    }

    /// The last number that was handed out.
    pub fn head(&self) -> u64 {
        self.sequencer.head()
    }

    /// The highest number that is known to exist.
    pub fn known(&self) -> u64 {
        self.sequencer.known()
    }

    /// Takes it that the log ends with what was handed out, unless numbers above `known` were heard of meanwhile. `true`: it
    /// was not so before.
    pub fn give_up(&mut self, known: u64) -> bool {
        let gives_up = self.sequencer.has_hole() && self.sequencer.known() == known;
        if gives_up {
            self.sequencer.give_up();
        }
        gives_up
    }

    /// Whether numbers are missing.
    pub fn has_hole(&self) -> bool {
        self.joined > 0 && self.sequencer.has_hole()
    }

    /// Takes over what the database says about members and head. Answers the members as they were.
    pub fn refresh(&mut self, conversation: &Conversation) -> Map<UserName, u64> {
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

    /// Read marks above 0, by user.
    pub fn reads(&self) -> BTreeMap<UserName, u64> {
        self.members.iter().filter(|(_, read)| **read > 0).map(|(user, read)| (user.clone(), *read)).collect()
    }

    /// Hands out an event that may be lost.
    pub fn broadcast(
        &self,
        room: RoomId,
        shards: &dyn Shards,
        event: impl Into<Event>,
        except: Option<&UserName>,
    ) {
        if self.joined == 0 {
            return;
        }
        let event = Arc::new(Encoded::new(event));
        for (shard, _) in wanting(&self.interest) {
            shards.post(shard, ShardItem::Ephemeral { room, event: event.clone(), except: except.cloned() });
        }
    }

    /// Says who came or went, to everybody but them.
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
        self.broadcast(room.id, shards, event, Some(user));
    }
}

fn members_of(conversation: &Conversation) -> Map<UserName, u64> {
    conversation.members.iter().map(|member| (member.user.clone(), member.read)).collect()
}

fn wanting(interest: &[u32]) -> impl Iterator<Item = (u16, u32)> + '_ {
    interest
        .iter()
        .enumerate()
        .filter(|(_, count)| **count > 0)
        .filter_map(|(shard, count)| Some((u16::try_from(shard).ok()?, *count)))
}
