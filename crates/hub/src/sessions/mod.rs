//! Sessions of this node: who holds which socket, and what they are in.

pub(crate) mod ended;
pub(crate) mod holding;
pub(crate) mod places;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use starling_auth::Identity;
use starling_model::{ConversationName, TenantName, TopicName, UserName};
use starling_session_store::Stamp;
use starling_wire::protocol::CloseReason;

use crate::Map;
use crate::hub::PAGE_BYTES_MAX;
use crate::room::Room;
use crate::shards::SocketId;
use crate::topics::Topic;

/// A session that is attached to a socket of this node.
pub struct Session {
    /// Its id, unguessable.
    pub id: Arc<str>,
    /// Whose.
    pub tenant: TenantName,
    /// Whose.
    pub user: UserName,
    /// When it was first made, Unix milliseconds.
    pub created_at_ms: i64,
    /// The socket.
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
    /// What the token says; a `refresh` replaces it.
    pub identity: Identity,
    /// What it is in.
    pub joined: Map<ConversationName, Arc<Room>>,
    /// What it is subscribed to.
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
}

/// All sessions that are attached to sockets of this node.
#[derive(Default)]
pub struct Sessions {
    inner: Mutex<Directory>,
}

#[derive(Default)]
struct Directory {
    by_id: Map<Arc<str>, Arc<Session>>,
    by_user: Map<(TenantName, UserName), Vec<Arc<Session>>>,
    by_tenant: Map<TenantName, u64>,
    /// Places that were taken for sessions that are about to be attached.
    reserved: Map<TenantName, u64>,
    /// Those that are about to be attached.
    attaching: Map<Arc<str>, Attaching>,
}

/// A session that is about to be attached here, by one socket or several.
#[derive(Default)]
struct Attaching {
    /// By how many.
    count: u32,
    /// The highest stamp that one of them got.
    given: Stamp,
    /// The highest stamp that another node said it holds the session with, and that node.
    elsewhere: Option<(Stamp, Arc<str>)>,
    /// The highest stamp of an attach that the session store knows of and that broke off meanwhile: the store may have the session as
    /// dropped with it.
    broken_off: Stamp,
    /// An operator ended the session meanwhile.
    ended: bool,
}

/// A session that has been attached here.
pub struct Inserted {
    /// The session of the same id that was there; its socket is to be closed.
    pub older: Option<Arc<Session>>,
    /// It took the place of a later attach, which broke off, and the session store may not have it.
    pub must_be_written: bool,
}

/// What another node's attach of a session means here.
pub enum Rival {
    /// It comes later than the attach of this session, which must be closed.
    Wins(Arc<Session>),
    /// This node holds the session by a later attach, with this stamp.
    Loses(Stamp),
    /// The session is not attached here.
    Alone,
}

impl Sessions {
    /// Notes that a session is about to be attached here; [`Sessions::end_attaching`] belongs to it.
    pub fn begin_attaching(&self, id: &Arc<str>) {
        self.inner.lock().attaching.entry(id.clone()).or_default().count += 1;
    }

    /// The stamp that an attach got.
    pub fn give_stamp(&self, id: &str, stamp: Stamp) {
        if let Some(attaching) = self.inner.lock().attaching.get_mut(id) {
            attaching.given = attaching.given.max(stamp);
        }
    }

    /// The session has been attached, or will not be.
    pub fn end_attaching(&self, id: &Arc<str>) {
        let mut inner = self.inner.lock();
        if let Some(attaching) = inner.attaching.get_mut(id) {
            attaching.count -= 1;
            if attaching.count == 0 {
                inner.attaching.remove(id);
            }
        }
    }

    /// The highest stamp of all attaches of a session that this node knows of; 0 if it knows none.
    pub fn last_stamp(&self, id: &str) -> Stamp {
        let inner = self.inner.lock();
        let attached = inner.by_id.get(id).map_or(0, |session| session.stamp());
        let attaching = inner.attaching.get(id).map_or(0, |attaching| {
            attaching.given.max(attaching.elsewhere.as_ref().map_or(0, |(stamp, _)| *stamp))
        });
        attached.max(attaching)
    }

    /// Adds a session. The error says why this one must be closed instead.
    pub fn insert(&self, session: &Arc<Session>, node: &str) -> Result<Inserted, CloseReason> {
        let mut inner = self.inner.lock();
        let mut broken_off = 0;
        if let Some(attaching) = inner.attaching.get(&session.id) {
            if attaching.ended {
                return Err(CloseReason::Ended);
            }
            let later = |(stamp, other): &(Stamp, Arc<str>)| (*stamp, &**other) > (session.stamp(), node);
            if attaching.elsewhere.as_ref().is_some_and(later) {
                return Err(CloseReason::Superseded);
            }
            broken_off = attaching.broken_off;
        }
        if let Some(there) = inner.by_id.get(&session.id) {
            if there.began > session.began {
                return Err(CloseReason::Superseded);
            }
            // It may stand in the place of a later attach that broke off, which this one takes over.
            broken_off = broken_off.max(there.stamp());
        }
        let must_be_written = broken_off >= session.stamp();
        if must_be_written {
            session.stamp.store(broken_off.saturating_add(1), Ordering::Relaxed);
        }
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
        Ok(Inserted { older: old, must_be_written })
    }

    /// Another node holds a session by an attach with this stamp (`None`: an older version, whose word is the last one). A session that
    /// comes before it is removed here.
    pub fn hear_rival(&self, id: &str, rival: Option<Stamp>, other: &Arc<str>, node: &str) -> Rival {
        let mut inner = self.inner.lock();
        if let Some(attaching) = inner.attaching.get_mut(id)
            && let Some(stamp) = rival
            && attaching.elsewhere.as_ref().is_none_or(|(known, _)| *known < stamp)
        {
            attaching.elsewhere = Some((stamp, other.clone()));
        }
        let Some(session) = inner.by_id.get(id).cloned() else { return Rival::Alone };
        if rival.is_some_and(|stamp| (session.stamp(), node) > (stamp, &**other)) {
            return Rival::Loses(session.stamp());
        }
        inner.by_id.remove(id);
        inner.forget_user(&session);
        Rival::Wins(session)
    }

    /// An operator ended a session. Answers the one that is attached here; one that is about to be will not be.
    pub fn end(&self, id: &str) -> Option<Arc<Session>> {
        let mut inner = self.inner.lock();
        if let Some(attaching) = inner.attaching.get_mut(id) {
            attaching.ended = true;
        }
        inner.by_id.get(id).cloned()
    }

    /// An attach that the session store knows of broke off before it replaced the session that is attached here: that one goes on in its
    /// place, and so does one that is about to be attached. `false`: none is attached yet.
    pub fn inherit(&self, id: &str, stamp: Stamp) -> bool {
        let mut inner = self.inner.lock();
        if let Some(attaching) = inner.attaching.get_mut(id) {
            attaching.broken_off = attaching.broken_off.max(stamp);
        }
        let heir = inner.by_id.get(id);
        if let Some(session) = heir {
            session.stamp.fetch_max(stamp, Ordering::Relaxed);
        }
        heir.is_some()
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
    pub fn of_user(&self, tenant: &TenantName, user: &UserName) -> Vec<Arc<Session>> {
        self.inner.lock().by_user.get(&(tenant.clone(), user.clone())).cloned().unwrap_or_default()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.inner.lock().by_id.len()
    }

    /// How many of each tenant.
    pub fn per_tenant(&self) -> Vec<(TenantName, u64)> {
        self.inner.lock().by_tenant.iter().map(|(tenant, count)| (tenant.clone(), *count)).collect()
    }

    /// How many of this tenant, with those for which a place was reserved.
    pub fn of_tenant(&self, tenant: &TenantName) -> u64 {
        let inner = self.inner.lock();
        let count = |counts: &Map<TenantName, u64>| counts.get(tenant).copied().unwrap_or(0);
        count(&inner.by_tenant) + count(&inner.reserved)
    }

    /// Reserves a place for a session of this tenant; [`Sessions::give_back`] belongs to it.
    pub fn reserve(&self, tenant: &TenantName) {
        *self.inner.lock().reserved.entry(tenant.clone()).or_default() += 1;
    }

    /// The session has been attached, or will not be.
    pub fn give_back(&self, tenant: &TenantName) {
        let mut inner = self.inner.lock();
        if let Some(count) = inner.reserved.get_mut(tenant) {
            *count -= 1;
            if *count == 0 {
                inner.reserved.remove(tenant);
            }
        }
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
