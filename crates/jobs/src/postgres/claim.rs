//! Giving jobs to workers.

use std::time::{Duration, SystemTime};

use starling_database::postgres::{Pool, column, to_ms};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::ms;
use crate::{
    Arrival, Arrivals, BacklogClaim, BacklogLeft, BacklogName, Backoff, Claimant, Claimed, ClaimedJob, Error,
    Hold, JobId, Mark,
};

const ARRIVALS: &str =
    "SELECT queue, tenant, priority, xid, position, ready_at FROM starling_jobs_arrivals_6($1)";
const CLAIM: &str = "
    SELECT backlog, job, generation, attempt, kind, payload, attempts_max, backoff_first_ms, backoff_max_ms, xid, position, ready_at, lease_until,
           set_aside, retry_in_ms
    FROM starling_jobs_claim_6($1, $2, $3, $4, $5, $6, $7, $8, $9)";
const EXTEND: &str = "
    UPDATE job_running SET lease_until = clock_timestamp() + $3 * interval '1 millisecond'
    WHERE job = $1 AND generation = $2 AND lease_until >= clock_timestamp() RETURNING lease_until";

pub(super) async fn arrivals(database: &Pool, since: Mark) -> Result<Arrivals, Error> {
    let mut arrivals = Arrivals { backlogs: Vec::new(), mark: since };
    for row in &database.rows(ARRIVALS, &[(&since.transaction, Type::INT8)]).await? {
        let mark = Mark { transaction: column(row, 3)?, position: column(row, 4)? };
        match column::<Option<String>>(row, 0)? {
            Some(queue) => arrivals.backlogs.push(Arrival {
                backlog: BacklogName {
                    queue,
                    tenant: column::<&str>(row, 1)?.into(),
                    priority: column(row, 2)?,
                },
                mark,
                ready_since_ms: to_ms(column::<SystemTime>(row, 5)?),
            }),
            None => arrivals.mark = mark,
        }
    }
    Ok(arrivals)
}

pub(super) async fn claim(
    database: &Pool,
    claimant: &Claimant,
    backlogs: &[BacklogClaim],
) -> Result<Claimed, Error> {
    let queues: Vec<&str> = backlogs.iter().map(|claim| claim.backlog.queue.as_str()).collect();
    let tenants: Vec<&str> = backlogs.iter().map(|claim| &*claim.backlog.tenant).collect();
    let priorities: Vec<i16> = backlogs.iter().map(|claim| claim.backlog.priority).collect();
    let transactions: Vec<i64> = backlogs.iter().map(|claim| claim.mark.transaction).collect();
    let positions: Vec<i64> = backlogs.iter().map(|claim| claim.mark.position).collect();
    let limits: Vec<i32> = backlogs.iter().map(|claim| i32::from(claim.limit)).collect();
    let rows = database
        .write(
            CLAIM,
            &[
                (&claimant.worker.uuid(), Type::UUID),
                (&claimant.name, Type::TEXT),
                (&claimant.lease.map(ms), Type::INT8),
                (&queues, Type::TEXT_ARRAY),
                (&tenants, Type::TEXT_ARRAY),
                (&priorities, Type::INT2_ARRAY),
                (&transactions, Type::INT8_ARRAY),
                (&positions, Type::INT8_ARRAY),
                (&limits, Type::INT4_ARRAY),
            ],
        )
        .await?;
    let mut claimed = Claimed::default();
    for row in &rows {
        let place = usize::try_from(column::<i32>(row, 0)? - 1).ok();
        let claim = place.and_then(|place| backlogs.get(place));
        let backlog =
            &claim.ok_or_else(|| Error::Refused("a claim was answered with another backlog".into()))?.backlog;
        let ready_since_ms = column::<Option<SystemTime>>(row, 11)?.map(to_ms);
        match column::<Option<uuid::Uuid>>(row, 1)? {
            Some(id) => claimed.jobs.push(job(
                row,
                JobId::from_uuid(id),
                backlog,
                ready_since_ms.unwrap_or_default(),
            )?),
            None => claimed.left.push(BacklogLeft {
                mark: Mark { transaction: column(row, 9)?, position: column(row, 10)? },
                ready_since_ms,
                set_aside: u32::try_from(column::<Option<i32>>(row, 13)?.unwrap_or(0)).unwrap_or(0),
                hold: column::<Option<i64>>(row, 14)?.map(Hold::of_ms),
            }),
        }
    }
    Ok(claimed)
}

fn job(row: &Row, id: JobId, backlog: &BacklogName, ready_at_ms: i64) -> Result<ClaimedJob, Error> {
    let count = |position| Ok::<_, Error>(u16::try_from(column::<i16>(row, position)?).unwrap_or(0));
    Ok(ClaimedJob {
        id,
        generation: column(row, 2)?,
        backlog: backlog.clone(),
        kind: column(row, 4)?,
        payload: column(row, 5)?,
        attempt: count(3)?,
        attempts_max: count(6)?,
        backoff: Backoff { first: delay(row, 7)?, max: delay(row, 8)? },
        ready_at_ms,
        lease_until_ms: column::<Option<SystemTime>>(row, 12)?.map(to_ms),
    })
}

/// Reads a column of milliseconds.
pub(super) fn delay(row: &Row, position: usize) -> Result<Duration, Error> {
    Ok(Duration::from_millis(u64::try_from(column::<i32>(row, position)?).unwrap_or(0)))
}

pub(super) async fn extend(
    database: &Pool,
    job: JobId,
    generation: i32,
    lease: Duration,
) -> Result<Option<i64>, Error> {
    let parameters =
        &[(&job.uuid() as _, Type::UUID), (&generation as _, Type::INT4), (&ms(lease) as _, Type::INT8)];
    let rows = database.write(EXTEND, parameters).await?;
    rows.first().map(|row| Ok(to_ms(column::<SystemTime>(row, 0)?))).transpose()
}
