//! The pace of a lane: at medium load, a batch waits a little for more items.
//!
//! A batch that begins with the first item has one item at medium load, and so costs as much for each item as at low load. Waiting is worth it
//! only where further items come meanwhile. So the lane counts how many came while its last batches were under way. Somebody who sends one
//! item after the other, each after the answer to the last one, never causes a wait, and neither does an item after a pause.

use std::time::Duration;

use tokio::time::Instant;

/// How soon a batch may follow the one before.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The time from the beginning of one batch to that of the next, while items keep coming.
    pub interval: Duration,
    /// So many items never wait.
    pub full: usize,
}

/// How many items must have come during a batch, on average, for the next one to wait.
const KEEP_COMING: f32 = 0.5;
/// The share of the last batch in the average.
const NEWEST: f32 = 0.125;

/// The last batches of a lane.
#[derive(Debug, Default)]
pub(super) struct Rhythm {
    /// When the last batch began.
    began: Option<Instant>,
    /// How many items came during a batch, on average.
    came: f32,
}

impl Rhythm {
    /// Returns when the next batch may begin, if not at once. `waiting`: its items until now.
    pub fn next(&self, pace: Pace, waiting: usize) -> Option<Instant> {
        let next = self.began? + pace.interval;
        (waiting < pace.full && self.came >= KEEP_COMING).then_some(next)
    }

    /// Notes a batch. `came`: the items that came while it was under way.
    pub fn note(&mut self, began: Instant, came: usize, pace: Pace) {
        self.began = Some(began);
        self.came += (came.min(pace.full) as f32 - self.came) * NEWEST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { interval: Duration::from_millis(2), full: 16 };

    fn after(batches: &[usize]) -> (Rhythm, Instant) {
        let (mut rhythm, began) = (Rhythm::default(), Instant::now());
        for came in batches {
            rhythm.note(began, *came, PACE);
        }
        (rhythm, began)
    }

    #[test]
    fn a_batch_waits_only_while_items_keep_coming() {
        assert_eq!(after(&[]).0.next(PACE, 1), None, "the first item");
        assert_eq!(after(&[0; 100]).0.next(PACE, 1), None, "one after the other");
        assert_eq!(after(&[0, 0, 0, 1]).0.next(PACE, 1), None, "two by chance");
        let (busy, began) = after(&[1; 20]);
        assert_eq!(busy.next(PACE, 1), Some(began + PACE.interval));
        assert_eq!(busy.next(PACE, 16), None, "enough for a batch");
    }

    #[test]
    fn a_burst_is_forgotten_soon() {
        let (mut rhythm, began) = after(&[5_000; 50]);
        let batches = (0..100).take_while(|_| {
            rhythm.note(began, 0, PACE);
            rhythm.next(PACE, 1).is_some()
        });
        assert!(batches.count() < 30);
    }
}
