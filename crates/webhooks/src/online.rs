//! Who is online, as plain data.

use std::fmt;

use starling_model::{TenantName, UserName};
use starling_wire::protocol::Timestamp;
use uuid::Uuid;

use crate::{EventType, NewEvent};

/// One run of a node. A node that was taken for dead and lives goes on as another run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeRun(pub(crate) Uuid);

impl NodeRun {
    /// Makes the id of a new run.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl Default for NodeRun {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for NodeRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A user who has come to a node or has gone from it, with the event that is recorded if that makes the user online or offline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserMove {
    /// The user.
    pub user: UserName,
    /// The event. It has the user's tenant.
    pub(crate) event: NewEvent,
}

impl UserMove {
    /// A user who has come to a node at this time.
    #[must_use]
    pub fn came(tenant: TenantName, user: UserName, at: Timestamp) -> Self {
        Self { event: NewEvent::of_user(tenant, &user, EventType::UserOnline, at), user }
    }

    /// A user who is no longer on a node.
    #[must_use]
    pub fn went(tenant: TenantName, user: UserName, at: Timestamp) -> Self {
        Self { event: NewEvent::of_user(tenant, &user, EventType::UserOffline, at), user }
    }
}

/// The answer to a beat of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeatOutcome {
    /// It is alive, and may reap other runs: it has sent beats for long enough to know that the silence is theirs.
    MayReap,
    /// It is alive, and has not been for long.
    Alive,
    /// It was taken for dead, or is not listed.
    Dead,
}

/// The answer to users who have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveOutcome {
    /// They count as being on the node of the run. The number of deliveries that were recorded.
    Recorded(u64),
    /// The run was taken for dead, or is not listed. Nothing has changed.
    Dead,
}

/// A user who was on the node of a dead run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrphanedUser {
    /// The dead run.
    pub run: NodeRun,
    /// The user's tenant.
    pub tenant: TenantName,
    /// The user.
    pub user: UserName,
}
