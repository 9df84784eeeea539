//! The generic cell rate algorithm (ITU-T I.371), which every rate of the gateway goes by, and the line of those who are refused.
//!
//! Everybody who is refused is told a time of its own, one interval after the one before. If all come back when they were told to, each
//! finds its place free and is not refused again; were all told when the next place is free, all but one of them would be.

use std::time::Duration;

/// A second, microseconds: how much of a rate may come as one burst.
pub(crate) const BURST_US: u64 = 1_000_000;
/// How long a line is: nobody is told to come back later than this, unless nothing is free before.
const LINE_MAX: Duration = Duration::from_secs(30);

/// What is left of a rate. Times are microseconds since a moment of its owner's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allowance {
    /// When it is whole again (the algorithm's theoretical arrival time).
    whole_at_us: u64,
    /// Those who were refused.
    line: Line,
}

/// The last place that was given to somebody who was refused, microseconds since a moment of its owner's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Line(u64);

impl Line {
    /// Gives a place: one step behind the last one, not earlier than `first_us` from now, and at the end of the line at most. Answers how
    /// far it is from now, microseconds.
    pub fn place(&mut self, now_us: u64, first_us: u64, step_us: u64) -> u64 {
        let max_us = u64::try_from(LINE_MAX.as_micros()).unwrap_or(u64::MAX);
        let away_us =
            self.0.saturating_add(step_us).saturating_sub(now_us).clamp(first_us, max_us.max(first_us));
        self.0 = now_us.saturating_add(away_us);
        away_us
    }
}

impl Allowance {
    /// Takes so many cells of `per_second` (0: no limit), with a burst of a second. `Err`: how long to wait, microseconds.
    pub fn take(&mut self, now_us: u64, cells: u64, per_second: u32) -> Result<(), u64> {
        self.take_within(now_us, cells, per_second, BURST_US)
    }

    /// As [`Allowance::take`], with a burst of so many microseconds; one cell is always had of a whole allowance.
    pub fn take_within(
        &mut self,
        now_us: u64,
        cells: u64,
        per_second: u32,
        burst_us: u64,
    ) -> Result<(), u64> {
        if per_second == 0 {
            return Ok(());
        }
        let cost = cost_us(cells, per_second);
        let (next, latest) = (self.whole_at_us.max(now_us) + cost, now_us + burst_us.max(cost));
        if next > latest {
            return Err(self.line.place(now_us, next - latest, cost));
        }
        self.whole_at_us = next;
        Ok(())
    }

    /// Takes cells that can't be refused any more. Answers how long it is until something can be had again, microseconds.
    pub fn charge(&mut self, now_us: u64, cells: u64, per_second: u32) -> u64 {
        if per_second == 0 {
            return 0;
        }
        self.whole_at_us = self.whole_at_us.max(now_us) + cost_us(cells, per_second);
        (self.whole_at_us - now_us).saturating_sub(BURST_US)
    }

    /// Whether nothing of it is used up: then it need not be remembered.
    pub fn is_whole(&self, now_us: u64) -> bool {
        self.whole_at_us <= now_us
    }
}

/// How long a rate takes to give so many cells, microseconds; nothing where there is no limit.
pub(crate) fn cost_us(cells: u64, per_second: u32) -> u64 {
    cells.saturating_mul(1_000_000).checked_div(u64::from(per_second)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_a_second_is_allowed_and_then_the_rate_holds() {
        let mut allowance = Allowance::default();
        assert!((0..50).all(|_| allowance.take(0, 1, 50).is_ok()));
        assert_eq!(allowance.take(0, 1, 50), Err(20_000));
        assert_eq!(allowance.take(20_000, 1, 50), Ok(()));
        assert!(!allowance.is_whole(1_019_999) && allowance.is_whole(1_020_000));
    }

    #[test]
    fn each_who_is_refused_has_a_place_of_its_own_and_the_line_has_an_end() {
        let mut allowance = Allowance::default();
        while allowance.take(0, 1, 50).is_ok() {}
        let places: Vec<u64> = (0..2_000).filter_map(|_| allowance.take(0, 1, 50).err()).collect();
        assert_eq!(places[..3], [40_000, 60_000, 80_000], "20 ms was the one before");
        assert_eq!(places[1_498..], [30_000_000; 502]);
        // Nobody came back.
        assert_eq!(allowance.take(60_000_000, 1, 50), Ok(()));
        while allowance.take(60_000_000, 1, 50).is_ok() {}
        assert_eq!(allowance.take(60_000_000, 1, 50), Err(40_000), "an old line is over");
    }

    #[test]
    fn of_those_who_come_when_told_to_nobody_is_refused_twice() {
        const RATE: u32 = 50;
        let mut allowance = Allowance::default();
        let mut coming: std::collections::BTreeSet<(u64, u64)> = (0..400).map(|n| (0, n)).collect();
        let (mut refused, mut last) = (0, 0);
        while let Some((now, n)) = coming.pop_first() {
            last = now;
            if let Err(away) = allowance.take(now, 1, RATE) {
                refused += 1;
                // Some are late, by up to a second.
                coming.insert((now + away + n * 7_919 % 1_000 * 1_000, n));
            }
        }
        assert_eq!(refused, 350);
        assert!(last <= 8_000_000, "{last}");
    }

    #[test]
    fn what_was_charged_beyond_the_burst_is_waited_for() {
        let mut allowance = Allowance::default();
        assert_eq!(allowance.charge(0, 100, 100), 0);
        assert_eq!(allowance.charge(0, 50, 100), 500_000);
        assert_eq!(allowance.take(0, 1, 100), Err(510_000));
        assert_eq!(allowance.take(510_000, 1, 100), Ok(()));
    }

    #[test]
    fn no_limit_is_no_limit() {
        let mut allowance = Allowance::default();
        assert!((0..10_000).all(|_| allowance.take(0, 1_000, 0).is_ok()));
        assert_eq!(allowance.charge(0, 1 << 40, 0), 0);
        assert!(allowance.is_whole(0));
    }
}
