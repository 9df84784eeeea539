//! Bulkheads: the questions of one tenant don't use up what others need (M. Nygard, "Release It!", "Bulkheads").

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use starling_model::TenantName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// The questions of all tenants. A tenant without one has no entry.
pub(super) struct Bulkheads {
    under_way_max: usize,
    waiting_max: usize,
    tenants: Mutex<HashMap<TenantName, Bulkhead>>,
}

/// The questions of one tenant.
struct Bulkhead {
    /// What questions under way hold.
    permits: Arc<Semaphore>,
    /// Questions under way, and those that wait.
    questions: usize,
}

/// The place of a question under way.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    _counted: Counted,
}

/// Counts a question, until it is dropped.
struct Counted {
    bulkheads: Arc<Bulkheads>,
    tenant: TenantName,
}

impl Bulkheads {
    pub(super) fn new(under_way_max: usize, waiting_max: usize) -> Self {
        Self { under_way_max: under_way_max.max(1), waiting_max, tenants: Mutex::default() }
    }

    /// Waits for a place, in the order of the calls; `None` if too many wait already, or it is too late.
    pub(super) async fn enter(self: &Arc<Self>, tenant: &TenantName, deadline: Instant) -> Option<Place> {
        let (permits, counted) = self.count(tenant)?;
        let permit = timeout_at(deadline, permits.acquire_owned()).await.ok()?.ok()?;
        Some(Place { _permit: permit, _counted: counted })
    }

    fn count(self: &Arc<Self>, tenant: &TenantName) -> Option<(Arc<Semaphore>, Counted)> {
        let mut tenants = self.tenants.lock();
        let bulkhead = tenants.entry(tenant.clone()).or_insert_with(|| Bulkhead {
            permits: Arc::new(Semaphore::new(self.under_way_max)),
            questions: 0,
        });
        if bulkhead.questions >= self.under_way_max.saturating_add(self.waiting_max) {
            return None;
        }
        bulkhead.questions += 1;
        let counted = Counted { bulkheads: Arc::clone(self), tenant: tenant.clone() };
        Some((Arc::clone(&bulkhead.permits), counted))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut tenants = self.bulkheads.tenants.lock();
        let Some(bulkhead) = tenants.get_mut(&self.tenant) else { return };
        bulkhead.questions -= 1;
        if bulkhead.questions == 0 {
            tenants.remove(&self.tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(10)
    }

    fn late() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    #[tokio::test(start_paused = true)]
    async fn each_tenant_has_its_own_places() {
        let bulkheads = Arc::new(Bulkheads::new(2, 5));
        let (slow, other) = ("slow".into(), "other".into());
        let first = bulkheads.enter(&slow, late()).await;
        let second = bulkheads.enter(&slow, late()).await;
        assert!(first.is_some() && second.is_some());
        assert!(bulkheads.enter(&slow, soon()).await.is_none(), "both are taken");
        assert!(bulkheads.enter(&other, soon()).await.is_some());
        let (third, ()) = tokio::join!(bulkheads.enter(&slow, late()), async { drop(first) });
        assert!(third.is_some(), "a place that is left is given on");
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_wait_are_bounded_and_nothing_is_kept() {
        let (bulkheads, tenant) = (Arc::new(Bulkheads::new(1, 2)), "t".into());
        let place = bulkheads.enter(&tenant, late()).await;
        let waiting = || bulkheads.enter(&tenant, late());
        let (mut one, mut two) = (Box::pin(waiting()), Box::pin(waiting()));
        assert!(futures_util::poll!(&mut one).is_pending() && futures_util::poll!(&mut two).is_pending());
        let asked = Instant::now();
        assert!(waiting().await.is_none() && asked.elapsed().is_zero(), "it does not even wait");
        drop(one);
        assert!(
            bulkheads.enter(&tenant, soon()).await.is_none(),
            "it waits in the place of the one that left"
        );
        drop((place, two));
        assert!(bulkheads.tenants.lock().is_empty());
    }
}
