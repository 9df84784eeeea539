//! When users were last seen, as far as the database does not know yet.

use starling_conversation_store::LastSeen;
use starling_model::{TenantName, UserName};

use crate::Map;

/// How many users wait to be written. Beyond that the database keeps what it has.
const USERS_MAX: usize = 20_000;

/// When users were last seen, as far as the database does not know yet.
#[derive(Default)]
pub(crate) struct Sightings {
    by_tenant: Map<TenantName, Map<UserName, i64>>,
    count: usize,
}

impl Sightings {
    /// Enters a user; a later time stays.
    pub fn enter(&mut self, tenant: &TenantName, user: &UserName, at_ms: i64) {
        if let Some(known) = self.by_tenant.get_mut(tenant).and_then(|users| users.get_mut(user)) {
            *known = at_ms.max(*known);
        } else if self.count < USERS_MAX {
            self.by_tenant.entry(tenant.clone()).or_default().insert(user.clone(), at_ms);
            self.count += 1;
        }
    }

    /// When a user was last seen, Unix milliseconds.
    pub fn of(&self, tenant: &TenantName, user: &UserName) -> Option<i64> {
        self.by_tenant.get(tenant)?.get(user).copied()
    }

    /// Takes everything out.
    pub fn take(&mut self) -> Vec<LastSeen> {
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
    fn the_latest_sighting_of_each_user_stays_until_it_is_taken() {
        let mut sightings = Sightings::default();
        let (t, ann, bob): (TenantName, UserName, UserName) = ("t".into(), "ann".into(), "bob".into());
        let of = |sightings: &Sightings, tenant: &str, user: &str| sightings.of(&tenant.into(), &user.into());
        for at_ms in [5, 7, 6] {
            sightings.enter(&t, &ann, at_ms);
        }
        sightings.enter(&t, &bob, 1);
        assert_eq!([of(&sightings, "t", "ann"), of(&sightings, "t", "bob")], [Some(7), Some(1)]);
        assert_eq!([of(&sightings, "t", "cy"), of(&sightings, "other", "ann")], [None, None]);
        assert_eq!(sightings.take().len(), 2);
        assert!(of(&sightings, "t", "ann").is_none() && sightings.take().is_empty());
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut sightings = Sightings::default();
        let t: TenantName = "t".into();
        for user in 0..USERS_MAX + 10 {
            sightings.enter(&t, &user.to_string().into(), 1);
        }
        assert_eq!(sightings.take().len(), USERS_MAX);
        sightings.enter(&t, &"ann".into(), 1);
        assert_eq!(sightings.take().len(), 1, "there is room again");
    }
}
