//! Removing jobs that have ended, but for the newest of each queue.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use starling_jobs::{Error, JobCount, JobState, JobStore};
use starling_model::TenantName;
use tokio::time::Instant;

use super::since::Since;
use crate::JobSettings;

/// The most jobs that one call removes.
const TRIM_MAX: u16 = 1000;
/// How long one round removes jobs. What it leaves over, the next one takes a few seconds later.
pub(super) const ROUND_MAX: Duration = Duration::from_secs(2);

/// A queue of a tenant, and how its jobs have ended.
type Ended = (String, TenantName, JobState);

/// Removes jobs that have ended, round by round.
pub(super) struct Trimming {
    store: Arc<dyn JobStore>,
    kept_done: u32,
    kept_failed: u32,
    /// Where the next calls begin, Unix milliseconds.
    since: Since<HashMap<Ended, i64>>,
    /// Where the next round begins: the round before had no time for it.
    first: Option<Ended>,
}

impl Trimming {
    /// Keeps as many jobs as the settings say.
    pub fn new(store: Arc<dyn JobStore>, settings: &JobSettings) -> Self {
        let (kept_done, kept_failed) = (settings.kept_done, settings.kept_failed);
        Self { store, kept_done, kept_failed, since: Since::new(Instant::now()), first: None }
    }

    /// Begins all calls at the beginning.
    pub fn begin_anew(&mut self) {
        self.since = Since::new(Instant::now());
    }

    /// Removes jobs that have ended and are more than are kept, until no queue has such, or for so long. Queues take turns.
    pub async fn round(&mut self, counts: &[JobCount], round_max: Duration) -> Result<(), Error> {
        let began = Instant::now();
        self.since.renew(began);
        let mut left = self.too_many(counts);
        if let Some(first) = self.first.take() {
            let place = left.iter().position(|(ended, _)| *ended >= first).unwrap_or(0);
            left.rotate_left(place);
        }
        while let Some((ended, kept)) = left.pop_front() {
            let (queue, tenant, state) = &ended;
            let since_ms = self.since.times.get(&ended).copied().unwrap_or(0);
            let trimmed = self.store.trim(tenant, queue, *state, kept, since_ms, TRIM_MAX).await;
            let (discarded, next_ms) = match trimmed {
                Ok(trimmed) => trimmed,
                Err(error) => {
                    // The others must not wait for this one.
                    self.first = left.pop_front().map(|(ended, _)| ended);
                    return Err(error);
                }
            };
            self.since.times.insert(ended.clone(), next_ms);
            if discarded >= u64::from(TRIM_MAX) {
                left.push_back((ended, kept));
            }
            if began.elapsed() >= round_max {
                break;
            }
        }
        self.first = left.pop_front().map(|(ended, _)| ended);
        Ok(())
    }

    /// Returns the queues with more jobs that have ended than are kept, each with the number that is kept.
    fn too_many(&self, counts: &[JobCount]) -> VecDeque<(Ended, u32)> {
        let kept = |count: &JobCount| match count.state {
            JobState::Done => Some(self.kept_done),
            JobState::Failed | JobState::Cancelled => Some(self.kept_failed),
            JobState::Scheduled | JobState::Ready | JobState::Running => None,
        };
        let too_many = counts.iter().filter_map(|count| {
            let kept = kept(count).filter(|kept| count.jobs > u64::from(*kept))?;
            Some(((count.queue.clone(), count.tenant.clone(), count.state), kept))
        });
        too_many.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use starling_database::sqlite::{SqliteConfig, SqliteDatabase};
    use starling_jobs::NewJob;
    use starling_jobs::sqlite::SqliteJobs;

    use super::*;

    /// Queues with so many cancelled jobs, of which 100 are kept.
    async fn trimming_of(queues: &[(&str, usize)]) -> Trimming {
        let database = SqliteDatabase::open(Path::new(":memory:"), SqliteConfig::default());
        let store = SqliteJobs::new(Arc::new(database.expect("a database")));
        store.migrate().await.expect("a schema");
        for (queue, jobs) in queues {
            let jobs: Vec<NewJob> =
                (0..*jobs).map(|_| NewJob::new("t".into(), queue, "k", "1".into())).collect();
            let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
            store.enqueue(&jobs).await.expect("jobs");
            store.cancel(&ids).await.expect("cancelled");
        }
        Trimming::new(Arc::new(store), &JobSettings { kept_failed: 100, ..JobSettings::default() })
    }

    /// Trims, and returns how many jobs each queue has then.
    async fn round(trimming: &mut Trimming, round_max: Duration) -> Vec<(String, u64)> {
        let counts = trimming.store.counts(None).await.expect("counts");
        trimming.round(&counts, round_max).await.expect("trimmed");
        let counts = trimming.store.counts(None).await.expect("counts");
        counts.into_iter().map(|count| (count.queue, count.jobs)).collect()
    }

    fn jobs(queues: &[(&str, u64)]) -> Vec<(String, u64)> {
        queues.iter().map(|(queue, jobs)| ((*queue).to_owned(), *jobs)).collect()
    }

    #[tokio::test]
    async fn a_round_removes_more_than_one_call_does() {
        let mut trimming = trimming_of(&[("a", 2350), ("b", 120), ("c", 99)]).await;
        let left = round(&mut trimming, Duration::from_secs(3600)).await;
        assert_eq!(left, jobs(&[("a", 100), ("b", 100), ("c", 99)]));
        assert!(trimming.first.is_none());
    }

    #[tokio::test]
    async fn a_round_without_time_goes_on_where_the_one_before_ended() {
        let mut trimming = trimming_of(&[("a", 2350), ("b", 120), ("c", 101)]).await;
        for left in [
            [("a", 1350), ("b", 120), ("c", 101)],
            [("a", 1350), ("b", 100), ("c", 101)],
            [("a", 1350), ("b", 100), ("c", 100)],
            [("a", 350), ("b", 100), ("c", 100)],
            [("a", 100), ("b", 100), ("c", 100)],
        ] {
            assert_eq!(round(&mut trimming, Duration::ZERO).await, jobs(&left));
        }
    }
}
