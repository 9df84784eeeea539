//! How often a user may write, over all nodes, and per node while the session store is away.

use std::time::Duration;

use parking_lot::Mutex;
use starling_auth::Identity;
use starling_model::{TenantName, UserName};
use starling_rate::Rate;
use starling_session_store::{Allowances, Verdict};
use tokio::time::Instant;

use crate::CommandError;
use crate::hub::Hub;
use crate::metrics::METRICS;

/// How many users are remembered on a node while the session store is away; one takes some 100 bytes.
const USERS_MAX: usize = 1_000_000;
/// The period of the rate.
const PERIOD: Duration = Duration::from_secs(60);

/// Allowances of this node alone, for while the session store is away.
pub(crate) struct Limits {
    began: Instant,
    users: Mutex<Allowances>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { began: Instant::now(), users: Mutex::new(Allowances::new(USERS_MAX)) }
    }
}

impl Limits {
    fn take(
        &self,
        tenant: &TenantName,
        user: &UserName,
        rate: Rate,
    ) -> Result<Verdict, starling_session_store::Error> {
        let now_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.users.lock().take(tenant, user, rate, now_us)
    }
}

impl Hub {
    /// Whether writes of users of this tenant are limited at all.
    pub(crate) fn limits_writes(&self, tenant: &TenantName) -> bool {
        self.config.limits_of(tenant).user_writes_per_minute > 0
    }

    /// Takes one write from the allowance of a user who changes a conversation or its members. Admins are not limited, as with the
    /// messages that they post.
    pub(crate) async fn take_change(&self, identity: &Identity) -> Result<(), CommandError> {
        if identity.scopes.is_admin() {
            return Ok(());
        }
        self.take_write(&identity.tenant, &identity.user).await
    }

    /// Takes one write from a user's allowance.
    pub(crate) async fn take_write(&self, tenant: &TenantName, user: &UserName) -> Result<(), CommandError> {
        let count = self.config.limits_of(tenant).user_writes_per_minute;
        let Some(rate) = Rate::new(count, PERIOD) else { return Ok(()) };
        let verdict = match self.session_store.take(tenant, user, rate).await {
            Ok(verdict) => verdict,
            Err(error) => {
                tracing::debug!(%error, "limits hold per node for the moment");
                self.limits.take(tenant, user, rate)?
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
}
