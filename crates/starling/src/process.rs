//! What the process needs before any part of it can work.

use anyhow::Context;
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use crate::failure::Failure;
use crate::output::warn;

/// Most threads for the database, Redis and HTTP's waiting beside the threads of sockets.
const CONTROL_THREADS_MAX: usize = 2;
/// The most open files that are asked for. Each connection is one.
const FILES_MAX: u64 = 1_048_576;

/// The threads of a node, apart from those of blocking work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// One thread for sockets and everything else: each switch between two would cost, and a single processor gives nothing for it.
    One,
    /// One thread for each shard, and some for everything else.
    Several,
}

impl Threads {
    /// The threads of a node with this number of shards on this machine.
    pub fn of(shards: usize) -> Threads {
        if shards == 1 && processors() == 1 { Threads::One } else { Threads::Several }
    }

    /// Runs `work` to its end, in a [`LocalSet`].
    pub fn run<T>(self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let runtime = match self {
            Threads::One => tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("the runtime can't be started")?,
            Threads::Several => runtime()?,
        };
        LocalSet::new().block_on(&runtime, work)
    }
}

/// Makes the runtime of everything but sockets.
pub fn runtime() -> Result<Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors().min(CONTROL_THREADS_MAX))
        .thread_name("control")
        .enable_all()
        .build()
        .context("the runtime can't be started")?;
    Ok(runtime)
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(CONTROL_THREADS_MAX, usize::from)
}

/// Raises the limit of open files as far as the system allows.
pub fn raise_file_limit() {
    if let Ok((_, hard)) = rlimit::Resource::NOFILE.get()
        && let Err(error) = rlimit::Resource::NOFILE.set(hard.min(FILES_MAX), hard)
    {
        warn(&format!("warning: the limit of open files could not be raised: {error}"));
    }
}
