//! Which jobs are ready, as far as this node knows, and claims of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use starling_jobs::{BacklogClaim, BacklogLeft, Backlogs, Claimant, ClaimedJob, Error, Hold, JobStore, Mark};
use starling_model::TenantName;
use tokio::sync::{Mutex as AsyncMutex, Notify};

use crate::metrics::METRICS;
use crate::time::now_ms;

/// The most backlogs that one look asks about.
const LOOK_MAX: usize = 256;
/// The jobs that the first call of a claim asks for at most. Each further one asks for twice as many as there are.
const FIRST_CALL_MAX: u16 = 32;
/// The bytes of payloads from which a claim goes no further.
const BYTES_MAX: usize = 4 << 20;
/// The most calls in a row that give no job. Each may set jobs aside whose keys have no place.
const EMPTY_MAX: usize = 64;

/// A queue of a tenant that has ready jobs.
pub(crate) struct ReadySince {
    pub tenant: TenantName,
    pub queue: String,
    /// Since when its first job has been ready, Unix milliseconds.
    pub since_ms: i64,
}

/// What a claim has given.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// The jobs.
    pub jobs: Vec<ClaimedJob>,
    /// Why it ended early. The database may have given further jobs, of which nobody here knows.
    pub error: Option<Error>,
}

impl Claims {
    /// Returns how many jobs to ask for next, if `jobs` are wanted in all. Large payloads end a claim early, so that no answer takes much memory.
    fn wanted(&self, jobs: u16) -> u16 {
        let bytes: usize = self.jobs.iter().map(|job| job.payload.len()).sum();
        if bytes >= BYTES_MAX {
            return 0;
        }
        let count = u16::try_from(self.jobs.len()).unwrap_or(u16::MAX);
        jobs.saturating_sub(count).min(FIRST_CALL_MAX.max(count.saturating_mul(2)))
    }
}

/// The backlogs with jobs, as far as this node knows. Neither claims nor refreshes wait for one another.
pub(crate) struct Ready {
    store: Arc<dyn JobStore>,
    backlogs: Mutex<Backlogs>,
    /// Where the next refresh begins.
    mark: AsyncMutex<Mark>,
    /// Refreshes that were asked for.
    asked: AtomicU64,
    /// How many of them are served.
    served: AtomicU64,
    /// Notified when a claim has learned that limits hold jobs back, or when somebody waits for such jobs.
    held: Notify,
}

impl Ready {
    pub fn new(store: Arc<dyn JobStore>) -> Ready {
        Ready {
            store,
            backlogs: Mutex::default(),
            mark: AsyncMutex::default(),
            asked: AtomicU64::new(0),
            served: AtomicU64::new(0),
            held: Notify::new(),
        }
    }

    /// Learns which jobs have become ready before this call. Callers that wait for one another share one query.
    pub async fn refresh(&self) -> Result<(), Error> {
        let ticket = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let mut mark = self.mark.lock().await;
        if self.served.load(Ordering::Relaxed) >= ticket {
            return Ok(());
        }
        let asked = self.asked.load(Ordering::Relaxed);
        let mut arrivals = self.store.arrivals(*mark).await?;
        if arrivals.mark < *mark {
            // The database was restored to an earlier state, and no mark is valid any more.
            tracing::info!("the database has gone back; looking for ready jobs from the beginning");
            self.backlogs.lock().forget_all();
            arrivals = self.store.arrivals(Mark::default()).await?;
        }
        *mark = arrivals.mark;
        self.backlogs.lock().note(arrivals);
        self.served.store(asked, Ordering::Relaxed);
        Ok(())
    }

    /// Claims at most `jobs` jobs of a tenant's queue, from what is known to be ready.
    pub async fn claim_of(&self, claimant: &Claimant, tenant: &TenantName, queue: &str, jobs: u16) -> Claims {
        self.claim_any(claimant, &[queue], |_, of| of == tenant, jobs).await
    }

    /// Claims at most `jobs` jobs of these queues, from what is known to be ready. `wanted`: which queues and tenants among them.
    pub async fn claim_any(
        &self,
        claimant: &Claimant,
        queues: &[&str],
        wanted: impl Fn(&str, &TenantName) -> bool,
        jobs: u16,
    ) -> Claims {
        let plan =
            |backlogs: &Backlogs, jobs: u16| backlogs.plan(queues.iter().copied(), jobs, now_ms(), &wanted);
        self.claim(claimant, plan, jobs).await
    }

    async fn claim(
        &self,
        claimant: &Claimant,
        plan: impl Fn(&Backlogs, u16) -> Vec<BacklogClaim>,
        jobs: u16,
    ) -> Claims {
        let mut claims = Claims::default();
        let mut empty = 0;
        // A plan names the backlog of one priority for all jobs while that is the most urgent one, so there may have to be several.
        loop {
            let wanted = claims.wanted(jobs);
            let (plan, planned) = {
                let backlogs = self.backlogs.lock();
                (plan(&backlogs, wanted), backlogs.moment())
            };
            if plan.is_empty() {
                return claims;
            }
            let claimed = match self.store.claim(claimant, &plan).await {
                Ok(claimed) => claimed,
                Err(error) => return Claims { error: Some(error), ..claims },
            };
            self.backlogs.lock().claimed(&plan, &claimed, now_ms(), planned);
            let is_empty = claimed.jobs.is_empty();
            empty = if is_empty { empty + 1 } else { 0 };
            claims.jobs.extend(claimed.jobs);
            self.note_holds(&claimed.left);
            // A backlog that gave nothing and is neither forgotten nor resting is paused, or others hold its jobs.
            let goes_on = |left: &BacklogLeft| {
                left.ready_since_ms.is_none() || left.hold.is_some() || left.set_aside > 0
            };
            let went = plan.iter().zip(&claimed.left).any(|(_, left)| goes_on(left));
            if is_empty && (!went || empty >= EMPTY_MAX) {
                return claims;
            }
        }
    }

    /// Whether a queue is known to have jobs that may begin.
    pub fn has(&self, tenant: &TenantName, queue: &str) -> bool {
        self.backlogs.lock().has(queue, tenant, now_ms())
    }

    /// Whether any of these queues is known to have jobs that may begin. `wanted`: which queues and tenants among them.
    pub fn has_any(&self, queues: &[&str], wanted: impl Fn(&str, &TenantName) -> bool) -> bool {
        let (backlogs, now_ms) = (self.backlogs.lock(), now_ms());
        queues.iter().any(|queue| backlogs.has_of(queue, now_ms, |tenant| wanted(queue, tenant)))
    }

    /// Records that a job of a queue has ended, so that another one may begin.
    pub fn note_ended(&self, queue: &str) {
        self.backlogs.lock().wake(queue);
    }

    /// Records that jobs may have ended at other nodes.
    pub fn note_ended_elsewhere(&self) {
        self.backlogs.lock().wake_soon();
    }

    /// Returns when a claim has learned that limits hold jobs back, or when somebody waits for such jobs.
    pub async fn held(&self) {
        self.held.notified().await;
    }

    /// Lets [`Self::held`] return if limits hold the jobs of a queue back: somebody waits for them now.
    pub fn note_waiting(&self, tenant: &TenantName, queue: &str) {
        if self.backlogs.lock().rests(queue, tenant, now_ms()) {
            self.held.notify_one();
        }
    }

    /// Counts the backlogs that limits hold back.
    fn note_holds(&self, left: &[BacklogLeft]) {
        for hold in left.iter().filter_map(|left| left.hold) {
            match hold {
                Hold::Full => METRICS.held_full.increment(1),
                Hold::For(_) => METRICS.held_rate.increment(1),
            }
            self.held.notify_one();
        }
    }

    /// Returns the time until the next job may begin that limits hold back now, if that is known.
    pub fn next_waking(&self) -> Option<Duration> {
        let now_ms = now_ms();
        let next_ms = self.backlogs.lock().next_waking(now_ms)?;
        Some(Duration::from_millis(u64::try_from(next_ms.saturating_sub(now_ms)).unwrap_or(0)))
    }

    /// Asks which of the known backlogs of a tenant (`None`: of all tenants) are empty by now, and forgets those. If there are many, it asks
    /// about those that have waited longest. Returns the queues that have jobs.
    pub async fn look(&self, tenant: Option<&TenantName>) -> Result<Vec<ReadySince>, Error> {
        let wanted = |_: &str, of: &TenantName| tenant.is_none_or(|tenant| of == tenant);
        let (look, planned) = {
            let backlogs = self.backlogs.lock();
            (backlogs.look(LOOK_MAX, wanted), backlogs.moment())
        };
        if !look.is_empty() {
            let nobody = Claimant {
                worker: starling_jobs::WorkerId::new(),
                name: String::new(),
                lease: Some(Duration::ZERO),
            };
            let looked = self.store.claim(&nobody, &look).await?;
            self.backlogs.lock().claimed(&look, &looked, now_ms(), planned);
        }
        let backlogs = self.backlogs.lock();
        let since = backlogs.ready_since().filter(|(_, of, _)| tenant.is_none_or(|tenant| *of == tenant));
        let ready = since.map(|(queue, tenant, since_ms)| ReadySince {
            tenant: tenant.clone(),
            queue: queue.to_owned(),
            since_ms,
        });
        Ok(ready.collect())
    }
}
