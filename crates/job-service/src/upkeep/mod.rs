//! What a node does about jobs all the time: it looks for ready ones, tells the other nodes, and keeps the queues in order.

mod firing;
mod gauges;
mod since;
mod trimming;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use starling_jobs::{Error, JobStore, Mark, QueueLimits, is_internal};
use starling_model::TenantName;
use tokio::time::{Instant, sleep, sleep_until};

use self::gauges::AllQueues;
use self::since::Since;
use self::trimming::{ROUND_MAX, Trimming};
use crate::JobSettings;
use crate::known_queues::KnownQueues;
use crate::metrics::METRICS;
use crate::notices::Notices;
use crate::ready::Ready;
use crate::time::{about, now_ms};
use crate::vigil::Vigil;
use crate::waiters::Waiters;
use crate::worker::NodeWorker;

/// How often a node looks for ready jobs of which no notice told it, on average.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The least time between two notices to the other nodes. What becomes ready meanwhile is told by the next one.
const NOTICE_EVERY: Duration = Duration::from_millis(5);
/// How often scheduled jobs and leases are looked at, on average.
const CLOCK_EVERY: Duration = Duration::from_millis(500);
/// The most scheduled jobs that one call makes ready.
const PROMOTE_MAX: u16 = 1000;
/// The most leases that one call ends.
const EXPIRE_MAX: u16 = 1000;
/// The most silent workers that one call buries, each with all its jobs.
const BURY_MAX: u16 = 8;
/// The most calls in a row that do one of these things, while there is more to do: the others must not wait for long.
const STEPS_MAX: usize = 10;
/// How long a worker inside a node may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// How often numbers are added up, shown and trimmed, on average.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// What the upkeep needs.
pub(crate) struct UpkeepParts {
    pub store: Arc<dyn JobStore>,
    pub ready: Arc<Ready>,
    pub notices: Arc<Notices>,
    pub waiters: Arc<Waiters>,
    pub known_queues: Arc<KnownQueues>,
    pub worker: Option<Arc<NodeWorker>>,
    pub settings: JobSettings,
}

/// Where looks begin, Unix milliseconds.
#[derive(Debug, Default)]
struct Times {
    scheduled_ms: i64,
    leases_ms: i64,
}

/// The upkeep of jobs by a node. Every node does it, so that none is needed.
pub(crate) struct Upkeep {
    store: Arc<dyn JobStore>,
    ready: Arc<Ready>,
    notices: Arc<Notices>,
    waiters: Arc<Waiters>,
    known_queues: Arc<KnownQueues>,
    worker: Option<Arc<NodeWorker>>,
    settings: JobSettings,
}

impl Upkeep {
    pub fn new(parts: UpkeepParts) -> Self {
        let UpkeepParts { store, ready, notices, waiters, known_queues, worker, settings } = parts;
        Self { store, ready, notices, waiters, known_queues, worker, settings }
    }

    /// See [`crate::JobService::watch_forever`].
    pub async fn watch_forever(&self) {
        // Whatever else happens, a look is due each second: a notice of another node may be lost.
        let mut look_at = Instant::now();
        loop {
            tokio::select! {
                () = self.notices.refresh_wanted() => {
                    // A worker that begins to wait looks for itself first.
                    if !self.has_waiting() {
                        continue;
                    }
                }
                () = sleep_until(look_at) => {}
                // A job that a limit held back may begin.
                () = self.next_waking(), if self.has_waiting() => {}
                // The time may be another one now.
                () = self.ready.held() => continue,
            }
            look_at = Instant::now() + about(LOOK_EVERY);
            match self.ready.refresh().await {
                Ok(()) => {
                    self.waiters.wake(|(tenant, queue)| self.ready.has(tenant, queue));
                    if self.worker.as_ref().is_some_and(|worker| worker.has_work()) {
                        self.notices.note_work();
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "ready jobs could not be looked for");
                    sleep(about(LOOK_EVERY / 2)).await;
                }
            }
        }
    }

    /// Whether anybody here waits for jobs.
    fn has_waiting(&self) -> bool {
        !self.waiters.is_empty() || self.worker.is_some()
    }

    async fn next_waking(&self) {
        match self.ready.next_waking() {
            Some(time) => sleep(time.max(Duration::from_millis(1))).await,
            None => std::future::pending().await,
        }
    }

    /// See [`crate::JobService::tell_forever`].
    pub async fn tell_forever(&self, tell: impl Fn() + Send) {
        loop {
            self.notices.others_wait().await;
            tell();
            sleep(NOTICE_EVERY).await;
        }
    }

    /// See [`crate::JobService::keep_time_forever`].
    pub async fn keep_time_forever(&self) {
        let mut since: Since<Times> = Since::new(Instant::now());
        let mut vigil = Vigil::default();
        let mut has_more = false;
        loop {
            if !has_more {
                sleep(about(CLOCK_EVERY)).await;
            }
            since.renew(Instant::now());
            // A schedule that this program can't read must not keep it from the rest.
            has_more = match self.fire_schedules().await {
                Ok(has_more) => {
                    vigil.go_on(Instant::now());
                    has_more
                }
                Err(error) => {
                    tracing::debug!(%error, "schedules could not be fired");
                    false
                }
            };
            let kept = async {
                has_more |= self.promote(&mut since.times.scheduled_ms).await?;
                vigil.go_on(Instant::now());
                has_more |= self.expire_leases(&mut since.times.leases_ms, &mut vigil).await?;
                self.bury_silent(&mut vigil).await
            };
            if let Err(error) = kept.await {
                tracing::debug!(%error, "scheduled jobs and leases could not be looked at");
                // The database may have been restored to an earlier state.
                since = Since::new(Instant::now());
                (vigil, has_more) = (Vigil::default(), false);
            }
        }
    }

    /// Makes jobs ready. Returns whether there are more.
    async fn promote(&self, since_ms: &mut i64) -> Result<bool, Error> {
        for _ in 0..STEPS_MAX {
            let promoted;
            (promoted, *since_ms) = self.store.promote(*since_ms, PROMOTE_MAX).await?;
            if promoted > 0 {
                self.notices.note_ready();
            }
            if promoted < u64::from(PROMOTE_MAX) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes jobs away whose lease is over. Returns whether there are more.
    async fn expire_leases(&self, since_ms: &mut i64, vigil: &mut Vigil) -> Result<bool, Error> {
        for _ in 0..STEPS_MAX {
            let expired;
            (expired, *since_ms) = self.store.expire_leases(*since_ms, EXPIRE_MAX).await?;
            vigil.go_on(Instant::now());
            self.notices.note_lost(expired);
            if expired < u64::from(EXPIRE_MAX) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn bury_silent(&self, vigil: &mut Vigil) -> Result<(), Error> {
        // Workers whose beats the database could not take are not dead.
        while vigil.has_lasted(SILENCE_MAX) {
            let burial = self.store.bury_silent(SILENCE_MAX, BURY_MAX).await?;
            vigil.go_on(Instant::now());
            METRICS.silent.increment(burial.workers);
            self.notices.note_lost(burial.attempts);
            if burial.workers < u64::from(BURY_MAX) {
                break;
            }
        }
        Ok(())
    }

    /// See [`crate::JobService::keep_counts_forever`].
    pub async fn keep_counts_forever(&self) {
        let (mut mark, mut shown) = (Mark::default(), AllQueues::default());
        let mut trimming = Trimming::new(self.store.clone(), &self.settings);
        loop {
            sleep(about(COUNT_EVERY)).await;
            if let Err(error) = self.keep_counts(&mut mark, &mut shown, &mut trimming).await {
                tracing::debug!(%error, "the numbers of jobs could not be added up");
                mark = Mark::default();
                trimming.begin_anew();
            }
        }
    }

    /// Learns which queues have limits, and removes what limits do not need any more.
    async fn keep_limits(&self) -> Result<(), Error> {
        let limits: BTreeMap<String, QueueLimits> = self.store.limits().await?.into_iter().collect();
        let is_empty = limits.is_empty();
        self.notices.limits().replace(limits);
        if is_empty { Ok(()) } else { self.store.tidy_limits().await }
    }

    async fn keep_counts(
        &self,
        mark: &mut Mark,
        shown: &mut AllQueues,
        trimming: &mut Trimming,
    ) -> Result<(), Error> {
        *mark = self.store.fold_counts(*mark).await?;
        self.keep_limits().await?;
        let counts = self.store.counts(None).await?;
        self.known_queues.replace(&counts);
        let ready = self.ready.look(None).await?;
        let mut pauses = if ready.is_empty() { Vec::new() } else { self.store.pauses().await? };
        // What a rate holds back waits for nobody, either.
        let by_rate = ready.iter().filter(|ready| self.notices.limits().has_rate(&ready.queue));
        pauses.extend(by_rate.map(|ready| (ready.tenant.clone(), ready.queue.clone())));
        let serves = |queue: &str, tenant: &TenantName| {
            is_internal(queue) || self.worker.as_ref().is_some_and(|worker| worker.serves(queue, tenant))
        };
        let all = AllQueues::new(&counts, &ready, &pauses, serves, now_ms());
        all.show(shown);
        *shown = all;
        trimming.round(&counts, ROUND_MAX).await
    }
}
