//! The times at which users were last seen. They are noted on the node, and written to the database in batches.

use std::sync::Arc;

use parking_lot::Mutex;
use starling_conversation_store::{ConversationStore, LastSeen};
use starling_model::{TenantName, UserName};

use crate::Map;
use crate::clock::every_second;
use crate::neighbours::Lifetime;

/// Most users whose times may wait to be written. Those of further users are not written.
const USERS_MAX: usize = 20_000;

/// The times at which users were last seen.
pub(crate) struct LastSeenTimes {
    store: Arc<dyn ConversationStore>,
    /// The times that have not been written to the database.
    pending: Mutex<Pending>,
}

impl LastSeenTimes {
    /// Creates an empty list.
    pub fn new(store: Arc<dyn ConversationStore>) -> Arc<LastSeenTimes> {
        Arc::new(LastSeenTimes { store, pending: Mutex::default() })
    }

    /// Notes that a user was seen at a time, Unix milliseconds.
    pub fn note(&self, tenant: &TenantName, user: &UserName, at_ms: i64) {
        self.pending.lock().insert(tenant, user, at_ms);
    }

    /// Writes the noted times. If the database does not accept them, they are kept for the next call.
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

    /// Writes the noted times each second.
    pub async fn write_forever(self: Arc<Self>, lifetime: Lifetime) {
        let mut interval = every_second();
        while lifetime.next_tick(&mut interval).await {
            self.write().await;
        }
    }

    /// Returns when users were last seen, as this node noted or the database has it. If the database is down its times are left out, since
    /// the list of who is online is worth more than these times.
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
            // Lock for each user separately, since the shards' threads need the lock, too.
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

/// The times that have not been written to the database.
#[derive(Default)]
struct Pending {
    by_tenant: Map<TenantName, Map<UserName, i64>>,
    count: usize,
}

impl Pending {
    /// Inserts a user's time, unless a later one is there.
    fn insert(&mut self, tenant: &TenantName, user: &UserName, at_ms: i64) {
        if let Some(known) = self.by_tenant.get_mut(tenant).and_then(|users| users.get_mut(user)) {
            *known = at_ms.max(*known);
        } else if self.count < USERS_MAX {
            self.by_tenant.entry(tenant.clone()).or_default().insert(user.clone(), at_ms);
            self.count += 1;
        }
    }

    /// Returns when a user was last seen, Unix milliseconds.
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
