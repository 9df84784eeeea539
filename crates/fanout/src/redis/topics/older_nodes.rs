//! Nodes of an older version, which number topics in other keys.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::PARTITIONS;

/// How often a script looks whether nodes of an older version are subscribed, and how long one that was seen is taken to be there.
const PERIOD: Duration = Duration::from_secs(1);

/// What a link knows of nodes of an older version, which number topics in other keys.
#[derive(Default)]
pub(in crate::redis) struct OlderNodes {
    /// When one was last seen.
    seen: Mutex<Option<Instant>>,
    /// When a script last looked, for each group of partitions.
    looked: Mutex<[Option<Instant>; PARTITIONS as usize]>,
}

/// What the script that publishes looks at beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Nothing = 0,
    /// The time, and whether older nodes are there.
    Nodes = 1,
    /// The run of the server, too.
    NodesAndRun = 2,
}

impl OlderNodes {
    /// Whether one was seen within the last second.
    pub(super) fn are_there(&self) -> bool {
        self.seen.lock().is_some_and(|seen| seen.elapsed() < PERIOD)
    }

    /// Notes that one was seen.
    pub(super) fn saw_one(&self) {
        *self.seen.lock() = Some(Instant::now());
    }

    /// Returns what the next script for a group of partitions has to look at: at older nodes once a second.
    pub(super) fn look(&self, group: usize) -> Look {
        let last = &mut self.looked.lock()[group];
        if last.is_some_and(|last| last.elapsed() < PERIOD) {
            return Look::Nothing;
        }
        *last = Some(Instant::now());
        Look::Nodes
    }
}
