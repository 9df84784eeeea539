//! The sessions that are attached to connections of this node, and those that are about to be.

use std::sync::Arc;

use parking_lot::Mutex;
use starling_model::{TenantName, UserName};
use starling_session_store::Stamp;
use starling_webhook_service::WebhookService;
use starling_wire::protocol::CloseReason;

use super::Session;
use super::index::SessionIndex;
use crate::Map;

/// Most stamps that are remembered of one session's attaches while some are under way.
const STAMPS_MAX: usize = 32;
/// Shortest distance of the stamps of two attaches on one node. The stamp between them is for the older connection, which goes on with it if
/// the first attach breaks off.
const STAMPS_APART: u64 = 2;

/// The sessions that are attached to connections of this node.
pub struct Sessions {
    inner: Mutex<Inner>,
    /// Is told of each session that comes or goes. `None`: nobody is.
    webhooks: Option<Arc<WebhookService>>,
}

#[derive(Default)]
struct Inner {
    attached: SessionIndex,
    by_tenant: Map<TenantName, u64>,
    /// Places of sessions that are about to be attached.
    reserved: Map<TenantName, u64>,
    /// Sessions that are about to be attached.
    attaching: Map<Arc<str>, PendingAttach>,
}

/// A session that is about to be attached here, by one connection or several.
#[derive(Default)]
struct PendingAttach {
    /// The number of connections that are attaching it.
    count: u32,
    /// The stamps of these attaches, and of those that ended meanwhile, lowest first.
    given: Vec<Stamp>,
    /// The highest stamp with which another node says that it holds the session, and that node.
    elsewhere: Option<(Stamp, Arc<str>)>,
    /// The highest stamp of an attach that broke off after the session store knew of it. The store may list the session as dropped with
    /// this stamp.
    broken_off: Stamp,
    /// Whether an operator ended the session meanwhile.
    ended: bool,
}

/// The result of adding a session.
pub struct Inserted {
    /// The earlier session of the same id. Its connection must be closed.
    pub older: Option<Arc<Session>>,
    /// Whether the session took the place of a later attach that broke off, so that the session store may not have it.
    pub must_be_written: bool,
}

/// The consequence of another node's attach of a session.
pub enum OtherAttach {
    /// The other attach is later. This session must be closed.
    Later(Arc<Session>),
    /// This node holds the session by a later attach, with this stamp.
    Earlier(Stamp),
    /// The session is not attached here.
    NotHere,
}

impl Sessions {
    /// Begins without sessions.
    pub fn new(webhooks: Option<Arc<WebhookService>>) -> Sessions {
        Sessions { inner: Mutex::default(), webhooks }
    }

    /// Notes that a connection begins to attach a session. Must be followed by [`Sessions::end_attaching`].
    pub fn begin_attaching(&self, id: &Arc<str>) {
        self.inner.lock().attaching.entry(id.clone()).or_default().count += 1;
    }

    /// Returns the stamp of an attach: this one, or the next that is far enough from those of the session's other attaches here. The session
    /// store tells the attaches of one node apart by their stamps only: when one breaks off, another one of the same stamp would count as
    /// dropped.
    pub fn give_stamp(&self, id: &str, stamp: Stamp) -> Stamp {
        let Inner { attached, attaching, .. } = &mut *self.inner.lock();
        let Some(attaching) = attaching.get_mut(id) else { return stamp };
        let attached = attached.get(id).map(|session| [session.began(), session.stamp()]).unwrap_or_default();
        let mut stamp = stamp;
        let is_taken = |stamp: Stamp| {
            attaching.given.iter().chain(&attached).any(|other| other.abs_diff(stamp) < STAMPS_APART)
        };
        while stamp < Stamp::MAX && is_taken(stamp) {
            stamp += 1;
        }
        attaching.given.push(stamp);
        attaching.given.sort_unstable();
        if attaching.given.len() > STAMPS_MAX {
            attaching.given.remove(0);
        }
        stamp
    }

    /// Notes that an attach has ended, with or without success.
    pub fn end_attaching(&self, id: &Arc<str>) {
        let mut inner = self.inner.lock();
        if let Some(attaching) = inner.attaching.get_mut(id) {
            attaching.count -= 1;
            if attaching.count == 0 {
                inner.attaching.remove(id);
            }
        }
    }

    /// Returns the highest stamp of all attaches of a session that this node knows of; 0 if there is none.
    pub fn last_stamp(&self, id: &str) -> Stamp {
        let inner = self.inner.lock();
        let attached = inner.attached.get(id).map_or(0, |session| session.stamp());
        let attaching = inner.attaching.get(id).map_or(0, |attaching| {
            let given = attaching.given.last().copied().unwrap_or_default();
            given.max(attaching.elsewhere.as_ref().map_or(0, |(stamp, _)| *stamp))
        });
        attached.max(attaching)
    }

    /// Adds a session. The error is the reason for which this session must be closed instead.
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
        if let Some(there) = inner.attached.get(&session.id) {
            if there.began() > session.began() {
                return Err(CloseReason::Superseded);
            }
            // The session that is here may have taken the place of a later attach that broke off. This one takes over that place.
            broken_off = broken_off.max(there.stamp());
        }
        let must_be_written = broken_off >= session.stamp();
        if must_be_written {
            session.raise_stamp(broken_off.saturating_add(1));
        }
        let old = inner.attached.insert(session);
        if let Some(old) = &old {
            inner.count_out(&old.tenant);
        }
        *inner.by_tenant.entry(session.tenant.clone()).or_default() += 1;
        drop(inner);
        self.note(session);
        Ok(Inserted { older: old, must_be_written })
    }

    /// Notes that another node holds a session by an attach with this stamp (`None`: the node runs an older version, and its attach counts
    /// as the latest). Removes the session if it was attached earlier.
    pub fn hear_other_attach(
        &self,
        id: &str,
        other_stamp: Option<Stamp>,
        other: &Arc<str>,
        node: &str,
    ) -> OtherAttach {
        let mut inner = self.inner.lock();
        if let Some(attaching) = inner.attaching.get_mut(id)
            && let Some(stamp) = other_stamp
            && attaching.elsewhere.as_ref().is_none_or(|(known, _)| *known < stamp)
        {
            attaching.elsewhere = Some((stamp, other.clone()));
        }
        let Some(session) = inner.attached.get(id).cloned() else { return OtherAttach::NotHere };
        if other_stamp.is_some_and(|stamp| (session.stamp(), node) > (stamp, &**other)) {
            return OtherAttach::Earlier(session.stamp());
        }
        inner.remove(id);
        drop(inner);
        self.note(&session);
        OtherAttach::Later(session)
    }

    /// Notes that an operator ended a session. Returns the session if it is attached here. One that is about to be attached will be
    /// refused.
    pub fn end(&self, id: &str) -> Option<Arc<Session>> {
        let mut inner = self.inner.lock();
        if let Some(attaching) = inner.attaching.get_mut(id) {
            attaching.ended = true;
        }
        inner.attached.get(id).cloned()
    }

    /// Notes that an attach with this stamp broke off after the session store knew of it. The session that is attached here takes its
    /// place, and so does one that is about to be attached. `false`: none is attached yet.
    pub fn inherit(&self, id: &str, stamp: Stamp) -> bool {
        if let Some(attaching) = self.inner.lock().attaching.get_mut(id) {
            attaching.broken_off = attaching.broken_off.max(stamp);
        }
        self.raise(id, stamp)
    }

    /// Raises the stamp of the session that is attached here. `false`: none is.
    pub fn raise(&self, id: &str, stamp: Stamp) -> bool {
        let heir = self.get(id);
        if let Some(session) = &heir {
            session.raise_stamp(stamp);
        }
        heir.is_some()
    }

    /// Removes a session, unless another one has its id by now.
    pub fn remove(&self, session: &Arc<Session>) -> bool {
        let mut inner = self.inner.lock();
        if !inner.attached.get(&session.id).is_some_and(|found| Arc::ptr_eq(found, session)) {
            return false;
        }
        inner.remove(&session.id);
        drop(inner);
        self.note(session);
        true
    }

    /// Returns the session with this id.
    pub fn get(&self, id: &str) -> Option<Arc<Session>> {
        self.inner.lock().attached.get(id).cloned()
    }

    /// Returns all sessions of a user.
    pub fn of_user(&self, tenant: &TenantName, user: &UserName) -> Vec<Arc<Session>> {
        self.inner.lock().attached.of_user(tenant, user).to_vec()
    }

    /// Returns the number of sessions.
    pub fn count(&self) -> usize {
        self.inner.lock().attached.len()
    }

    /// Returns the number of sessions of each tenant.
    pub fn per_tenant(&self) -> Vec<(TenantName, u64)> {
        self.inner.lock().by_tenant.iter().map(|(tenant, count)| (tenant.clone(), *count)).collect()
    }

    /// Returns the number of a tenant's sessions, including reserved places.
    pub fn of_tenant(&self, tenant: &TenantName) -> u64 {
        let inner = self.inner.lock();
        let count = |counts: &Map<TenantName, u64>| counts.get(tenant).copied().unwrap_or(0);
        count(&inner.by_tenant) + count(&inner.reserved)
    }

    /// Reserves a place for a session of this tenant. Must be followed by [`Sessions::give_back`].
    pub fn reserve(&self, tenant: &TenantName) {
        *self.inner.lock().reserved.entry(tenant.clone()).or_default() += 1;
    }

    /// Gives a reserved place back, when the session has been attached or will not be.
    pub fn give_back(&self, tenant: &TenantName) {
        let mut inner = self.inner.lock();
        if let Some(count) = inner.reserved.get_mut(tenant) {
            *count -= 1;
            if *count == 0 {
                inner.reserved.remove(tenant);
            }
        }
    }

    /// Returns all sessions.
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.inner.lock().attached.all().cloned().collect()
    }

    /// Tells webhooks that a session has come or gone, after that has happened.
    fn note(&self, session: &Session) {
        if let Some(webhooks) = &self.webhooks {
            webhooks.note_sessions(&session.tenant, &session.user);
        }
    }
}

impl starling_webhook_service::Sessions for Sessions {
    fn has_session(&self, tenant: &TenantName, user: &UserName) -> bool {
        !self.inner.lock().attached.of_user(tenant, user).is_empty()
    }

    fn users_of(&self, is_wanted: &dyn Fn(&TenantName) -> bool) -> Vec<(TenantName, UserName)> {
        let all = self.all();
        let wanted = all.iter().filter(|session| is_wanted(&session.tenant));
        wanted.map(|session| (session.tenant.clone(), session.user.clone())).collect()
    }
}

impl Inner {
    /// Removes the session with this id.
    fn remove(&mut self, id: &str) {
        if let Some(session) = self.attached.remove(id) {
            self.count_out(&session.tenant);
        }
    }

    fn count_out(&mut self, tenant: &TenantName) {
        if let Some(count) = self.by_tenant.get_mut(tenant) {
            *count -= 1;
            if *count == 0 {
                self.by_tenant.remove(tenant);
            }
        }
    }
}
