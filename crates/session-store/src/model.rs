//! The session store's records, as plain data. Times are Unix milliseconds in UTC.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use starling_model::{ConversationId, ConversationName, TenantName, TopicName, UserName};

/// A node's description of itself, sent with each beat. Nodes of other versions may send more fields, or fewer. A missing field is
/// read as `None` or as empty, never as a number that somebody would act on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeRecord {
    /// The node's name.
    pub node: String,
    /// The address where it can be reached, if it is configured.
    pub address: Option<String>,
    /// Number of open sockets; `None` if the record lacks it.
    pub connections: Option<u64>,
    /// Number of sessions: attached ones, and those whose socket dropped a moment ago. `None` if the record lacks it.
    pub sessions: Option<u64>,
    /// Version of the program.
    pub version: String,
    /// Time of the node's start.
    pub started_at_ms: i64,
    /// Whether the node is draining.
    pub draining: bool,
    /// Number of open sockets per tenant, for limits that apply to all nodes together.
    pub tenants: BTreeMap<TenantName, u64>,
    /// Number of messages committed since the start, for the console.
    pub messages: u64,
    /// Number of events delivered to sockets since the start, for the console.
    pub deliveries: u64,
    /// Median delivery latency of the last seconds, microseconds, for the console.
    pub delivery_p50_us: u64,
    /// 99th percentile of the delivery latency of the last seconds, microseconds, for the console.
    pub delivery_p99_us: u64,
    /// Whether the node keys presence by the conversation's id. Nodes of older versions key it by name only.
    #[serde(default)]
    pub presence_by_id: bool,
    /// Whether the node takes no clients.
    #[serde(default)]
    pub worker_only: bool,
    /// The node's roles; empty if the record lacks them: see [`NodeRecord::roles`].
    pub roles: Vec<String>,
}

impl NodeRecord {
    /// Returns the node's roles. A node of an older version does not say them: it works alone in the background, or it has both roles.
    pub fn roles(&self) -> Vec<String> {
        let of_older = |roles: &[&str]| roles.iter().map(|role| (*role).to_owned()).collect();
        match (self.roles.is_empty(), self.worker_only) {
            (false, _) => self.roles.clone(),
            (true, true) => of_older(&["worker"]),
            (true, false) => of_older(&["gateway", "worker"]),
        }
    }
}

/// The answer to a beat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// Whether this node had no lease before the beat. Then its sessions and presence must be written again.
    pub lost: bool,
    /// All nodes with a lease, including this one.
    pub living: Vec<NodeRecord>,
}

/// Position of an attach in the order of all attaches of its session, on all nodes. The attach with the highest stamp holds the
/// session. A stamp is the time at which the attach began, in microseconds of Unix time by the store's clock, or one more than a stamp
/// that it must exceed. A node gives its own attaches of a session different stamps, since the store tells them apart by nothing else. Of
/// two equal stamps of different nodes, the one of the node whose name sorts last counts as higher.
pub type Stamp = i64;

/// A request to attach a session to a socket of a node.
#[derive(Clone, Debug)]
pub struct Attach {
    /// The session's id.
    pub session: String,
    /// The session's tenant.
    pub tenant: TenantName,
    /// The session's user.
    pub user: UserName,
    /// The node that attaches the session.
    pub node: String,
    /// The current time.
    pub now_ms: i64,
    /// What is known of the session to resume; `None` for a new session.
    pub resume: Option<ResumeAttach>,
    /// Time since the attach began.
    pub waited: Duration,
    /// The highest stamp that the ticket and the node know of earlier attaches. The stamp of this attach must exceed it.
    pub after: Stamp,
    /// Whether the node asks again for an attach that has its stamp already. It is counted once.
    pub again: bool,
    /// How long a session outlives its socket, milliseconds.
    pub window_ms: u64,
}

/// What is known of a session to resume.
#[derive(Clone, Copy, Debug)]
pub struct ResumeAttach {
    /// Time at which the ticket was issued. The session was attached then.
    pub ticket_issued_at_ms: i64,
}

impl ResumeAttach {
    /// Whether the ticket is younger than the resume window, so that the session can't have expired. A store that does not know it has lost
    /// it, or was down when its node wanted to write it.
    pub(crate) fn is_recent(self, attach: &Attach) -> bool {
        let window_ms = i64::try_from(attach.window_ms).unwrap_or(i64::MAX);
        attach.now_ms.saturating_sub(self.ticket_issued_at_ms) <= window_ms
    }
}

/// The outcome of an [`Attach`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attached {
    /// A new session was written and is attached to this node.
    New {
        /// The stamp of this attach.
        stamp: Stamp,
    },
    /// The session exists and is within its resume window. Its present holder keeps it until the [`Hold`].
    Resumed {
        /// The stamp of this attach.
        stamp: Stamp,
        /// The node whose socket holds the session, if it is attached.
        previous_node: Option<String>,
        /// The conversations that it has joined.
        conversations: Vec<JoinedConversation>,
        /// The topics that it has subscribed to.
        topics: Vec<TopicName>,
        /// Time at which the session was created.
        created_at_ms: i64,
    },
    /// The store does not know the session, but the ticket is younger than the resume window, or the store lost its data (by a wipe or a
    /// restart) after the ticket was issued and less than a window ago. So the ticket is enough. Nothing is written until the [`Hold`].
    Rebuilt {
        /// The stamp of this attach.
        stamp: Stamp,
    },
    /// The session's window has passed, an operator ended it, or it belongs to another user.
    Refused,
}

/// The last step of a resume: this node takes the session over, unless a later attach holds it.
#[derive(Clone, Debug)]
pub struct Hold {
    /// The session's id.
    pub session: String,
    /// The session's tenant.
    pub tenant: TenantName,
    /// The session's user.
    pub user: UserName,
    /// The node that attaches the session.
    pub node: String,
    /// The stamp that the attach got when it began.
    pub stamp: Stamp,
    /// Time at which the session was created, for a store that has lost it.
    pub created_at_ms: i64,
    /// The current time.
    pub now_ms: i64,
    /// How long a session outlives its socket, milliseconds.
    pub window_ms: u64,
}

/// The outcome of a [`Hold`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// This node holds the session.
    Held {
        /// The node whose socket held it before, if there was one. It must be told, so that it closes that socket (4409).
        previous_node: Option<String>,
    },
    /// A later attach holds it.
    Superseded,
    /// An operator ended the session meanwhile, or it belongs to another user.
    Refused,
}

/// The record of an attached session, which its node writes again after the store lost it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// The session's id.
    pub session: String,
    /// The session's tenant.
    pub tenant: TenantName,
    /// The session's user.
    pub user: UserName,
    /// Time at which the session was created.
    pub created_at_ms: i64,
    /// The conversations that it has joined.
    pub conversations: Vec<JoinedConversation>,
    /// The topics that it has subscribed to.
    pub topics: Vec<TopicName>,
    /// The stamp of the attach that holds it.
    pub stamp: Stamp,
}

/// The sessions that could not simply be written again; all others were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The sessions that were not written.
    pub refused: Vec<NotRestored>,
    /// The sessions that were taken over from an earlier attach, whose node may not know that yet.
    pub earlier: Vec<EarlierAttach>,
}

/// A session that was taken over from the node of an earlier attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlierAttach {
    /// The session's id.
    pub session: String,
    /// The node that held it. It must be told, so that it closes the socket (4409).
    pub node: String,
}

/// A session whose socket dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The session's id.
    pub session: String,
    /// The stamp of the attach that ended. A later attach is not affected. 0 for the attach of a new session that broke off before it
    /// had a stamp: no client knows that session.
    pub stamp: Stamp,
}

/// A session that was not written again because its node does not hold it any more. Its socket must be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotRestored {
    /// The session's id.
    pub session: String,
    /// Whether an operator ended the session; otherwise a later attach holds it.
    pub ended: bool,
    /// The node that holds the session, or held it last.
    pub node: String,
}

/// A conversation that a session has joined.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JoinedConversation {
    /// The conversation's name.
    pub name: ConversationName,
    /// The conversation's id. A conversation that is deleted and created again under the same name gets another one. `None` if a node of
    /// an older version wrote the record: then any conversation of that name is meant.
    pub id: Option<ConversationId>,
}

impl<N: Into<ConversationName>> From<N> for JoinedConversation {
    /// Makes a reference to any conversation of that name.
    fn from(name: N) -> JoinedConversation {
        JoinedConversation { name: name.into(), id: None }
    }
}

/// A change to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionChange {
    /// The session's id.
    pub session: String,
    /// The change.
    pub change: Change,
}

/// The kinds of change to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It joined a conversation.
    Joined(JoinedConversation),
    /// It left a conversation. A later conversation of the same name that it has joined since is kept.
    Left(JoinedConversation),
    /// It subscribed to a topic.
    Subscribed(TopicName),
    /// It unsubscribed from a topic.
    Unsubscribed(TopicName),
}

/// A session that an operator ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The living node that the session was attached to, if there is one.
    pub node: Option<String>,
}

/// A session in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSummary {
    /// The session's id.
    pub session: String,
    /// The session's user.
    pub user: UserName,
    /// The node that holds the session, or held it last.
    pub node: String,
    /// Whether a socket on a living node is attached to it now.
    pub attached: bool,
    /// Time at which its last socket dropped or its node was last alive; `None` while a socket is attached.
    pub dropped_at_ms: Option<i64>,
    /// Time at which the session was created.
    pub created_at_ms: i64,
}

/// A page of sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionList {
    /// The sessions of this page.
    pub sessions: Vec<SessionSummary>,
    /// Opaque cursor of the next page; `None` at the end.
    pub next: Option<String>,
}

/// A conversation, told apart from earlier and later ones of the same name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConversationKey {
    /// The conversation's tenant.
    pub tenant: TenantName,
    /// The conversation's name.
    pub conversation: ConversationName,
    /// The conversation's id.
    pub id: ConversationId,
}

/// The number of a user's sessions in a conversation on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceChange {
    /// The conversation.
    pub conversation: ConversationKey,
    /// The user.
    pub user: UserName,
    /// Number of sessions; 0 removes the user.
    pub devices: u32,
}

/// The number of a user's sessions in a conversation on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceEntry {
    /// The user.
    pub user: UserName,
    /// The node.
    pub node: String,
    /// Number of sessions.
    pub devices: u32,
}

/// Whether something is allowed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is allowed, and counts.
    Allowed,
    /// It is not allowed, and does not count.
    Denied {
        /// When to try again, milliseconds from now. Each refused caller is told a later time, so that none is refused twice.
        retry_after_ms: u64,
    },
}

impl Verdict {
    /// Returns the verdict on a cell that may pass after this time.
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
    /// The store refuses this node: a wrong user or password, or a missing right. The operator has to act.
    #[error("Redis refuses this node: {0}")]
    Refused(String),
    /// No page of sessions has returned this cursor.
    #[error("no page of sessions ended there")]
    Cursor,
    /// The address in `REDIS_URL` can't be used. The operator has to act.
    #[error("redis_url: {0}")]
    Address(String),
    /// The store is of a version that Starling can't use. The operator has to act.
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

    #[test]
    fn a_node_of_a_version_without_roles_has_those_that_it_can_have() {
        let roles = |record: &str| serde_json::from_str::<NodeRecord>(record).expect("a record").roles();
        assert_eq!(roles(r#"{"node":"n","roles":["gateway"]}"#), ["gateway"]);
        assert_eq!(roles(r#"{"node":"n"}"#), ["gateway", "worker"]);
        assert_eq!(roles(r#"{"node":"n","worker_only":true}"#), ["worker"]);
    }
}
