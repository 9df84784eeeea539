//! The worker of a node: it does the jobs of internal queues, and those of whole queues of users for which it has a handler.
//!
//! It is listed in the database under an id, and says each second that it is alive. If it is taken for dead nevertheless, because it was frozen or
//! cut off, it drops its jobs and goes on under another id: others may have them. Whatever ends late is fenced by its generation.

mod handler;
mod handlers;
mod lookout;
mod outcomes;
mod running;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use starling_jobs::{Beat, Claimant, JobState, JobStore, Outcome, WorkerId};
use starling_model::TenantName;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

pub use handler::{Handler, Report, Retry, Stop, StopReason};
use handlers::Crew;
pub use handlers::Handlers;
use outcomes::{Outcomes, Written};
use running::{Running, Stops};

use crate::metrics::METRICS;
use crate::notices::Notices;
use crate::ready::Ready;
use crate::time::{about, now_ms, seconds};

/// Time from one beat of a worker to the next.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// How long a worker waits after a call to the database has failed.
const PAUSE: Duration = Duration::from_millis(250);
/// A worker that held its lock for at least this long takes it again at once when it is lost.
const LOCK_LASTS: Duration = Duration::from_secs(1);
/// How often a worker that can't take a lock tries again: the pooler in between may have been removed.
const LOCK_AGAIN_EVERY: Duration = Duration::from_secs(60);
/// How long a queue rests on this node after it gave a job that the node has no handler for. A node of a later version has one.
const REST: Duration = Duration::from_secs(5);
/// How long to wait for the worker's end at a drain. Its jobs have been told to stop, and are handed back within two seconds.
const END_MAX: Duration = Duration::from_secs(5);

/// What a node's worker needs.
pub struct WorkerSetup {
    /// The node's name, which the attempts of jobs show.
    pub node: String,
    /// What it can do.
    pub handlers: Handlers,
}

/// The worker of a node.
pub(crate) struct NodeWorker {
    node: String,
    handlers: Handlers,
    /// Queues that rest, and until when. They are among those of the handlers.
    resting: Mutex<HashMap<String, Instant>>,
    /// Whether it works.
    working: watch::Sender<bool>,
    store: Arc<dyn JobStore>,
    ready: Arc<Ready>,
    notices: Arc<Notices>,
    /// See [`crate::JobSettings::at_once`].
    at_once: u16,
}

impl NodeWorker {
    /// Makes a worker; `None` if it can't do anything.
    pub fn new(
        setup: WorkerSetup,
        at_once: u16,
        store: Arc<dyn JobStore>,
        ready: Arc<Ready>,
        notices: Arc<Notices>,
    ) -> Option<Self> {
        let WorkerSetup { node, handlers } = setup;
        if handlers.is_empty() {
            return None;
        }
        // The series are there from the start.
        METRICS.running_here.set(0.0);
        METRICS.locked.set(0.0);
        let (resting, working) = (Mutex::default(), watch::channel(false).0);
        Some(Self { node, handlers, resting, working, store, ready, notices, at_once })
    }

    /// Whether there are jobs that it takes now.
    pub fn has_work(&self) -> bool {
        self.handlers.crews(0).any(|(crew, _)| {
            let queues: Vec<&str> = self.handlers.queues_of(crew).collect();
            self.ready.has_any(&queues, |queue, tenant| self.crew_wants(crew, queue, tenant))
        })
    }

    /// Whether it has a handler for the jobs of this queue and tenant.
    pub fn serves(&self, queue: &str, tenant: &TenantName) -> bool {
        self.handlers.serve(queue, tenant)
    }

    fn crew_wants(&self, crew: Crew, queue: &str, tenant: &TenantName) -> bool {
        let rests = || self.resting.lock().get(queue).is_some_and(|until| Instant::now() < *until);
        self.handlers.wants(crew, queue, tenant) && !rests()
    }

    /// Notes that a queue has a job that nothing here can do.
    fn rest(&self, queue: &str, kind: &str) {
        tracing::warn!(
            queue,
            kind,
            "this node can't do such jobs, and leaves them to nodes of a later version"
        );
        self.resting.lock().insert(queue.to_owned(), Instant::now() + REST);
    }

    /// Does jobs. Returns after a drain.
    pub async fn work(&self) {
        self.working.send_replace(true);
        while !self.notices.is_draining() {
            self.live().await;
        }
        self.working.send_replace(false);
    }

    /// Returns when it has handed back what it had, after a drain was begun, or could not in time.
    pub async fn work_ended(&self) {
        let mut working = self.working.subscribe();
        let ended = timeout(END_MAX, working.wait_for(|working| !working)).await;
        if ended.is_err() {
            tracing::warn!(
                "some jobs could not be handed back; others get them when this worker is taken for dead"
            );
        }
    }

    /// Works under one id, until the drain, or until this worker is taken for dead.
    async fn live(&self) {
        let id = WorkerId::new();
        if let Err(error) = self.store.register(id, &self.node).await {
            tracing::debug!(%error, "the worker could not be listed");
            sleep(about(PAUSE)).await;
            return;
        }
        let stops = Stops::default();
        let running = Running::new(stops.clone());
        tokio::select! {
            () = self.do_jobs(id, running) => {}
            () = self.beat(id, &stops) => {
                tracing::warn!("this worker was taken for dead; what it was doing is done by others, and it starts again");
            }
            never = self.keep_locked(id) => match never {},
            never = self.look_out(id) => match never {},
        }
        METRICS.locked.set(0.0);
    }

    /// Sends the worker's beats, and stops cancelled jobs. Returns when the worker was treated as dead.
    async fn beat(&self, id: WorkerId, stops: &Stops) {
        let mut tick = interval(BEAT_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            match self.store.beat(id).await {
                Ok(Beat::Alive(cancelled)) => {
                    cancelled.into_iter().for_each(|attempt| stops.stop(attempt, StopReason::Cancelled));
                }
                Ok(Beat::Buried) => return,
                Err(error) => tracing::debug!(%error, "a worker's beat failed"),
            }
        }
    }

    /// Keeps the lock by which others notice at once that the process has ended.
    async fn keep_locked(&self, id: WorkerId) -> Infallible {
        loop {
            let pause = match self.store.lock(id).await {
                Ok(Some(lock)) => {
                    METRICS.locked.set(1.0);
                    let since = Instant::now();
                    lock.lost().await;
                    METRICS.locked.set(0.0);
                    // Others may take this worker for dead soon, so it does not wait.
                    if since.elapsed() < LOCK_LASTS { PAUSE } else { Duration::ZERO }
                }
                Ok(None) => LOCK_AGAIN_EVERY,
                Err(error) => {
                    tracing::debug!(%error, "the worker could not be locked");
                    PAUSE
                }
            };
            sleep(pause).await;
        }
    }

    /// Claims and does jobs. Returns after a drain, when all are handed back.
    async fn do_jobs(&self, id: WorkerId, mut running: Running) {
        let mut outcomes = Outcomes::new(self.store.clone());
        let mut is_certain = true;
        loop {
            while let Some(ended) = running.try_next() {
                outcomes.add(ended);
            }
            self.count_all(&outcomes.try_next());
            outcomes.write();
            let is_idle = running.len() == 0 && outcomes.is_empty();
            if self.notices.is_draining() {
                running.stop_all(StopReason::Draining);
                if is_idle {
                    self.leave(id, outcomes.all_written() && is_certain).await;
                    return;
                }
            } else if !is_certain {
                // It finishes what it has, and goes on under another id without leaving: then all others are taken away from this one.
                if is_idle {
                    sleep(about(PAUSE)).await;
                    return;
                }
            } else if outcomes.respond() {
                for (crew, places) in self.handlers.crews(self.at_once) {
                    let places = usize::from(places);
                    // An attempt that has ended needs no place, unless the database is behind.
                    if outcomes.of(crew) < places {
                        let free = places.saturating_sub(running.busy(crew));
                        is_certain &= self.claim_for(crew, id, &mut running, free).await;
                    }
                }
            }
            tokio::select! {
                Some(ended) = running.next() => outcomes.add(ended),
                written = outcomes.next() => self.count_all(&written),
                () = self.notices.work_wanted() => {}
                () = sleep(PAUSE), if !is_certain => {}
            }
        }
    }

    /// Claims jobs for a crew's free places, and begins them. Returns false if the database may have given this worker jobs of which it does not know.
    async fn claim_for(&self, crew: Crew, id: WorkerId, running: &mut Running, free: usize) -> bool {
        let wanted = |queue: &str, tenant: &TenantName| self.crew_wants(crew, queue, tenant);
        let queues: Vec<&str> = self.handlers.queues_of(crew).collect();
        let free = u16::try_from(free).unwrap_or(u16::MAX);
        if free == 0 || !self.ready.has_any(&queues, wanted) {
            return true;
        }
        let claimant = Claimant { worker: id, name: self.node.clone(), lease: None };
        let claims = self.ready.claim_any(&claimant, &queues, wanted, free).await;
        let now_ms = now_ms();
        for job in claims.jobs {
            METRICS.wait_seconds.record(seconds(now_ms.saturating_sub(job.ready_at_ms)));
            let handler = self.handlers.of(crew, &job.backlog.queue, &job.kind);
            if handler.is_none() {
                self.rest(&job.backlog.queue, &job.kind);
            }
            running.begin(crew, handler, job);
        }
        match claims.error {
            Some(error) => {
                tracing::debug!(%error, "jobs could not be claimed");
                false
            }
            None => true,
        }
    }

    fn count_all(&self, written: &[Written]) {
        written.iter().for_each(|written| self.count(written));
    }

    /// Counts the end of an attempt.
    fn count(&self, (ended, state): &Written) {
        METRICS.run_seconds.record(ended.took.as_secs_f64());
        match (state, &ended.ending.outcome) {
            (None, _) => METRICS.late.increment(1),
            (Some(JobState::Cancelled), _) | (_, Outcome::Cancelled) => {}
            (_, Outcome::Done(_)) => METRICS.done.increment(1),
            (_, Outcome::Failed { retry_in: Some(_), .. }) => METRICS.retried.increment(1),
            (_, Outcome::Failed { retry_in: None, .. }) => METRICS.failed.increment(1),
            (_, Outcome::HandedBack) => METRICS.handed_back.increment(1),
        }
        if *state == Some(JobState::Ready) {
            self.notices.note_ready();
        }
        if state.is_some() {
            self.notices.note_ended(&ended.queue);
        }
    }

    /// Unregisters the worker, unless an outcome could not be written: then the worker is treated as dead, and its jobs are given to others.
    async fn leave(&self, id: WorkerId, all_written: bool) {
        if all_written && let Err(error) = self.store.leave(id).await {
            tracing::debug!(%error, "the worker could not be unregistered; it will be treated as dead");
        }
    }
}
