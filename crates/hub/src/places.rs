//! The places of tenants whose connections are limited: each is taken from the session store, which counts those of all nodes,
//! before a session begins.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::hub::Hub;
use crate::metrics::METRICS;
use crate::{CommandError, Map};

/// How often the session store is told again what it was told before; it forgets after a minute, and may be emptied.
const TELL_AGAIN: Duration = Duration::from_secs(5);
/// When to come again where all places are taken, milliseconds.
const RETRY_MS: u64 = 5_000;

/// What the session store was told last of each tenant, and when. Locked while it is told: one thing after the other.
pub(crate) type Told = tokio::sync::Mutex<Map<Arc<str>, (u64, Instant)>>;

/// A place that was taken for a session that is about to be attached. It counts until this is dropped; the session counts from
/// when it is attached.
pub(crate) struct Place {
    hub: Arc<Hub>,
    tenant: Arc<str>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hub.sessions.give_back(&self.tenant);
    }
}

impl Hub {
    /// Takes a place for a connection of a tenant; `None` where its connections are not limited.
    pub(crate) async fn take_place(
        self: &Arc<Self>,
        tenant: &Arc<str>,
    ) -> Result<Option<Place>, CommandError> {
        let max = self.config.limits_of(tenant).connections;
        if max == 0 {
            return Ok(None);
        }
        let mut told = self.told_connections.lock().await;
        let count = self.sessions.of_tenant(tenant) + 1;
        let fits = match self.session_store.set_connections(&self.node, tenant, count, Some(max)).await {
            Ok(fits) => fits,
            Err(error) => {
                tracing::debug!(%error, "connections are counted by what the nodes said last");
                self.connections_elsewhere(tenant) + count <= max
            }
        };
        if !fits {
            METRICS.limited_tenant_connections.increment(1);
            let message = format!("the tenant has its {max} connections");
            return Err(CommandError::rate_limited(message, RETRY_MS));
        }
        told.insert(tenant.clone(), (count, Instant::now()));
        self.sessions.reserve(tenant);
        Ok(Some(Place { hub: self.clone(), tenant: tenant.clone() }))
    }

    /// Tells the session store how many connections of each limited tenant this node has, where that changed.
    pub(crate) async fn tell_connections(&self) {
        let mut told = self.told_connections.lock().await;
        let mut tenants = self.limited_tenants();
        for tenant in told.keys() {
            tenants.entry(tenant.to_string()).or_default();
        }
        for tenant in tenants.into_keys() {
            let tenant: Arc<str> = tenant.into();
            let (count, now) = (self.sessions.of_tenant(&tenant), Instant::now());
            let is_known = told
                .get(&tenant)
                .is_some_and(|(known, at)| *known == count && now.duration_since(*at) < TELL_AGAIN);
            if is_known {
                continue;
            }
            if let Err(error) = self.session_store.set_connections(&self.node, &tenant, count, None).await {
                tracing::debug!(%error, "the session store was not told of connections; it will be with the next tick");
                return;
            }
            if count == 0 {
                told.remove(&tenant);
            } else {
                told.insert(tenant, (count, now));
            }
        }
    }

    fn connections_elsewhere(&self, tenant: &str) -> u64 {
        let nodes = self.nodes.lock();
        let others = nodes.iter().filter(|record| record.node != *self.node);
        others.map(|record| record.tenants.get(tenant).copied().unwrap_or(0)).sum()
    }
}
