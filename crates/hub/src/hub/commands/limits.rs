//! Requests about the limits of queues: what the token allows, and what the answers mean.

use starling_auth::Identity;
use starling_job_service::jobs::{LIMITED_QUEUES_MAX, QueueLimits};
use starling_wire::protocol::ErrorCode;

use super::jobs::needs_scope;
use crate::CommandError;
use crate::hub::Hub;

impl Hub {
    /// Sets the limits of a queue, for all tenants.
    pub async fn put_limits(
        &self,
        identity: &Identity,
        queue: &str,
        limits: QueueLimits,
    ) -> Result<(), CommandError> {
        let jobs = self.job_service()?;
        need_operate(identity)?;
        limits.check(queue).map_err(|invalid| CommandError::bad_request(invalid.to_string()))?;
        if jobs.put_limits(queue, &limits).await? {
            Ok(())
        } else {
            Err(CommandError::conflict(format!("{LIMITED_QUEUES_MAX} other queues have limits already")))
        }
    }

    /// Returns the limits of a queue.
    pub async fn limits(&self, identity: &Identity, queue: &str) -> Result<QueueLimits, CommandError> {
        let jobs = self.job_service()?;
        need_operate(identity)?;
        let limits = jobs.limits().await?;
        limits.into_iter().find(|(name, _)| name == queue).map(|(_, limits)| limits).ok_or_else(no_limits)
    }

    /// Removes the limits of a queue.
    pub async fn remove_limits(&self, identity: &Identity, queue: &str) -> Result<(), CommandError> {
        let jobs = self.job_service()?;
        need_operate(identity)?;
        if jobs.remove_limits(queue).await? { Ok(()) } else { Err(no_limits()) }
    }
}

/// Limits hold for all tenants, so that no tenant may set them.
fn need_operate(identity: &Identity) -> Result<(), CommandError> {
    if identity.scopes.may_operate() { Ok(()) } else { Err(needs_scope("operate")) }
}

fn no_limits() -> CommandError {
    CommandError::new(ErrorCode::NotFound, "this queue has no limits")
}
