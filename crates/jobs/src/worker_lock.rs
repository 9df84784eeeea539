//! What shows that the process of a worker lives.

use std::fmt;
use std::pin::Pin;

use crate::WorkerId;

/// A lock that a worker has for as long as its process lives. The database releases it when the process ends, so that others notice at once.
/// Dropping it gives it up.
pub struct WorkerLock(Pin<Box<dyn Future<Output = ()> + Send>>);

impl WorkerLock {
    /// Makes a lock that this future owns, and that is lost when it ends.
    pub(crate) fn until(lost: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Box::pin(lost))
    }

    /// Returns when the lock is lost although the process lives.
    pub async fn lost(self) {
        self.0.await;
    }
}

impl fmt::Debug for WorkerLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkerLock")
    }
}

/// A worker whose lock is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostLock {
    pub(crate) worker: WorkerId,
    /// The lock's number. A worker that locks again gets another one.
    pub(crate) lock: i64,
}
