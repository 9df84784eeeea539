//! The generic cell rate algorithm of ITU-T I.371 (annex A, "virtual scheduling"), in whole microseconds.
//!
//! Kept per user is the *theoretical arrival time*: when the next cell is due if all came evenly. A cell may come earlier than that by
//! at most the tolerance, which is chosen such that a whole allowance may come at once.
//!
//! Cells that are refused stand in a line: each is told a time of its own, an interval after the one before it. If all come back when
//! they were told to, each finds its place free, and none is refused twice. The line is at most a period long; whoever is told to come
//! back at its end may be refused again.

use crate::{Allowance, Verdict};

/// A year: longer periods are counted as this one, so that microseconds never overflow.
const PERIOD_MS_MAX: u64 = 366 * 24 * 60 * 60 * 1000;

/// An allowance as the algorithm counts it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cells {
    /// Between two cells that come evenly. Rounded up, so that never more than the allowance passes; whole numbers stay exact.
    pub(crate) interval_us: i64,
    /// How much too early a cell may come.
    pub(crate) tolerance_us: i64,
}

impl Cells {
    /// Reads an allowance; or answers the verdict that holds at any time.
    pub(crate) fn of(allowance: Allowance) -> Result<Self, Verdict> {
        match allowance {
            Allowance { count: 0, period_ms } => Err(Verdict::Denied { retry_after_ms: period_ms.max(1) }),
            Allowance { period_ms: 0, .. } => Err(Verdict::Allowed),
            Allowance { count, period_ms } => {
                let period_us = i64::try_from(period_ms.min(PERIOD_MS_MAX)).unwrap_or(0) * 1000;
                let interval_us = (period_us + i64::from(count) - 1) / i64::from(count);
                Ok(Self { interval_us, tolerance_us: interval_us * (i64::from(count) - 1) })
            }
        }
    }
}

/// What is kept of a user between two cells, microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    /// When the next cell is due.
    pub(crate) due_us: i64,
    /// The last place in the line that was given to a refused cell.
    pub(crate) place_us: i64,
}

/// Decides on one more cell at `now_us`, with what was kept from the last one (`None`: none lately). Answers the verdict, and what to
/// keep. The script `take.lua` calculates the same.
pub(crate) fn take(kept: Option<Kept>, now_us: i64, cells: Cells) -> (Verdict, Kept) {
    // A clock that was set back must not lock anybody out for longer than a period.
    let latest_us = now_us + cells.tolerance_us + cells.interval_us;
    let Kept { due_us, place_us } = kept.unwrap_or(Kept { due_us: now_us, place_us: now_us });
    let due_us = due_us.clamp(now_us, latest_us);
    let early_us = due_us - now_us - cells.tolerance_us;
    if early_us <= 0 {
        return (Verdict::Allowed, Kept { due_us: due_us + cells.interval_us, place_us });
    }
    let place_us = (place_us.min(latest_us) + cells.interval_us).clamp(now_us + early_us, latest_us);
    (denied(place_us - now_us), Kept { due_us, place_us })
}

/// The verdict on a cell that has a place so far ahead.
pub(crate) fn denied(away_us: i64) -> Verdict {
    Verdict::Denied { retry_after_ms: away_us.unsigned_abs().div_ceil(1000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One user.
    #[derive(Default)]
    struct User(Option<Kept>);

    impl User {
        fn take(&mut self, now_us: i64, cells: Cells) -> Verdict {
            let (verdict, kept) = take(self.0, now_us, cells);
            self.0 = Some(kept);
            verdict
        }
    }

    fn cells(count: u32, period_ms: u64) -> Cells {
        Cells::of(Allowance { count, period_ms }).unwrap()
    }

    #[test]
    fn a_whole_allowance_at_once_then_one_per_interval() {
        let cells = cells(3, 3_000);
        let mut user = User::default();
        for _ in 0..3 {
            assert_eq!(user.take(0, cells), Verdict::Allowed);
        }
        assert_eq!(user.take(0, cells), Verdict::Denied { retry_after_ms: 1_000 });
        assert_eq!(user.take(1_000_000, cells), Verdict::Allowed);
        assert_eq!(user.take(1_000_000, cells), Verdict::Denied { retry_after_ms: 1_000 });
    }

    #[test]
    fn each_who_is_refused_has_a_place_of_its_own_and_the_line_is_a_period_long() {
        let cells = cells(3, 3_000);
        let mut user = User::default();
        let verdicts: Vec<_> = (0..8).map(|_| user.take(0, cells)).collect();
        let away = |ms| Verdict::Denied { retry_after_ms: ms };
        let allowed = [Verdict::Allowed; 3];
        assert_eq!(
            verdicts,
            [&allowed[..], &[away(1_000), away(2_000), away(3_000), away(3_000), away(3_000)]].concat()
        );
        // Nobody came back: those places are over, and the next one is refused until a cell is due, not longer.
        assert_eq!(user.take(60_000_000, cells), Verdict::Allowed);
    }

    #[test]
    fn who_comes_when_told_to_is_refused_once_at_most() {
        let cells = cells(100, 60_000);
        let mut user = User::default();
        let mut coming: std::collections::BTreeSet<(i64, u32)> = (0..200).map(|n| (0, n)).collect();
        let mut refused = 0;
        while let Some((now_us, n)) = coming.pop_first() {
            if let Verdict::Denied { retry_after_ms } = user.take(now_us, cells) {
                refused += 1;
                // Some are late, by up to two seconds.
                let late_us = i64::from(n * 7_919 % 2_000) * 1_000;
                coming.insert((now_us + retry_after_ms as i64 * 1_000 + late_us, n));
            }
        }
        assert_eq!(refused, 100);
    }

    #[test]
    fn never_more_than_the_allowance_and_one_period_of_it() {
        // 7 does not divide the period.
        let cells = cells(7, 1_000);
        let mut user = User::default();
        let taken =
            (0..10_000_000).step_by(500).filter(|now_us| user.take(*now_us, cells) == Verdict::Allowed);
        assert_eq!(taken.count(), 7 + 69, "7 at once, then 7 per second for 10 s, less what rounding costs");
    }

    #[test]
    fn a_clock_set_back_locks_nobody_out() {
        let later = Some(Kept { due_us: 3_600_000_000, place_us: 3_700_000_000 });
        assert_eq!(take(later, 0, cells(1, 1_000)).0, Verdict::Denied { retry_after_ms: 1_000 });
    }

    #[test]
    fn nothing_allowed_and_no_period() {
        let verdict = |count, period_ms| Cells::of(Allowance { count, period_ms }).err();
        assert_eq!(verdict(0, 50), Some(Verdict::Denied { retry_after_ms: 50 }));
        assert_eq!(verdict(1, 0), Some(Verdict::Allowed));
        assert_eq!(verdict(1, 1), None);
    }
}
