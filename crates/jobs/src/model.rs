//! Jobs, claims and endings, as plain data.

use std::fmt;
use std::time::Duration;

use starling_model::{NAME_RULE, TenantName, is_name};
use uuid::Uuid;

use crate::{Backoff, Hold, Mark};

/// The largest payload and the largest result of a job, bytes.
pub const PAYLOAD_BYTES_MAX: usize = 256 << 10;
/// The longest error that is kept of an attempt, bytes. The rest is cut off.
pub const ERROR_BYTES_MAX: usize = 4 << 10;
/// The most attempts that a job may have.
pub const ATTEMPTS_MAX: u16 = 1000;
/// The most attempts of a job that are shown, the newest.
pub const ATTEMPTS_SHOWN_MAX: u16 = 100;
/// The most attempts of a job that are kept, the newest. Those that are handed back do not count, so there may be more than
/// [`ATTEMPTS_MAX`]. PostgreSQL's function that ends attempts has the same number.
pub(crate) const ATTEMPTS_KEPT_MAX: i32 = 1000;
/// What the names of queues begin with whose jobs nodes do themselves.
pub const INTERNAL_QUEUES: &str = "starling.";

/// Whether nodes do the jobs of this queue themselves. Nobody outside adds or takes jobs there.
#[must_use]
pub fn is_internal(queue: &str) -> bool {
    queue.starts_with(INTERNAL_QUEUES)
}

/// The longest unique key, bytes.
pub const KEY_BYTES_MAX: usize = 200;

/// The id of a job. Ids that were made later are greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(Uuid);

impl JobId {
    /// Makes the id of a new job.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// Reads an id as [`fmt::Display`] writes it. `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::parse_str(text).ok().map(Self)
    }

    pub(crate) const fn from_uuid(id: Uuid) -> Self {
        Self(id)
    }

    pub(crate) const fn uuid(self) -> Uuid {
        self.0
    }

    /// The id that is greater than every other.
    pub(crate) const fn last() -> Self {
        Self(Uuid::max())
    }

    pub(crate) const fn from_bytes(id: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(id))
    }

    pub(crate) const fn bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

impl Default for JobId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of a worker, from its start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkerId(Uuid);

impl WorkerId {
    /// Makes the id of a worker that starts.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    pub(crate) const fn from_uuid(id: Uuid) -> Self {
        Self(id)
    }

    pub(crate) const fn from_bytes(id: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(id))
    }

    pub(crate) const fn uuid(self) -> Uuid {
        self.0
    }

    pub(crate) const fn bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

impl Default for WorkerId {
    fn default() -> Self {
        Self::new()
    }
}

/// What a job waits for, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobState {
    /// It waits for a time.
    Scheduled,
    /// It waits for a worker.
    Ready,
    /// A worker has it.
    Running,
    /// It succeeded.
    Done,
    /// All its attempts failed.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
}

impl JobState {
    /// All states. Each one's place here is its number in the database.
    pub const ALL: [Self; 6] =
        [Self::Scheduled, Self::Ready, Self::Running, Self::Done, Self::Failed, Self::Cancelled];

    /// Returns the name that the API uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Returns the state of a name; `None` if there is none.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether the job has ended.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }

    pub(crate) const fn number(self) -> i16 {
        self as i16
    }

    pub(crate) fn of_number(number: i16) -> Option<Self> {
        usize::try_from(number).ok().and_then(|place| Self::ALL.get(place).copied())
    }
}

/// How long a unique key belongs to its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyHeld {
    /// Until a worker claims the job.
    UntilClaimed,
    /// Until the job has ended.
    UntilEnded,
    /// Until nothing is kept of the job any more.
    UntilTrimmed,
}

impl KeyHeld {
    pub(crate) const fn number(self) -> i16 {
        self as i16
    }
}

/// A key that only one job of a tenant and queue can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UniqueKey {
    /// The key, 1 to [`KEY_BYTES_MAX`] bytes.
    pub key: String,
    /// How long the job holds it.
    pub held: KeyHeld,
}

/// When a job may run, by the database's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunAt {
    /// At once.
    #[default]
    Now,
    /// So long after it was added.
    After(Duration),
    /// At this moment, Unix milliseconds.
    At(i64),
}

/// A job to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJob {
    /// Its id. A job that is added again under the same id is not added twice.
    pub id: JobId,
    /// The tenant that it belongs to.
    pub tenant: TenantName,
    /// The queue, a name.
    pub queue: String,
    /// What is to be done, a name. The worker decides by it.
    pub kind: String,
    /// The details for the worker, as JSON of at most [`PAYLOAD_BYTES_MAX`].
    pub payload: String,
    /// Jobs of a higher priority are claimed earlier. See [`crate::Backlogs`] for how priorities age.
    pub priority: i16,
    /// When it may run.
    pub run_at: RunAt,
    /// Maximum number of attempts, 1 to [`ATTEMPTS_MAX`].
    pub attempts_max: u16,
    /// The delay between its attempts.
    pub backoff: Backoff,
    /// A key that prevents a second job.
    pub unique: Option<UniqueKey>,
    /// Whose work it is, such as a customer's account: limits may hold for the jobs with the same key ([`crate::QueueLimits::per_key`]). 1
    /// to [`KEY_BYTES_MAX`] bytes.
    pub concurrency_key: Option<String>,
}

/// Why a job can't be added. The caller is at fault, and another try won't help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidJob {
    /// The queue or the kind is not a name.
    #[error("{0} must have {NAME_RULE}")]
    Name(&'static str),
    /// The payload is too large.
    #[error("the payload has {0} bytes, but at most {PAYLOAD_BYTES_MAX} are allowed")]
    PayloadTooLarge(usize),
    /// The payload is not JSON that the databases can keep.
    #[error("the payload is not JSON: {0}")]
    Payload(String),
    /// The number of attempts is out of range.
    #[error("attempts_max must be 1 to {ATTEMPTS_MAX}")]
    Attempts,
    /// The delay is out of range.
    #[error("the back-off must be at most 24 days")]
    Backoff,
    /// The unique key is out of range.
    #[error("the unique key must have 1 to {KEY_BYTES_MAX} bytes, and no zero bytes")]
    Key,
    /// The concurrency key is out of range.
    #[error("the concurrency key must have 1 to {KEY_BYTES_MAX} bytes, and no zero bytes")]
    ConcurrencyKey,
}

impl NewJob {
    /// Makes a job with default settings: priority 0, at once, 3 attempts, no unique key.
    #[must_use]
    pub fn new(tenant: TenantName, queue: &str, kind: &str, payload: String) -> Self {
        Self {
            id: JobId::new(),
            tenant,
            queue: queue.to_owned(),
            kind: kind.to_owned(),
            payload,
            priority: 0,
            run_at: RunAt::Now,
            attempts_max: 3,
            backoff: Backoff::default(),
            unique: None,
            concurrency_key: None,
        }
    }

    /// Checks everything that comes from outside.
    ///
    /// # Errors
    /// [`InvalidJob`] for the first fault that is found.
    pub fn check(&self) -> Result<(), InvalidJob> {
        for (what, name) in [("queue", &self.queue), ("kind", &self.kind)] {
            if !is_name(name) {
                return Err(InvalidJob::Name(what));
            }
        }
        if self.payload.len() > PAYLOAD_BYTES_MAX {
            return Err(InvalidJob::PayloadTooLarge(self.payload.len()));
        }
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&self.payload) {
            return Err(InvalidJob::Payload(error.to_string()));
        }
        if !(1..=ATTEMPTS_MAX).contains(&self.attempts_max) {
            return Err(InvalidJob::Attempts);
        }
        if [self.backoff.first, self.backoff.max]
            .iter()
            .any(|delay| i32::try_from(delay.as_millis()).is_err())
        {
            return Err(InvalidJob::Backoff);
        }
        let is_key = |key: &str| !key.is_empty() && key.len() <= KEY_BYTES_MAX && !key.contains('\0');
        if self.unique.as_ref().is_some_and(|unique| !is_key(&unique.key)) {
            return Err(InvalidJob::Key);
        }
        if self.concurrency_key.as_ref().is_some_and(|key| !is_key(key)) {
            return Err(InvalidJob::ConcurrencyKey);
        }
        Ok(())
    }
}

/// The answer to a job that was to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enqueued {
    /// The job that there is now. It is another one if that one holds the unique key.
    pub job: JobId,
    /// Whether it was added by this call.
    pub added: bool,
}

/// A backlog: jobs of one queue, tenant and priority, which are claimed in the order in which they became ready.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BacklogName {
    /// The queue.
    pub queue: String,
    /// The tenant.
    pub tenant: TenantName,
    /// The priority.
    pub priority: i16,
}

/// A backlog with jobs that have become ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The backlog.
    pub backlog: BacklogName,
    /// Where its first job is.
    pub mark: Mark,
    /// Since when that job has been ready, Unix milliseconds by the database's clock.
    pub ready_since_ms: i64,
}

/// Backlogs with jobs that have become ready since a mark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// One entry for each backlog.
    pub backlogs: Vec<Arrival>,
    /// Where the next call begins.
    pub mark: Mark,
}

/// How many jobs to claim from a backlog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BacklogClaim {
    /// The backlog.
    pub backlog: BacklogName,
    /// Where to begin.
    pub mark: Mark,
    /// The most jobs.
    pub limit: u16,
}

/// Who claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// The worker. Without a lease it must be listed, and keeps the jobs until it ends them or is taken for dead.
    pub worker: WorkerId,
    /// Its name, for people.
    pub name: String,
    /// How long it has the jobs, unless it extends that.
    pub lease: Option<Duration>,
}

/// A job that a worker has claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedJob {
    /// The job.
    pub id: JobId,
    /// The claim's number, which fences it.
    pub generation: i32,
    /// The backlog that it came from.
    pub backlog: BacklogName,
    /// See [`NewJob::kind`].
    pub kind: String,
    /// See [`NewJob::payload`].
    pub payload: String,
    /// The number of this attempt, from 1.
    pub attempt: u16,
    /// See [`NewJob::attempts_max`].
    pub attempts_max: u16,
    /// See [`NewJob::backoff`].
    pub backoff: Backoff,
    /// When it became ready, Unix milliseconds by the database's clock.
    pub ready_at_ms: i64,
    /// When the lease ends, if there is one, Unix milliseconds by the database's clock.
    pub lease_until_ms: Option<i64>,
}

impl ClaimedJob {
    /// Returns when to try again after this attempt failed; `None` if it was the last one. See [`Backoff::delay`] for `chance`.
    #[must_use]
    pub fn retry_in(&self, chance: f64) -> Option<Duration> {
        (self.attempt < self.attempts_max).then(|| self.backoff.delay(self.attempt, chance))
    }
}

/// The state of a backlog after a claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BacklogLeft {
    /// Where the next claim begins.
    pub mark: Mark,
    /// Since when the first job that is left has been ready, Unix milliseconds by the database's clock. `None` if there was no job left.
    pub ready_since_ms: Option<i64>,
    /// How many jobs this claim has set aside, because their keys have no place.
    pub set_aside: u32,
    /// Why no more jobs were given, if limits are the reason.
    pub hold: Option<Hold>,
}

/// The answer to a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// The jobs, backlog by backlog.
    pub jobs: Vec<ClaimedJob>,
    /// What is left of each backlog, in the order of the claim. Empty if the worker was taken for dead: then it has lost its jobs.
    pub left: Vec<BacklogLeft>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The job is done, with this result: JSON of at most [`PAYLOAD_BYTES_MAX`].
    Done(Option<String>),
    /// It failed.
    Failed {
        /// Why, for people.
        error: String,
        /// When to try again; `None` for never.
        retry_in: Option<Duration>,
    },
    /// The worker hands it back, because it ends. The attempt does not count.
    HandedBack,
    /// The worker has stopped, because the job was cancelled.
    Cancelled,
}

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The job.
    pub job: JobId,
    /// See [`ClaimedJob::generation`].
    pub generation: i32,
    /// How it ended.
    pub outcome: Outcome,
}

/// The answer to a worker's beat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beat {
    /// The worker is alive. These of its jobs shall stop, each with its generation.
    Alive(Vec<(JobId, i32)>),
    /// The worker was taken for dead, and others may have its jobs. It must stop them all and start again under another id.
    Buried,
}

/// What a burial found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Burial {
    /// Dead workers.
    pub workers: u64,
    /// Attempts that were lost.
    pub attempts: u64,
}

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its number; that of an attempt that was handed back is given again.
    pub number: u16,
    /// The claim that it began with.
    pub generation: i32,
    /// The worker's name.
    pub worker: String,
    /// When it began, Unix milliseconds.
    pub started_at_ms: i64,
    /// When it ended, Unix milliseconds.
    pub ended_at_ms: i64,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// Why it failed.
    pub error: Option<String>,
}

/// How an attempt ended, as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// It succeeded.
    Done,
    /// It failed.
    Failed,
    /// Its worker died, or its lease was over.
    Lost,
    /// Its worker handed it back.
    HandedBack,
    /// It was stopped, because the job was cancelled.
    Cancelled,
}

impl AttemptOutcome {
    /// Returns the name that the API uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::HandedBack => "handed_back",
            Self::Cancelled => "cancelled",
        }
    }

    const ALL: [Self; 5] = [Self::Done, Self::Failed, Self::Lost, Self::HandedBack, Self::Cancelled];

    pub(crate) const fn number(self) -> i16 {
        self as i16
    }

    pub(crate) fn of_number(number: i16) -> Option<Self> {
        usize::try_from(number).ok().and_then(|place| Self::ALL.get(place).copied())
    }
}

/// An attempt that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningAttempt {
    /// Its number.
    pub number: u16,
    /// The claim that it began with.
    pub generation: i32,
    /// The worker's name.
    pub worker: String,
    /// When it began, Unix milliseconds.
    pub started_at_ms: i64,
}

/// Where a job stands: what must be known to act on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobStanding {
    /// Where it waits or waited.
    pub backlog: BacklogName,
    /// Its state.
    pub state: JobState,
    /// See [`JobDetails::run_at_ms`].
    pub run_at_ms: i64,
    /// See [`NewJob::attempts_max`].
    pub attempts_max: u16,
    /// See [`NewJob::backoff`].
    pub backoff: Backoff,
    /// The attempt that goes on.
    pub running: Option<RunningAttempt>,
}

/// All that is kept of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobDetails {
    /// Its id.
    pub id: JobId,
    /// Where it waits or waited.
    pub backlog: BacklogName,
    /// See [`NewJob::kind`].
    pub kind: String,
    /// See [`NewJob::payload`].
    pub payload: String,
    /// Its state.
    pub state: JobState,
    /// When it was added, Unix milliseconds.
    pub created_at_ms: i64,
    /// When it may run if it is scheduled, otherwise when it might run first, Unix milliseconds.
    pub run_at_ms: i64,
    /// When it ended, Unix milliseconds.
    pub ended_at_ms: Option<i64>,
    /// See [`NewJob::attempts_max`].
    pub attempts_max: u16,
    /// See [`NewJob::backoff`].
    pub backoff: Backoff,
    /// See [`NewJob::concurrency_key`].
    pub concurrency_key: Option<String>,
    /// See [`Outcome::Done`].
    pub result: Option<String>,
    /// The newest attempts that have ended, in order: at most [`ATTEMPTS_SHOWN_MAX`].
    pub attempts: Vec<Attempt>,
    /// The attempt that goes on.
    pub running: Option<RunningAttempt>,
}

/// Which jobs to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFilter {
    /// The tenant.
    pub tenant: TenantName,
    /// The queues.
    pub queues: Vec<String>,
    /// The state; `None` for any.
    pub state: Option<JobState>,
    /// The kind; `None` for any.
    pub kind: Option<String>,
    /// Only jobs that are older than this one.
    pub before: Option<JobId>,
    /// The most jobs.
    pub limit: u16,
}

/// A job that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundJob {
    /// The job.
    pub id: JobId,
    /// The size of its payload and its result, bytes.
    pub bytes: u64,
}

/// The number of a tenant's jobs in one state of a queue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobCount {
    /// The queue.
    pub queue: String,
    /// The tenant.
    pub tenant: TenantName,
    /// The state.
    pub state: JobState,
    /// The number of jobs.
    pub jobs: u64,
}
