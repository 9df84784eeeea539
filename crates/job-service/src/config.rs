//! The settings of jobs.

use starling_settings::{count, settings};

settings! {
    /// What an operator can set about jobs.
    pub struct JobSettings {
        /// Jobs of Starling's own queues that a node with the role `worker` does at once.
        setting at_once: u16 = { Stores "jobs_at_once" count(8, 1..=1_000) }
        /// Jobs of each queue that are kept after they were done. Older ones are removed.
        setting kept_done: u32 = { Stores "jobs_kept_done" count(100, 0..=1_000_000) }
        /// Jobs of each queue that are kept after all their attempts failed, and as many that were cancelled. Older ones are removed.
        setting kept_failed: u32 = { Stores "jobs_kept_failed" count(500, 0..=1_000_000) }
    }
}
