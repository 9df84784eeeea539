//! The conversations that this node knows. Each is loaded once, kept up to date by events, and forgotten when nobody uses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::Equivalent;
use parking_lot::Mutex;
use starling_conversation_store::ConversationStore;
use starling_model::{ConversationId, ConversationName, Seq, TenantName, UserName};
use starling_session_store::ConversationKey;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::{Room, RoomKey};
use crate::encoded::Encoded;
use crate::interest::OwnInterest;
use crate::log::LogTag;
use crate::node_message::{CommittedMessage, Head};
use crate::shards::{ChannelIds, Shards};
use crate::{CommandError, Map};

/// Number of parts of the map, each with its own lock, so that shards seldom wait for each other.
const PARTS: usize = 16;
/// Most conversations without a joined session that a node remembers for [`IDLE_SECONDS`].
const IDLE_MAX: usize = 50_000;
/// How long an unused conversation is remembered, seconds.
const IDLE_SECONDS: u64 = 60;
/// Most messages kept for a conversation while it is being loaded. The log has the rest.
const EARLY_MAX: usize = 256;
/// Most attempts to load a conversation whose members change during the load. The last attempt is used as it is, and [`Hub::member_room`]
/// has the members read again: frequent changes of members must not keep others from the conversation.
///
/// [`Hub::member_room`]: crate::Hub
const RELOADS_MAX: u32 = 3;

/// The conversations that this node knows.
pub struct Rooms {
    parts: Vec<Mutex<Map<RoomKey, Slot>>>,
    /// This node's interest: every conversation in `parts`.
    interest: Arc<OwnInterest>,
    ids: Arc<ChannelIds>,
    shards: usize,
    hasher: crate::Seeds,
    /// Start of the time in which the rooms' last uses are measured.
    began: Instant,
}

/// What the caller must do after a message.
pub enum FollowUp {
    /// Fill the hole before the message in this room.
    Repair(Arc<Room>),
    /// End this room: another conversation has its name now.
    End(Arc<Room>),
    /// Compare this room with the database, which this node or the sender knows in an earlier state.
    Compare(Arc<Room>),
}

enum Slot {
    Loading(Arc<Loading>),
    Ready(Arc<Room>),
}

#[derive(Default)]
struct Loading {
    room: OnceCell<Option<Arc<Room>>>,
    /// Messages that were published during the load.
    early: Mutex<Vec<EarlyMessage>>,
    /// Whether members may have changed during the load.
    stale: AtomicBool,
}

/// A message that was published while its conversation was being loaded.
struct EarlyMessage {
    conversation: ConversationId,
    log: Option<LogTag>,
    seq: Seq,
    event: Arc<Encoded>,
}

struct KeyRef<'a>(&'a TenantName, &'a ConversationName);

impl Equivalent<RoomKey> for KeyRef<'_> {
    fn equivalent(&self, key: &RoomKey) -> bool {
        *self.0 == key.tenant && *self.1 == key.name
    }
}

impl std::hash::Hash for KeyRef<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        // Must hash as the derived `Hash` of `RoomKey` does.
        self.0.hash(state);
        self.1.hash(state);
    }
}

impl Rooms {
    /// Creates an empty map.
    pub fn new(shards: usize, ids: Arc<ChannelIds>, interest: Arc<OwnInterest>) -> Rooms {
        Rooms {
            interest,
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            ids,
            shards,
            hasher: crate::Seeds::default(),
            began: Instant::now(),
        }
    }

    /// Returns the room, if it is already loaded.
    pub fn known(&self, tenant: &TenantName, name: &ConversationName) -> Option<Arc<Room>> {
        match self.part(tenant, name).lock().get(&KeyRef(tenant, name))? {
            Slot::Ready(room) => Some(room.clone()),
            Slot::Loading(_) => None,
        }
    }

    /// Returns the room, and loads it from the database if needed: once for all callers. `None`: no such conversation.
    pub async fn get(
        &self,
        store: &dyn ConversationStore,
        shards: &dyn Shards,
        tenant: &TenantName,
        name: &ConversationName,
    ) -> Result<Option<Arc<Room>>, CommandError> {
        let (key, loading) = {
            let mut part = self.part(tenant, name).lock();
            match part.get(&KeyRef(tenant, name)) {
                Some(Slot::Ready(room)) => return Ok(Some(room.clone())),
                Some(Slot::Loading(loading)) => {
                    (RoomKey { tenant: tenant.clone(), name: name.clone() }, loading.clone())
                }
                None => {
                    let key = RoomKey { tenant: tenant.clone(), name: name.clone() };
                    let loading = Arc::new(Loading::default());
                    self.interest.add(key.interest());
                    part.insert(key.clone(), Slot::Loading(loading.clone()));
                    (key, loading)
                }
            }
        };
        let loaded = loading.room.get_or_try_init(|| self.load(store, &key, &loading)).await;
        // After a failed load the slot stays, and the next caller, or one that waits, loads into it again.
        if let Ok(room) = &loaded {
            self.settle(shards, &key, &loading, room.as_ref());
        }
        loaded.cloned()
    }

    /// Feeds another node's message to its conversation, if this node knows it. Returns the room if something remains to be done.
    pub fn feed(&self, shards: &dyn Shards, message: &CommittedMessage) -> Option<FollowUp> {
        let CommittedMessage { tenant, name, seq, conversation, log, committed_at_us, payload, .. } = message;
        let (seq, conversation, log) = (*seq, *conversation, *log);
        let event = || Encoded::from_json(payload, *committed_at_us);
        let room = {
            let part = self.part(tenant, name).lock();
            let Some(slot) = part.get(&KeyRef(tenant, name)) else {
                crate::metrics::METRICS.unwanted.increment(1);
                return None;
            };
            match slot {
                Slot::Ready(room) => room.clone(),
                Slot::Loading(loading) => {
                    let mut early = loading.early.lock();
                    if early.len() < EARLY_MAX {
                        early.push(EarlyMessage { conversation, log, seq, event: Arc::new(event()) });
                    }
                    return None;
                }
            }
        };
        if room.conversation != conversation {
            // The conversation was deleted and created again. Ids only grow, so the lower one of the two is deleted.
            return (room.conversation < conversation).then_some(FollowUp::End(room));
        }
        if log.is_some_and(|log| log != room.log_tag) {
            // The database was set back, and this node or the sender did not know it yet. The seq says nothing about the other log.
            return Some(FollowUp::Compare(room));
        }
        if room.state().joined() == 0 {
            room.learn_head(seq);
            return None;
        }
        let fed = room.feed(shards, seq, Arc::new(event()));
        crate::metrics::sequencer(fed);
        (fed == super::sequencer::Fed::Waits).then_some(FollowUp::Repair(room))
    }

    /// Learns from another node how far a conversation's log goes at least. Returns the room if messages are missing here.
    ///
    /// A head of another log is ignored. A node that does not know yet that the database was set back still announces the earlier log.
    pub fn learn_head(&self, head: &Head) -> Option<Arc<Room>> {
        let room = self.known(&head.tenant, &head.name)?;
        let is_of_this_log = head.log.as_ref().is_none_or(|log| *log == room.log);
        (room.conversation == head.conversation && is_of_this_log && room.learn_head(head.seq))
            .then_some(room)
    }

    /// Forgets a room, so that its next use reads the database. Another room that has taken its name stays.
    pub fn forget(&self, room: &Arc<Room>) {
        let RoomKey { tenant, name } = &room.key;
        let mut part = self.part(tenant, name).lock();
        match part.get(&room.key) {
            Some(Slot::Ready(known)) if Arc::ptr_eq(known, room) => {
                part.remove(&room.key);
                self.interest.remove(room.interest);
            }
            Some(Slot::Loading(loading)) => loading.stale.store(true, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Makes every load that is under way start again.
    pub fn restart_all_loads(&self) {
        for part in &self.parts {
            for slot in part.lock().values() {
                if let Slot::Loading(loading) = slot {
                    loading.stale.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    /// Makes a load of this conversation start again, if one is under way, since its members have changed.
    pub fn restart_load(&self, tenant: &TenantName, name: &ConversationName) {
        if let Some(Slot::Loading(loading)) = self.part(tenant, name).lock().get(&KeyRef(tenant, name)) {
            loading.stale.store(true, Ordering::Relaxed);
        }
    }

    /// Returns the number of a user's sessions in a conversation on a node, as far as this node knows.
    pub fn devices_on(&self, node: &str, conversation: &ConversationKey, user: &UserName) -> u32 {
        self.known(&conversation.tenant, &conversation.conversation)
            .filter(|room| room.conversation == conversation.id)
            .map_or(0, |room| room.state().presence.online().on_node(user, node))
    }

    /// Returns all rooms with a joined session.
    pub fn joined(&self) -> Vec<Arc<Room>> {
        let mut all = self.all();
        all.retain(|room| room.state().joined() > 0);
        all
    }

    /// Marks the presence of rooms without a joined session as possibly outdated. It is read again before the next join.
    pub fn forget_idle_presence(&self) {
        for part in &self.parts {
            for slot in part.lock().values() {
                if let Slot::Ready(room) = slot
                    && room.state().joined() == 0
                {
                    room.state().presence.set_unknown();
                }
            }
        }
    }

    /// Returns all rooms that have a joined session or are in use now, and forgets the others, so that their next use reads the database.
    /// It is called when events of other nodes may be missed: a removed member who sends without a join must be refused.
    pub fn in_use(&self) -> Vec<Arc<Room>> {
        self.sweep(true);
        self.all()
    }

    /// Forgets rooms that have not been used for a while. `all`: every unused room, when what is cached may be outdated (after a gap).
    pub fn sweep(&self, all: bool) {
        let now_s = self.now_s();
        for part in &self.parts {
            let mut part = part.lock();
            let crowded = part.len() > IDLE_MAX / PARTS;
            part.retain(|key, slot| {
                let keep = match slot {
                    Slot::Loading(loading) => Arc::strong_count(loading) > 1,
                    Slot::Ready(room) => {
                        let idle = now_s.saturating_sub(room.used_at_s());
                        let keep = !all && idle < if crowded { 1 } else { IDLE_SECONDS };
                        keep || room.state().joined() > 0 || Arc::strong_count(room) > 1
                    }
                };
                if !keep {
                    self.interest.remove(key.interest());
                }
                keep
            });
        }
    }

    /// Notes that a room is in use.
    pub fn touch(&self, room: &Room) {
        room.touch(self.now_s());
    }

    /// Returns all rooms.
    pub fn all(&self) -> Vec<Arc<Room>> {
        let mut all = Vec::new();
        for part in &self.parts {
            let part = part.lock();
            all.extend(part.values().filter_map(|slot| match slot {
                Slot::Ready(room) => Some(room.clone()),
                Slot::Loading(_) => None,
            }));
        }
        all
    }

    fn now_s(&self) -> u64 {
        self.began.elapsed().as_secs()
    }

    async fn load(
        &self,
        store: &dyn ConversationStore,
        key: &RoomKey,
        loading: &Loading,
    ) -> Result<Option<Arc<Room>>, CommandError> {
        for attempt in 1.. {
            loading.stale.store(false, Ordering::Relaxed);
            let Some(conversation) = store.open(&key.tenant, &key.name).await? else { return Ok(None) };
            let is_stale = loading.stale.load(Ordering::Relaxed);
            if !is_stale || attempt >= RELOADS_MAX {
                let room = Room::new(key.clone(), self.ids.next(), self.shards, &conversation);
                if is_stale {
                    room.note_stale_load();
                }
                return Ok(Some(Arc::new(room)));
            }
        }
        Ok(None)
    }

    /// Puts the loaded room into its slot, and feeds it the messages that were published during the load. Does so once per load.
    fn settle(&self, shards: &dyn Shards, key: &RoomKey, loading: &Arc<Loading>, room: Option<&Arc<Room>>) {
        let mut part = self.part(&key.tenant, &key.name).lock();
        if !matches!(part.get(key), Some(Slot::Loading(found)) if Arc::ptr_eq(found, loading)) {
            return;
        }
        match room {
            None => {
                part.remove(key);
                self.interest.remove(key.interest());
            }
            Some(room) => {
                for early in loading.early.lock().drain(..) {
                    // A late message of a deleted conversation of the same name, or of an earlier log, says nothing about this one.
                    if early.conversation == room.conversation
                        && early.log.is_none_or(|log| log == room.log_tag)
                    {
                        room.feed(shards, early.seq, early.event);
                    }
                }
                part.insert(key.clone(), Slot::Ready(room.clone()));
            }
        }
    }

    fn part(&self, tenant: &TenantName, name: &ConversationName) -> &Mutex<Map<RoomKey, Slot>> {
        use std::hash::BuildHasher;
        let hash = self.hasher.hash_one((tenant, name));
        // Take the high bits, since the map inside uses the low ones.
        &self.parts[(hash >> 60) as usize % PARTS]
    }
}

#[cfg(test)]
mod tests {
    use starling_conversation_store::Conversation;
    use starling_wire::protocol;

    use super::*;
    use crate::room::sequencer::Fed;
    use crate::shards::{ChannelId, ShardItem};

    struct Deaf;

    impl Shards for Deaf {
        fn post(&self, _: u16, _: ShardItem) -> bool {
            true
        }
    }

    fn interest() -> Arc<OwnInterest> {
        Arc::new(OwnInterest::new("a".into(), true))
    }

    fn event() -> Encoded {
        Encoded::new(protocol::Membership { conversation: "c".into(), user: "ann".into(), member: true })
    }

    fn message(conversation: i64, seq: u64, log: &str) -> CommittedMessage {
        CommittedMessage {
            conversation: ConversationId::new(conversation),
            tenant: "t".into(),
            name: "c".into(),
            seq: Seq::new(seq),
            log: Some(LogTag::of(log)),
            committed_at_us: 0,
            traceparent: None,
            payload: bytes::Bytes::from_static(b"{}"),
        }
    }

    fn conversation() -> Conversation {
        Conversation {
            id: ConversationId::new(2),
            conversation: "c".into(),
            owner: "ann".into(),
            title: None,
            metadata: None,
            created_at_ms: 0,
            head: Seq::new(1),
            members: Vec::new(),
            members_version: 0,
            details_version: 0,
            log: "1-a".into(),
        }
    }

    #[test]
    fn what_was_said_of_a_deleted_conversation_is_not_taken_for_the_one_that_has_its_name_now() {
        let (rooms, loading) = (Rooms::new(1, Arc::default(), interest()), Arc::new(Loading::default()));
        let key = RoomKey { tenant: "t".into(), name: "c".into() };
        rooms.part(&key.tenant, &key.name).lock().insert(key.clone(), Slot::Loading(loading.clone()));
        for late in [message(1, 500, "1-a"), message(2, 400, "0-a")] {
            assert!(rooms.feed(&Deaf, &late).is_none(), "of the deleted one, and of an earlier log");
        }
        assert!(rooms.feed(&Deaf, &message(2, 2, "1-a")).is_none(), "of the one that is being loaded");

        let room = Arc::new(Room::new(key.clone(), ChannelId(1), 1, &conversation()));
        rooms.settle(&Deaf, &key, &loading, Some(&room));
        assert_eq!(room.state().head(), 2);
        room.state().attach(0);
        assert_eq!(room.feed(&Deaf, Seq::new(3), Arc::new(event())), Fed::Released, "the next one is shown");
    }

    #[test]
    fn a_message_of_the_log_from_before_a_restore_is_ignored_and_the_room_is_compared() {
        let rooms = Rooms::new(1, Arc::default(), interest());
        let key = RoomKey { tenant: "t".into(), name: "c".into() };
        let room = Arc::new(Room::new(key.clone(), ChannelId(1), 1, &conversation()));
        rooms.part(&key.tenant, &key.name).lock().insert(key, Slot::Ready(room.clone()));
        let feed = |seq, log| rooms.feed(&Deaf, &message(2, seq, log));
        for joined in [false, true] {
            if joined {
                room.state().attach(0);
            }
            let head = room.state().head().get();
            assert!(matches!(feed(head + 1, "0-a"), Some(FollowUp::Compare(_))), "joined: {joined}");
            let state = room.state();
            assert_eq!((state.head().get(), state.has_hole()), (head, false), "of the earlier log");
            drop(state);
            assert!(feed(head + 1, "1-a").is_none());
            assert_eq!(room.state().head().get(), head + 1, "of this log");
            assert!(rooms.feed(&Deaf, &CommittedMessage { log: None, ..message(2, head + 2, "") }).is_none());
            assert_eq!(room.state().head().get(), head + 2, "of a node that names no log");
        }
    }

    #[test]
    fn a_head_of_the_log_from_before_a_restore_is_ignored() {
        let rooms = Rooms::new(1, Arc::default(), interest());
        let key = RoomKey { tenant: "t".into(), name: "c".into() };
        let room = Arc::new(Room::new(key.clone(), ChannelId(1), 1, &conversation()));
        rooms.part(&key.tenant, &key.name).lock().insert(key, Slot::Ready(room.clone()));
        let of_log =
            |log: Option<&str>, seq| Head { log: log.map(Into::into), ..room.head_at(Seq::new(seq)) };
        assert!(rooms.learn_head(&of_log(Some("0-a"), 6)).is_none());
        assert_eq!(room.state().head(), 1, "of the earlier log");
        rooms.learn_head(&of_log(Some("1-a"), 2));
        assert_eq!(room.state().head(), 2, "of this log");
        rooms.learn_head(&of_log(None, 3));
        assert_eq!(room.state().head(), 3, "of a node that names no log");
    }
}
