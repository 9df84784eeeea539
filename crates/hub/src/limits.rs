//! How often a user may write, over all nodes, and per node while the session store is away.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use starling_session_store::{Allowance, Verdict};

use crate::hub::Hub;
use crate::metrics::METRICS;
use crate::{CommandError, Map};

/// How many users are remembered on a node while the session store is away.
const USERS_MAX: usize = 100_000;
/// The period of the allowance.
const PERIOD_MS: u64 = 60_000;

/// Allowances of this node alone, for while the session store is away: when each user's last cell ends, in milliseconds since the
/// first use (the generic cell rate algorithm needs no more).
pub(crate) struct Limits {
    began: Instant,
    users: Mutex<Map<(Arc<str>, Arc<str>), u64>>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { began: Instant::now(), users: Mutex::default() }
    }
}

impl Limits {
    fn take(&self, tenant: &Arc<str>, user: &Arc<str>, allowance: Allowance) -> Verdict {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut users = self.users.lock();
        if users.len() >= USERS_MAX {
            users.retain(|_, end| *end > now);
            if users.len() >= USERS_MAX {
                users.clear();
            }
        }
        let end = users.entry((tenant.clone(), user.clone())).or_insert(now);
        gcra(end, now, allowance)
    }
}

/// The generic cell rate algorithm (ITU-T I.371), with a burst of the whole count: `end` is the theoretical arrival time.
fn gcra(end: &mut u64, now: u64, allowance: Allowance) -> Verdict {
    let cell = allowance.period_ms / u64::from(allowance.count.max(1));
    let next = (*end).max(now) + cell;
    if next > now + allowance.period_ms {
        return Verdict::Denied { retry_after_ms: next - now - allowance.period_ms };
    }
    *end = next;
    Verdict::Allowed
}

impl Hub {
    /// Whether writes of users of this tenant are limited at all.
    pub(crate) fn limits_writes(&self, tenant: &str) -> bool {
        self.config.limits_of(tenant).user_writes_per_minute > 0
    }

    /// Takes one write from a user's allowance.
    pub(crate) async fn take_write(&self, tenant: &Arc<str>, user: &Arc<str>) -> Result<(), CommandError> {
        let count = self.config.limits_of(tenant).user_writes_per_minute;
        if count == 0 {
            return Ok(());
        }
        let allowance = Allowance { count, period_ms: PERIOD_MS };
        let verdict = match self.session_store.take(tenant, user, allowance).await {
            Ok(verdict) => verdict,
            Err(error) => {
                tracing::debug!(%error, "limits hold per node for the moment");
                self.limits.take(tenant, user, allowance)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_the_rate_holds() {
        let allowance = Allowance { count: 10, period_ms: 1_000 };
        let mut end = 0;
        for _ in 0..10 {
            assert_eq!(gcra(&mut end, 0, allowance), Verdict::Allowed);
        }
        assert_eq!(gcra(&mut end, 0, allowance), Verdict::Denied { retry_after_ms: 100 });
        assert_eq!(gcra(&mut end, 100, allowance), Verdict::Allowed);
        assert!(matches!(gcra(&mut end, 100, allowance), Verdict::Denied { .. }));
    }
}
