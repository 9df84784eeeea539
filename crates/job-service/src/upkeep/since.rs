//! Where looks at scheduled jobs, leases and ended jobs begin.

use std::time::Duration;

use tokio::time::Instant;

/// How long looks go on where the one before ended. A transaction that takes longer than a minute to commit, such as one that waits for a
/// standby, adds its jobs behind them. So they begin at the beginning again from time to time.
const GO_ON_MAX: Duration = Duration::from_secs(60);

/// The times at which the next looks begin, for as long as they are valid.
#[derive(Debug)]
pub(super) struct Since<T> {
    /// At the beginning, all of them are the default.
    pub times: T,
    began_at: Instant,
}

impl<T: Default> Since<T> {
    /// Begins at the beginning.
    pub fn new(now: Instant) -> Self {
        Self { times: T::default(), began_at: now }
    }

    /// Begins at the beginning again if the looks have gone on for a while.
    pub fn renew(&mut self, now: Instant) {
        if now.saturating_duration_since(self.began_at) >= GO_ON_MAX {
            *self = Self::new(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_begin_at_the_beginning_again_after_a_minute() {
        let began_at = Instant::now();
        let mut since: Since<i64> = Since::new(began_at);
        since.times = 7;
        since.renew(began_at + GO_ON_MAX / 2);
        assert_eq!(since.times, 7);
        since.renew(began_at + GO_ON_MAX);
        assert_eq!(since.times, 0);
        since.times = 8;
        since.renew(began_at + GO_ON_MAX + GO_ON_MAX / 2);
        assert_eq!(since.times, 8, "the minute begins anew");
    }
}
