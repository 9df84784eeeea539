//! The queues of tenants, as far as a node knows them, and how many a tenant may have.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::RwLock;
use starling_jobs::{JobCount, is_internal};
use starling_model::TenantName;

/// The most queues of a tenant that have jobs, ended ones that are kept included. All nodes count the jobs of each queue again and again. Within the
/// few seconds between two counts, tenants may add more at other nodes.
pub const TENANT_QUEUES_MAX: usize = 1_000;

/// The queues that have jobs: those of the last count, and those that got jobs here since.
#[derive(Default)]
pub(crate) struct KnownQueues(RwLock<BTreeMap<TenantName, BTreeSet<String>>>);

impl KnownQueues {
    /// Records the queues of all tenants.
    pub fn replace(&self, counts: &[JobCount]) {
        let mut tenants: BTreeMap<TenantName, BTreeSet<String>> = BTreeMap::new();
        for count in counts.iter().filter(|count| count.jobs > 0) {
            tenants.entry(count.tenant.clone()).or_default().insert(count.queue.clone());
        }
        *self.0.write() = tenants;
    }

    /// Whether a tenant may add jobs to a queue: it has jobs already, or the tenant has few enough queues.
    pub fn admits(&self, tenant: &TenantName, queue: &str) -> bool {
        let is_known = |tenants: &BTreeMap<TenantName, BTreeSet<String>>| {
            tenants.get(tenant).is_some_and(|queues| queues.contains(queue))
        };
        if is_internal(queue) || is_known(&self.0.read()) {
            return true;
        }
        let mut tenants = self.0.write();
        let queues = tenants.entry(tenant.clone()).or_default();
        let has_room = queues.len() < TENANT_QUEUES_MAX;
        if has_room {
            queues.insert(queue.to_owned());
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use starling_jobs::JobState;

    use super::*;

    #[test]
    fn a_tenant_with_many_queues_may_use_these_and_no_more() {
        let (known, tenant, other) = (KnownQueues::default(), "t".into(), "other".into());
        for number in 0..TENANT_QUEUES_MAX {
            assert!(known.admits(&tenant, &format!("q{number}")));
        }
        assert!(!known.admits(&tenant, "one-more") && known.admits(&tenant, "q7"));
        assert!(known.admits(&other, "one-more"), "each tenant has its own");
        assert!(known.admits(&tenant, "starling.x"), "those of Starling don't count");
        let count = JobCount { queue: "q7".into(), tenant: "t".into(), state: JobState::Done, jobs: 1 };
        known.replace(&[count.clone(), JobCount { queue: "empty".into(), jobs: 0, ..count }]);
        assert!(known.admits(&tenant, "one-more"), "the others have no jobs any more");
        assert_eq!(known.0.read()[&tenant].len(), 2);
    }
}
