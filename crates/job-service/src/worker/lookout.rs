//! Noticing at once that another worker was killed: its lock is gone.

use std::convert::Infallible;
use std::time::Duration;

use starling_jobs::{Error, LostLock, WorkerId};
use tokio::time::{Instant, sleep};

use super::NodeWorker;
use crate::metrics::METRICS;
use crate::time::about;
use crate::vigil::Vigil;

/// How often a worker looks at the locks of the others, on average.
const LOOK_EVERY: Duration = Duration::from_millis(140);
/// When it looks once more after it has found one gone. Together this is less than half a second, with time to spare on a busy machine. A worker that
/// has only lost its connection takes some ten milliseconds to lock again.
const LOOK_AGAIN: Duration = Duration::from_millis(120);
/// How long the database must have responded before a missing lock means that the worker is dead. When it comes back after an outage, all
/// workers have lost their locks, and take them again.
const SETTLE: Duration = Duration::from_secs(1);

/// Workers whose locks were gone when they were looked at last.
#[derive(Default)]
struct Suspects {
    lost: Vec<LostLock>,
    vigil: Vigil,
}

impl Suspects {
    /// Records which locks are missing, and returns the workers whose locks were missing last time, too. A worker that has only lost its
    /// connection has taken its lock again by then.
    fn look(&mut self, lost: Vec<LostLock>, now: Instant) -> Vec<LostLock> {
        self.vigil.go_on(now);
        let is_sure = self.vigil.has_lasted(SETTLE);
        let dead = lost.iter().filter(|lost| is_sure && self.lost.contains(lost)).copied().collect();
        self.lost = lost;
        dead
    }
}

impl NodeWorker {
    /// Looks at the locks of other workers, and gives the jobs of the dead to the living.
    pub(super) async fn look_out(&self, id: WorkerId) -> Infallible {
        let mut suspects = Suspects::default();
        loop {
            sleep(if suspects.lost.is_empty() { about(LOOK_EVERY) } else { LOOK_AGAIN }).await;
            if let Err(error) = self.look_at_locks(id, &mut suspects).await {
                tracing::debug!(%error, "the locks of other workers could not be looked at");
                suspects = Suspects::default();
            }
        }
    }

    async fn look_at_locks(&self, id: WorkerId, suspects: &mut Suspects) -> Result<(), Error> {
        let lost = self.store.lost_locks(id).await?;
        let dead = suspects.look(lost, Instant::now());
        if dead.is_empty() {
            return Ok(());
        }
        let burial = self.store.bury_unlocked(&dead).await?;
        METRICS.killed.increment(burial.workers);
        self.notices.note_lost(burial.attempts);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use starling_jobs::JobStore;
    use starling_jobs::sqlite::SqliteJobs;

    use super::*;

    /// Returns the lost lock of a worker.
    async fn lost() -> LostLock {
        let config = starling_database::sqlite::SqliteConfig::default();
        let database = starling_database::sqlite::SqliteDatabase::open(Path::new(":memory:"), config);
        let store = SqliteJobs::new(Arc::new(database.expect("a database")));
        store.migrate().await.expect("a schema");
        let worker = WorkerId::new();
        store.register(worker, "node").await.expect("listed");
        drop(store.lock(worker).await.expect("locked"));
        store.lost_locks(WorkerId::new()).await.expect("an answer")[0]
    }

    #[tokio::test]
    async fn a_lock_has_to_be_gone_twice_while_the_database_has_answered_for_a_while() {
        let (began, lost) = (Instant::now(), lost().await);
        let at = |ms| began + Duration::from_millis(ms);
        let mut suspects = Suspects::default();
        for ms in [0, 300, 600, 900] {
            assert_eq!(suspects.look(vec![lost], at(ms)), [], "the database may have been away");
        }
        assert_eq!(suspects.look(vec![lost], at(1200)), [lost]);
        assert_eq!(suspects.look(Vec::new(), at(1500)), []);
        assert_eq!(suspects.look(vec![lost], at(1800)), [], "it is gone for the first time");
        assert_eq!(suspects.look(vec![lost], at(2100)), [lost]);
        assert_eq!(suspects.look(vec![lost], at(60_000)), [], "this node was frozen");
    }
}
