//! The sessions, by id.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use starling_model::{ConversationId, ConversationName, TenantName, TopicName, UserName};

use super::leases::{Leases, NodeState};
use crate::{
    Attach, Attached, Change, Dropped, EarlierAttach, Ended, Error, Held, Hold, JoinedConversation,
    NAMES_PER_SESSION_MAX, NotRestored, Restored, SessionChange, SessionList, SessionRecord, SessionSummary,
    Stamp,
};

/// The most sessions that one page looks at. A page that finds fewer than asked for by then is short.
const LOOKED_AT_MAX: usize = 10_000;
/// The interval at which a full store searches all sessions for expired ones, milliseconds.
const SWEEP_EVERY_MS: i64 = 1_000;
/// How long the end of a session is remembered, milliseconds.
const ENDED_KEPT_MS: i64 = 24 * 60 * 60 * 1000;
/// The prefix of a cursor, before the id of the last session of its page.
const CURSOR: &str = "after:";
/// The resume window of sessions that were restored before any attach told theirs, milliseconds.
const WINDOW_MS: i64 = 120_000;

/// All sessions, including those within their resume window.
#[derive(Debug)]
pub(super) struct Sessions {
    max: usize,
    born_ms: i64,
    /// The resume window of the latest attach.
    window_ms: i64,
    /// Time of the last search for sessions of dead nodes.
    swept_at_ms: i64,
    records: BTreeMap<Arc<str>, Record>,
    /// The same sessions by tenant and user.
    by_user: HashMap<(TenantName, UserName), BTreeSet<Arc<str>>>,
    /// The same sessions by tenant. A list of one tenant thus reads, counts and names no session of another.
    by_tenant: HashMap<TenantName, BTreeSet<Arc<str>>>,
    /// Times at which sessions without a socket may be removed. A session has at most one entry.
    expiries: BinaryHeap<Reverse<(i64, Arc<str>)>>,
}

#[derive(Debug)]
struct Record {
    tenant: TenantName,
    user: UserName,
    node: Box<str>,
    /// The node that held the session before the present attach, if there was one.
    previous: Option<Box<str>>,
    /// The other node that held the session before the present node took it, and may not know that yet. Later attaches on the present
    /// node don't change it.
    earlier: Option<Box<str>>,
    /// The stamp of the attach that holds the session, or held it last.
    stamp: Stamp,
    /// The latest stamp that was given while the stamp above was in the future.
    claimed: Stamp,
    created_at_ms: i64,
    attached_at_ms: i64,
    dropped_at_ms: Option<i64>,
    window_ms: i64,
    ended_at_ms: Option<i64>,
    /// Whether the session has an entry in `expiries`.
    queued: bool,
    /// The joined conversations' ids by name.
    conversations: BTreeMap<ConversationName, Option<ConversationId>>,
    topics: BTreeSet<TopicName>,
}

impl Sessions {
    pub(super) fn new(max: usize, born_ms: i64) -> Self {
        Self {
            max,
            born_ms,
            window_ms: WINDOW_MS,
            swept_at_ms: i64::MIN,
            records: BTreeMap::new(),
            by_user: HashMap::new(),
            by_tenant: HashMap::new(),
            expiries: BinaryHeap::new(),
        }
    }

    pub(super) fn attach(
        &mut self,
        attach: &Attach,
        leases: &Leases,
        store_now_us: i64,
    ) -> Result<Attached, Error> {
        let store_now_ms = store_now_us / 1_000;
        self.window_ms = i64::try_from(attach.window_ms).unwrap_or(i64::MAX);
        let window_ms = self.window_ms;
        let Some(resume) = attach.resume else {
            self.make_room(leases, store_now_ms)?;
            let stamp = stamp_of(attach, store_now_us);
            self.put(&attach.session, Record::of(attach, stamp, window_ms));
            return Ok(Attached::New { stamp });
        };
        let Some(record) = self.records.get_mut(&*attach.session) else {
            let since_born_ms = attach.now_ms.saturating_sub(self.born_ms);
            let is_lost = resume.ticket_issued_at_ms < self.born_ms && since_born_ms < window_ms;
            if !is_lost && !resume.is_recent(attach) {
                return Ok(Attached::Refused);
            }
            return Ok(Attached::Rebuilt { stamp: stamp_of(attach, store_now_us) });
        };
        if record.tenant != attach.tenant || record.user != attach.user || record.ended_at_ms.is_some() {
            return Ok(Attached::Refused);
        }
        // The node that asks is alive, whether it has sent a beat yet or not.
        let node = match *record.node == *attach.node {
            true => NodeState::Living,
            false => leases.state_of(&record.node, store_now_ms),
        };
        let dropped_at_ms = record.dropped_at(node);
        // The session was attached when its ticket was issued, even if its node could not write that here.
        let is_over = dropped_at_ms.is_some_and(|at| attach.now_ms.saturating_sub(at) > window_ms);
        if is_over && !resume.is_recent(attach) {
            return Ok(Attached::Refused);
        }
        let previous_node = dropped_at_ms.is_none().then(|| record.node.to_string());
        let conversations = record.joined();
        let topics = record.topics.iter().cloned().collect();
        let created_at_ms = record.created_at_ms;
        let mut stamp = stamp_of(attach, store_now_us);
        if record.stamp > store_now_us {
            // The stamp came from a clock that is ahead of this one. Its attach is earlier nevertheless.
            stamp = stamp.max(record.stamp.max(record.claimed).saturating_add(1));
            record.claimed = stamp;
        }
        Ok(Attached::Resumed { stamp, previous_node, conversations, topics, created_at_ms })
    }

    pub(super) fn hold(&mut self, hold: &Hold, leases: &Leases, store_now_ms: i64) -> Result<Held, Error> {
        let window_ms = i64::try_from(hold.window_ms).unwrap_or(i64::MAX);
        let Some(record) = self.records.get_mut(&*hold.session) else {
            self.make_room(leases, store_now_ms)?;
            self.put(&hold.session, Record::held(hold, window_ms));
            return Ok(Held::Held { previous_node: None });
        };
        if record.tenant != hold.tenant || record.user != hold.user || record.ended_at_ms.is_some() {
            return Ok(Held::Refused);
        }
        if record.is_above(hold.stamp, &hold.node) {
            return Ok(Held::Superseded);
        }
        if record.stamp != hold.stamp || *record.node != *hold.node {
            record.previous = record.dropped_at_ms.is_none().then(|| record.node.clone());
        }
        if *record.node != *hold.node {
            record.earlier.clone_from(&record.previous);
        }
        let previous_node = record.previous.as_deref().map(str::to_owned);
        record.node = hold.node.as_str().into();
        record.stamp = hold.stamp;
        record.attached_at_ms = hold.now_ms;
        record.dropped_at_ms = None;
        record.window_ms = window_ms;
        Ok(Held::Held { previous_node })
    }

    pub(super) fn restore(
        &mut self,
        node: &str,
        sessions: &[SessionRecord],
        leases: &Leases,
        now_ms: i64,
    ) -> Result<Restored, Error> {
        let mut restored = Restored::default();
        for session in sessions {
            let (mut previous, mut earlier) = (None, None);
            match self.records.get(&*session.session) {
                Some(there)
                    if !there.is_of(session)
                        || there.ended_at_ms.is_some()
                        || there.is_above(session.stamp, node) =>
                {
                    let ended = there.is_of(session) && there.ended_at_ms.is_some();
                    let (session, node) = (session.session.clone(), there.node.to_string());
                    restored.refused.push(NotRestored { session, ended, node });
                    continue;
                }
                Some(there) => {
                    if *there.node != *node {
                        previous = there.dropped_at_ms.is_none().then(|| there.node.clone());
                        earlier.clone_from(&previous);
                    } else {
                        // The node may not have got the answer by which it would have learned of the earlier one.
                        earlier.clone_from(&there.earlier);
                        if there.stamp == session.stamp {
                            previous.clone_from(&there.previous);
                        }
                    }
                    if let Some(node) = earlier.as_deref() {
                        let (session, node) = (session.session.clone(), node.to_owned());
                        restored.earlier.push(EarlierAttach { session, node });
                    }
                }
                None => self.make_room(leases, now_ms)?,
            }
            self.put(
                &session.session,
                Record { previous, earlier, ..Record::restored(node, session, now_ms, self.window_ms) },
            );
        }
        Ok(restored)
    }

    pub(super) fn detach(&mut self, node: &str, dropped: &[Dropped], now_ms: i64) {
        for Dropped { session, stamp } in dropped {
            let Some((id, _)) = self.records.get_key_value(&**session) else { continue };
            let id = id.clone();
            let Some(record) = self.records.get_mut(&id) else { continue };
            let is_its_attach = *stamp == 0 || record.stamp == *stamp;
            if *record.node == *node && is_its_attach && record.dropped_at_ms.is_none() {
                record.dropped_at_ms = Some(now_ms);
                self.expire_later(id);
            }
        }
    }

    pub(super) fn update(&mut self, batch: &[SessionChange]) {
        for SessionChange { session, change } in batch {
            let Some(record) = self.records.get_mut(&**session) else { continue };
            let full = record.conversations.len() + record.topics.len() >= NAMES_PER_SESSION_MAX;
            match change {
                Change::Joined(joined) if !full => {
                    record.conversations.insert(joined.name.clone(), joined.id);
                }
                Change::Subscribed(name) if !full => _ = record.topics.insert(name.clone()),
                Change::Joined(_) | Change::Subscribed(_) => {}
                Change::Left(left) => {
                    let there = record.conversations.get(&left.name).copied().flatten();
                    // The session may have joined another conversation of the same name since.
                    if left.id.is_none() || there.is_none() || there == left.id {
                        record.conversations.remove(&left.name);
                    }
                }
                Change::Unsubscribed(name) => _ = record.topics.remove(name),
            }
        }
    }

    pub(super) fn knows(&self, tenant: &TenantName, session: &str, leases: &Leases, now_ms: i64) -> bool {
        self.records.get(session).is_some_and(|record| {
            record.tenant == *tenant && !record.is_over(leases.state_of(&record.node, now_ms), now_ms)
        })
    }

    pub(super) fn end(
        &mut self,
        tenant: &TenantName,
        session: &str,
        leases: &Leases,
        now_ms: i64,
    ) -> Option<Ended> {
        if !self.knows(tenant, session, leases, now_ms) {
            return None;
        }
        let record = self.records.get_mut(session)?;
        let attached = record.dropped_at(leases.state_of(&record.node, now_ms)).is_none();
        record.ended_at_ms = Some(record.ended_at_ms.unwrap_or(now_ms));
        let node = attached.then(|| record.node.to_string());
        self.expire_later(session.into());
        Some(Ended { node })
    }

    pub(super) fn page(
        &self,
        tenant: &TenantName,
        user: Option<&UserName>,
        cursor: Option<&str>,
        limit: u32,
        leases: &Leases,
        now_ms: i64,
    ) -> Result<SessionList, Error> {
        let limit = limit.max(1) as usize;
        let after = cursor.map(|cursor| cursor.strip_prefix(CURSOR).ok_or(Error::Cursor)).transpose()?;
        let mut page = SessionList::default();
        let mut last = None;
        for (looked_at, (id, record)) in self.after(after, tenant, user).enumerate() {
            if looked_at == LOOKED_AT_MAX {
                page.next = last;
                break;
            }
            let node = leases.state_of(&record.node, now_ms);
            let wanted = record.ended_at_ms.is_none() && !record.is_over(node, now_ms);
            if wanted && page.sessions.len() == limit {
                page.next = last;
                break;
            }
            if wanted {
                let dropped_at_ms = record.dropped_at(node);
                page.sessions.push(SessionSummary {
                    session: id.to_string(),
                    user: record.user.clone(),
                    node: record.node.to_string(),
                    attached: dropped_at_ms.is_none(),
                    dropped_at_ms,
                    created_at_ms: record.created_at_ms,
                });
            }
            last = Some(format!("{CURSOR}{id}"));
        }
        Ok(page)
    }

    /// Returns the sessions of a user, or of the whole tenant if no user is given, in the order of their ids.
    fn after(
        &self,
        after: Option<&str>,
        tenant: &TenantName,
        user: Option<&UserName>,
    ) -> Box<dyn Iterator<Item = (&Arc<str>, &Record)> + '_> {
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let ids = match user {
            Some(user) => self.by_user.get(&(tenant.clone(), user.clone())),
            None => self.by_tenant.get(tenant),
        };
        let Some(ids) = ids else { return Box::new(std::iter::empty()) };
        Box::new(ids.range::<str, _>(range).filter_map(|id| self.records.get_key_value(id)))
    }

    fn put(&mut self, id: &str, mut record: Record) {
        let before = self.remove(id);
        // The entry of an earlier drop is still there.
        record.queued = before.is_some_and(|before| before.queued);
        let id: Arc<str> = id.into();
        self.by_user.entry(record.owner()).or_default().insert(id.clone());
        self.by_tenant.entry(record.tenant.clone()).or_default().insert(id.clone());
        self.records.insert(id, record);
    }

    fn remove(&mut self, id: &str) -> Option<Record> {
        let record = self.records.remove(id)?;
        let owner = record.owner();
        if let Some(ids) = self.by_user.get_mut(&owner) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_user.remove(&owner);
            }
        }
        if let Some(ids) = self.by_tenant.get_mut(&record.tenant) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_tenant.remove(&record.tenant);
            }
        }
        Some(record)
    }

    fn expire_later(&mut self, id: Arc<str>) {
        let Some(record) = self.records.get_mut(&id).filter(|record| !record.queued) else { return };
        if let Some(at_ms) = record.expires_at() {
            record.queued = true;
            self.expiries.push(Reverse((at_ms, id)));
        }
    }

    /// Removes expired sessions. Fails if there are still too many.
    fn make_room(&mut self, leases: &Leases, now_ms: i64) -> Result<(), Error> {
        while self.expiries.peek().is_some_and(|Reverse((at_ms, _))| *at_ms < now_ms) {
            let Some(Reverse((_, id))) = self.expiries.pop() else { break };
            let Some(record) = self.records.get_mut(&id) else { continue };
            record.queued = false;
            match record.expires_at() {
                Some(at_ms) if at_ms < now_ms => _ = self.remove(&id),
                Some(_) => self.expire_later(id),
                None => {}
            }
        }
        if self.records.len() >= self.max && now_ms.saturating_sub(self.swept_at_ms) >= SWEEP_EVERY_MS {
            self.swept_at_ms = now_ms;
            // Sessions of dead nodes have no entry in `expiries`.
            let over = |record: &Record| record.is_over(leases.state_of(&record.node, now_ms), now_ms);
            let over: Vec<Arc<str>> = (self.records.iter())
                .filter(|(_, record)| !record.queued && over(record))
                .map(|(id, _)| id.clone())
                .collect();
            for id in over {
                self.remove(&id);
            }
        }
        if self.records.len() >= self.max {
            return Err(Error::Unavailable(format!("there are {} sessions", self.max)));
        }
        Ok(())
    }
}

/// Returns the time at which an attach began, by the store's clock.
fn stamp_of(attach: &Attach, now_us: i64) -> Stamp {
    let waited_us = i64::try_from(attach.waited.as_micros()).unwrap_or(i64::MAX);
    now_us.saturating_sub(waited_us).max(attach.after.saturating_add(1))
}

impl Record {
    fn joined(&self) -> Vec<JoinedConversation> {
        let joined = self.conversations.iter();
        joined.map(|(name, id)| JoinedConversation { name: name.clone(), id: *id }).collect()
    }

    fn of(attach: &Attach, stamp: Stamp, window_ms: i64) -> Self {
        Self {
            tenant: attach.tenant.clone(),
            user: attach.user.clone(),
            node: attach.node.as_str().into(),
            stamp,
            claimed: 0,
            previous: None,
            earlier: None,
            created_at_ms: attach.now_ms,
            attached_at_ms: attach.now_ms,
            dropped_at_ms: None,
            window_ms,
            ended_at_ms: None,
            queued: false,
            conversations: BTreeMap::new(),
            topics: BTreeSet::new(),
        }
    }

    fn held(hold: &Hold, window_ms: i64) -> Self {
        Self {
            tenant: hold.tenant.clone(),
            user: hold.user.clone(),
            node: hold.node.as_str().into(),
            stamp: hold.stamp,
            claimed: 0,
            previous: None,
            earlier: None,
            created_at_ms: hold.created_at_ms,
            attached_at_ms: hold.now_ms,
            dropped_at_ms: None,
            window_ms,
            ended_at_ms: None,
            queued: false,
            conversations: BTreeMap::new(),
            topics: BTreeSet::new(),
        }
    }

    fn restored(node: &str, session: &SessionRecord, now_ms: i64, window_ms: i64) -> Self {
        Self {
            tenant: session.tenant.clone(),
            user: session.user.clone(),
            node: node.into(),
            stamp: session.stamp,
            claimed: 0,
            previous: None,
            earlier: None,
            created_at_ms: session.created_at_ms,
            attached_at_ms: now_ms,
            dropped_at_ms: None,
            window_ms,
            ended_at_ms: None,
            queued: false,
            conversations: session
                .conversations
                .iter()
                .take(NAMES_PER_SESSION_MAX)
                .map(|joined| (joined.name.clone(), joined.id))
                .collect(),
            topics: session.topics.iter().take(NAMES_PER_SESSION_MAX).cloned().collect(),
        }
    }

    fn owner(&self) -> (TenantName, UserName) {
        (self.tenant.clone(), self.user.clone())
    }

    /// Returns whether the attach that holds the session comes after the one with this stamp.
    fn is_above(&self, stamp: Stamp, node: &str) -> bool {
        (self.stamp, &*self.node) > (stamp, node)
    }

    fn is_of(&self, session: &SessionRecord) -> bool {
        self.tenant == session.tenant && self.user == session.user
    }

    /// Returns the time at which the socket dropped, by a detach or by its node's death; `None` while it is attached.
    fn dropped_at(&self, node: NodeState) -> Option<i64> {
        self.dropped_at_ms.or(match node {
            NodeState::Living => None,
            // The node was alive when it attached the session.
            NodeState::Dead(at_ms) => Some(at_ms.max(self.attached_at_ms)),
            NodeState::Unknown => Some(self.attached_at_ms),
        })
    }

    fn is_over(&self, node: NodeState, now_ms: i64) -> bool {
        self.dropped_at(node).is_some_and(|at| now_ms.saturating_sub(at) > self.window_ms)
    }

    /// Returns the time at which the session may be removed, unless that depends on its node.
    fn expires_at(&self) -> Option<i64> {
        match self.ended_at_ms {
            Some(at_ms) => Some(at_ms.saturating_add(ENDED_KEPT_MS)),
            None => self.dropped_at_ms.map(|at_ms| at_ms.saturating_add(self.window_ms)),
        }
    }
}
