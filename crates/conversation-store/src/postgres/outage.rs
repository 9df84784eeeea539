//! Whether the server answers: said in the log once when it no longer does, and once when it does again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;

use super::database::Database;
use crate::Error;

/// Between two looks at a server that does not answer, or that answers although a call failed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long nothing more is said after an outage: one that comes and goes must not fill the log.
const QUIET: Duration = Duration::from_secs(10);

/// Whether somebody is looking already.
#[derive(Clone, Default)]
pub(super) struct Doubt(Arc<AtomicBool>);

impl Database {
    /// A call failed. That may be one connection or one statement alone, so it is looked whether the server answers at all; by
    /// one task, however many calls fail.
    pub(super) fn doubt(&self, error: &Error) {
        let of_the_server = matches!(error, Error::Unavailable(_) | Error::Address(_));
        if !of_the_server || self.doubt.0.swap(true, Ordering::Relaxed) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let database = self.clone();
        runtime.spawn(async move {
            let pause = if database.look().await { LOOK_EVERY } else { QUIET };
            sleep(pause).await;
            database.doubt.0.store(false, Ordering::Relaxed);
        });
    }

    /// Looks until the server answers, or until nobody but this task is left to know. `true`: it did at once.
    async fn look(&self) -> bool {
        let Err(error) = self.rows("SELECT 1", &[]).await else { return true };
        let server = self.server();
        tracing::warn!(server, %error, "PostgreSQL does not answer; calls to it fail until it does");
        while Arc::strong_count(&self.doubt.0) > 1 {
            sleep(LOOK_EVERY).await;
            match self.rows("SELECT 1", &[]).await {
                Ok(_) => {
                    tracing::info!(server, "PostgreSQL answers again");
                    break;
                }
                Err(error) => tracing::debug!(server, %error, "PostgreSQL still does not answer"),
            }
        }
        false
    }
}
