//! The storm: connections that break all at once.

use std::rc::Rc;
use std::time::Duration;

use super::Thread;
use super::plan::is_among;

/// Breaks the connections at the time that the scenario names, if it has a storm.
pub(super) async fn run(thread: Rc<Thread>) {
    let plan = thread.plan();
    let Some(storm) = &plan.scenario().storm else { return };
    let at = plan.start() + Duration::from_secs(storm.at_seconds.into());
    tokio::time::sleep_until(at.into()).await;
    for session in thread.sessions() {
        if is_among(session.index(), storm.percent) {
            let delay = rand::random_range(0..=u64::from(storm.within_ms));
            session.break_connection(Duration::from_millis(delay));
        }
    }
}
