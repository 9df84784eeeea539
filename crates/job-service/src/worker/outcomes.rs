//! Outcomes of attempts on their way into the database.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use starling_jobs::{Ending, Error, JobState, JobStore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::handlers::Crew;
use super::running::Ended;

/// How long to wait after the database could not take outcomes.
const PAUSE: Duration = Duration::from_millis(250);

/// Outcomes that the database does not have yet. One call writes all that wait, while the worker goes on; what ends meanwhile is written by the next one.
pub(super) struct Outcomes {
    store: Arc<dyn JobStore>,
    waiting: Vec<Ended>,
    /// The call under way, if there is one. It is dropped with this.
    call: JoinSet<Answer>,
    /// The outcomes that it writes.
    under_way: Vec<Ended>,
    /// When to try again, after the database did not respond.
    again_at: Option<Instant>,
    all_written: bool,
}

type Answer = Result<Vec<Option<JobState>>, Error>;

/// An outcome that the database has taken: the state that the job has now; `None` if the attempt was over already.
pub(super) type Written = (Ended, Option<JobState>);

impl Outcomes {
    pub fn new(store: Arc<dyn JobStore>) -> Self {
        Self {
            store,
            waiting: Vec::new(),
            call: JoinSet::new(),
            under_way: Vec::new(),
            again_at: None,
            all_written: true,
        }
    }

    /// Adds an outcome.
    pub fn add(&mut self, ended: Ended) {
        self.waiting.push(ended);
    }

    /// Whether all are written.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_empty()
    }

    /// Returns the number of outcomes of a crew.
    pub fn of(&self, crew: Crew) -> usize {
        self.waiting.iter().chain(&self.under_way).filter(|ended| ended.crew == crew).count()
    }

    /// Whether the database has responded last time.
    pub fn respond(&self) -> bool {
        self.again_at.is_none()
    }

    /// Whether the database has rejected none for good.
    pub fn all_written(&self) -> bool {
        self.all_written
    }

    /// Writes what waits, unless a call is under way or has just failed.
    pub fn write(&mut self) {
        let pauses = self.again_at.is_some_and(|at| Instant::now() < at);
        if self.waiting.is_empty() || !self.under_way.is_empty() || pauses {
            return;
        }
        self.under_way.append(&mut self.waiting);
        let endings: Vec<Ending> = self.under_way.iter().map(|ended| ended.ending.clone()).collect();
        let store = self.store.clone();
        self.call.spawn(async move { store.finish(&endings).await });
    }

    /// Waits for the answer to the call under way, or until a pause is over. Returns what was written. Waits for ever if nothing is to be written.
    pub async fn next(&mut self) -> Vec<Written> {
        match (self.call.join_next().await, self.again_at) {
            (Some(joined), _) => self.take(joined),
            (None, Some(at)) => {
                sleep_until(at).await;
                Vec::new()
            }
            (None, None) => std::future::pending().await,
        }
    }

    /// Returns what a call has written that has ended already.
    pub fn try_next(&mut self) -> Vec<Written> {
        self.call.try_join_next().map_or_else(Vec::new, |joined| self.take(joined))
    }

    fn take(&mut self, joined: Result<Answer, JoinError>) -> Vec<Written> {
        self.again_at = None;
        let answer = joined.unwrap_or_else(|error| match error.try_into_panic() {
            // It ends the worker, as if it had happened in its own code.
            Ok(panic) => resume_unwind(panic),
            Err(_) => Err(Error::Unavailable("the node is stopping".into())),
        });
        match answer {
            Ok(states) => self.under_way.drain(..).zip(states).collect(),
            Err(error) if error.is_transient() => {
                tracing::debug!(%error, "job outcomes could not be written; trying again");
                self.again_at = Some(Instant::now() + PAUSE);
                self.waiting.splice(..0, self.under_way.drain(..));
                Vec::new()
            }
            Err(error) => {
                // Their jobs count as running until this worker ends without unregistering.
                tracing::error!(%error, jobs = self.under_way.len(), "the database rejected job outcomes");
                self.under_way.clear();
                self.all_written = false;
                Vec::new()
            }
        }
    }
}
