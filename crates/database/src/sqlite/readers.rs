//! The threads that read. Each has a connection; they share one queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::file::DatabaseFile;
use super::queue::{closed, late};
use crate::{Error, PoolStatus};

/// The queue to the threads that read.
pub(super) struct Readers {
    tasks: Option<mpsc::Sender<Task>>,
    threads: Vec<JoinHandle<()>>,
    busy: Arc<AtomicUsize>,
    call_timeout: Duration,
    queue_max: usize,
}

type Task = Box<dyn FnOnce(&Connection) + Send>;

impl Readers {
    /// Starts the threads. They keep the file locked until they end.
    pub(super) fn start(
        connections: Vec<Connection>,
        file: &Arc<DatabaseFile>,
        queue_max: usize,
        call_timeout: Duration,
    ) -> Result<Self, Error> {
        let (tasks, inbox) = mpsc::channel(queue_max);
        let (inbox, busy) = (Arc::new(Mutex::new(inbox)), Arc::new(AtomicUsize::new(0)));
        // If one fails to start, the others end with the queue.
        let mut readers = Self { tasks: Some(tasks), threads: Vec::new(), busy, call_timeout, queue_max };
        for connection in connections {
            let (inbox, busy, file) = (Arc::clone(&inbox), Arc::clone(&readers.busy), Arc::clone(file));
            let thread = std::thread::Builder::new()
                .name("sqlite-reader".into())
                .spawn(move || {
                    run(&connection, &inbox, &busy);
                    drop(connection);
                    drop(file);
                })
                .map_err(|error| Error::Unavailable(error.to_string()))?;
            readers.threads.push(thread);
        }
        Ok(readers)
    }

    /// Runs `work` on a snapshot that contains everything that was committed before the call.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let task: Task = Box::new(move |connection| {
            // Skips the work if the caller is gone.
            if !tell.is_closed() {
                let _ = tell.send(snapshot(connection, work));
            }
        });
        let call = async {
            let tasks = self.tasks.as_ref().ok_or_else(closed)?;
            tasks.send(task).await.map_err(|_| closed())?;
            told.await.map_err(|_| closed())?
        };
        timeout(self.call_timeout, call).await.unwrap_or_else(|_| Err(late(self.call_timeout)))
    }

    pub(super) fn status(&self) -> PoolStatus {
        let size = self.threads.len();
        let free = self.tasks.as_ref().map_or(self.queue_max, mpsc::Sender::capacity);
        let busy = self.busy.load(Ordering::Relaxed).min(size);
        PoolStatus {
            name: "readers",
            size_max: size,
            size,
            idle: size - busy,
            waiting: self.queue_max - free,
        }
    }
}

/// Waits for the threads, for at most one read each, so that the file is unlocked afterwards.
impl Drop for Readers {
    fn drop(&mut self) {
        self.tasks = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn run(connection: &Connection, inbox: &Mutex<mpsc::Receiver<Task>>, busy: &AtomicUsize) {
    loop {
        // One thread waits for the next task, the others wait for the lock.
        let next = inbox.lock().blocking_recv();
        let Some(task) = next else { return };
        busy.fetch_add(1, Ordering::Relaxed);
        task(connection);
        busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs `work` so that all its statements see the same state of the database.
fn snapshot<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, Error>,
) -> Result<T, Error> {
    let transaction = connection.unchecked_transaction()?;
    let result = work(&transaction)?;
    transaction.commit()?;
    Ok(result)
}
