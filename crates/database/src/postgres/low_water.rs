//! Where the live rows of a table begin that is used as a queue.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How far before the first live row a read begins. Positions are given before the commits of their rows, which come in another order.
const MARGIN: i64 = 10_000;
/// How long it is known where live rows begin. Then a read begins at the very beginning, and finds rows whose commits were overtaken by more than
/// [`MARGIN`] others.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// The position before which a queue's table has no live rows.
///
/// Whoever reads the first rows of a queue passes all those that were removed since the oldest snapshot that somebody holds: the database can't
/// clean them away. A lower bound of the position keeps it from that.
#[derive(Debug)]
pub struct LowWater {
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    position: i64,
    since: Instant,
}

impl Default for LowWater {
    fn default() -> Self {
        Self { known: Mutex::new(Known { position: i64::MIN, since: Instant::now() }) }
    }
}

impl LowWater {
    /// Returns the position at which the next read begins.
    #[must_use]
    pub fn position(&self) -> i64 {
        self.position_at(Instant::now())
    }

    /// Notes the position of the first row that a read has found, if there was one.
    pub fn note(&self, first: Option<i64>) {
        if let Some(first) = first {
            let mut known = self.known.lock();
            known.position = known.position.max(first.saturating_sub(MARGIN));
        }
    }

    fn position_at(&self, now: Instant) -> i64 {
        let mut known = self.known.lock();
        if now.saturating_duration_since(known.since) >= KNOWN_FOR {
            *known = Known { position: i64::MIN, since: now };
        }
        known.position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_begin_before_the_first_live_row_and_each_minute_at_the_beginning() {
        let (water, began) = (LowWater::default(), Instant::now());
        assert_eq!(water.position_at(began), i64::MIN);
        water.note(Some(50_000));
        water.note(None);
        assert_eq!(water.position_at(began), 50_000 - MARGIN);
        // A row whose commit took long.
        water.note(Some(45_000));
        assert_eq!(water.position_at(began), 50_000 - MARGIN);
        assert_eq!(water.position_at(began + KNOWN_FOR), i64::MIN);
        water.note(Some(45_000));
        assert_eq!(water.position_at(began + KNOWN_FOR), 45_000 - MARGIN);
    }
}
