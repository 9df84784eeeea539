//! Locks of workers: advisory locks, each on a connection of its own.

use starling_database::postgres::{OwnSession, Pool, column};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::upkeep::{count, only};
use crate::{Burial, Error, LostLock, WorkerId, WorkerLock};

/// One statement on the connection that holds the lock, so that the number is noted in the database where the lock is.
const LOCK: &str = "
    UPDATE job_workers SET lock = $2, lock_server = pg_postmaster_start_time()
    WHERE id = $1 AND pg_try_advisory_lock($2) RETURNING id";
const UNLOCK: &str = "UPDATE job_workers SET lock = NULL WHERE id = $1";
const LOST: &str = "SELECT worker, lock FROM starling_jobs_lost_locks($1)";
const BURY: &str = "SELECT workers, lost FROM starling_jobs_bury_unlocked_6($1, $2)";

/// The most workers that one call buries.
const BURY_MAX: usize = 8;

pub(super) async fn lock(database: &Pool, worker: WorkerId) -> Result<Option<WorkerLock>, Error> {
    let locked = match database.own_session().await {
        Ok(Some(session)) => lock_on(session, worker).await,
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    };
    if !matches!(locked, Ok(Some(_))) {
        // An earlier lock is gone, which must not count against the worker.
        database.write(UNLOCK, &[(&worker.uuid(), Type::UUID)]).await?;
    }
    locked
}

async fn lock_on(mut session: OwnSession, worker: WorkerId) -> Result<Option<WorkerLock>, Error> {
    let [a, b, c, d, e, f, g, h, ..] = *Uuid::new_v4().as_bytes();
    let number = i64::from_be_bytes([a, b, c, d, e, f, g, h]);
    let rows = session.rows(LOCK, &[(&worker.uuid(), Type::UUID), (&number, Type::INT8)]).await?;
    Ok((!rows.is_empty()).then(|| WorkerLock::until(async move { session.ended().await })))
}

pub(super) async fn lost(database: &Pool, besides: WorkerId) -> Result<Vec<LostLock>, Error> {
    let rows = database.rows(LOST, &[(&besides.uuid(), Type::UUID)]).await?;
    let lost = rows
        .iter()
        .map(|row| Ok(LostLock { worker: WorkerId::from_uuid(column(row, 0)?), lock: column(row, 1)? }));
    lost.collect()
}

pub(super) async fn bury(database: &Pool, lost: &[LostLock]) -> Result<Burial, Error> {
    let mut burial = Burial::default();
    for lost in lost.chunks(BURY_MAX) {
        let workers: Vec<Uuid> = lost.iter().map(|lost| lost.worker.uuid()).collect();
        let locks: Vec<i64> = lost.iter().map(|lost| lost.lock).collect();
        let rows = database.write(BURY, &[(&workers, Type::UUID_ARRAY), (&locks, Type::INT8_ARRAY)]).await?;
        let row = only(&rows)?;
        burial.workers += count(row, 0)?;
        burial.attempts += count(row, 1)?;
    }
    Ok(burial)
}
