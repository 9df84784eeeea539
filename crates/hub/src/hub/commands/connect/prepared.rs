//! A session that passed its checks, and its attach to the connection.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use starling_model::ConversationName;
use starling_wire::protocol::{CloseReason, Connected, ErrorCode, ResumedConversation, Timestamp};

use super::super::join::{Attachment, Replay, Start};
use super::super::subscribe::PreparedSubscribe;
use super::attaching::Attaching;
use crate::clock::millis;
use crate::hub::Hub;
use crate::node_message::NodeMessage;
use crate::publisher::Outgoing;
use crate::room::Room;
use crate::sessions::{Inserted, Session};

/// A session that passed its checks. The shard that owns the connection completes it with [`PreparedConnect::attach`].
pub struct PreparedConnect {
    pub(super) hub: Arc<Hub>,
    pub(super) session: Arc<Session>,
    pub(super) resumed: bool,
    /// The rooms to join, and where their replays start.
    pub(super) rooms: Vec<(Arc<Room>, Start)>,
    pub(super) topics: Vec<PreparedSubscribe>,
    /// Conversations that the user may no longer read.
    pub(super) gone: Vec<ConversationName>,
    pub(super) ticket: String,
    pub(super) attaching: Attaching,
}

/// The rooms of a session that have been attached.
#[derive(Default)]
struct AttachedRooms {
    attachments: Vec<Attachment>,
    conversations: BTreeMap<ConversationName, ResumedConversation>,
    /// Whether the database was set back since some rooms were read.
    is_cut_short: bool,
}

impl PreparedConnect {
    /// Makes the attach of a new session, which has joined nothing.
    pub(super) fn of_new_session(
        hub: Arc<Hub>,
        session: Arc<Session>,
        ticket: String,
        attaching: Attaching,
    ) -> PreparedConnect {
        let (rooms, topics, gone) = (Vec::new(), Vec::new(), Vec::new());
        PreparedConnect { hub, session, resumed: false, rooms, topics, gone, ticket, attaching }
    }

    /// Returns the session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Attaches the session to the connection. Must be called on the thread of its shard, like [`crate::PreparedJoin::attach`]. The topics
    /// are returned to be completed one by one.
    ///
    /// # Errors
    /// The reason for which the connection must be closed, if a later attach holds the session or the session was ended.
    pub fn attach(mut self) -> Result<(Connected, Vec<Attachment>, Vec<PreparedSubscribe>), CloseReason> {
        let Inserted { older, must_be_written } = self.hub.sessions.insert(&self.session, &self.hub.node)?;
        if must_be_written {
            self.hub.holding.write_soon(self.session.clone());
        }
        self.attaching.arrive();
        if let Some(older) = older {
            self.hub.attachments.close(&older, CloseReason::Superseded);
            self.hub.attachments.drop_all(&older);
        }
        let AttachedRooms { attachments, conversations, is_cut_short } = self.attach_rooms();
        // Stop lingering only now that the user is counted in again, so that nobody sees them go, on this node or others.
        self.hub.presence.stop_lingering(&self.session.id);
        if self.resumed {
            self.tell_moved(&attachments);
        }
        if is_cut_short {
            // The client must reconnect.
            self.hub.attachments.close(&self.session, CloseReason::Restart);
        }
        let topics = std::mem::take(&mut self.topics);
        Ok((self.connected(conversations), attachments, topics))
    }

    /// Undoes the attach, if the connection closed meanwhile.
    pub fn abandon(self) {
        drop(self.attaching);
    }

    fn attach_rooms(&mut self) -> AttachedRooms {
        let mut attached = AttachedRooms::default();
        for (room, start) in std::mem::take(&mut self.rooms) {
            let joined = match self.hub.attachments.join(&self.session, &room) {
                Ok(joined) => joined,
                Err(error) if error.code == ErrorCode::NotFound => {
                    self.gone.push(room.key.name.clone());
                    continue;
                }
                Err(_) => {
                    attached.is_cut_short = true;
                    continue;
                }
            };
            let replay = Replay::plan(start.after, joined.head, self.hub.config.replay_limit);
            let Replay { cursor, replayed, truncated } = replay;
            let (head, log, reset) = (joined.head.max(cursor).get(), room.log.clone(), start.reset);
            let resumed = ResumedConversation { head, replayed, truncated, log, reset };
            attached.conversations.insert(room.key.name.clone(), resumed);
            attached.attachments.push(Attachment { channel: room.channel, head: joined.head, cursor, room });
        }
        attached
    }

    /// Tells the other nodes that the session is here now. The message follows the presence in each room on the same partition, since on a
    /// Redis Cluster it could overtake the presence on another one.
    fn tell_moved(&self, attachments: &[Attachment]) {
        let (session, to, stamp) =
            (self.session.id.clone(), self.hub.node.clone(), Some(self.session.stamp()));
        let moved = NodeMessage::Moved { session, to, stamp };
        let partitions: BTreeSet<u16> =
            attachments.iter().map(|attachment| attachment.room.partition).collect();
        for partition in partitions {
            self.hub.writer.publish_when_written(Outgoing::everyone(partition, &moved));
        }
    }

    /// Makes the reply.
    fn connected(self, conversations: BTreeMap<ConversationName, ResumedConversation>) -> Connected {
        let PreparedConnect { hub, session, resumed, gone, ticket, .. } = self;
        Connected {
            session: session.id.to_string(),
            ticket,
            user: session.user.clone(),
            tenant: session.tenant.clone(),
            node: hub.name.clone(),
            resumed,
            heartbeat_ms: millis(hub.config.heartbeat),
            resume_window_ms: millis(hub.config.resume_window),
            expires_at: Timestamp(session.expires_at_ms()),
            conversations: resumed.then_some(conversations),
            topics: resumed.then(BTreeMap::new),
            gone: resumed.then_some(gone),
        }
    }
}
