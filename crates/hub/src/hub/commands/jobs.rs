//! Requests about durable jobs: what the token allows, and what the answers mean.

use std::sync::Arc;
use std::time::Duration;

use starling_auth::Identity;
use starling_job_service::jobs::{
    Backoff, ClaimedJob, Enqueued, INTERNAL_QUEUES, InvalidJob, JobDetails, JobFilter, JobId, JobStanding,
    JobState, KeyHeld, NewJob, PAYLOAD_BYTES_MAX, RunAt, UniqueKey, is_internal,
};
use starling_job_service::{
    Action, Failed, JobPage, JobService, JobSummaryPage, JobsCounted, Lease, NotDone, QueueState, Reported,
    Take,
};
use starling_wire::protocol::{ErrorCode, Timestamp};

use crate::CommandError;
use crate::hub::Hub;

/// A job to be added.
#[derive(Clone, Debug)]
pub struct NewJobRequest {
    /// The queue.
    pub queue: String,
    /// What is to be done.
    pub kind: String,
    /// The details for the worker, as compact JSON.
    pub payload: String,
    /// When it may run.
    pub run_at: RunAt,
    /// Its priority; 9 is first.
    pub priority: i16,
    /// Maximum number of attempts.
    pub attempts: u16,
    /// The delay after the first failed attempt.
    pub backoff: Duration,
    /// The key that no other job of the queue has that has not ended.
    pub key: Option<String>,
    /// The key whose jobs have limits of their own.
    pub concurrency_key: Option<String>,
}

/// What a worker asks for.
#[derive(Clone, Debug)]
pub struct TakeRequest {
    /// The queue.
    pub queue: String,
    /// The most jobs.
    pub jobs_max: u16,
    /// How long to wait while there is no job.
    pub wait: Duration,
    /// How long the worker has the jobs.
    pub lease: Duration,
    /// The worker's name. `None`: that of the token's user.
    pub worker: Option<String>,
}

/// Jobs that a worker has now, each with its lease.
pub type JobsTaken = Vec<(ClaimedJob, Lease)>;

/// Which jobs are meant.
#[derive(Clone, Debug)]
pub struct JobsMatching {
    /// Their queue. `None`: all queues that the token covers.
    pub queue: Option<String>,
    /// Their state.
    pub state: Option<JobState>,
    /// Their kind.
    pub kind: Option<String>,
    /// Only jobs that are older than this one.
    pub before: Option<JobId>,
    /// The most jobs.
    pub limit: u16,
}

/// Queues with their names, in order.
pub type QueuesVisible = Vec<(String, QueueState)>;

impl Hub {
    /// Adds a job.
    pub async fn enqueue_job(
        &self,
        identity: &Identity,
        new: NewJobRequest,
    ) -> Result<Enqueued, CommandError> {
        let jobs = self.jobs_of(identity, &new.queue)?;
        let job = NewJob {
            priority: new.priority,
            run_at: new.run_at,
            attempts_max: new.attempts,
            backoff: Backoff { first: new.backoff, ..Backoff::default() },
            unique: new.key.map(|key| UniqueKey { key, held: KeyHeld::UntilEnded }),
            concurrency_key: new.concurrency_key,
            ..NewJob::new(identity.tenant.clone(), &new.queue, &new.kind, new.payload)
        };
        job.check().map_err(|invalid| match invalid {
            InvalidJob::PayloadTooLarge(_) => CommandError::too_large(invalid.to_string()),
            _ => CommandError::bad_request(invalid.to_string()),
        })?;
        Ok(jobs.enqueue(job).await?)
    }

    /// Gives jobs to a worker. Waits while there are none.
    pub async fn take_jobs(
        &self,
        identity: &Identity,
        request: TakeRequest,
    ) -> Result<JobsTaken, CommandError> {
        let jobs = self.jobs_of(identity, &request.queue)?;
        let TakeRequest { queue, jobs_max, wait, lease, worker } = request;
        let worker = worker.unwrap_or_else(|| identity.user.to_string());
        let tenant = identity.tenant.clone();
        let taken = jobs.take(Take { tenant, queue, jobs_max, wait, lease, worker }).await?;
        let with_lease = |job: ClaimedJob| {
            let lease = Lease { job: job.id, generation: job.generation };
            (job, lease)
        };
        Ok(taken.into_iter().map(with_lease).collect())
    }

    /// Makes a worker's lease longer. Returns when it ends.
    pub async fn extend_job(
        &self,
        identity: &Identity,
        job: JobId,
        lease: &str,
        by: Duration,
    ) -> Result<Timestamp, CommandError> {
        let (jobs, lease, _) = self.leased(identity, job, lease).await?;
        jobs.extend(lease, by).await?.map(Timestamp).ok_or_else(lease_is_over)
    }

    /// Records that a worker has done a job, with this result as compact JSON. Returns the job's state.
    pub async fn finish_job(
        &self,
        identity: &Identity,
        job: JobId,
        lease: &str,
        result: Option<String>,
    ) -> Result<JobState, CommandError> {
        if result.as_ref().is_some_and(|result| result.len() > PAYLOAD_BYTES_MAX) {
            return Err(CommandError::too_large(format!("`result` has at most {PAYLOAD_BYTES_MAX} bytes")));
        }
        let (jobs, lease, standing) = self.leased(identity, job, lease).await?;
        match jobs.done(lease, &standing, result).await? {
            Reported::Now(state) => Ok(state),
            Reported::TooLate => Err(lease_is_over()),
        }
    }

    /// Records that a worker's attempt has failed. Returns the job's state, and when it is tried again.
    pub async fn fail_job(
        &self,
        identity: &Identity,
        job: JobId,
        lease: &str,
        error: String,
        retry: bool,
    ) -> Result<(JobState, Option<Timestamp>), CommandError> {
        let (jobs, lease, standing) = self.leased(identity, job, lease).await?;
        let Failed { reported, run_at_ms } = jobs.fail(lease, &standing, error, retry).await?;
        match reported {
            Reported::Now(state) => Ok((state, run_at_ms.map(Timestamp))),
            Reported::TooLate => Err(lease_is_over()),
        }
    }

    /// Returns all that is kept of a job.
    pub async fn job(&self, identity: &Identity, id: JobId) -> Result<JobDetails, CommandError> {
        let jobs = self.job_service()?;
        let job = jobs.job(&identity.tenant, id).await?.ok_or_else(no_such_job)?;
        need_queue(identity, &job.backlog.queue)?;
        Ok(job)
    }

    /// Lists jobs, newest first.
    pub async fn list_jobs(
        &self,
        identity: &Identity,
        matching: JobsMatching,
    ) -> Result<JobPage, CommandError> {
        let jobs = self.job_service()?;
        Ok(jobs.list(&self.filter_of(identity, matching).await?).await?)
    }

    /// Lists jobs without their payloads, results and older attempts, newest first.
    pub async fn list_job_summaries(
        &self,
        identity: &Identity,
        matching: JobsMatching,
    ) -> Result<JobSummaryPage, CommandError> {
        let jobs = self.job_service()?;
        Ok(jobs.summaries(&self.filter_of(identity, matching).await?).await?)
    }

    /// Counts jobs.
    pub async fn count_jobs(
        &self,
        identity: &Identity,
        matching: JobsMatching,
    ) -> Result<JobsCounted, CommandError> {
        let jobs = self.job_service()?;
        Ok(jobs.count_matching(self.filter_of(identity, matching).await?).await?)
    }

    /// Returns the filter that finds what is meant, among the queues that the token covers.
    async fn filter_of(
        &self,
        identity: &Identity,
        matching: JobsMatching,
    ) -> Result<JobFilter, CommandError> {
        let jobs = self.job_service()?;
        let JobsMatching { queue, state, kind, before, limit } = matching;
        let queues = match queue {
            Some(queue) => {
                need_queue(identity, &queue)?;
                vec![queue]
            }
            None if !identity.scopes.may_use_jobs() => return Err(needs_scope("jobs:QUEUE")),
            None => {
                let mut names = jobs.queue_names(&identity.tenant).await?;
                names.retain(|name| !is_internal(name) && identity.scopes.may_use_jobs_of(name));
                names
            }
        };
        let tenant = identity.tenant.clone();
        Ok(JobFilter { tenant, queues, state, kind, before, limit })
    }

    /// Retries, cancels or discards a job. Returns the state that it has now; of a discarded one, the state that it had.
    pub async fn act_on_job(
        &self,
        identity: &Identity,
        action: Action,
        id: JobId,
    ) -> Result<JobState, CommandError> {
        let (jobs, standing) = self.standing_of(identity, id).await?;
        jobs.act(action, id, standing.state).await?.map_err(|not_done| match not_done {
            NotDone::NoSuchJob => no_such_job(),
            NotDone::KeyTaken => CommandError::conflict("another job has the key of this one by now"),
            NotDone::State(state) => CommandError::conflict(match action {
                Action::Retry => {
                    format!("only failed and cancelled jobs are retried; this one is {}", state.as_str())
                }
                Action::Cancel => format!("the job has ended: it is {}", state.as_str()),
                Action::Discard => "the job is running; cancel it first".to_owned(),
            }),
        })
    }

    /// Retries, cancels or discards all jobs of a queue in this state, and of this kind if one is given. Returns their number.
    pub async fn act_on_jobs(
        &self,
        identity: &Identity,
        action: Action,
        queue: String,
        state: JobState,
        kind: Option<String>,
    ) -> Result<u64, CommandError> {
        let jobs = self.jobs_of(identity, &queue)?.clone();
        if !action.is_for(state) {
            return Err(CommandError::bad_request(match action {
                Action::Retry => "`state` must be `failed` or `cancelled`: other jobs can't be retried",
                Action::Cancel => "`state` must be `scheduled`, `ready` or `running`: other jobs have ended",
                Action::Discard => "`state` can't be `running`: cancel these jobs first",
            }));
        }
        let (tenant, queues) = (identity.tenant.clone(), vec![queue]);
        let filter = JobFilter { tenant, queues, state: Some(state), kind, before: None, limit: 1 };
        // What was begun goes on if the caller goes: half of it would be no better than all of it.
        self.bulk_to_the_end(async move {
            jobs.act_on_all(action, filter).await.map_err(|error| {
                tracing::debug!(%error, "an action on many jobs broke off");
                CommandError::unavailable("the database is not available; some jobs may have been changed. Ask again: it is done once for each job")
            })
        })
        .await
    }

    /// Returns the queues that the token covers.
    pub async fn job_queues(&self, identity: &Identity) -> Result<QueuesVisible, CommandError> {
        let jobs = self.job_service()?;
        let scopes = &identity.scopes;
        if !scopes.may_operate() && !scopes.may_use_jobs() {
            return Err(needs_scope("operate or jobs:QUEUE"));
        }
        let queues = jobs.queues(&identity.tenant, scopes.may_operate()).await?.into_iter();
        let covered = |name: &str| !is_internal(name) && scopes.may_use_jobs_of(name);
        Ok(queues.filter(|(name, _)| scopes.may_operate() || covered(name)).collect())
    }

    /// Pauses a queue, or ends its pause.
    pub async fn pause_queue(
        &self,
        identity: &Identity,
        queue: &str,
        paused: bool,
    ) -> Result<(), CommandError> {
        let jobs = self.job_service()?;
        if !identity.scopes.may_operate() {
            need_queue(identity, queue)?;
        }
        Ok(jobs.pause(&identity.tenant, queue, paused).await?)
    }

    pub(super) fn job_service(&self) -> Result<&Arc<JobService>, CommandError> {
        self.jobs.as_ref().ok_or_else(|| CommandError::new(ErrorCode::NotFound, "this node offers no jobs"))
    }

    /// Returns the jobs, if the token covers this queue.
    pub(super) fn jobs_of(&self, identity: &Identity, queue: &str) -> Result<&Arc<JobService>, CommandError> {
        need_queue(identity, queue)?;
        self.job_service()
    }

    /// Returns the jobs, and where one of them stands, if the token covers its queue.
    async fn standing_of(
        &self,
        identity: &Identity,
        id: JobId,
    ) -> Result<(&Arc<JobService>, JobStanding), CommandError> {
        let jobs = self.job_service()?;
        let standing = jobs.standing(&identity.tenant, id).await?.ok_or_else(no_such_job)?;
        need_queue(identity, &standing.backlog.queue)?;
        Ok((jobs, standing))
    }

    /// Returns the jobs, and a lease of one of them with where that one stands, if the token covers its queue.
    async fn leased(
        &self,
        identity: &Identity,
        id: JobId,
        lease: &str,
    ) -> Result<(&Arc<JobService>, Lease, JobStanding), CommandError> {
        let lease = Lease::parse(id, lease);
        let jobs = self.job_service()?;
        if let Some(lease) = lease
            && let Some(standing) = jobs.claimed_here(&identity.tenant, lease)
        {
            need_queue(identity, &standing.backlog.queue)?;
            return Ok((jobs, lease, standing));
        }
        // Another node has given the job to the worker, or this one was started since.
        let (jobs, standing) = self.standing_of(identity, id).await?;
        Ok((jobs, lease.ok_or_else(lease_is_over)?, standing))
    }
}

/// Checks that the token covers a queue, whose jobs are not Starling's own.
pub(super) fn need_queue(identity: &Identity, queue: &str) -> Result<(), CommandError> {
    if is_internal(queue) {
        let why = format!(
            "the jobs of queues whose names begin with `{INTERNAL_QUEUES}` are Starling's own; use another name"
        );
        return Err(CommandError::forbidden(why));
    }
    if identity.scopes.may_use_jobs_of(queue) { Ok(()) } else { Err(needs_scope(&format!("jobs:{queue}"))) }
}

pub(super) fn needs_scope(scope: &str) -> CommandError {
    CommandError::forbidden(format!("this needs the scope {scope}"))
}

fn no_such_job() -> CommandError {
    CommandError::new(ErrorCode::NotFound, "no such job")
}

fn lease_is_over() -> CommandError {
    CommandError::conflict("the lease is over: the job has ended, or waits for another worker, or has one")
}
