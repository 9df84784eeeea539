//! The threads that read, each with a connection, behind one queue.

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
    jobs: Option<mpsc::Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
    busy: Arc<AtomicUsize>,
    call_timeout: Duration,
    queue_max: usize,
}

type Job = Box<dyn FnOnce(&Connection) + Send>;

impl Readers {
    /// Starts the threads, which keep the file's lock until they end.
    pub(super) fn start(
        connections: Vec<Connection>,
        file: &Arc<DatabaseFile>,
        queue_max: usize,
        call_timeout: Duration,
    ) -> Result<Self, Error> {
        let (jobs, inbox) = mpsc::channel(queue_max);
        let (inbox, busy) = (Arc::new(Mutex::new(inbox)), Arc::new(AtomicUsize::new(0)));
        // Those started before one fails end with the queue.
        let mut readers = Self { jobs: Some(jobs), threads: Vec::new(), busy, call_timeout, queue_max };
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

    /// Does `work` on a snapshot that holds everything committed before the call.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Nobody needs what nobody waits for any more.
            if !tell.is_closed() {
                let _ = tell.send(snapshot(connection, work));
            }
        });
        let call = async {
            let jobs = self.jobs.as_ref().ok_or_else(closed)?;
            jobs.send(job).await.map_err(|_| closed())?;
            told.await.map_err(|_| closed())?
        };
        timeout(self.call_timeout, call).await.unwrap_or_else(|_| Err(late(self.call_timeout)))
    }

    pub(super) fn status(&self) -> PoolStatus {
        let size = self.threads.len();
        let free = self.jobs.as_ref().map_or(self.queue_max, mpsc::Sender::capacity);
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

/// Waits for the threads, that is for at most one read each, so that the file is free when the store is gone.
impl Drop for Readers {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn run(connection: &Connection, inbox: &Mutex<mpsc::Receiver<Job>>, busy: &AtomicUsize) {
    loop {
        // One thread waits for the next call, the others for their turn to wait.
        let next = inbox.lock().blocking_recv();
        let Some(job) = next else { return };
        busy.fetch_add(1, Ordering::Relaxed);
        job(connection);
        busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All statements of `work` see one state of the database.
fn snapshot<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, Error>,
) -> Result<T, Error> {
    let transaction = connection.unchecked_transaction()?;
    let result = work(&transaction)?;
    transaction.commit()?;
    Ok(result)
}
