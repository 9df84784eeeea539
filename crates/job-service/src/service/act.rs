//! What operators do with jobs: retry, cancel, discard, one or all that match.

use starling_jobs::{Error, JobFilter, JobId, JobState};

use super::JobService;

/// The most jobs that one step of an action on many changes.
const STEP: u16 = 200;

/// What an operator does with a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Makes a job that failed or was cancelled ready again, with all its attempts.
    Retry,
    /// Cancels a job that has not ended.
    Cancel,
    /// Removes a job that does not run.
    Discard,
}

/// Why nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotDone {
    /// There is no such job.
    NoSuchJob,
    /// The job's state does not allow it.
    State(JobState),
    /// Another job has its unique key by now.
    KeyTaken,
}

impl Action {
    /// Whether a job in this state can be acted on.
    #[must_use]
    pub const fn is_for(self, state: JobState) -> bool {
        match self {
            Action::Retry => matches!(state, JobState::Failed | JobState::Cancelled),
            Action::Cancel => !state.is_final(),
            Action::Discard => !matches!(state, JobState::Running),
        }
    }
}

impl JobService {
    /// Acts on a job. Returns the state that it has now, or had when it was discarded. `state`: the state that it had a moment ago.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn act(
        &self,
        action: Action,
        job: JobId,
        state: JobState,
    ) -> Result<Result<JobState, NotDone>, Error> {
        if !action.is_for(state) {
            return Ok(Err(NotDone::State(state)));
        }
        let now = match action {
            Action::Retry => {
                let retried = self.store.retry(&[job]).await?;
                self.notices.note_ready();
                (!retried.is_empty()).then_some(JobState::Ready)
            }
            // A job that has ended since is not cancelled.
            Action::Cancel => self
                .store
                .cancel(&[job])
                .await?
                .first()
                .map(|(_, state)| *state)
                .filter(|state| matches!(state, JobState::Cancelled | JobState::Running)),
            Action::Discard => (!self.store.discard(&[job]).await?.is_empty()).then_some(state),
        };
        if action == Action::Cancel {
            self.notices.note_ended_somewhere();
            self.notices.note_ready();
        }
        if let Some(now) = now {
            return Ok(Ok(now));
        }
        Ok(Err(match self.store.standing(job).await? {
            None => NotDone::NoSuchJob,
            Some(standing) if action == Action::Retry && action.is_for(standing.state) => NotDone::KeyTaken,
            Some(standing) => NotDone::State(standing.state),
        }))
    }

    /// Acts on all jobs that match, step by step, so that neither the database nor this node has to hold them all. Returns their number.
    ///
    /// # Errors
    /// Those of the store. Some jobs may have been acted on.
    pub async fn act_on_all(&self, action: Action, mut filter: JobFilter) -> Result<u64, Error> {
        filter.limit = STEP;
        let mut count = 0;
        loop {
            let found = self.store.find(&filter).await?;
            let jobs: Vec<JobId> = found.iter().map(|found| found.id).collect();
            let Some(last) = jobs.last() else { break };
            filter.before = Some(*last);
            count += match action {
                Action::Retry => self.store.retry(&jobs).await?.len(),
                Action::Cancel => {
                    let states = self.store.cancel(&jobs).await?;
                    states
                        .iter()
                        .filter(|(_, state)| matches!(state, JobState::Cancelled | JobState::Running))
                        .count()
                }
                Action::Discard => self.store.discard(&jobs).await?.len(),
            } as u64;
            if jobs.len() < usize::from(STEP) {
                break;
            }
        }
        if action != Action::Discard {
            self.notices.note_ended_somewhere();
            self.notices.note_ready();
        }
        Ok(count)
    }
}
