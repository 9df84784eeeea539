//! What the session store holds, as plain data. Times are Unix milliseconds in UTC.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use starling_model::{ConversationName, TenantName, TopicName, UserName};

/// What a node says of itself with each beat. Nodes of other versions may say more, or less: what a record lacks is `None`, or
/// nothing, and never a number that somebody would act on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeRecord {
    /// Its name.
    pub node: String,
    /// Where it can be reached, if it was told.
    pub address: Option<String>,
    /// Open sockets; `None`: it does not say.
    pub connections: Option<u64>,
    /// Sessions, attached ones and those whose socket dropped a moment ago; `None`: it does not say.
    pub sessions: Option<u64>,
    /// Program version.
    pub version: String,
    /// When it started.
    pub started_at_ms: i64,
    /// Whether it is on its way out.
    pub draining: bool,
    /// Open sockets per tenant, for limits that hold over all nodes.
    pub tenants: BTreeMap<TenantName, u64>,
    /// Messages committed since the start, for the console.
    pub messages: u64,
    /// Events delivered to sockets since the start, for the console.
    pub deliveries: u64,
    /// Delivery latency of the last seconds, 50th and 99th percentile, microseconds, for the console.
    pub delivery_p50_us: u64,
    /// See `delivery_p50_us`.
    pub delivery_p99_us: u64,
    /// Whether the node keeps presence by the conversation's number. One of an older version keeps it by name alone.
    #[serde(default)]
    pub presence_by_id: bool,
    /// Whether the node takes no clients.
    #[serde(default)]
    pub worker_only: bool,
}

/// What a beat answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// Whether this node's lease had not been there: its sessions and presence are to be written again.
    pub lost: bool,
    /// Every node with a lease, this one included.
    pub living: Vec<NodeRecord>,
}

/// The place of an attach in the order of all attaches of its session, over all nodes: the attach with the highest stamp holds the
/// session. It says when the attach began, in microseconds of Unix time by the store's clock, or comes right after a stamp that it has
/// to be above. Of two equal stamps the one of the node whose name sorts last is the higher one.
pub type Stamp = i64;

/// The attach of a session to a socket of a node, as it begins.
#[derive(Clone, Debug)]
pub struct Attach {
    /// The session's id.
    pub session: String,
    /// Whose.
    pub tenant: TenantName,
    /// Whose.
    pub user: UserName,
    /// The node that attaches it.
    pub node: String,
    /// Now.
    pub now_ms: i64,
    /// `None`: a new session. `Some`: resume this one, whose ticket was made at that time.
    pub resume: Option<ResumeAttach>,
    /// How long ago the attach began.
    pub waited: Duration,
    /// The stamp of this attach is above this one: what the ticket and the node know of earlier attaches.
    pub after: Stamp,
    /// For how long a session outlives its socket, milliseconds.
    pub window_ms: u64,
}

/// What is known about a session that is to be resumed.
#[derive(Clone, Copy, Debug)]
pub struct ResumeAttach {
    /// When the ticket was issued.
    pub ticket_issued_at_ms: i64,
}

/// What became of an [`Attach`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attached {
    /// A new session is written and attached here.
    New {
        /// The stamp of this attach.
        stamp: Stamp,
    },
    /// The session was there and is within its window. Whoever holds it goes on holding it until [`Hold`].
    Resumed {
        /// The stamp of this attach.
        stamp: Stamp,
        /// The node whose socket holds the session, if it is attached.
        previous_node: Option<String>,
        /// What it was in.
        conversations: Vec<JoinedConversation>,
        /// What it was subscribed to.
        topics: Vec<TopicName>,
        /// When it was first made.
        created_at_ms: i64,
    },
    /// The store does not know the session, but has itself been lost (wiped, restarted) since the ticket was
    /// issued and less than a window ago: the ticket is enough. Nothing is written until [`Hold`].
    Rebuilt {
        /// The stamp of this attach.
        stamp: Stamp,
    },
    /// The session's window has passed, it was ended by an operator, or it is somebody else's.
    Refused,
}

/// The end of a resume: from now on this node holds the session, unless a later attach does.
#[derive(Clone, Debug)]
pub struct Hold {
    /// The session's id.
    pub session: String,
    /// Whose.
    pub tenant: TenantName,
    /// Whose.
    pub user: UserName,
    /// The node that attaches it.
    pub node: String,
    /// The stamp that the attach got when it began.
    pub stamp: Stamp,
    /// When the session was first made, for a store that has lost it.
    pub created_at_ms: i64,
    /// Now.
    pub now_ms: i64,
    /// For how long a session outlives its socket, milliseconds.
    pub window_ms: u64,
}

/// What became of a [`Hold`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// This node holds the session.
    Held {
        /// The node whose socket held it until now, if one did; it must be told (close 4409).
        previous_node: Option<String>,
    },
    /// A later attach holds it.
    Superseded,
    /// The session was ended by an operator meanwhile, or is somebody else's.
    Refused,
}

/// An attached session, to be written again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionState {
    /// The session's id.
    pub session: String,
    /// Whose.
    pub tenant: TenantName,
    /// Whose.
    pub user: UserName,
    /// When it was made.
    pub created_at_ms: i64,
    /// What it is in.
    pub conversations: Vec<JoinedConversation>,
    /// What it is subscribed to.
    pub topics: Vec<TopicName>,
    /// The stamp of the attach that holds it.
    pub stamp: Stamp,
}

/// What became of sessions that were to be written again; all others are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Those that were not.
    pub refused: Vec<NotRestored>,
    /// Those that an earlier attach held, which its node may not know yet.
    pub taken: Vec<Taken>,
}

/// A session that was taken from the node of an earlier attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The session's id.
    pub session: String,
    /// The node that held it; it must be told (close 4409).
    pub node: String,
}

/// A session whose socket dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The session's id.
    pub session: String,
    /// The stamp of the attach that ended; a later one is not concerned.
    pub stamp: Stamp,
}

/// A session that was not written again, since it is not its node's any more: its socket is to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotRestored {
    /// The session's id.
    pub session: String,
    /// Whether an operator ended it; otherwise a later attach holds it.
    pub ended: bool,
    /// The node that holds it, or held it last.
    pub node: String,
}

/// A conversation that a session is in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JoinedConversation {
    /// Its name.
    pub name: ConversationName,
    /// Its number in the database: one that is deleted and made again under the name has another. `None`: a node of an older version
    /// wrote it down, and means whichever has the name.
    pub id: Option<i64>,
}

impl<N: Into<ConversationName>> From<N> for JoinedConversation {
    /// Whichever has the name.
    fn from(name: N) -> JoinedConversation {
        JoinedConversation { name: name.into(), id: None }
    }
}

/// What a session joined or left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionChange {
    /// The session's id.
    pub session: String,
    /// What changed.
    pub change: Change,
}

/// What changed about a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It joined a conversation.
    Joined(JoinedConversation),
    /// It left a conversation. If it has joined another one of that name since, it stays in that.
    Left(JoinedConversation),
    /// It subscribed to a topic.
    Subscribed(TopicName),
    /// It unsubscribed from a topic.
    Unsubscribed(TopicName),
}

/// A session that an operator ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The living node that it was attached to.
    pub node: Option<String>,
}

/// A session in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSummary {
    /// The session's id.
    pub session: String,
    /// Whose.
    pub user: UserName,
    /// The node that holds it, or held it last.
    pub node: String,
    /// Whether a socket is attached to it now (on a living node).
    pub attached: bool,
    /// When its last socket dropped, or its node was last alive; `None` while one is attached.
    pub dropped_at_ms: Option<i64>,
    /// When it was made.
    pub created_at_ms: i64,
}

/// A page of sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionList {
    /// Some sessions.
    pub sessions: Vec<SessionSummary>,
    /// Where to go on, `None` at the end. Opaque.
    pub next: Option<String>,
}

/// A conversation. Two that have the same name one after the other differ.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConversationKey {
    /// Whose.
    pub tenant: TenantName,
    /// Its name.
    pub conversation: ConversationName,
    /// Its number in the database.
    pub id: i64,
}

/// How many sessions of a user are in a conversation on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceChange {
    /// Where.
    pub conversation: ConversationKey,
    /// Who.
    pub user: UserName,
    /// With how many sessions; 0: gone.
    pub devices: u32,
}

/// How many sessions of a user are in a conversation on some node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceEntry {
    /// Who.
    pub user: UserName,
    /// On which node.
    pub node: String,
    /// With how many sessions.
    pub devices: u32,
}

/// Whether something is allowed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is, and counts.
    Allowed,
    /// It is not, and does not count.
    Denied {
        /// When to try again, milliseconds from now: later for each who is refused, so that all find a place if they come back then.
        retry_after_ms: u64,
    },
}

impl Verdict {
    /// The verdict on a cell whose place is so far away.
    pub(crate) fn denied(away_us: u64) -> Verdict {
        Verdict::Denied { retry_after_ms: away_us.div_ceil(1_000) }
    }
}

/// Why the store could not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store can't be reached or took too long. Try again.
    #[error("the session store is not available: {0}")]
    Unavailable(String),
    /// The store refuses this node: a wrong user or password, or a right that is missing. The operator's to mend.
    #[error("Redis refuses this node: {0}")]
    Refused(String),
    /// A cursor that no page of sessions ended with.
    #[error("no page of sessions ended there")]
    Cursor,
    /// The address in `REDIS_URL` can't be used. The operator's to mend.
    #[error("redis_url: {0}")]
    Address(String),
    /// The store is of a version that Starling can't use. The operator's to mend.
    #[error("{0}")]
    Unsupported(String),
}

impl From<starling_redis_link::Error> for Error {
    fn from(error: starling_redis_link::Error) -> Error {
        use starling_redis_link::Error as Redis;
        match error {
            Redis::Unavailable(why) => Error::Unavailable(why),
            Redis::Refused(why) => Error::Refused(why),
            Redis::Address(why) => Error::Address(why),
            Redis::Unsupported(why) => Error::Unsupported(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_record_of_another_version_lacks_is_not_known() {
        let read = |text| serde_json::from_str::<NodeRecord>(text).expect("a record");
        let older = read(r#"{"node": "older", "connections": 7, "draining": true, "unheard_of": [1]}"#);
        assert_eq!((older.connections, older.sessions, older.draining), (Some(7), None, true));
        assert_eq!(read(r#"{"node": "n", "sessions": 0}"#).sessions, Some(0));
        let own = NodeRecord { node: "n".into(), sessions: Some(3), ..NodeRecord::default() };
        let said = serde_json::to_value(&own).expect("JSON");
        assert_eq!(said["sessions"], 3, "a number, as older nodes read it");
    }
}
