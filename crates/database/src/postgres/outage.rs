//! Outages of a server: one line in the log when it stops answering, and one when it answers again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::Error;

/// The time between two tries of a server that does not answer, or that answers although a call failed.
const TRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long nothing more is logged after an outage: one that comes and goes must not fill the log.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Whether a task is trying the server already.
#[derive(Clone, Default)]
pub(super) struct Outage(Arc<AtomicBool>);

/// A server that can be tried.
pub(super) trait Try: Clone + Send + Sync + 'static {
    /// Returns the server's outage, shared by all clones.
    fn outage(&self) -> &Outage;

    /// Returns the server's name in the log.
    fn name(&self) -> &'static str;

    /// Asks the server for anything.
    fn ask(&self) -> impl Future<Output = Result<(), Error>> + Send;
}

/// Notes that a call failed. The cause may be a single connection or statement, so a task tries the server. There is one such task however
/// many calls fail.
pub(super) fn note(server: &impl Try, error: &Error) {
    let is_of_the_server = matches!(error, Error::Unavailable(_) | Error::Address(_));
    if !is_of_the_server || server.outage().0.swap(true, Ordering::Relaxed) {
        return;
    }
    let Ok(runtime) = Handle::try_current() else { return };
    let server = server.clone();
    runtime.spawn(async move {
        let pause = if answers_at_once(&server).await { TRY_INTERVAL } else { LOG_INTERVAL };
        sleep(pause).await;
        server.outage().0.store(false, Ordering::Relaxed);
    });
}

/// Tries until the server answers, or until nobody else uses it. Returns whether it answered at once.
async fn answers_at_once(server: &impl Try) -> bool {
    let Err(error) = server.ask().await else { return true };
    let name = server.name();
    tracing::warn!(server = name, %error, "PostgreSQL does not answer; calls to it fail until it does");
    while Arc::strong_count(&server.outage().0) > 1 {
        sleep(TRY_INTERVAL).await;
        match server.ask().await {
            Ok(()) => {
                tracing::info!(server = name, "PostgreSQL answers again");
                break;
            }
            Err(error) => tracing::debug!(server = name, %error, "PostgreSQL still does not answer"),
        }
    }
    false
}
