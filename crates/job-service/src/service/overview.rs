//! What lists show: jobs without payloads, numbers of jobs, and how fast queues are worked off.

use std::collections::BTreeMap;
use std::time::Duration;

use starling_jobs::{DoneLately, Error, JobFilter, JobId, JobState, JobSummary};
use starling_model::TenantName;

use super::{JobService, QueueState};

/// The time whose jobs say how many are done per second.
const PACE_WINDOW: Duration = Duration::from_secs(60);
/// The most jobs of a queue that are read for that.
const PACE_JOBS: u16 = 100;
/// Minimum number of finished jobs from which a rate is computed.
const PACE_JOBS_LEAST: u32 = 20;
/// The most jobs that are counted one by one.
const COUNT_MAX: u16 = 10_000;

/// A page of jobs as lists show them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobSummaryPage {
    /// The jobs, newest first.
    pub jobs: Vec<JobSummary>,
    /// Where the next page begins.
    pub next: Option<JobId>,
}

/// A number of jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobsCounted {
    /// How many there are, or were counted.
    pub count: u64,
    /// Whether there are more than that.
    pub more: bool,
}

impl JobService {
    /// Returns a page of jobs without their payloads, results and older attempts.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn summaries(&self, filter: &JobFilter) -> Result<JobSummaryPage, Error> {
        let found = self.store.find(filter).await?;
        let ids: Vec<JobId> = found.iter().map(|job| job.id).collect();
        let next = ids.last().copied().filter(|_| ids.len() >= usize::from(filter.limit));
        Ok(JobSummaryPage { jobs: self.store.summaries(&ids).await?, next })
    }

    /// Counts jobs. Those of one kind are counted one by one, up to 10,000; the other numbers are kept.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn count_matching(&self, mut filter: JobFilter) -> Result<JobsCounted, Error> {
        if filter.kind.is_some() {
            filter.limit = COUNT_MAX + 1;
            let found = self.store.find(&filter).await?.len();
            let more = found > usize::from(COUNT_MAX);
            return Ok(JobsCounted { count: found.min(usize::from(COUNT_MAX)) as u64, more });
        }
        let counts = self.store.counts(Some(&filter.tenant)).await?.into_iter();
        let matches = counts.filter(|count| {
            filter.queues.contains(&count.queue) && filter.state.is_none_or(|state| state == count.state)
        });
        Ok(JobsCounted { count: matches.map(|count| count.jobs).sum(), more: false })
    }

    /// Adds to queues how many of their jobs are done per second.
    pub(super) async fn add_pace(
        &self,
        tenant: &TenantName,
        queues: &mut BTreeMap<String, QueueState>,
    ) -> Result<(), Error> {
        let has_done = queues.iter().filter(|(_, queue)| queue.jobs[JobState::Done as usize] > 0);
        let names: Vec<String> = has_done.map(|(name, _)| name.clone()).collect();
        if names.is_empty() {
            return Ok(());
        }
        for lately in self.store.done_lately(tenant, &names, PACE_WINDOW, PACE_JOBS).await? {
            if let Some(queue) = queues.get_mut(&lately.queue) {
                queue.done_per_second = per_second(&lately, self.kept_done);
            }
        }
        Ok(())
    }
}

/// Returns how many jobs are done per second, to three decimals. `kept`: how many jobs that are done are kept at least.
fn per_second(lately: &DoneLately, kept: u32) -> f64 {
    // Where fewer were found than are kept and read, none is missing: these are all of the window.
    let over = if lately.jobs < kept.min(u32::from(PACE_JOBS)) {
        PACE_WINDOW
    } else if lately.jobs < PACE_JOBS_LEAST {
        lately.oldest.max(Duration::from_secs(1))
    } else {
        lately.oldest.max(Duration::from_millis(1))
    };
    (f64::from(lately.jobs) / over.as_secs_f64() * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_minute_or_of_the_jobs_that_are_kept() {
        let rate = |jobs: u32, oldest_ms: u64, kept: u32| {
            let oldest = Duration::from_millis(oldest_ms);
            per_second(&DoneLately { queue: "q".into(), jobs, oldest }, kept)
        };
        for (jobs, oldest_ms, kept, expected) in [
            (30, 1_000, 100, 0.5), // all jobs of the minute
            (1, 59_000, 100, 0.017),
            (100, 200, 100, 500.0), // the newest of many
            (100, 0, 100, 100_000.0),
            (100, 20_000, 1_000, 5.0),
            (12, 6_000, 10, 2.0), // few are kept
            (1, 0, 1, 1.0),
            (3, 1_500, 0, 2.0),
        ] {
            let found = rate(jobs, oldest_ms, kept);
            assert!((found - expected).abs() < 1e-9, "{jobs} in {oldest_ms} ms, {kept} kept: {found}");
        }
    }
}
