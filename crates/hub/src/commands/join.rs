//! `join` and `leave`. Joining and resuming are the same motion: attach to what is live, read the log from the cursor, splice by number.

use std::sync::Arc;

use starling_session_store::{Change, SessionChange};
use starling_wire::protocol::Joined;

use crate::CommandError;
use crate::hub::{Hub, StoreChange};
use crate::metrics::METRICS;
use crate::reply::Answer;
use crate::room::Room;
use crate::session::Session;
use crate::shards::{RoomId, ShardItem};

/// A join that has been found good. The shard that owns the socket completes it with [`PreparedJoin::attach`].
pub struct PreparedJoin {
    hub: Arc<Hub>,
    session: Arc<Session>,
    room: Arc<Room>,
    after: Option<u64>,
}

/// How a socket is attached to a room. Messages after `head` come through the shard's inbox from now on.
pub struct Attachment {
    /// The room's short name.
    pub room: RoomId,
    /// The room, to read its log.
    pub log: Arc<Room>,
    /// The last message that did not come through the inbox.
    pub head: u64,
    /// The last message that the client has, or does without: the socket is served from the log after it, up to `head`.
    pub cursor: u64,
}

/// How much of a log is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replay {
    pub cursor: u64,
    pub replayed: u64,
    pub truncated: bool,
}

impl Replay {
    /// From a client's cursor (none: nothing is replayed) up to a head, of at most `limit` messages, the newest.
    ///
    /// A cursor beyond the head is that of a client that has seen more than this node has heard of yet (see
    /// [`Hub::check_cursor`]): it stays, or what the node hears next would be shown twice.
    pub fn plan(after: Option<u64>, head: u64, limit: u64) -> Replay {
        let after = after.unwrap_or(head);
        let missed = head.saturating_sub(after);
        let replayed = missed.min(limit);
        Replay { cursor: after.max(head - replayed), replayed, truncated: missed > limit }
    }
}

impl PreparedJoin {
    /// Attaches the socket. To be called on the thread of its shard, which enters the attachment into its table before
    /// it takes anything further from its inbox; so nothing is missed and nothing comes twice.
    pub fn attach(self) -> Result<(Joined, Attachment), CommandError> {
        let PreparedJoin { hub, session, room, after } = self;
        let limit = hub.config.replay_limit;
        let attached = hub.attach_room(&session, &room)?;
        let replay = Replay::plan(after, attached.head, limit);
        let joined = Joined {
            head: attached.head.max(replay.cursor),
            replayed: replay.replayed,
            truncated: replay.truncated,
            online: attached.online,
            reads: attached.reads,
        };
        let attachment = Attachment { room: room.id, log: room, head: attached.head, cursor: replay.cursor };
        Ok((joined, attachment))
    }
}

pub(super) struct Attached {
    pub head: u64,
    pub online: Vec<Arc<str>>,
    pub reads: std::collections::BTreeMap<Arc<str>, u64>,
}

impl Hub {
    pub(super) async fn prepare_join(
        self: Arc<Self>,
        session: Arc<Session>,
        name: &str,
        after: Option<u64>,
    ) -> Answer {
        let room = match self.member_room(&session.tenant, &session.user, name).await {
            Ok(room) => room,
            Err(error) => return Err(error).into(),
        };
        {
            let state = session.state();
            if state.joined.len() >= self.config.joins_per_session_max
                && !state.joined.contains_key(&room.key.name)
            {
                METRICS.limited_joins.increment(1);
                let max = self.config.joins_per_session_max;
                return Err(CommandError::rate_limited(
                    format!("a session joins at most {max} conversations"),
                    1_000,
                ))
                .into();
            }
        }
        self.know_presence(&room).await;
        let after = self.check_cursor(&room, after).await;
        Answer::Join(PreparedJoin { hub: self, session, room, after })
    }

    /// `leave`; `None` if the session has not joined.
    pub(super) fn leave_room(&self, session: &Arc<Session>, name: &str) -> Option<Answer> {
        let room = session.state().joined.remove(name)?;
        self.detach_room(session, &room);
        self.go(session, &room);
        Some(Answer::Leave(Some(room.id)))
    }

    /// The session is in the room no more: its user was there until now.
    fn go(&self, session: &Session, room: &Room) {
        let now_ms = self.now_ms();
        self.saw(&session.tenant, &session.user, now_ms);
        self.count_out(room, &session.user, now_ms);
    }

    /// A client's cursor, for a room that may not have heard of it yet: the client was on another node, which told it of messages that
    /// this one has missed so far. The log says whether they exist; a cursor beyond the log (of a database that was set back) is
    /// no cursor.
    pub(super) async fn check_cursor(&self, room: &Arc<Room>, after: Option<u64>) -> Option<u64> {
        let after = after?;
        if after <= room.state().head() {
            return Some(after);
        }
        match self.conversations.heads(&[room.conversation]).await {
            Ok(heads) => {
                if let Some(head) = heads.first() {
                    self.learn(room, head);
                }
                Some(after.min(heads.first().map_or(0, |head| head.head)))
            }
            Err(error) => {
                tracing::debug!(%error, "a cursor could not be checked");
                Some(after)
            }
        }
    }

    /// Takes a session out of a room that its user may no longer read; not if they were made a member again meanwhile.
    pub(crate) fn evict(&self, session: &Arc<Session>, room: &Arc<Room>) {
        let joined = {
            let mut state = session.state();
            match state.joined.get(&room.key.name) {
                Some(found) if Arc::ptr_eq(found, room) && !room.is_member(&session.user) => {
                    state.joined.remove(&room.key.name).is_some()
                }
                _ => false,
            }
        };
        if joined {
            self.detach_room(session, room);
            self.go(session, room);
            let socket = session.socket;
            self.shards.post(socket.shard, ShardItem::Evict { socket, room: room.id });
        }
    }

    pub(super) fn attach_room(
        &self,
        session: &Arc<Session>,
        room: &Arc<Room>,
    ) -> Result<Attached, CommandError> {
        let mut joined = session.state();
        let mut state = room.state();
        if state.gone || !state.members.contains_key(&session.user) {
            return Err(CommandError::no_such_conversation());
        }
        let head = match joined.joined.get(&room.key.name) {
            Some(found) if Arc::ptr_eq(found, room) => state.head(),
            _ => {
                joined.joined.insert(room.key.name.clone(), room.clone());
                let head = state.attach(session.socket.shard);
                if !state.online_known {
                    self.unread.enter(room.lane);
                }
                self.count_in(room, &mut state, &session.user);
                let change = Change::Joined(room.key.name.to_string());
                self.change(StoreChange::Session(SessionChange { session: session.id.to_string(), change }));
                head
            }
        };
        Ok(Attached { head, online: state.online.users().cloned().collect(), reads: state.reads() })
    }

    fn detach_room(&self, session: &Session, room: &Room) {
        room.state().detach(session.socket.shard);
        let change = Change::Left(room.key.name.to_string());
        self.change(StoreChange::Session(SessionChange { session: session.id.to_string(), change }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_is_what_lies_between_cursor_and_head_and_no_more_than_the_limit() {
        let plan = |after, head| Replay::plan(after, head, 1_000);
        assert_eq!(plan(None, 50), Replay { cursor: 50, replayed: 0, truncated: false });
        assert_eq!(plan(Some(20), 50), Replay { cursor: 20, replayed: 30, truncated: false });
        assert_eq!(plan(Some(0), 1_000), Replay { cursor: 0, replayed: 1_000, truncated: false });
        assert_eq!(plan(Some(0), 1_001), Replay { cursor: 1, replayed: 1_000, truncated: true });
        assert_eq!(plan(Some(99), 50), Replay { cursor: 99, replayed: 0, truncated: false });
        assert_eq!(plan(Some(0), 0), Replay { cursor: 0, replayed: 0, truncated: false });
    }
}
