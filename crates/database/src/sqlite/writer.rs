//! The thread that writes. Calls that wait for it share one transaction, so that one commit, which is one wait for the disk, serves many
//! calls.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::file::DatabaseFile;
use super::queue::{closed, late};
use crate::{Error, PoolStatus};

/// The most calls in one transaction, so that none waits long for the commit.
const GROUP_MAX: usize = 128;

/// The queue to the thread that writes.
pub(super) struct Writer {
    tasks: Option<mpsc::Sender<Task>>,
    thread: Option<JoinHandle<()>>,
    call_timeout: Duration,
    queue_max: usize,
}

/// Runs a call's work in the group's transaction, or gets the reason why there is none.
type Task = Box<dyn FnOnce(Result<&Connection, &Error>) -> Done + Send>;

/// Answers a caller, after the commit succeeded or failed.
type Answer = Box<dyn FnOnce(Result<(), &Error>) + Send>;

/// A call after its work, before the commit.
struct Done {
    /// Whether its changes must be undone.
    failed: bool,
    answer: Answer,
}

impl Writer {
    /// Starts the thread. It keeps the file locked until it ends.
    pub(super) fn start(
        connection: Connection,
        file: Arc<DatabaseFile>,
        queue_max: usize,
        call_timeout: Duration,
    ) -> Result<Self, Error> {
        let (tasks, inbox) = mpsc::channel(queue_max);
        let thread = std::thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn(move || {
                run(&connection, inbox);
                drop(connection);
                drop(file);
            })
            .map_err(|error| Error::Unavailable(error.to_string()))?;
        Ok(Self { tasks: Some(tasks), thread: Some(thread), call_timeout, queue_max })
    }

    /// Runs `work` in a transaction, and returns its result after the commit. If `work` fails, only its own changes are undone.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let task: Task = Box::new(move |connection| {
            let result = connection.map_err(same).and_then(work);
            let failed = result.is_err();
            let answer = Box::new(move |committed: Result<(), &Error>| {
                // The caller may be gone. The commit is valid all the same.
                let _ = tell.send(committed.map_err(same).and(result));
            });
            Done { failed, answer }
        });
        let call = async {
            let tasks = self.tasks.as_ref().ok_or_else(closed)?;
            tasks.send(task).await.map_err(|_| closed())?;
            told.await.map_err(|_| closed())?
        };
        timeout(self.call_timeout, call).await.unwrap_or_else(|_| Err(late(self.call_timeout)))
    }

    pub(super) fn status(&self) -> PoolStatus {
        let free = self.tasks.as_ref().map_or(self.queue_max, mpsc::Sender::capacity);
        let waiting = self.queue_max - free;
        PoolStatus { name: "writer", size_max: 1, size: 1, idle: usize::from(waiting == 0), waiting }
    }
}

/// Waits for the thread, for at most one group, so that the file is unlocked afterwards.
impl Drop for Writer {
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(connection: &Connection, mut inbox: mpsc::Receiver<Task>) {
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

fn commit(connection: &Connection, group: Vec<Task>) {
    let begun = run_statement(connection, "BEGIN IMMEDIATE");
    let done: Vec<Done> =
        group.into_iter().map(|task| run_in_group(connection, begun.as_ref(), task)).collect();
    let committed = begun.and_then(|()| run_statement(connection, "COMMIT"));
    if committed.is_err() && !connection.is_autocommit() {
        // This fails only if SQLite has rolled back by itself.
        let _ = run_statement(connection, "ROLLBACK");
    }
    for call in done {
        (call.answer)(committed.as_ref().copied());
    }
}

fn run_in_group(connection: &Connection, begun: Result<&(), &Error>, task: Task) -> Done {
    let ready = begun.map(|_| ()).map_err(same).and_then(|()| run_statement(connection, "SAVEPOINT call"));
    if let Err(error) = ready {
        return task(Err(&error));
    }
    let done = task(Ok(connection));
    let undone = if done.failed { run_statement(connection, "ROLLBACK TO call") } else { Ok(()) };
    // If SQLite has rolled back everything by itself (on a full disk), the commit fails as well, for all calls.
    if let Err(error) = undone.and_then(|()| run_statement(connection, "RELEASE call")) {
        tracing::warn!(%error, "a savepoint was lost");
    }
    done
}

fn run_statement(connection: &Connection, sql: &str) -> Result<(), Error> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

/// Copies an error for another caller.
fn same(error: &Error) -> Error {
    match error {
        Error::Unavailable(text) => Error::Unavailable(text.clone()),
        Error::Address(text) => Error::Address(text.clone()),
        Error::Unsupported(text) => Error::Unsupported(text.clone()),
        Error::Refused(text) => Error::Refused(text.clone()),
    }
}
