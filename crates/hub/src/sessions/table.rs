//! All sessions that are attached to sockets of this node, and those that are about to be.

use std::sync::Arc;

use parking_lot::Mutex;
use starling_model::{TenantName, UserName};
use starling_session_store::Stamp;
use starling_wire::protocol::CloseReason;

use super::Session;
use crate::Map;

/// All sessions that are attached to sockets of this node.
#[derive(Default)]
pub struct Sessions {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    by_id: Map<Arc<str>, Arc<Session>>,
    by_user: Map<(TenantName, UserName), Vec<Arc<Session>>>,
    by_tenant: Map<TenantName, u64>,
    /// Places that were taken for sessions that are about to be attached.
    reserved: Map<TenantName, u64>,
    /// Sessions that are about to be attached.
    attaching: Map<Arc<str>, PendingAttach>,
}

/// A session that is about to be attached here, by one socket or several.
#[derive(Default)]
struct PendingAttach {
    /// The number of sockets that are attaching it.
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
            if there.began() > session.began() {
                return Err(CloseReason::Superseded);
            }
            // It may stand in the place of a later attach that broke off, which this one takes over.
            broken_off = broken_off.max(there.stamp());
        }
        let must_be_written = broken_off >= session.stamp();
        if must_be_written {
            session.raise_stamp(broken_off.saturating_add(1));
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

    /// An operator ended a session. Returns the one that is attached here; one that is about to be will not be.
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
            session.raise_stamp(stamp);
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

    /// Returns the session with this id.
    pub fn get(&self, id: &str) -> Option<Arc<Session>> {
        self.inner.lock().by_id.get(id).cloned()
    }

    /// All sessions of a user.
    pub fn of_user(&self, tenant: &TenantName, user: &UserName) -> Vec<Arc<Session>> {
        self.inner.lock().by_user.get(&(tenant.clone(), user.clone())).cloned().unwrap_or_default()
    }

    /// The number of sessions.
    pub fn count(&self) -> usize {
        self.inner.lock().by_id.len()
    }

    /// The number of sessions of each tenant.
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

    /// All sessions.
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.inner.lock().by_id.values().cloned().collect()
    }
}

impl Inner {
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
