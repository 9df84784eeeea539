//! `join`, and what it shares with a resume: attach to live events, read the log from the cursor, and connect the two by seq.

use std::sync::Arc;

use starling_conversation_store::ConversationId;
use starling_model::{ConversationName, Seq, UserName};
use starling_webhook_service::webhooks::{HookPoint, Question};
use starling_wire::protocol::{Cursor, Joined};

use crate::CommandError;
use crate::hub::Hub;
use crate::metrics::METRICS;
use crate::room::Room;
use crate::sessions::Session;
use crate::shards::ChannelId;

/// Most lookups of a conversation for one join. It is looked up again if it was deleted and created again meanwhile.
const LOOKUPS_MAX: u32 = 3;

/// A join that passed its checks. The shard that owns the connection completes it with [`PreparedJoin::attach`].
pub struct PreparedJoin {
    hub: Arc<Hub>,
    session: Arc<Session>,
    room: Arc<Room>,
    start: Start,
}

/// Where a client's replay of a room's log starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Start {
    /// The seq of the last message that the client has. `None`: it wants no earlier messages.
    pub after: Option<Seq>,
    /// Whether the client's cursor belongs to messages that are no longer there.
    pub reset: bool,
}

/// A connection's place in a room. Messages after `head` come through the shard's inbox from now on.
pub struct Attachment {
    /// The conversation's channel on this node.
    pub channel: ChannelId,
    /// The room, whose log is read.
    pub room: Arc<Room>,
    /// The seq of the last message that does not come through the inbox.
    pub head: Seq,
    /// The seq of the last message that the client has, or does not get. It is served from the log after this one, up to `head`.
    pub cursor: Seq,
}

/// The part of a log that is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replay {
    pub cursor: Seq,
    pub replayed: u64,
    pub truncated: bool,
}

impl Replay {
    /// Plans the replay from a client's cursor up to a head. It has at most `limit` messages, the newest ones. Without a cursor it is
    /// empty.
    ///
    /// A cursor beyond the head means that the client has seen more than this node has heard of yet (see [`Hub::start_of`]). The cursor
    /// stays there, so that the client does not get those messages twice.
    pub fn plan(after: Option<Seq>, head: Seq, limit: u64) -> Replay {
        let after = after.unwrap_or(head);
        let missed = head.get().saturating_sub(after.get());
        let replayed = missed.min(limit);
        Replay { cursor: after.max(Seq::new(head.get() - replayed)), replayed, truncated: missed > limit }
    }
}

impl PreparedJoin {
    /// Attaches the session to the room. Must be called on the thread of the connection's shard, which enters the attachment into its table
    /// before it takes the next item from its inbox. So no message is missed and none comes twice.
    pub fn attach(self) -> Result<(Joined, Attachment), CommandError> {
        let PreparedJoin { hub, session, room, start } = self;
        let limit = hub.config.replay_limit;
        let attached = hub.attachments.join(&session, &room)?;
        let replay = Replay::plan(start.after, attached.head, limit);
        let joined = Joined {
            head: attached.head.max(replay.cursor).get(),
            replayed: replay.replayed,
            truncated: replay.truncated,
            log: room.log.clone(),
            reset: start.reset,
            online: attached.online,
            reads: attached.reads,
        };
        let attachment =
            Attachment { channel: room.channel, room, head: attached.head, cursor: replay.cursor };
        Ok((joined, attachment))
    }
}

impl Hub {
    pub(super) async fn prepare_join(
        self: Arc<Self>,
        session: Arc<Session>,
        name: &ConversationName,
        cursor: Option<Cursor>,
    ) -> Result<PreparedJoin, CommandError> {
        self.ask_about_join(&session, name).await?;
        let (room, start) = self.room_and_start(&session, name, None, cursor.as_ref()).await?;
        {
            let state = session.state();
            if state.joined.len() >= self.config.joins_per_session_max
                && !state.joined.contains(&room.key.name)
            {
                METRICS.limited_joins.increment(1);
                let max = self.config.joins_per_session_max;
                return Err(CommandError::rate_limited(
                    format!("a session joins at most {max} conversations"),
                    1_000,
                ));
            }
        }
        self.reads.wait(&session.tenant, &session.user, 1).await?;
        self.presence.know(&room).await;
        Ok(PreparedJoin { hub: self, session, room, start })
    }

    /// Asks the hook for joins, if the user is a member.
    async fn ask_about_join(
        &self,
        session: &Session,
        conversation: &ConversationName,
    ) -> Result<(), CommandError> {
        let Session { tenant, user, .. } = session;
        let Some(decider) = self.decider(tenant, HookPoint::Join) else { return Ok(()) };
        self.directory.member_room(tenant, user, conversation).await?;
        self.ask(&decider, Question::Join { user, conversation }).await.map(drop)
    }

    /// Returns a conversation that the session's user is a member of, and where a client with this cursor continues. `id`: the conversation
    /// must have this id, since another one may have taken its name.
    pub(super) async fn room_and_start(
        &self,
        session: &Session,
        name: &ConversationName,
        id: Option<ConversationId>,
        cursor: Option<&Cursor>,
    ) -> Result<(Arc<Room>, Start), CommandError> {
        for _ in 0..LOOKUPS_MAX {
            let room = self.directory.member_room(&session.tenant, &session.user, name).await?;
            if id.is_some_and(|id| id != room.conversation) {
                if self.directory.head_in_log(&room, &session.user).await?.is_some() {
                    return Err(CommandError::no_such_conversation());
                }
            } else if let Some(start) = self.start_of(&room, &session.user, cursor).await? {
                return Ok((room, start));
            }
        }
        Err(CommandError::unavailable("the conversation is being made again"))
    }

    /// Returns where a client with this cursor continues in a room's log. `None`: the database has another conversation under the room's
    /// name by now, so the room must be looked up again.
    ///
    /// A cursor that does not fit the room proves nothing by itself. The client may come from another node, which knew of messages or of a
    /// new log before this node did. So the database is asked.
    async fn start_of(
        &self,
        room: &Arc<Room>,
        reader: &UserName,
        cursor: Option<&Cursor>,
    ) -> Result<Option<Start>, CommandError> {
        let Some(cursor) = cursor else { return Ok(Some(Start::default())) };
        let seq = Seq::new(cursor.seq);
        let goes_on = Start { after: Some(seq), reset: false };
        let is_foreign = cursor.log.as_deref().is_some_and(|log| *log != *room.log);
        if !is_foreign && seq <= room.state().head() {
            return Ok(Some(goes_on));
        }
        let head = match self.directory.head_in_log(room, reader).await {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(None),
            Err(error) if is_foreign => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "a cursor could not be checked");
                return Ok(Some(goes_on));
            }
        };
        let is_beyond = seq > head;
        Ok(Some(if is_foreign || is_beyond {
            Start { after: Some(Seq::ZERO), reset: true }
        } else {
            goes_on
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_is_what_lies_between_cursor_and_head_and_no_more_than_the_limit() {
        let plan = |after: Option<u64>, head| Replay::plan(after.map(Seq::new), Seq::new(head), 1_000);
        let replay = |cursor, replayed, truncated| Replay { cursor: Seq::new(cursor), replayed, truncated };
        assert_eq!(plan(None, 50), replay(50, 0, false));
        assert_eq!(plan(Some(20), 50), replay(20, 30, false));
        assert_eq!(plan(Some(0), 1_000), replay(0, 1_000, false));
        assert_eq!(plan(Some(0), 1_001), replay(1, 1_000, true));
        assert_eq!(plan(Some(99), 50), replay(99, 0, false));
        assert_eq!(plan(Some(0), 0), replay(0, 0, false));
    }
}
