//! Sessions of this node: who holds which socket, and what they are in.

use std::sync::Arc;

use parking_lot::Mutex;
use starling_auth::Identity;

use crate::Map;
use crate::room::Room;
use crate::shards::SocketId;
use crate::topic::Topic;

/// A session that is attached to a socket of this node.
pub struct Session {
    /// Its id, unguessable.
    pub id: Arc<str>,
    /// Whose.
    pub tenant: Arc<str>,
    /// Whose.
    pub user: Arc<str>,
    /// When it was first made, Unix milliseconds.
    pub created_at_ms: i64,
    /// The socket.
    pub socket: SocketId,
    state: Mutex<SessionState>,
}

/// What changes about a session.
pub struct SessionState {
    /// What the token says; a `refresh` replaces it.
    pub identity: Identity,
    /// What it is in.
    pub joined: Map<Arc<str>, Arc<Room>>,
    /// What it is subscribed to.
    pub topics: Map<Arc<str>, Arc<Topic>>,
}

impl Session {
    /// A session in nothing yet.
    pub fn new(id: Arc<str>, identity: Identity, created_at_ms: i64, socket: SocketId) -> Session {
        let state = SessionState { identity, joined: Map::default(), topics: Map::default() };
        Session {
            id,
            tenant: state.identity.tenant.clone(),
            user: state.identity.user.clone(),
            created_at_ms,
            socket,
            state: Mutex::new(state),
        }
    }

    /// Access to what changes. Never held across an await.
    pub fn state(&self) -> parking_lot::MutexGuard<'_, SessionState> {
        self.state.lock()
    }

    /// What the token says now.
    pub fn identity(&self) -> Identity {
        self.state.lock().identity.clone()
    }

    /// When the token ends, Unix milliseconds.
    pub fn expires_at_ms(&self) -> i64 {
        self.state.lock().identity.expires_at_ms
    }
}

/// All sessions that are attached to sockets of this node.
#[derive(Default)]
pub struct Sessions {
    inner: Mutex<Directory>,
}

#[derive(Default)]
struct Directory {
    by_id: Map<Arc<str>, Arc<Session>>,
    by_user: Map<(Arc<str>, Arc<str>), Vec<Arc<Session>>>,
    by_tenant: Map<Arc<str>, u64>,
    /// Those that are about to be attached, with how often.
    attaching: Map<Arc<str>, u32>,
}

impl Sessions {
    /// Notes that a session is about to be attached here; [`Sessions::end_attaching`] belongs to it.
    pub fn begin_attaching(&self, id: &Arc<str>) {
        *self.inner.lock().attaching.entry(id.clone()).or_default() += 1;
    }

    /// The session has been attached, or will not be.
    pub fn end_attaching(&self, id: &Arc<str>) {
        let mut inner = self.inner.lock();
        if let Some(count) = inner.attaching.get_mut(id) {
            *count -= 1;
            if *count == 0 {
                inner.attaching.remove(id);
            }
        }
    }

    /// Whether a session is attached here, or about to be.
    pub fn holds(&self, id: &str) -> bool {
        let inner = self.inner.lock();
        inner.by_id.contains_key(id) || inner.attaching.contains_key(id)
    }

    /// Adds a session; answers the one of the same id that was there (to be closed).
    pub fn insert(&self, session: &Arc<Session>) -> Option<Arc<Session>> {
        let mut inner = self.inner.lock();
        let old = inner.by_id.insert(session.id.clone(), session.clone());
        if let Some(old) = &old {
            inner.forget_user(old);
        }
        inner
            .by_user
            .entry((session.tenant.clone(), session.user.clone()))
            .or_default()
            .push(session.clone());
        *inner.by_tenant.entry(session.tenant.clone()).or_default() += 1;
        old
    }

    /// Removes a session, unless another one stands under its id by now.
    pub fn remove(&self, session: &Arc<Session>) -> bool {
        let mut inner = self.inner.lock();
        if !inner.by_id.get(&session.id).is_some_and(|found| Arc::ptr_eq(found, session)) {
            return false;
        }
        inner.by_id.remove(&session.id);
        inner.forget_user(session);
        true
    }

    /// The session of that id.
    pub fn get(&self, id: &str) -> Option<Arc<Session>> {
        self.inner.lock().by_id.get(id).cloned()
    }

    /// All sessions of a user.
    pub fn of_user(&self, tenant: &Arc<str>, user: &Arc<str>) -> Vec<Arc<Session>> {
        self.inner.lock().by_user.get(&(tenant.clone(), user.clone())).cloned().unwrap_or_default()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.inner.lock().by_id.len()
    }

    /// How many of each tenant.
    pub fn per_tenant(&self) -> Vec<(Arc<str>, u64)> {
        self.inner.lock().by_tenant.iter().map(|(tenant, count)| (tenant.clone(), *count)).collect()
    }

    /// How many of this tenant.
    pub fn of_tenant(&self, tenant: &str) -> u64 {
        self.inner.lock().by_tenant.get(tenant).copied().unwrap_or(0)
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.inner.lock().by_id.values().cloned().collect()
    }
}

impl Directory {
    fn forget_user(&mut self, session: &Arc<Session>) {
        let key = (session.tenant.clone(), session.user.clone());
        if let Some(list) = self.by_user.get_mut(&key) {
            list.retain(|other| !Arc::ptr_eq(other, session));
            if list.is_empty() {
                self.by_user.remove(&key);
            }
        }
        if let Some(count) = self.by_tenant.get_mut(&session.tenant) {
            *count -= 1;
            if *count == 0 {
                self.by_tenant.remove(&session.tenant);
            }
        }
    }
}
