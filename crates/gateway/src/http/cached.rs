//! An answer that is kept for a moment, so that however many ask cost one look.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// Cached value and the time when it was computed.
pub(super) struct Cached<T> {
    lifetime: Duration,
    /// Locked while a new value is computed: one caller computes it, the others wait for the result.
    answer: Mutex<Option<(Instant, T)>>,
}

impl<T: Clone> Cached<T> {
    /// Creates a cache with this lifetime.
    pub(super) fn new(lifetime: Duration) -> Cached<T> {
        Cached { lifetime, answer: Mutex::new(None) }
    }

    /// Returns the cached value, or computes a new one with `look`.
    pub(super) async fn get(&self, look: impl Future<Output = T>) -> T {
        let mut kept = self.answer.lock().await;
        if let Some((at, answer)) = &*kept
            && at.elapsed() < self.lifetime
        {
            return answer.clone();
        }
        let answer = look.await;
        *kept = Some((Instant::now(), answer.clone()));
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_cost_one_look_per_lifetime() {
        let (kept, looks) = (Cached::new(Duration::from_secs(1)), AtomicU32::new(0));
        let look = || async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            looks.fetch_add(1, Ordering::Relaxed) + 1
        };
        for round in 1..=3 {
            let answers = futures_util::future::join_all((0..100).map(|_| kept.get(look()))).await;
            assert_eq!(answers, vec![round; 100]);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_gives_up_leaves_the_way_free() {
        let kept = Cached::new(Duration::from_secs(1));
        let hangs = kept.get(std::future::pending::<u32>());
        assert!(tokio::time::timeout(Duration::from_millis(1), hangs).await.is_err());
        assert_eq!(kept.get(async { 7 }).await, 7);
    }
}
