//! Schedules: keeping, listing and firing them.

use std::time::SystemTime;

use starling_database::postgres::{Pool, column, to_ms, to_time};
use starling_model::TenantName;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::claim::delay;
use super::ms;
use super::upkeep::only;
use crate::schedule::{DUE_READ_MAX, key_at};
use crate::{
    Backoff, DueSchedule, DueSchedules, Error, Firing, JobId, Missed, PutSchedule, Revision, Schedule,
    ScheduleTimes, ScheduledJob,
};

const PUT: &str = "
    SELECT starling_schedules_put($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
const COLUMNS: &str = "tenant, name, revision, cron, zone, missed, next_at, queue, kind, payload, priority, attempts_max, backoff_first_ms,
    backoff_max_ms, last_at";
const DELETE: &str =
    "DELETE FROM job_schedules WHERE tenant = $1 AND name = $2 AND revision = $3 RETURNING name";
/// Begins with a row without a schedule, which tells the time: that of the statement, since an index can be searched for it. Tenants take turns
/// among those that are most overdue.
const DUE: &str = "
    SELECT NULL AS tenant, NULL AS name, NULL::uuid AS revision, NULL AS cron, NULL AS zone, NULL::smallint AS missed, statement_timestamp() AS next_at
    UNION ALL (
        SELECT tenant, name, revision, cron, zone, missed, next_at FROM (
            SELECT *, row_number() OVER (PARTITION BY tenant ORDER BY next_at) AS turn FROM (
                SELECT tenant, name, revision, cron, zone, missed, next_at FROM job_schedules
                WHERE next_at <= statement_timestamp() ORDER BY next_at LIMIT $2
            ) overdue
        ) turns ORDER BY turn, next_at LIMIT $1
    )";
const FIRE: &str = "SELECT job FROM starling_schedules_fire_6($1, $2, $3, $4, $5, $6, $7, $8, $9)";

pub(super) async fn put(
    database: &Pool,
    schedule: &Schedule,
    seen: Option<Revision>,
    at_most: u32,
) -> Result<PutSchedule, Error> {
    let Schedule { tenant, name, revision, times, job, next_ms, .. } = schedule;
    let small = |number: u16| i16::try_from(number).unwrap_or(i16::MAX);
    let short = |delay| i32::try_from(ms(delay)).unwrap_or(i32::MAX);
    let rows = database
        .write(
            PUT,
            &[
                (&&**tenant, Type::TEXT),
                (name, Type::TEXT),
                (&seen.map(Revision::uuid), Type::UUID),
                (&i64::from(at_most), Type::INT8),
                (&revision.uuid(), Type::UUID),
                (&times.cron, Type::TEXT),
                (&times.zone, Type::TEXT),
                (&times.missed.number(), Type::INT2),
                (&job.queue, Type::TEXT),
                (&job.kind, Type::TEXT),
                (&job.payload, Type::TEXT),
                (&job.priority, Type::INT2),
                (&small(job.attempts_max), Type::INT2),
                (&short(job.backoff.first), Type::INT4),
                (&short(job.backoff.max), Type::INT4),
                (&next_ms.map(to_time).transpose()?, Type::TIMESTAMPTZ),
            ],
        )
        .await?;
    match column::<i16>(only(&rows)?, 0)? {
        0 => Ok(PutSchedule::Created),
        1 => Ok(PutSchedule::Replaced),
        2 => Ok(PutSchedule::Changed),
        _ => Ok(PutSchedule::TooMany),
    }
}

pub(super) async fn schedule(
    database: &Pool,
    tenant: &TenantName,
    name: &str,
) -> Result<Option<Schedule>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM job_schedules WHERE tenant = $1 AND name = $2");
    let rows = database.rows(&sql, &[(&&**tenant, Type::TEXT), (&name, Type::TEXT)]).await?;
    rows.first().map(read).transpose()
}

pub(super) async fn list(
    database: &Pool,
    tenant: &TenantName,
    after: &str,
    limit: u16,
) -> Result<Vec<Schedule>, Error> {
    let sql =
        format!("SELECT {COLUMNS} FROM job_schedules WHERE tenant = $1 AND name > $2 ORDER BY name LIMIT $3");
    let limit = i64::from(limit);
    let parameters = &[(&&**tenant as _, Type::TEXT), (&after as _, Type::TEXT), (&limit as _, Type::INT8)];
    database.rows(&sql, parameters).await?.iter().map(read).collect()
}

pub(super) async fn delete(
    database: &Pool,
    tenant: &TenantName,
    name: &str,
    seen: Revision,
) -> Result<bool, Error> {
    let parameters =
        &[(&&**tenant as _, Type::TEXT), (&name as _, Type::TEXT), (&seen.uuid() as _, Type::UUID)];
    Ok(!database.write(DELETE, parameters).await?.is_empty())
}

pub(super) async fn due(database: &Pool, limit: u16) -> Result<DueSchedules, Error> {
    let mut due = DueSchedules::default();
    let parameters = &[(&i64::from(limit) as _, Type::INT8), (&i64::from(DUE_READ_MAX) as _, Type::INT8)];
    for row in &database.rows(DUE, parameters).await? {
        let moment_ms = to_ms(column::<SystemTime>(row, 6)?);
        match column::<Option<&str>>(row, 0)? {
            None => due.now_ms = moment_ms,
            Some(tenant) => due.schedules.push(DueSchedule {
                tenant: tenant.into(),
                name: column(row, 1)?,
                revision: Revision::from_uuid(column(row, 2)?),
                times: times(row)?,
                due_ms: moment_ms,
            }),
        }
    }
    Ok(due)
}

pub(super) async fn fire(database: &Pool, firings: &[Firing]) -> Result<Vec<JobId>, Error> {
    let schedules = || firings.iter().map(|firing| &firing.schedule);
    let tenants: Vec<&str> = schedules().map(|schedule| &*schedule.tenant).collect();
    let names: Vec<&str> = schedules().map(|schedule| schedule.name.as_str()).collect();
    let revisions: Vec<Uuid> = schedules().map(|schedule| schedule.revision.uuid()).collect();
    let expecteds = schedules().map(|schedule| to_time(schedule.due_ms)).collect::<Result<Vec<_>, _>>()?;
    let nexts = firings.iter().map(|firing| firing.next_ms.map(to_time).transpose());
    let nexts = nexts.collect::<Result<Vec<_>, _>>()?;
    let (mut places, mut ids, mut moments, mut keys) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (place, firing) in (1_i32..).zip(firings) {
        for moment_ms in &firing.moments_ms {
            places.push(place);
            ids.push(JobId::new().uuid());
            moments.push(to_time(*moment_ms)?);
            keys.push(key_at(&firing.schedule.name, *moment_ms));
        }
    }
    let rows = database
        .write(
            FIRE,
            &[
                (&tenants, Type::TEXT_ARRAY),
                (&names, Type::TEXT_ARRAY),
                (&revisions, Type::UUID_ARRAY),
                (&expecteds, Type::TIMESTAMPTZ_ARRAY),
                (&nexts, Type::TIMESTAMPTZ_ARRAY),
                (&places, Type::INT4_ARRAY),
                (&ids, Type::UUID_ARRAY),
                (&moments, Type::TIMESTAMPTZ_ARRAY),
                (&keys, Type::TEXT_ARRAY),
            ],
        )
        .await?;
    rows.iter().map(|row| Ok(JobId::from_uuid(column(row, 0)?))).collect()
}

fn times(row: &Row) -> Result<ScheduleTimes, Error> {
    let number = column(row, 5)?;
    let missed = Missed::of_number(number)
        .ok_or_else(|| Error::Refused(format!("{number} is no policy for missed firings")))?;
    Ok(ScheduleTimes { cron: column(row, 3)?, zone: column(row, 4)?, missed })
}

fn read(row: &Row) -> Result<Schedule, Error> {
    let moment = |position| Ok::<_, Error>(column::<Option<SystemTime>>(row, position)?.map(to_ms));
    Ok(Schedule {
        tenant: column::<&str>(row, 0)?.into(),
        name: column(row, 1)?,
        revision: Revision::from_uuid(column(row, 2)?),
        times: times(row)?,
        job: ScheduledJob {
            queue: column(row, 7)?,
            kind: column(row, 8)?,
            payload: column(row, 9)?,
            priority: column(row, 10)?,
            attempts_max: u16::try_from(column::<i16>(row, 11)?).unwrap_or(0),
            backoff: Backoff { first: delay(row, 12)?, max: delay(row, 13)? },
        },
        next_ms: moment(6)?,
        last_ms: moment(14)?,
    })
}
