//! Jobs that have failed for good, as somebody is told of them.

use starling_model::TenantName;
use uuid::Uuid;

use crate::JobId;

/// A job that has failed for good, as it was noted in that transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFailure {
    /// The place of the note, for [`crate::JobStore::forget_failures`].
    pub position: i64,
    /// The id of this failure. A job that is retried may fail once more, which has another id.
    pub event: Uuid,
    /// The job. It may be gone by now, or tried again.
    pub job: JobId,
    /// Its queue.
    pub queue: String,
    /// Its tenant.
    pub tenant: TenantName,
    /// When it failed, Unix milliseconds by the database's clock.
    pub failed_at_ms: i64,
}
