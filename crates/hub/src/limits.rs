//! Limits how often a user may write: over all nodes, or per node while the session store is down.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use starling_auth::Identity;
use starling_model::{TenantName, UserName};
use starling_rate::Rate;
use starling_session_store::{Allowances, SessionStore, Verdict};
use tokio::time::Instant;

use crate::metrics::METRICS;
use crate::{CommandError, HubConfig};

/// Most users that a node remembers while the session store is down. Each takes some 100 bytes.
const USERS_MAX: usize = 1_000_000;
/// The period of the rate limit.
const PERIOD: Duration = Duration::from_secs(60);

/// Limits how often users write.
pub(crate) struct WriteLimits {
    config: Arc<HubConfig>,
    /// Keeps the allowances over all nodes.
    store: Arc<dyn SessionStore>,
    /// The allowances on this node, used while the session store is down.
    local: Mutex<Allowances>,
    began: Instant,
}

impl WriteLimits {
    /// Begins with whole allowances.
    pub fn new(config: Arc<HubConfig>, store: Arc<dyn SessionStore>) -> WriteLimits {
        let local = Mutex::new(Allowances::new(USERS_MAX));
        WriteLimits { config, store, local, began: Instant::now() }
    }

    /// Whether the writes of this tenant's users are limited.
    pub fn apply_to(&self, tenant: &TenantName) -> bool {
        self.config.limits_of(tenant).user_writes_per_minute > 0
    }

    /// Charges one write to the allowance of a user who changes a conversation or its members. Admins are not limited, nor are the messages
    /// that they post.
    pub async fn take_change(&self, identity: &Identity) -> Result<(), CommandError> {
        if identity.scopes.is_admin() {
            return Ok(());
        }
        self.take(&identity.tenant, &identity.user).await
    }

    /// Charges one write to a user's allowance.
    pub async fn take(&self, tenant: &TenantName, user: &UserName) -> Result<(), CommandError> {
        let count = self.config.limits_of(tenant).user_writes_per_minute;
        let Some(rate) = Rate::new(count, PERIOD) else { return Ok(()) };
        let verdict = match self.store.take(tenant, user, rate).await {
            Ok(verdict) => verdict,
            Err(error) => {
                tracing::debug!(%error, "limits apply per node for now");
                self.take_local(tenant, user, rate)?
            }
        };
        match verdict {
            Verdict::Allowed => Ok(()),
            Verdict::Denied { retry_after_ms } => {
                METRICS.limited_user_writes.increment(1);
                let message = format!("more than {count} writes a minute");
                Err(CommandError::rate_limited(message, retry_after_ms))
            }
        }
    }

    fn take_local(
        &self,
        tenant: &TenantName,
        user: &UserName,
        rate: Rate,
    ) -> Result<Verdict, starling_session_store::Error> {
        let now_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.local.lock().take(tenant, user, rate, now_us)
    }
}
