//! How far everybody is, while they are under way: so that a fault can last until it was felt, and is over when all is as before.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// What was acknowledged to anybody and shown to everybody.
#[derive(Debug)]
pub struct Pulse {
    /// By conversation over both tenants: the highest number that was acknowledged.
    heads: Vec<AtomicU64>,
    acknowledged: AtomicU64,
    readers: Vec<Reader>,
    connected: AtomicUsize,
    /// So many sends are a sign of life.
    some: u64,
}

/// One client.
#[derive(Debug)]
struct Reader {
    /// Where it is, by the index of [`Pulse::heads`].
    conversations: [usize; 2],
    /// How far it was shown them.
    shown: [AtomicU64; 2],
    connected: AtomicBool,
    /// One that stops reading now and then is nobody to wait for.
    counts: bool,
}

impl Pulse {
    /// Of so many conversations, of clients that are each in two of them and that count or not, and that send so many messages a
    /// second all together.
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

    /// Takes note that a client is connected, or is not any more.
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

    /// How many are connected.
    pub fn connections(&self) -> usize {
        self.connected.load(Ordering::SeqCst)
    }

    /// Takes note that a message was acknowledged.
    pub fn acknowledged(&self, conversation: usize, seq: u64) {
        self.heads[conversation].fetch_max(seq, Ordering::SeqCst);
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes note of how far a client was shown its two conversations.
    pub fn shown(&self, reader: usize, numbers: [u64; 2]) {
        for (shown, number) in self.readers[reader].shown.iter().zip(numbers) {
            shown.store(number, Ordering::SeqCst);
        }
    }

    /// Waits until some more messages were acknowledged, and those and all before them were shown to everybody who is connected.
    /// Returns how long that took; none when it has not happened within `limit`.
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

    /// Waits for a round that takes no longer than `pace`. Returns whether there was one within `limit`.
    pub async fn reaches(&self, pace: Duration, limit: Duration) -> bool {
        let begun = Instant::now();
        while let Some(left) = limit.checked_sub(begun.elapsed()) {
            if self.round(left).await.is_some_and(|took| took <= pace) {
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

/// None when the time is over.
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
    fn pulse() -> Pulse {
        let pulse = Pulse::of(2, [true, false, true].map(|counts| ([0, 1], counts)).into_iter(), 10.0);
        (0..3).for_each(|reader| pulse.connected(reader, true));
        pulse
    }

    #[tokio::test]
    async fn a_round_is_over_when_everybody_connected_who_counts_was_shown_all() {
        let pulse = pulse();
        assert_eq!(pulse.round(SOON).await, None, "nothing was said");
        let said = async {
            tokio::task::yield_now().await;
            pulse.acknowledged(1, 4);
            pulse.shown(0, [0, 4]);
            pulse.shown(2, [0, 3]);
        };
        let (round, ()) = tokio::join!(pulse.round(SOON), said);
        assert_eq!(round, None, "the third lacks a message");
        pulse.connected(2, false);
        let said = async {
            tokio::task::yield_now().await;
            pulse.acknowledged(0, 0);
        };
        let (round, ()) = tokio::join!(pulse.round(Duration::from_secs(30)), said);
        assert!(round.is_some());
    }

    #[tokio::test]
    async fn who_connects_twice_is_counted_once() {
        let pulse = pulse();
        pulse.connected(1, true);
        assert_eq!(pulse.connections(), 3);
        pulse.connected(1, false);
        pulse.connected(1, false);
        assert_eq!(pulse.connections(), 2);
        assert!(!pulse.reaches(SOON, SOON).await);
    }
}
