//! Live progress of all clients: it tells whether a fault has been felt, and when everything works as before.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Interval between two checks.
const LOOK: Duration = Duration::from_millis(20);

/// The messages that were acknowledged, and those that each client has received.
#[derive(Debug)]
pub struct Progress {
    /// The highest acknowledged number of each conversation over both tenants.
    heads: Vec<AtomicU64>,
    acknowledged: AtomicU64,
    readers: Vec<Reader>,
    connected: AtomicUsize,
    /// Number of sends in a round.
    some: u64,
}

/// The progress of one client.
#[derive(Debug)]
struct Reader {
    /// Its conversations, as indexes of [`Progress::heads`].
    conversations: [usize; 2],
    /// The number of the last message that it received in each.
    shown: [AtomicU64; 2],
    connected: AtomicBool,
    /// `false` for a client that stops reading on purpose, which no round waits for.
    counts: bool,
}

impl Progress {
    /// The progress in this many conversations. Each reader is in two of them, and counts or not. All clients together send this many
    /// messages per second.
    pub fn of(
        conversations: usize,
        readers: impl Iterator<Item = ([usize; 2], bool)>,
        sends_per_second: f64,
    ) -> Self {
        let reader = |(conversations, counts)| Reader {
            conversations,
            shown: Default::default(),
            connected: AtomicBool::new(false),
            counts,
        };
        Self {
            heads: (0..conversations).map(|_| AtomicU64::new(0)).collect(),
            acknowledged: AtomicU64::new(0),
            readers: readers.map(reader).collect(),
            connected: AtomicUsize::new(0),
            some: (sends_per_second / 10.0).clamp(1.0, 20.0) as u64,
        }
    }

    /// Records that a client has connected or lost its connection.
    pub fn connected(&self, reader: usize, connected: bool) {
        if self.readers[reader].connected.swap(connected, Ordering::SeqCst) == connected {
            return;
        }
        if connected {
            self.connected.fetch_add(1, Ordering::SeqCst);
        } else {
            self.connected.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Number of connected clients.
    pub fn connections(&self) -> usize {
        self.connected.load(Ordering::SeqCst)
    }

    /// Records an acknowledged message.
    pub fn acknowledged(&self, conversation: usize, seq: u64) {
        self.heads[conversation].fetch_max(seq, Ordering::SeqCst);
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
    }

    /// Records the last messages that a client received in its two conversations.
    pub fn shown(&self, reader: usize, numbers: [u64; 2]) {
        for (shown, number) in self.readers[reader].shown.iter().zip(numbers) {
            shown.store(number, Ordering::SeqCst);
        }
    }

    /// Waits until some more messages were acknowledged and all connected clients have received them and everything before them. Returns
    /// how long that took, or `None` if it took longer than `limit`.
    pub async fn round(&self, limit: Duration) -> Option<Duration> {
        let begun = Instant::now();
        let enough = self.acknowledged.load(Ordering::SeqCst) + self.some;
        while self.acknowledged.load(Ordering::SeqCst) < enough {
            rest(begun, limit).await?;
        }
        let heads: Vec<u64> = self.heads.iter().map(|head| head.load(Ordering::SeqCst)).collect();
        while self.readers.iter().any(|reader| reader.is_behind(&heads)) {
            rest(begun, limit).await?;
        }
        Some(begun.elapsed())
    }

    /// Waits for a round that takes no longer than `longest`. Returns whether there was one within `limit`.
    pub async fn reaches(&self, longest: Duration, limit: Duration) -> bool {
        let begun = Instant::now();
        while let Some(left) = limit.checked_sub(begun.elapsed()) {
            if self.round(left).await.is_some_and(|took| took <= longest) {
                return true;
            }
        }
        false
    }
}

impl Reader {
    fn is_behind(&self, heads: &[u64]) -> bool {
        let short = |(shown, conversation): (&AtomicU64, usize)| {
            shown.load(Ordering::SeqCst) < heads.get(conversation).copied().unwrap_or(0)
        };
        self.counts
            && self.connected.load(Ordering::SeqCst)
            && self.shown.iter().zip(self.conversations).any(short)
    }
}

/// Sleeps until the next check. `None` if the limit has passed.
async fn rest(begun: Instant, limit: Duration) -> Option<()> {
    let left = limit.checked_sub(begun.elapsed()).filter(|left| !left.is_zero())?;
    tokio::time::sleep(LOOK.min(left)).await;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    /// Three clients of two conversations: the second does not count.
    fn progress() -> Progress {
        let progress = Progress::of(2, [true, false, true].map(|counts| ([0, 1], counts)).into_iter(), 10.0);
        (0..3).for_each(|reader| progress.connected(reader, true));
        progress
    }

    #[tokio::test]
    async fn a_round_is_over_when_everybody_connected_who_counts_was_shown_all() {
        let progress = progress();
        assert_eq!(progress.round(SOON).await, None, "nothing was said");
        let said = async {
            tokio::task::yield_now().await;
            progress.acknowledged(1, 4);
            progress.shown(0, [0, 4]);
            progress.shown(2, [0, 3]);
        };
        let (round, ()) = tokio::join!(progress.round(SOON), said);
        assert_eq!(round, None, "the third lacks a message");
        progress.connected(2, false);
        let said = async {
            tokio::task::yield_now().await;
            progress.acknowledged(0, 0);
        };
        let (round, ()) = tokio::join!(progress.round(Duration::from_secs(30)), said);
        assert!(round.is_some());
    }

    #[tokio::test]
    async fn who_connects_twice_is_counted_once() {
        let progress = progress();
        progress.connected(1, true);
        assert_eq!(progress.connections(), 3);
        progress.connected(1, false);
        progress.connected(1, false);
        assert_eq!(progress.connections(), 2);
        assert!(!progress.reaches(SOON, SOON).await);
    }
}
