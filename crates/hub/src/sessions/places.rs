//! Limits the connections of tenants, over all nodes. A session of a limited tenant needs a place, which is taken from the session store
//! before the session begins.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use starling_model::TenantName;
use starling_session_store::SessionStore;
use tokio::time::Instant;

use super::Sessions;
use crate::clock::every_second;
use crate::metrics::METRICS;
use crate::neighbours::Neighbours;
use crate::{CommandError, HubConfig, Map, Set};

/// How often the session store is told an unchanged number again. It forgets after a minute, and may lose its data.
const REPORT_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Time to retry if all places are taken, milliseconds.
const RETRY_MS: u64 = 5_000;

/// The places of tenants whose connections are limited.
pub(crate) struct Places {
    /// This node's name, under which the store counts its connections.
    node: Arc<str>,
    config: Arc<HubConfig>,
    store: Arc<dyn SessionStore>,
    sessions: Arc<Sessions>,
    /// Know the other nodes' last reports, which count while the store is down.
    neighbours: Arc<Neighbours>,
    told: ReportedCounts,
}

/// A place for a session that is about to be attached. Dropping it gives the place back. An attached session is counted by itself.
pub(crate) struct Place {
    sessions: Arc<Sessions>,
    tenant: TenantName,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.sessions.give_back(&self.tenant);
    }
}

impl Places {
    /// Begins without any places taken.
    pub fn new(
        node: Arc<str>,
        config: Arc<HubConfig>,
        store: Arc<dyn SessionStore>,
        sessions: Arc<Sessions>,
        neighbours: Arc<Neighbours>,
    ) -> Arc<Places> {
        Arc::new(Places { node, config, store, sessions, neighbours, told: ReportedCounts::default() })
    }

    /// Takes a place for a connection of a tenant. `None`: the tenant's connections are not limited.
    pub async fn take(&self, tenant: &TenantName) -> Result<Option<Place>, CommandError> {
        let max = self.config.limits_of(tenant).connections;
        if max == 0 {
            return Ok(None);
        }
        let told = self.told.of(tenant);
        let mut told = told.lock().await;
        let count = self.sessions.of_tenant(tenant) + 1;
        let fits = match self.store.set_connections(&self.node, tenant, count, Some(max)).await {
            Ok(fits) => fits,
            Err(error) => {
                tracing::debug!(%error, "connections are counted by the last reports of the nodes");
                self.neighbours.connections_of(tenant) + count <= max
            }
        };
        if !fits {
            METRICS.limited_tenant_connections.increment(1);
            let message = format!("the tenant has its {max} connections");
            return Err(CommandError::rate_limited(message, RETRY_MS));
        }
        *told = Some((count, Instant::now()));
        self.sessions.reserve(tenant);
        Ok(Some(Place { sessions: self.sessions.clone(), tenant: tenant.clone() }))
    }

    /// Returns the number of sessions of each tenant whose connections are limited. The other nodes need it for the limit.
    pub fn limited_tenants(&self) -> BTreeMap<TenantName, u64> {
        let per_tenant = self.sessions.per_tenant().into_iter();
        per_tenant.filter(|(tenant, _)| self.config.limits_of(tenant).connections > 0).collect()
    }

    /// Keeps the session store's numbers up to date.
    pub async fn report_forever(self: Arc<Self>) {
        let mut interval = every_second();
        while self.neighbours.lifetime().next_tick(&mut interval).await {
            self.tell().await;
            self.told.sweep();
        }
    }

    /// Tells the session store the number of this node's connections of each limited tenant, if it changed.
    async fn tell(&self) {
        let mut tenants: Set<TenantName> = self.limited_tenants().into_keys().collect();
        tenants.extend(self.told.tenants());
        for tenant in tenants {
            let told = self.told.of(&tenant);
            let mut told = told.lock().await;
            let (count, now) = (self.sessions.of_tenant(&tenant), Instant::now());
            let is_known = match *told {
                Some((known, at)) => known == count && now.duration_since(at) < REPORT_AGAIN_AFTER,
                None => count == 0,
            };
            if is_known {
                continue;
            }
            if let Err(error) = self.store.set_connections(&self.node, &tenant, count, None).await {
                tracing::debug!(%error, "the number of connections could not be reported; trying again with the next tick");
                return;
            }
            *told = (count > 0).then_some((count, now));
        }
    }
}

/// The number that the session store was last told of each tenant.
#[derive(Default)]
struct ReportedCounts(Mutex<Map<TenantName, Arc<ReportedCount>>>);

/// The number that was last told of one tenant, and when. The lock is held while the store is told, so that reports come one after the
/// other. Each tenant has its own lock, so that no tenant waits for another.
type ReportedCount = tokio::sync::Mutex<Option<(u64, Instant)>>;

impl ReportedCounts {
    fn of(&self, tenant: &TenantName) -> Arc<ReportedCount> {
        self.0.lock().entry(tenant.clone()).or_default().clone()
    }

    fn tenants(&self) -> Vec<TenantName> {
        self.0.lock().keys().cloned().collect()
    }

    /// Forgets tenants without connections, unless a caller is about to lock one.
    fn sweep(&self) {
        let is_used =
            |told: &mut Arc<ReportedCount>| Arc::get_mut(told).is_none_or(|told| told.get_mut().is_some());
        self.0.lock().retain(|_, told| is_used(told));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tenants_do_not_wait_for_each_other_and_are_forgotten_when_nobody_holds_them() {
        let told = ReportedCounts::default();
        let (ann, bob): (TenantName, TenantName) = ("ann".into(), "bob".into());
        let of_ann = told.of(&ann);
        let held = of_ann.lock().await;
        *told.of(&bob).try_lock().expect("another lock") = Some((1, Instant::now()));
        assert!(told.of(&ann).try_lock().is_err(), "one thing after the other");
        told.sweep();
        assert_eq!(told.tenants().len(), 2);
        drop(held);
        told.sweep();
        assert!(Arc::ptr_eq(&of_ann, &told.of(&ann)), "who waits has the lock that others take");
        drop(of_ann);
        told.sweep();
        assert_eq!(told.tenants(), [bob]);
    }
}
