//! The one thread that writes. What waits for it goes into one transaction, so that one commit, which is one wait for
//! the disk, serves many calls.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::file::DatabaseFile;
use super::queue::{closed, late};
use crate::{Error, PoolStatus};

/// Calls in one transaction at most, so that none waits long for its own part to be committed.
const GROUP_MAX: usize = 128;

/// The queue to the thread that writes.
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    call_timeout: Duration,
    queue_max: usize,
}

/// Does a call's work inside the group's transaction, or learns why there is none.
type Job = Box<dyn FnOnce(Result<&Connection, &Error>) -> Done + Send>;

/// Answers a caller, once it is known whether the commit succeeded.
type Answer = Box<dyn FnOnce(Result<(), &Error>) + Send>;

/// A call whose work is done but not committed.
struct Done {
    /// Whether its changes are to be undone.
    failed: bool,
    answer: Answer,
}

impl Writer {
    /// Starts the thread, which keeps the file's lock until it ends.
    pub(super) fn start(
        connection: Connection,
        file: Arc<DatabaseFile>,
        queue_max: usize,
        call_timeout: Duration,
    ) -> Result<Self, Error> {
        let (jobs, inbox) = mpsc::channel(queue_max);
        let thread = std::thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn(move || {
                run(&connection, inbox);
                drop(connection);
                drop(file);
            })
            .map_err(|error| Error::Unavailable(error.to_string()))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), call_timeout, queue_max })
    }

    /// Does `work` in a transaction and returns its result when that is committed. Where `work` fails, its changes are
    /// undone, not those of its group.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let result = connection.map_err(same).and_then(work);
            let failed = result.is_err();
            let answer = Box::new(move |committed: Result<(), &Error>| {
                // The caller may have gone away; what is committed stays.
                let _ = tell.send(committed.map_err(same).and(result));
            });
            Done { failed, answer }
        });
        let call = async {
            let jobs = self.jobs.as_ref().ok_or_else(closed)?;
            jobs.send(job).await.map_err(|_| closed())?;
            told.await.map_err(|_| closed())?
        };
        timeout(self.call_timeout, call).await.unwrap_or_else(|_| Err(late(self.call_timeout)))
    }

    pub(super) fn status(&self) -> PoolStatus {
        let free = self.jobs.as_ref().map_or(self.queue_max, mpsc::Sender::capacity);
        let waiting = self.queue_max - free;
        PoolStatus { name: "writer", size_max: 1, size: 1, idle: usize::from(waiting == 0), waiting }
    }
}

/// Waits for the thread, that is for at most one group, so that the file is free when the store is gone.
impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(connection: &Connection, mut inbox: mpsc::Receiver<Job>) {
    while let Some(first) = inbox.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP_MAX
            && let Ok(next) = inbox.try_recv()
        {
            group.push(next);
        }
        commit(connection, group);
    }
}

fn commit(connection: &Connection, group: Vec<Job>) {
    let begun = run_statement(connection, "BEGIN IMMEDIATE");
    let done: Vec<Done> =
        group.into_iter().map(|job| job_of_group(connection, begun.as_ref(), job)).collect();
    let committed = begun.and_then(|()| run_statement(connection, "COMMIT"));
    if committed.is_err() && !connection.is_autocommit() {
        // Fails only where SQLite has rolled back by itself.
        let _ = run_statement(connection, "ROLLBACK");
    }
    for call in done {
        (call.answer)(committed.as_ref().copied());
    }
}

fn job_of_group(connection: &Connection, begun: Result<&(), &Error>, job: Job) -> Done {
    let ready = begun.map(|_| ()).map_err(same).and_then(|()| run_statement(connection, "SAVEPOINT call"));
    if let Err(error) = ready {
        return job(Err(&error));
    }
    let done = job(Ok(connection));
    let undone = if done.failed { run_statement(connection, "ROLLBACK TO call") } else { Ok(()) };
    // Where SQLite has rolled back everything by itself (a full disk), the commit fails as well, for all.
    if let Err(error) = undone.and_then(|()| run_statement(connection, "RELEASE call")) {
        tracing::warn!(%error, "a savepoint was lost");
    }
    done
}

fn run_statement(connection: &Connection, sql: &str) -> Result<(), Error> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

/// The same error once more, for another caller.
fn same(error: &Error) -> Error {
    match error {
        Error::Unavailable(text) => Error::Unavailable(text.clone()),
        Error::Address(text) => Error::Address(text.clone()),
        Error::Unsupported(text) => Error::Unsupported(text.clone()),
        Error::Refused(text) => Error::Refused(text.clone()),
    }
}
