//! The conversations that this node knows, with their members. They are kept up to date by the other nodes' messages and the database.

mod comparing;
mod deleted;
mod ending;
mod erasing;
mod members;

use std::sync::Arc;

use deleted::Deleted;
pub(crate) use erasing::Eraser;
use starling_conversation_store::{ConversationHead, ConversationStore};
use starling_model::{ConversationName, Seq, TenantName, UserName};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::CommandError;
use crate::essential;
use crate::log::{HeadReports, Repairs};
use crate::node_message::{CommittedMessage, Head};
use crate::presence::Presence;
use crate::publisher::{PartitionSet, Publisher};
use crate::reads::Reads;
use crate::room::{FollowUp, Room, Rooms};
use crate::sessions::{Attachments, Sessions};
use crate::shards::Shards;

/// Most conversations that may wait for their members to be read. Beyond it, the whole partition is read instead.
const MEMBER_READS: usize = 4_096;

/// The conversations that this node knows.
pub(crate) struct Directory {
    /// The database, which is always right.
    store: Arc<dyn ConversationStore>,
    /// The shards, whose connections get the events.
    shards: Arc<dyn Shards>,
    rooms: Arc<Rooms>,
    /// Turns for look-ups of conversations that are not cached.
    reads: Arc<Reads>,
    sessions: Arc<Sessions>,
    /// Evicts sessions from rooms that they may no longer read.
    attachments: Arc<Attachments>,
    /// Its entries are cleared when a room ends.
    presence: Arc<Presence>,
    publisher: Arc<Publisher>,
    repairs: Arc<Repairs>,
    head_reports: Arc<HeadReports>,
    /// Conversations that were deleted a moment ago.
    deleted: Deleted,
    /// Conversations whose members must be read again.
    member_reads: mpsc::Sender<Arc<Room>>,
    /// Partitions whose conversations must be compared with the database, because something may have been missed.
    to_reload: PartitionSet,
}

/// The parts that [`Directory`] works with.
pub(crate) struct DirectoryParts {
    pub store: Arc<dyn ConversationStore>,
    pub shards: Arc<dyn Shards>,
    pub rooms: Arc<Rooms>,
    pub reads: Arc<Reads>,
    pub sessions: Arc<Sessions>,
    pub attachments: Arc<Attachments>,
    pub presence: Arc<Presence>,
    pub publisher: Arc<Publisher>,
    pub repairs: Arc<Repairs>,
    pub head_reports: Arc<HeadReports>,
}

impl Directory {
    /// Begins with no known conversations. A task on `runtime` reads members again.
    pub fn new(parts: DirectoryParts, runtime: &Handle) -> Arc<Directory> {
        let (member_reads, rooms_to_read) = mpsc::channel(MEMBER_READS);
        let directory = Arc::new(Directory {
            store: parts.store,
            shards: parts.shards,
            rooms: parts.rooms,
            reads: parts.reads,
            sessions: parts.sessions,
            attachments: parts.attachments,
            presence: parts.presence,
            publisher: parts.publisher,
            repairs: parts.repairs,
            head_reports: parts.head_reports,
            deleted: Deleted::default(),
            member_reads,
            to_reload: PartitionSet::default(),
        });
        essential::spawn(runtime, "read_members", directory.clone().read_members_forever(rooms_to_read));
        directory
    }

    /// Returns the room of a conversation that `user` is a member of. If it is not cached, the look-up counts as a read of this user and
    /// waits for its turn.
    pub async fn member_room(
        &self,
        tenant: &TenantName,
        user: &UserName,
        name: &ConversationName,
    ) -> Result<Arc<Room>, CommandError> {
        let room = self.room(tenant, user, name).await?;
        room.filter(|room| room.is_member(user)).ok_or_else(CommandError::no_such_conversation)
    }

    /// Returns the room of a conversation, without a check of membership. If it is not cached, the look-up counts as a read of `reader`.
    pub async fn room(
        &self,
        tenant: &TenantName,
        reader: &UserName,
        name: &ConversationName,
    ) -> Result<Option<Arc<Room>>, CommandError> {
        let room = match self.rooms.known(tenant, name) {
            Some(room) => Some(room),
            None => {
                self.reads.wait(tenant, reader, 1).await?;
                let _turn = self.reads.turn(tenant, reader).await?;
                self.rooms.get(&*self.store, &*self.shards, tenant, name).await?
            }
        };
        if let Some(room) = &room {
            self.rooms.touch(room);
            if room.take_stale_load() {
                self.reload_members(room);
            }
        }
        Ok(room)
    }

    /// Returns the room of a conversation that `user` is a member of, without waiting. `None`: it is not cached.
    pub fn known_member_room(
        &self,
        tenant: &TenantName,
        user: &UserName,
        name: &ConversationName,
    ) -> Option<Result<Arc<Room>, CommandError>> {
        let room = self.rooms.known(tenant, name)?;
        if !room.is_member(user) {
            return Some(Err(CommandError::no_such_conversation()));
        }
        self.rooms.touch(&room);
        Some(Ok(room))
    }

    /// Returns a room's head from the database. `None`: the database no longer has this log, and the room is forgotten.
    pub async fn head_in_log(
        &self,
        room: &Arc<Room>,
        reader: &UserName,
    ) -> Result<Option<Seq>, CommandError> {
        let _turn = self.reads.turn(&room.key.tenant, reader).await?;
        let heads = self.store.heads(&[room.conversation]).await?;
        let Some(head) = heads.first() else {
            self.end(room);
            return Ok(None);
        };
        if self.learn(room, head) {
            return Ok(Some(head.head));
        }
        self.outdate(std::slice::from_ref(room));
        Ok(None)
    }

    /// Whether a conversation is cached here.
    pub fn knows(&self, tenant: &TenantName, name: &ConversationName) -> bool {
        self.rooms.known(tenant, name).is_some()
    }

    /// Handles a message that another node committed.
    pub fn hear_message(&self, message: &CommittedMessage) {
        match self.rooms.feed(&*self.shards, message) {
            Some(FollowUp::Repair(room)) => self.repairs.request(&room),
            Some(FollowUp::End(room)) => self.end(&room),
            Some(FollowUp::Compare(room)) => self.reload(room.partition),
            None => {}
        }
    }

    /// Maintains the rooms with a joined session, and returns their number.
    pub fn tend_joined(&self) -> usize {
        let joined = self.rooms.joined();
        for room in &joined {
            room.retry_overrun(&*self.shards);
            self.rooms.touch(room);
            if room.state().has_hole() {
                self.repairs.request(room);
            }
        }
        joined.len()
    }

    /// Forgets rooms that have not been used for a while.
    pub fn sweep(&self) {
        self.rooms.sweep(false);
    }

    /// Handles heads that another node announced. Missing messages are read from the log.
    pub fn hear_heads(&self, heads: &[Head]) {
        for head in heads {
            if let Some(room) = self.rooms.learn_head(head) {
                self.repairs.request(&room);
            }
        }
    }

    /// Compares a room with its state in the database, and has read what is missing here. `false`: the conversation has another log now, so
    /// the room must be outdated.
    fn learn(&self, room: &Arc<Room>, head: &ConversationHead) -> bool {
        if *head.log != *room.log {
            return false;
        }
        self.head_reports.check(room, head.head);
        if room.learn_head(head.head) {
            self.repairs.request(room);
        }
        if room.state().members.learn(head) {
            self.reload_members(room);
        }
        true
    }
}
