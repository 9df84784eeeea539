//! A session that is attached to a connection of this node.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use starling_auth::Identity;
use starling_model::{TenantName, UserName};
use starling_session_store::{SessionRecord, Stamp};

use super::by_name::ByName;
use crate::config::PAGE_BYTES_MAX;
use crate::room::Room;
use crate::shards::SocketId;
use crate::topics::Topic;

/// A session that is attached to a connection of this node.
pub struct Session {
    /// The session's id, which nobody can guess.
    pub id: Arc<str>,
    /// The user's tenant.
    pub tenant: TenantName,
    /// The user that the session belongs to.
    pub user: UserName,
    /// When the session began, Unix milliseconds.
    pub created_at_ms: i64,
    /// The connection that the session is attached to.
    pub socket: SocketId,
    /// The stamp of the attach that brought the session here.
    began: Stamp,
    /// The stamp that the session is held by: that of its own attach, or of a later attach that broke off.
    stamp: AtomicI64,
    /// Most bytes of a page of history: less than [`PAGE_BYTES_MAX`] for a client that reads slowly.
    page_bytes: AtomicUsize,
    state: Mutex<SessionState>,
}

/// The part of a session that changes.
pub struct SessionState {
    /// The identity in the token. A `refresh` replaces it.
    pub identity: Identity,
    /// The conversations that the session has joined.
    pub joined: ByName<Room>,
    /// The topics that the session is subscribed to.
    pub topics: ByName<Topic>,
}

impl Session {
    /// Creates a session that has joined nothing yet.
    pub fn new(
        id: Arc<str>,
        identity: Identity,
        created_at_ms: i64,
        socket: SocketId,
        stamp: Stamp,
    ) -> Session {
        let state = SessionState { identity, joined: ByName::default(), topics: ByName::default() };
        Session {
            id,
            tenant: state.identity.tenant.clone(),
            user: state.identity.user.clone(),
            created_at_ms,
            socket,
            began: stamp,
            stamp: AtomicI64::new(stamp),
            page_bytes: AtomicUsize::new(PAGE_BYTES_MAX),
            state: Mutex::new(state),
        }
    }

    /// Returns the stamp that the session is held by.
    pub fn stamp(&self) -> Stamp {
        self.stamp.load(Ordering::Relaxed)
    }

    /// Returns the stamp of the attach that brought the session here.
    pub(super) fn began(&self) -> Stamp {
        self.began
    }

    /// Raises the stamp that the session is held by, after an attach with this stamp broke off.
    pub(super) fn raise_stamp(&self, stamp: Stamp) {
        self.stamp.fetch_max(stamp, Ordering::Relaxed);
    }

    /// Returns the most bytes that a page of history may have.
    pub fn page_bytes(&self) -> usize {
        self.page_bytes.load(Ordering::Relaxed)
    }

    /// Sets the most bytes that a page of history may have.
    pub fn set_page_bytes(&self, bytes: usize) {
        self.page_bytes.store(bytes.min(PAGE_BYTES_MAX), Ordering::Relaxed);
    }

    /// Locks the part that changes. The lock must never be held across an await.
    pub fn state(&self) -> parking_lot::MutexGuard<'_, SessionState> {
        self.state.lock()
    }

    /// Whether the session has joined this room.
    pub fn is_in(&self, room: &Arc<Room>) -> bool {
        self.state().joined.get(&room.key.name).is_some_and(|joined| Arc::ptr_eq(joined, room))
    }

    /// Returns the identity that the current token names.
    pub fn identity(&self) -> Identity {
        self.state.lock().identity.clone()
    }

    /// Returns when the current token expires, Unix milliseconds.
    pub fn expires_at_ms(&self) -> i64 {
        self.state.lock().identity.expires_at_ms
    }

    /// Returns the record of this session for the session store.
    pub fn to_record(&self) -> SessionRecord {
        let state = self.state();
        SessionRecord {
            session: self.id.to_string(),
            tenant: self.tenant.clone(),
            user: self.user.clone(),
            created_at_ms: self.created_at_ms,
            conversations: state.joined.iter().map(|room| room.as_joined()).collect(),
            topics: state.topics.iter().map(|topic| topic.key.name.clone()).collect(),
            stamp: self.stamp(),
        }
    }
}
