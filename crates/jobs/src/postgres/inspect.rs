//! Reading jobs and their numbers.

use std::collections::HashMap;
use std::time::SystemTime;

use starling_database::postgres::{Pool, column, to_ms};
use starling_model::TenantName;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::claim::delay;
use super::{unknown_state, uuids};
use crate::{
    ATTEMPTS_SHOWN_MAX, Attempt, AttemptOutcome, BacklogName, Backoff, Error, FoundJob, JobCount, JobDetails,
    JobFilter, JobId, JobStanding, JobState, RunningAttempt,
};

const JOBS: &str = "
    SELECT j.id, j.queue, j.tenant, j.priority, j.kind, j.payload, s.state, j.created_at, coalesce(w.run_at, j.run_at), e.ended_at,
           j.attempts_max, j.backoff_first_ms, j.backoff_max_ms, e.result, r.attempt, r.generation, r.worker_name, r.started_at,
           j.concurrency_key
    FROM jobs j JOIN starling_jobs_states($1) s ON s.job = j.id
    LEFT JOIN job_scheduled w ON w.job = j.id LEFT JOIN job_running r ON r.job = j.id LEFT JOIN job_endings e ON e.job = j.id
    WHERE j.id = ANY ($1) ORDER BY j.id DESC";
const STANDING: &str = "
    SELECT j.queue, j.tenant, j.priority, s.state, coalesce(w.run_at, j.run_at), j.attempts_max, j.backoff_first_ms, j.backoff_max_ms,
           r.attempt, r.generation, r.worker_name, r.started_at
    FROM jobs j JOIN starling_jobs_states(ARRAY[$1]) s ON s.job = j.id
    LEFT JOIN job_scheduled w ON w.job = j.id LEFT JOIN job_running r ON r.job = j.id
    WHERE j.id = $1";
/// Of each job the newest.
const ATTEMPTS: &str = "
    SELECT n.job, n.attempt, n.generation, n.worker_name, n.started_at, n.ended_at, n.outcome, n.error
    FROM unnest($1::uuid[]) g (id) CROSS JOIN LATERAL (
        SELECT * FROM job_attempts a WHERE a.job = g.id ORDER BY a.generation DESC LIMIT $2
    ) n ORDER BY n.job, n.generation";
const COUNTS: &str = "
    SELECT queue, tenant, state, sum(jobs)::bigint FROM (
        SELECT queue, tenant, state, jobs FROM job_counts UNION ALL SELECT queue, tenant, state, jobs FROM job_count_deltas
    ) c WHERE $1::text IS NULL OR tenant = $1 COLLATE \"C\" GROUP BY 1, 2, 3 HAVING sum(jobs) > 0 ORDER BY 1, 2, 3";
const PAUSES: &str = "SELECT tenant, queue FROM job_pauses";
const PAUSED: &str = "SELECT queue FROM job_pauses WHERE tenant = $1 COLLATE \"C\" ORDER BY queue";

/// Makes the statement that finds jobs of each queue by itself, so that each search is a walk along an index.
macro_rules! of_each_queue {
    ($($search:tt)*) => {
        concat!(
            "SELECT f.id, f.bytes FROM unnest($2::text[]) q (queue) CROSS JOIN LATERAL (",
            $($search)*,
            " LIMIT $5) f ORDER BY f.id DESC LIMIT $5"
        )
    };
}

/// Searches all jobs of a queue. `state` chooses those of a state.
macro_rules! all {
    ($state:literal) => {
        concat!(
            "SELECT j.id, octet_length(j.payload)::bigint + coalesce(octet_length(e.result), 0) AS bytes
             FROM jobs j LEFT JOIN job_endings e ON e.job = j.id
             WHERE j.tenant = $1 COLLATE \"C\" AND j.queue = q.queue COLLATE \"C\" AND j.id < $3
               AND ($4::text IS NULL OR j.kind = $4 COLLATE \"C\")",
            $state,
            " ORDER BY j.id DESC"
        )
    };
}

/// Searches the jobs of a queue that have ended in a state: most others may wait.
macro_rules! ended {
    ($state:literal) => {
        concat!(
            "SELECT j.id, octet_length(j.payload)::bigint + coalesce(octet_length(e.result), 0) AS bytes
             FROM job_endings e JOIN jobs j ON j.id = e.job
             WHERE e.tenant = $1 COLLATE \"C\" AND e.queue = q.queue COLLATE \"C\" AND e.state = ",
            $state,
            " AND e.job < $3 AND ($4::text IS NULL OR j.kind = $4 COLLATE \"C\") ORDER BY e.job DESC"
        )
    };
}

/// Searches all running jobs, which are few.
macro_rules! running {
    () => {
        "SELECT j.id, octet_length(j.payload)::bigint AS bytes FROM job_running r JOIN jobs j ON j.id = r.job
         WHERE r.tenant = $1 COLLATE \"C\" AND r.queue = q.queue COLLATE \"C\" AND r.job < $3
           AND ($4::text IS NULL OR j.kind = $4 COLLATE \"C\") ORDER BY r.job DESC"
    };
}

const fn find_of(state: Option<JobState>) -> &'static str {
    match state {
        None => of_each_queue!(all!("")),
        Some(JobState::Scheduled) => {
            of_each_queue!(all!(" AND EXISTS (SELECT 1 FROM job_scheduled s WHERE s.job = j.id)"))
        }
        // A job is ready if it is nothing else.
        Some(JobState::Ready) => of_each_queue!(all!(
            " AND e.job IS NULL AND NOT EXISTS (SELECT 1 FROM job_running r WHERE r.job = j.id)
              AND NOT EXISTS (SELECT 1 FROM job_scheduled s WHERE s.job = j.id)"
        )),
        Some(JobState::Running) => of_each_queue!(running!()),
        Some(JobState::Done) => of_each_queue!(ended!("3")),
        Some(JobState::Failed) => of_each_queue!(ended!("4")),
        Some(JobState::Cancelled) => of_each_queue!(ended!("5")),
    }
}

pub(super) async fn find(database: &Pool, filter: &JobFilter) -> Result<Vec<FoundJob>, Error> {
    let before = filter.before.unwrap_or(JobId::last()).uuid();
    let parameters = &[
        (&&*filter.tenant as _, Type::TEXT),
        (&filter.queues as _, Type::TEXT_ARRAY),
        (&before as _, Type::UUID),
        (&filter.kind as _, Type::TEXT),
        (&i64::from(filter.limit) as _, Type::INT8),
    ];
    let rows = database.rows(find_of(filter.state), parameters).await?;
    let found = |row: &Row| {
        let bytes = u64::try_from(column::<i64>(row, 1)?).unwrap_or(0);
        Ok(FoundJob { id: JobId::from_uuid(column(row, 0)?), bytes })
    };
    rows.iter().map(found).collect()
}

pub(super) async fn jobs(database: &Pool, ids: &[JobId]) -> Result<Vec<JobDetails>, Error> {
    let ids = uuids(ids);
    let rows = database.rows(JOBS, &[(&ids, Type::UUID_ARRAY)]).await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut attempts: HashMap<JobId, Vec<Attempt>> = HashMap::new();
    let parameters = &[(&ids as _, Type::UUID_ARRAY), (&i64::from(ATTEMPTS_SHOWN_MAX) as _, Type::INT8)];
    for row in &database.rows(ATTEMPTS, parameters).await? {
        attempts.entry(JobId::from_uuid(column(row, 0)?)).or_default().push(attempt(row, 1)?);
    }
    rows.iter().map(|row| details(row, &mut attempts)).collect()
}

pub(super) async fn standing(database: &Pool, id: JobId) -> Result<Option<JobStanding>, Error> {
    let rows = database.rows(STANDING, &[(&id.uuid(), Type::UUID)]).await?;
    let standing = |row: &Row| {
        Ok(JobStanding {
            backlog: backlog(row, 0)?,
            state: state(row, 3)?,
            run_at_ms: to_ms(column::<SystemTime>(row, 4)?),
            attempts_max: small(row, 5)?,
            backoff: Backoff { first: delay(row, 6)?, max: delay(row, 7)? },
            running: running(row, 8)?,
        })
    };
    rows.first().map(standing).transpose()
}

/// Reads a backlog from three columns.
pub(super) fn backlog(row: &Row, first: usize) -> Result<BacklogName, Error> {
    Ok(BacklogName {
        queue: column(row, first)?,
        tenant: column::<&str>(row, first + 1)?.into(),
        priority: column(row, first + 2)?,
    })
}

fn details(row: &Row, attempts: &mut HashMap<JobId, Vec<Attempt>>) -> Result<JobDetails, Error> {
    let time = |position| Ok::<_, Error>(to_ms(column::<SystemTime>(row, position)?));
    let id = JobId::from_uuid(column(row, 0)?);
    let attempts = attempts.remove(&id).unwrap_or_default();
    // The attempt may have ended between the two statements.
    let running = running(row, 14)?
        .filter(|running| !attempts.iter().any(|attempt: &Attempt| attempt.generation == running.generation));
    Ok(JobDetails {
        id,
        backlog: backlog(row, 1)?,
        kind: column(row, 4)?,
        payload: column(row, 5)?,
        state: state(row, 6)?,
        created_at_ms: time(7)?,
        run_at_ms: time(8)?,
        ended_at_ms: column::<Option<SystemTime>>(row, 9)?.map(to_ms),
        attempts_max: small(row, 10)?,
        backoff: Backoff { first: delay(row, 11)?, max: delay(row, 12)? },
        result: column(row, 13)?,
        attempts,
        running,
        concurrency_key: column(row, 18)?,
    })
}

/// Reads the attempt that goes on from four columns.
pub(super) fn running(row: &Row, first: usize) -> Result<Option<RunningAttempt>, Error> {
    let Some(number) = column::<Option<i16>>(row, first)? else { return Ok(None) };
    Ok(Some(RunningAttempt {
        number: u16::try_from(number).unwrap_or(0),
        generation: column(row, first + 1)?,
        worker: column(row, first + 2)?,
        started_at_ms: to_ms(column::<SystemTime>(row, first + 3)?),
    }))
}

/// Reads an attempt that has ended from seven columns.
pub(super) fn attempt(row: &Row, first: usize) -> Result<Attempt, Error> {
    let outcome: i16 = column(row, first + 5)?;
    Ok(Attempt {
        number: small(row, first)?,
        generation: column(row, first + 1)?,
        worker: column(row, first + 2)?,
        started_at_ms: to_ms(column::<SystemTime>(row, first + 3)?),
        ended_at_ms: to_ms(column::<SystemTime>(row, first + 4)?),
        outcome: AttemptOutcome::of_number(outcome)
            .ok_or_else(|| Error::Refused(format!("{outcome} is no outcome of an attempt")))?,
        error: column(row, first + 6)?,
    })
}

pub(super) async fn counts(database: &Pool, tenant: Option<&TenantName>) -> Result<Vec<JobCount>, Error> {
    let tenant = tenant.map(|tenant| &**tenant);
    let rows = database.rows(COUNTS, &[(&tenant, Type::TEXT)]).await?;
    let count = |row: &Row| {
        Ok(JobCount {
            queue: column(row, 0)?,
            tenant: column::<&str>(row, 1)?.into(),
            state: state(row, 2)?,
            jobs: u64::try_from(column::<i64>(row, 3)?).unwrap_or(0),
        })
    };
    rows.iter().map(count).collect()
}

pub(super) async fn paused(database: &Pool, tenant: &TenantName) -> Result<Vec<String>, Error> {
    let rows = database.rows(PAUSED, &[(&&**tenant, Type::TEXT)]).await?;
    rows.iter().map(|row| column(row, 0)).collect()
}

pub(super) async fn pauses(database: &Pool) -> Result<Vec<(TenantName, String)>, Error> {
    let rows = database.rows(PAUSES, &[]).await?;
    rows.iter().map(|row| Ok((column::<&str>(row, 0)?.into(), column(row, 1)?))).collect()
}

pub(super) fn state(row: &Row, position: usize) -> Result<JobState, Error> {
    let number = column(row, position)?;
    JobState::of_number(number).ok_or_else(|| unknown_state(number))
}

pub(super) fn small(row: &Row, position: usize) -> Result<u16, Error> {
    Ok(u16::try_from(column::<i16>(row, position)?).unwrap_or(0))
}
