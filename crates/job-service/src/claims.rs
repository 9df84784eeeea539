//! The jobs that workers outside have from this node: what a report of one needs, without asking the database.

use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use starling_jobs::{ClaimedJob, JobStanding, JobState, RunningAttempt};
use starling_model::TenantName;

use crate::Lease;

/// The most claims that are kept. Reports of others cost a read.
const CLAIMS_MAX: u64 = 10_000;
/// How long a claim is kept that nobody reports.
const KEPT: Duration = Duration::from_secs(3600);

/// Claims by workers outside that asked this node. A job's tenant, queue and attempts don't change, so an entry is true as long as its lease;
/// whether that is over, only the database knows.
pub(crate) struct OutsideClaims(Cache<Lease, JobStanding>);

impl OutsideClaims {
    pub fn new() -> Self {
        let builder = Cache::builder().max_capacity(CLAIMS_MAX).time_to_live(KEPT);
        Self(builder.eviction_policy(EvictionPolicy::lru()).build())
    }

    /// Records a claim.
    pub fn note(&self, job: &ClaimedJob, now_ms: i64) {
        let standing = JobStanding {
            backlog: job.backlog.clone(),
            state: JobState::Running,
            run_at_ms: job.ready_at_ms,
            attempts_max: job.attempts_max,
            backoff: job.backoff,
            running: Some(RunningAttempt {
                number: job.attempt,
                generation: job.generation,
                worker: String::new(),
                started_at_ms: now_ms,
            }),
        };
        self.0.insert(Lease { job: job.id, generation: job.generation }, standing);
    }

    /// Returns where a tenant's job stands that was claimed here under this lease.
    pub fn get(&self, tenant: &TenantName, lease: Lease) -> Option<JobStanding> {
        self.0.get(&lease).filter(|standing| standing.backlog.tenant == *tenant)
    }

    /// Forgets a claim that has ended.
    pub fn forget(&self, lease: Lease) {
        self.0.invalidate(&lease);
    }
}
