//! Ending attempts and jobs.

use starling_database::postgres::{Pool, column};
use tokio_postgres::types::Type;

use super::{ms, unknown_state, uuids};
use crate::ending::Parts;
use crate::{Ending, Error, JobId, JobState};

const FINISH: &str = "SELECT item, state FROM starling_jobs_finish_6($1, $2, $3, $4, $5, $6)";
const CANCEL: &str = "SELECT job, state FROM starling_jobs_cancel_6($1)";

pub(super) async fn finish(database: &Pool, endings: &[Ending]) -> Result<Vec<Option<JobState>>, Error> {
    if endings.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<uuid::Uuid> = endings.iter().map(|ending| ending.job.uuid()).collect();
    let generations: Vec<i32> = endings.iter().map(|ending| ending.generation).collect();
    let parts: Vec<Parts<'_>> = endings.iter().map(|ending| Parts::of(&ending.outcome)).collect();
    let outcomes: Vec<i16> = parts.iter().map(|parts| parts.outcome.number()).collect();
    let delays: Vec<Option<i64>> = parts.iter().map(|parts| parts.retry_in.map(ms)).collect();
    let results: Vec<Option<&str>> = parts.iter().map(|parts| parts.result).collect();
    let errors: Vec<Option<&str>> = parts.iter().map(|parts| parts.error).collect();
    let rows = database
        .write(
            FINISH,
            &[
                (&ids, Type::UUID_ARRAY),
                (&generations, Type::INT4_ARRAY),
                (&outcomes, Type::INT2_ARRAY),
                (&delays, Type::INT8_ARRAY),
                (&results, Type::TEXT_ARRAY),
                (&errors, Type::TEXT_ARRAY),
            ],
        )
        .await?;
    let mut states = vec![None; endings.len()];
    for row in &rows {
        let place = usize::try_from(column::<i64>(row, 0)? - 1).ok().and_then(|place| states.get_mut(place));
        let place =
            place.ok_or_else(|| Error::Refused("an ending was answered that was not asked".into()))?;
        *place = column::<Option<i16>>(row, 1)?.map(state).transpose()?;
    }
    Ok(states)
}

fn state(number: i16) -> Result<JobState, Error> {
    JobState::of_number(number).ok_or_else(|| unknown_state(number))
}

pub(super) async fn cancel(database: &Pool, jobs: &[JobId]) -> Result<Vec<(JobId, JobState)>, Error> {
    let rows = database.write(CANCEL, &[(&uuids(jobs), Type::UUID_ARRAY)]).await?;
    rows.iter().map(|row| Ok((JobId::from_uuid(column(row, 0)?), state(column(row, 1)?)?))).collect()
}

/// Runs a function of ids that returns the ids concerned.
pub(super) async fn change(database: &Pool, sql: &str, jobs: &[JobId]) -> Result<Vec<JobId>, Error> {
    let rows = database.write(sql, &[(&uuids(jobs), Type::UUID_ARRAY)]).await?;
    rows.iter().map(|row| Ok(JobId::from_uuid(column(row, 0)?))).collect()
}
