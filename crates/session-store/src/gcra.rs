//! The generic cell rate algorithm of ITU-T I.371 (annex A, "virtual scheduling"), in whole microseconds.
//!
//! Kept per user is one number, the *theoretical arrival time*: when the next cell is due if all came evenly. A cell may come
//! earlier than that by at most the tolerance, which is chosen such that a whole allowance may come at once.

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

/// Decides on one more cell at `now_us`, with `due_us` as kept from the last one (`None`: none lately). Answers the
/// verdict, and the due time to keep when it is allowed. The script `take.lua` calculates the same.
pub(crate) fn take(due_us: Option<i64>, now_us: i64, cells: Cells) -> (Verdict, i64) {
    // A clock that was set back must not lock anybody out for longer than a period.
    let latest_us = now_us + cells.tolerance_us + cells.interval_us;
    let due_us = due_us.unwrap_or(now_us).clamp(now_us, latest_us);
    let early_us = due_us - now_us - cells.tolerance_us;
    if early_us > 0 { (denied(early_us), due_us) } else { (Verdict::Allowed, due_us + cells.interval_us) }
}

/// The verdict on a cell that is this much too early.
pub(crate) fn denied(early_us: i64) -> Verdict {
    Verdict::Denied { retry_after_ms: early_us.unsigned_abs().div_ceil(1000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_allowance_at_once_then_one_per_interval() {
        let cells = Cells::of(Allowance { count: 3, period_ms: 3_000 }).unwrap();
        let mut due = None;
        for _ in 0..3 {
            let (verdict, next) = take(due, 0, cells);
            assert_eq!(verdict, Verdict::Allowed);
            due = Some(next);
        }
        assert_eq!(take(due, 0, cells).0, Verdict::Denied { retry_after_ms: 1_000 });
        assert_eq!(take(due, 999_001, cells).0, Verdict::Denied { retry_after_ms: 1 });
        let (verdict, next) = take(due, 1_000_000, cells);
        assert_eq!(verdict, Verdict::Allowed);
        assert_eq!(take(Some(next), 1_000_000, cells).0, Verdict::Denied { retry_after_ms: 1_000 });
    }

    #[test]
    fn never_more_than_the_allowance_and_one_period_of_it() {
        // 7 does not divide the period.
        let cells = Cells::of(Allowance { count: 7, period_ms: 1_000 }).unwrap();
        let (mut due, mut allowed) = (None, 0);
        for now_us in (0..10_000_000).step_by(500) {
            let (verdict, next) = take(due, now_us, cells);
            if verdict == Verdict::Allowed {
                allowed += 1;
                due = Some(next);
            }
        }
        assert_eq!(allowed, 7 + 69, "7 at once, then 7 per second for 10 s, less what rounding costs");
    }

    #[test]
    fn a_clock_set_back_locks_nobody_out() {
        let cells = Cells::of(Allowance { count: 1, period_ms: 1_000 }).unwrap();
        let due = Some(3_600_000_000);
        assert_eq!(take(due, 0, cells).0, Verdict::Denied { retry_after_ms: 1_000 });
    }

    #[test]
    fn nothing_allowed_and_no_period() {
        let verdict = |count, period_ms| Cells::of(Allowance { count, period_ms }).err();
        assert_eq!(verdict(0, 50), Some(Verdict::Denied { retry_after_ms: 50 }));
        assert_eq!(verdict(1, 0), Some(Verdict::Allowed));
        assert_eq!(verdict(1, 1), None);
    }
}
