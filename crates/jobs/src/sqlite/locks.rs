//! Locks of workers. Only one process has the file open, so a worker of another process is dead.

use std::collections::HashSet;
use std::future::pending;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;

use crate::{Error, LostLock, WorkerId, WorkerLock};

const NOTE: &str = "UPDATE job_workers SET lock = 1 WHERE id = ?1";
const NOTED: &str = "SELECT id, lock FROM job_workers WHERE lock IS NOT NULL";

/// The workers of this process that have a lock.
#[derive(Clone, Default)]
pub(super) struct Locks(Arc<Mutex<HashSet<WorkerId>>>);

impl Locks {
    /// Gives a worker its lock.
    pub fn lock(&self, worker: WorkerId) -> WorkerLock {
        self.0.lock().insert(worker);
        let held = Held { locks: self.clone(), worker };
        WorkerLock::until(async move {
            let _held = held;
            pending::<()>().await;
        })
    }

    /// Whether a worker has a lock.
    pub fn has(&self, worker: WorkerId) -> bool {
        self.0.lock().contains(&worker)
    }
}

/// A lock, until this is dropped.
struct Held {
    locks: Locks,
    worker: WorkerId,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.locks.0.lock().remove(&self.worker);
    }
}

/// Notes that a worker has a lock. Returns whether it is listed.
pub(super) fn note(connection: &Connection, worker: WorkerId) -> Result<bool, Error> {
    Ok(connection.prepare_cached(NOTE)?.execute([worker.bytes()])? > 0)
}

/// Returns the workers that had a lock when it was noted.
pub(super) fn noted(connection: &Connection) -> Result<Vec<LostLock>, Error> {
    let mut statement = connection.prepare_cached(NOTED)?;
    let noted = statement
        .query_map([], |row| Ok(LostLock { worker: WorkerId::from_bytes(row.get(0)?), lock: row.get(1)? }))?;
    Ok(noted.collect::<Result<_, _>>()?)
}
