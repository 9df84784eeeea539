//! What a node shows of all queues in its metrics, from numbers that are kept anyway.

use std::collections::{BTreeSet, HashSet};

use starling_jobs::{JobCount, JobState};
use starling_model::TenantName;

use crate::metrics::METRICS;
use crate::ready::ReadySince;
use crate::time::seconds;

/// How long a job has to be ready until its queue counts as one that nobody takes jobs from.
const NOBODY_AFTER_MS: i64 = 60_000;
/// The most queues that one look names in the log.
const NAMED_MAX: usize = 10;

/// All queues at one moment.
#[derive(Debug, Default, PartialEq)]
pub(super) struct AllQueues {
    /// The number of jobs in each state, in the order of [`JobState::ALL`].
    jobs: [u64; JobState::ALL.len()],
    internal: Waiting,
    outside: Waiting,
    /// Queues that nobody takes jobs from.
    without_worker: BTreeSet<(TenantName, String)>,
}

/// What waits in the queues of one sort.
#[derive(Debug, Default, PartialEq)]
struct Waiting {
    oldest_ms: i64,
    without_worker: u32,
}

impl AllQueues {
    /// Adds up what is known. A queue that somebody has paused waits for nobody. `serves`: whether nodes do the jobs of a queue and tenant
    /// themselves.
    pub fn new(
        counts: &[JobCount],
        ready: &[ReadySince],
        pauses: &[(TenantName, String)],
        serves: impl Fn(&str, &TenantName) -> bool,
        now_ms: i64,
    ) -> Self {
        let mut all = Self::default();
        let mut busy: HashSet<(&TenantName, &str)> = HashSet::new();
        for count in counts {
            all.jobs[count.state as usize] += count.jobs;
            if count.state == JobState::Running && count.jobs > 0 {
                busy.insert((&count.tenant, &count.queue));
            }
        }
        let pauses: HashSet<(&TenantName, &str)> =
            pauses.iter().map(|(tenant, queue)| (tenant, queue.as_str())).collect();
        for ReadySince { tenant, queue, since_ms } in ready {
            if pauses.contains(&(tenant, queue)) {
                continue;
            }
            let waiting = if serves(queue, tenant) { &mut all.internal } else { &mut all.outside };
            let waited_ms = now_ms.saturating_sub(*since_ms);
            waiting.oldest_ms = waiting.oldest_ms.max(waited_ms);
            if waited_ms >= NOBODY_AFTER_MS && !busy.contains(&(tenant, queue)) {
                waiting.without_worker += 1;
                all.without_worker.insert((tenant.clone(), queue.clone()));
            }
        }
        all
    }

    /// Shows this in the metrics, and logs the queues that nobody takes jobs from and that are not in `before`.
    pub fn show(&self, before: &Self) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
        for state in JobState::ALL {
            METRICS.jobs(state).set(self.jobs[state as usize] as f64);
        }
        METRICS.internal.oldest_ready_seconds.set(seconds(self.internal.oldest_ms));
        METRICS.internal.without_worker.set(self.internal.without_worker);
        METRICS.outside.oldest_ready_seconds.set(seconds(self.outside.oldest_ms));
        METRICS.outside.without_worker.set(self.outside.without_worker);
        for (tenant, queue) in self.without_worker.difference(&before.without_worker).take(NAMED_MAX) {
            tracing::warn!(tenant = &**tenant, queue, "jobs of a queue wait, and nobody takes them");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use starling_jobs::is_internal;

    fn serves(queue: &str, _tenant: &TenantName) -> bool {
        is_internal(queue) || queue == "bridged"
    }

    fn count(queue: &str, state: JobState, jobs: u64) -> JobCount {
        JobCount { queue: queue.into(), tenant: "t".into(), state, jobs }
    }

    fn ready(queue: &str, since_ms: i64) -> ReadySince {
        ReadySince { tenant: "t".into(), queue: queue.into(), since_ms }
    }

    #[test]
    fn states_are_added_up_over_all_queues() {
        let counts =
            [count("a", JobState::Ready, 2), count("b", JobState::Ready, 3), count("b", JobState::Failed, 1)];
        let all = AllQueues::new(&counts, &[], &[], serves, 0);
        assert_eq!(all.jobs, [0, 5, 0, 0, 1, 0]);
        assert_eq!((all.internal, all.outside), Default::default());
    }

    #[test]
    fn a_queue_has_no_worker_when_a_job_has_waited_for_a_minute_and_none_is_running() {
        let counts = [count("busy", JobState::Running, 1)];
        let queues = [ready("new", 60_001), ready("left", 60_000), ready("busy", 0), ready("starling.x", 0)];
        let all = AllQueues::new(&counts, &queues, &[], serves, 120_000);
        assert_eq!(all.outside, Waiting { oldest_ms: 120_000, without_worker: 1 });
        assert_eq!(all.internal, Waiting { oldest_ms: 120_000, without_worker: 1 });
        let named: Vec<&str> = all.without_worker.iter().map(|(_, queue)| queue.as_str()).collect();
        assert_eq!(named, ["left", "starling.x"]);
    }

    #[test]
    fn a_queue_that_goes_elsewhere_counts_as_one_of_the_nodes() {
        let all = AllQueues::new(&[], &[ready("bridged", 0)], &[], serves, 120_000);
        assert_eq!(all.internal, Waiting { oldest_ms: 120_000, without_worker: 1 });
        assert_eq!(all.outside, Waiting::default());
    }

    #[test]
    fn a_paused_queue_waits_for_nobody_and_only_that_of_its_tenant_is_paused() {
        let pause = |tenant: &str| [(tenant.into(), "q".to_owned())];
        let paused = AllQueues::new(&[], &[ready("q", 0)], &pause("t"), serves, 120_000);
        assert_eq!(paused, AllQueues::default());
        let other = AllQueues::new(&[], &[ready("q", 0)], &pause("u"), serves, 120_000);
        assert_eq!(other.outside, Waiting { oldest_ms: 120_000, without_worker: 1 });
    }
}
