//! What may be set.

use std::time::Duration;

/// How to use an SQLite file.
#[derive(Clone, Copy, Debug)]
pub struct SqliteConfig {
    /// What a commit waits for.
    pub durability: Durability,
    /// Connections, each with a thread, that read beside the one that writes.
    pub readers: usize,
    /// Calls that may wait for the writer, and as many for the readers.
    pub queue_max: usize,
    /// How long a call may take, with its wait in the queue.
    pub call_timeout: Duration,
}

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The disk: what was committed outlives a power cut.
    Full,
    /// The operating system: what was committed outlives the program, but the last of it not a power cut.
    Normal,
}

impl Default for SqliteConfig {
    fn default() -> Self {
        Self {
            durability: Durability::Full,
            readers: 2,
            queue_max: 1024,
            call_timeout: Duration::from_secs(5),
        }
    }
}
