use std::time::Duration;

/// Settings of a [`SqliteDatabase`](super::SqliteDatabase).
#[derive(Clone, Copy, Debug)]
pub struct SqliteConfig {
    /// What a commit waits for.
    pub durability: Durability,
    /// Number of connections that read. Each has a thread.
    pub readers: usize,
    /// The most calls that wait for the writer, and as many for the readers.
    pub queue_max: usize,
    /// The time that a call may take, including its wait in the queue.
    pub call_timeout: Duration,
}

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The disk: committed data survives a power failure.
    Full,
    /// The operating system: committed data survives the end of the program, but the latest of it not a power failure.
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
