//! Reading what lists show.

use std::time::{Duration, SystemTime};

use starling_database::postgres::{Pool, column, to_ms};
use starling_model::TenantName;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::claim::delay;
use super::inspect::{attempt, backlog, running, small, state};
use super::uuids;
use crate::{Backoff, DoneLately, Error, JobId, JobSummary};

const SUMMARIES: &str = "
    SELECT j.id, j.queue, j.tenant, j.priority, j.kind, s.state, j.created_at, coalesce(w.run_at, j.run_at), e.ended_at,
           j.attempts_max, j.backoff_first_ms, j.backoff_max_ms, r.attempt, r.generation, r.worker_name, r.started_at,
           a.attempt, a.generation, a.worker_name, a.started_at, a.ended_at, a.outcome, a.error, j.concurrency_key
    FROM jobs j JOIN starling_jobs_states($1) s ON s.job = j.id
    LEFT JOIN job_scheduled w ON w.job = j.id LEFT JOIN job_running r ON r.job = j.id LEFT JOIN job_endings e ON e.job = j.id
    LEFT JOIN LATERAL (SELECT * FROM job_attempts t WHERE t.job = j.id ORDER BY t.generation DESC LIMIT 1) a ON true
    WHERE j.id = ANY ($1) ORDER BY j.id DESC";
/// For each queue a walk along an index, which ends at the window or at the limit.
const DONE_LATELY: &str = "
    SELECT q.queue, count(*), floor(extract(epoch FROM clock_timestamp() - min(d.ended_at)) * 1000)::bigint
    FROM unnest($2::text[]) q (queue) CROSS JOIN LATERAL (
        SELECT e.ended_at FROM job_endings e
        WHERE e.tenant = $1 COLLATE \"C\" AND e.queue = q.queue COLLATE \"C\" AND e.state = 3
          AND e.ended_at > clock_timestamp() - $3 * interval '1 millisecond'
        ORDER BY e.ended_at DESC LIMIT $4
    ) d GROUP BY q.queue ORDER BY q.queue";

pub(super) async fn summaries(database: &Pool, ids: &[JobId]) -> Result<Vec<JobSummary>, Error> {
    let rows = database.rows(SUMMARIES, &[(&uuids(ids), Type::UUID_ARRAY)]).await?;
    rows.iter().map(summary).collect()
}

fn summary(row: &Row) -> Result<JobSummary, Error> {
    let time = |position| Ok::<_, Error>(to_ms(column::<SystemTime>(row, position)?));
    let has_attempt = column::<Option<i16>>(row, 16)?.is_some();
    Ok(JobSummary {
        id: JobId::from_uuid(column(row, 0)?),
        backlog: backlog(row, 1)?,
        kind: column(row, 4)?,
        state: state(row, 5)?,
        created_at_ms: time(6)?,
        run_at_ms: time(7)?,
        ended_at_ms: column::<Option<SystemTime>>(row, 8)?.map(to_ms),
        attempts_max: small(row, 9)?,
        backoff: Backoff { first: delay(row, 10)?, max: delay(row, 11)? },
        concurrency_key: column(row, 23)?,
        running: running(row, 12)?,
        newest: if has_attempt { Some(attempt(row, 16)?) } else { None },
    })
}

pub(super) async fn done_lately(
    database: &Pool,
    tenant: &TenantName,
    queues: &[String],
    window: Duration,
    at_most: u16,
) -> Result<Vec<DoneLately>, Error> {
    let window_ms = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
    let parameters = &[
        (&&**tenant as _, Type::TEXT),
        (&queues as _, Type::TEXT_ARRAY),
        (&window_ms as _, Type::INT8),
        (&i64::from(at_most) as _, Type::INT8),
    ];
    let rows = database.rows(DONE_LATELY, parameters).await?;
    let lately = |row: &Row| {
        Ok(DoneLately {
            queue: column(row, 0)?,
            jobs: u32::try_from(column::<i64>(row, 1)?).unwrap_or(0),
            oldest: Duration::from_millis(u64::try_from(column::<i64>(row, 2)?).unwrap_or(0)),
        })
    };
    rows.iter().map(lately).collect()
}
