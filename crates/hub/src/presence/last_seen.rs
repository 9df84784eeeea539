//! When users were last seen: noted on the node, and written to the database in batches.

use std::sync::Arc;

use parking_lot::Mutex;
use starling_conversation_store::{ConversationStore, LastSeen};
use starling_model::{TenantName, UserName};

use crate::Map;
use crate::clock::every_second;
use crate::neighbours::Lifetime;

/// How many users wait to be written. Beyond that the database keeps what it has.
const USERS_MAX: usize = 20_000;

/// When users were last seen.
pub(crate) struct LastSeenTimes {
    store: Arc<dyn ConversationStore>,
    /// What the database does not know yet.
    pending: Mutex<Pending>,
}

impl LastSeenTimes {
    /// Nothing to write yet.
    pub fn new(store: Arc<dyn ConversationStore>) -> Arc<LastSeenTimes> {
        Arc::new(LastSeenTimes { store, pending: Mutex::default() })
    }

    /// Notes that a user was seen at a time, Unix milliseconds.
    pub fn note(&self, tenant: &TenantName, user: &UserName, at_ms: i64) {
        self.pending.lock().insert(tenant, user, at_ms);
    }

    /// Writes what was noted. What the database does not take is kept for the next call.
    pub async fn write(&self) {
        let batch = self.pending.lock().take();
        if batch.is_empty() {
            return;
        }
        if let Err(error) = self.store.touch_users(&batch).await {
            tracing::debug!(%error, "last-seen times could not be written; trying again with the next tick");
            let mut pending = self.pending.lock();
            for seen in batch {
                pending.insert(&seen.tenant, &seen.user, seen.at_ms);
            }
        }
    }

    /// Writes each second.
    pub async fn write_forever(self: Arc<Self>, lifetime: Lifetime) {
        let mut interval = every_second();
        while lifetime.goes_on(&mut interval).await {
            self.write().await;
        }
    }

    /// When users were last seen, by this node a moment ago or by the database. With the database away what it knows is left out: who is
    /// online is worth more than since when the others are not.
    pub async fn read(&self, tenant: &TenantName, users: &[UserName]) -> Vec<LastSeen> {
        if users.is_empty() {
            return Vec::new();
        }
        let mut seen = self.store.last_seen(tenant, users).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "last-seen times could not be read; they are left out");
            Vec::new()
        });
        let mut fresh: Map<&UserName, i64> = Map::default();
        for user in users {
            // Locked for each by itself: the shards' threads need it too.
            let at_ms = self.pending.lock().of(tenant, user);
            fresh.extend(at_ms.map(|at_ms| (user, at_ms)));
        }
        for known in &mut seen {
            if let Some(at_ms) = fresh.remove(&known.user) {
                known.at_ms = known.at_ms.max(at_ms);
            }
        }
        let tenant = || tenant.clone();
        seen.extend(fresh.into_iter().map(|(user, at_ms)| LastSeen {
            tenant: tenant(),
            user: user.clone(),
            at_ms,
        }));
        seen
    }
}

/// When users were last seen, as far as the database does not know yet.
#[derive(Default)]
struct Pending {
    by_tenant: Map<TenantName, Map<UserName, i64>>,
    count: usize,
}

impl Pending {
    /// Inserts a user. The latest time counts.
    fn insert(&mut self, tenant: &TenantName, user: &UserName, at_ms: i64) {
        if let Some(known) = self.by_tenant.get_mut(tenant).and_then(|users| users.get_mut(user)) {
            *known = at_ms.max(*known);
        } else if self.count < USERS_MAX {
            self.by_tenant.entry(tenant.clone()).or_default().insert(user.clone(), at_ms);
            self.count += 1;
        }
    }

    /// When a user was last seen, Unix milliseconds.
    fn of(&self, tenant: &TenantName, user: &UserName) -> Option<i64> {
        self.by_tenant.get(tenant)?.get(user).copied()
    }

    fn take(&mut self) -> Vec<LastSeen> {
        self.count = 0;
        let mut all = Vec::new();
        for (tenant, users) in self.by_tenant.drain() {
            all.extend(users.into_iter().map(|(user, at_ms)| LastSeen {
                tenant: tenant.clone(),
                user,
                at_ms,
            }));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_time_of_each_user_stays_until_it_is_taken() {
        let mut pending = Pending::default();
        let (t, ann, bob): (TenantName, UserName, UserName) = ("t".into(), "ann".into(), "bob".into());
        for at_ms in [5, 7, 6] {
            pending.insert(&t, &ann, at_ms);
        }
        pending.insert(&t, &bob, 1);
        assert_eq!([pending.of(&t, &ann), pending.of(&t, &bob)], [Some(7), Some(1)]);
        assert_eq!([pending.of(&t, &"cy".into()), pending.of(&"other".into(), &ann)], [None, None]);
        assert_eq!(pending.take().len(), 2);
        assert!(pending.of(&t, &ann).is_none() && pending.take().is_empty());
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut pending = Pending::default();
        let t: TenantName = "t".into();
        for user in 0..USERS_MAX + 10 {
            pending.insert(&t, &user.to_string().into(), 1);
        }
        assert_eq!(pending.take().len(), USERS_MAX);
        pending.insert(&t, &"ann".into(), 1);
        assert_eq!(pending.take().len(), 1, "there is room again");
    }
}
