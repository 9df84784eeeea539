//! Adding jobs.

use std::time::SystemTime;

use starling_database::postgres::{Parameter, Pool, Statement, column, to_time};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::{Enqueued, Error, JobId, NewJob, RunAt};

const ENQUEUE: &str =
    "
    SELECT item, job, added FROM starling_jobs_enqueue_with_keys($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";

/// The same with delays, to which the database adds its own time.
const ENQUEUE_LATER: &str =
    "
    SELECT item, job, added FROM starling_jobs_enqueue_with_keys($1, $2, $3, $4, $5, $6,
        ARRAY(SELECT coalesce(given.run_at, clock_timestamp() + given.delay_ms * interval '1 millisecond')
              FROM unnest($7::timestamptz[], $14::bigint[]) WITH ORDINALITY AS given (run_at, delay_ms, item) ORDER BY given.item),
        $8, $9, $10, $11, $12, $13)";

/// Adds jobs in a transaction of their own.
pub(super) async fn enqueue(database: &Pool, jobs: &[NewJob]) -> Result<Vec<Enqueued>, Error> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let columns = EnqueueColumns::of(jobs)?;
    let parameters = columns.parameters();
    let rows = database.transaction(&[Statement { sql: columns.sql(), parameters: &parameters }]).await?;
    EnqueueColumns::answers(rows.first().map_or(&[][..], Vec::as_slice), jobs.len())
}

/// Jobs as one array per column, for a statement that adds them in a transaction of somebody else.
pub struct EnqueueColumns<'a> {
    ids: Vec<uuid::Uuid>,
    tenants: Vec<&'a str>,
    queues: Vec<&'a str>,
    kinds: Vec<&'a str>,
    payloads: Vec<&'a str>,
    priorities: Vec<i16>,
    run_ats: Vec<Option<SystemTime>>,
    /// Delays in milliseconds. Empty if there are none.
    delays: Vec<Option<i64>>,
    attempts_maxs: Vec<i16>,
    backoff_firsts: Vec<i32>,
    backoff_maxs: Vec<i32>,
    keys: Vec<Option<&'a str>>,
    helds: Vec<i16>,
    concurrency_keys: Vec<Option<&'a str>>,
}

impl<'a> EnqueueColumns<'a> {
    /// Returns the SQL of the statement.
    #[must_use]
    pub fn sql(&self) -> &'static str {
        if self.delays.is_empty() { ENQUEUE } else { ENQUEUE_LATER }
    }

    /// Makes the columns. The jobs must have passed [`NewJob::check`].
    ///
    /// # Errors
    /// [`Error::Refused`] for a time that is beyond the system's calendar.
    pub fn of(jobs: &'a [NewJob]) -> Result<Self, Error> {
        let backoff_ms = |delay: std::time::Duration| i32::try_from(delay.as_millis()).unwrap_or(i32::MAX);
        Ok(Self {
            ids: jobs.iter().map(|job| job.id.uuid()).collect(),
            tenants: jobs.iter().map(|job| &*job.tenant).collect(),
            queues: jobs.iter().map(|job| job.queue.as_str()).collect(),
            kinds: jobs.iter().map(|job| job.kind.as_str()).collect(),
            payloads: jobs.iter().map(|job| job.payload.as_str()).collect(),
            priorities: jobs.iter().map(|job| job.priority).collect(),
            run_ats: jobs
                .iter()
                .map(|job| match job.run_at {
                    RunAt::At(moment_ms) => to_time(moment_ms).map(Some),
                    RunAt::Now | RunAt::After(_) => Ok(None),
                })
                .collect::<Result<_, _>>()?,
            delays: if jobs.iter().any(|job| matches!(job.run_at, RunAt::After(_))) {
                jobs.iter().map(delay_ms).collect()
            } else {
                Vec::new()
            },
            attempts_maxs: jobs
                .iter()
                .map(|job| i16::try_from(job.attempts_max).unwrap_or(i16::MAX))
                .collect(),
            backoff_firsts: jobs.iter().map(|job| backoff_ms(job.backoff.first)).collect(),
            backoff_maxs: jobs.iter().map(|job| backoff_ms(job.backoff.max)).collect(),
            keys: jobs.iter().map(|job| job.unique.as_ref().map(|unique| unique.key.as_str())).collect(),
            helds: jobs
                .iter()
                .map(|job| job.unique.as_ref().map_or(0, |unique| unique.held.number()))
                .collect(),
            concurrency_keys: jobs.iter().map(|job| job.concurrency_key.as_deref()).collect(),
        })
    }

    /// Returns the parameters of the statement.
    #[must_use]
    pub fn parameters(&self) -> Vec<Parameter<'_>> {
        let mut parameters: Vec<Parameter<'_>> = vec![
            (&self.ids, Type::UUID_ARRAY),
            (&self.tenants, Type::TEXT_ARRAY),
            (&self.queues, Type::TEXT_ARRAY),
            (&self.kinds, Type::TEXT_ARRAY),
            (&self.payloads, Type::TEXT_ARRAY),
            (&self.priorities, Type::INT2_ARRAY),
            (&self.run_ats, Type::TIMESTAMPTZ_ARRAY),
            (&self.attempts_maxs, Type::INT2_ARRAY),
            (&self.backoff_firsts, Type::INT4_ARRAY),
            (&self.backoff_maxs, Type::INT4_ARRAY),
            (&self.keys, Type::TEXT_ARRAY),
            (&self.helds, Type::INT2_ARRAY),
            (&self.concurrency_keys, Type::TEXT_ARRAY),
        ];
        if !self.delays.is_empty() {
            parameters.push((&self.delays, Type::INT8_ARRAY));
        }
        parameters
    }

    /// Reads the answer of the statement.
    ///
    /// # Errors
    /// [`Error::Refused`] if it is not an answer to that many jobs.
    pub fn answers(rows: &[Row], jobs: usize) -> Result<Vec<Enqueued>, Error> {
        let incomplete = || Error::Refused(format!("{} answers to {jobs} jobs", rows.len()));
        let mut answers = vec![None; jobs];
        for row in rows {
            let item: i64 = column(row, 0)?;
            let place = usize::try_from(item - 1).ok().and_then(|place| answers.get_mut(place));
            *place.ok_or_else(incomplete)? =
                Some(Enqueued { job: JobId::from_uuid(column(row, 1)?), added: column(row, 2)? });
        }
        answers.into_iter().collect::<Option<Vec<_>>>().ok_or_else(incomplete)
    }
}

fn delay_ms(job: &NewJob) -> Option<i64> {
    match job.run_at {
        RunAt::After(delay) => Some(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)),
        RunAt::Now | RunAt::At(_) => None,
    }
}
