//! A session that is attached to a socket of this node.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use starling_auth::Identity;
use starling_model::{ConversationName, TenantName, TopicName, UserName};
use starling_session_store::{SessionRecord, Stamp};

use crate::Map;
use crate::config::PAGE_BYTES_MAX;
use crate::room::Room;
use crate::shards::SocketId;
use crate::topics::Topic;

/// A session that is attached to a socket of this node.
pub struct Session {
    /// Its id, which nobody can guess.
    pub id: Arc<str>,
    /// The tenant of its user.
    pub tenant: TenantName,
    /// The user that it belongs to.
    pub user: UserName,
    /// When the session began, Unix milliseconds.
    pub created_at_ms: i64,
    /// The socket that it is attached to.
    pub socket: SocketId,
    /// The stamp of the attach that brought it here.
    began: Stamp,
    /// The stamp that it is held by: that one, or that of a later attach which broke off.
    stamp: AtomicI64,
    /// How long a page of history may be, bytes: less than [`PAGE_BYTES_MAX`] for a client that reads slowly.
    page_bytes: AtomicUsize,
    state: Mutex<SessionState>,
}

/// What changes about a session.
pub struct SessionState {
    /// The identity in the token. A `refresh` replaces it.
    pub identity: Identity,
    /// The conversations that it has joined.
    pub joined: Map<ConversationName, Arc<Room>>,
    /// The topics that it is subscribed to.
    pub topics: Map<TopicName, Arc<Topic>>,
}

impl Session {
    /// A session in nothing yet.
    pub fn new(
        id: Arc<str>,
        identity: Identity,
        created_at_ms: i64,
        socket: SocketId,
        stamp: Stamp,
    ) -> Session {
        let state = SessionState { identity, joined: Map::default(), topics: Map::default() };
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

    /// The stamp of the attach that brought it here, or of a later one whose place it took.
    pub fn stamp(&self) -> Stamp {
        self.stamp.load(Ordering::Relaxed)
    }

    /// The stamp of the attach that brought it here.
    pub(super) fn began(&self) -> Stamp {
        self.began
    }

    /// An attach that broke off leaves its place to the one that brought this session here.
    pub(super) fn raise_stamp(&self, stamp: Stamp) {
        self.stamp.fetch_max(stamp, Ordering::Relaxed);
    }

    /// How long a page of history may be, bytes.
    pub fn page_bytes(&self) -> usize {
        self.page_bytes.load(Ordering::Relaxed)
    }

    /// Makes pages of history at most so long, bytes.
    pub fn set_page_bytes(&self, bytes: usize) {
        self.page_bytes.store(bytes.min(PAGE_BYTES_MAX), Ordering::Relaxed);
    }

    /// Access to what changes. Never held across an await.
    pub fn state(&self) -> parking_lot::MutexGuard<'_, SessionState> {
        self.state.lock()
    }

    /// Whether it is in this room.
    pub fn is_in(&self, room: &Arc<Room>) -> bool {
        self.state().joined.get(&room.key.name).is_some_and(|joined| Arc::ptr_eq(joined, room))
    }

    /// What the token says now.
    pub fn identity(&self) -> Identity {
        self.state.lock().identity.clone()
    }

    /// When the token ends, Unix milliseconds.
    pub fn expires_at_ms(&self) -> i64 {
        self.state.lock().identity.expires_at_ms
    }

    /// What the session store is told of an attached session.
    pub fn to_record(&self) -> SessionRecord {
        let state = self.state();
        SessionRecord {
            session: self.id.to_string(),
            tenant: self.tenant.clone(),
            user: self.user.clone(),
            created_at_ms: self.created_at_ms,
            conversations: state.joined.values().map(|room| room.as_joined()).collect(),
            topics: state.topics.keys().cloned().collect(),
            stamp: self.stamp(),
        }
    }
}
