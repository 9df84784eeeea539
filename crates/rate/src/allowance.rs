use crate::{Line, Rate};

/// What one subject has left of a rate. A new one is whole. Times are microseconds on the owner's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Time at which it is whole again (the algorithm's theoretical arrival time).
    whole_at_us: u64,
    /// The cells that were refused.
    line: Line,
}

impl Allowance {
    /// Returns the allowance that is whole again at this time, for an owner who keeps it elsewhere as [`Self::whole_at_us`].
    #[must_use]
    pub fn whole_at(whole_at_us: u64) -> Self {
        Self { whole_at_us, line: Line::default() }
    }

    /// Returns the time at which it is whole again.
    #[must_use]
    pub fn whole_at_us(&self) -> u64 {
        self.whole_at_us
    }

    /// Takes one cell.
    ///
    /// # Errors
    /// The time to wait, microseconds, if none is left.
    pub fn take(&mut self, now_us: u64, rate: Rate) -> Result<(), u64> {
        let due_us = self.whole_at_us.max(now_us);
        let early_us = (due_us - now_us).saturating_sub(rate.tolerance_us());
        if early_us > 0 {
            return Err(self.line.place(now_us, early_us, rate));
        }
        self.whole_at_us = due_us.saturating_add(rate.interval_us());
        Ok(())
    }

    /// Takes any number of cells without a refusal. Returns the time, in microseconds, until at most one period's cells are owed.
    pub fn charge(&mut self, now_us: u64, cells: u64, rate: Rate) -> u64 {
        self.whole_at_us = self.whole_at_us.max(now_us).saturating_add(rate.cost_us(cells));
        (self.whole_at_us - now_us).saturating_sub(rate.period_us())
    }

    /// Forgives the debt beyond one burst. For clocks that may be set back: no subject is locked out for longer than a burst takes to come
    /// back.
    pub fn cap(&mut self, now_us: u64, rate: Rate) {
        let latest_us = now_us.saturating_add(rate.tolerance_us() + rate.interval_us());
        self.whole_at_us = self.whole_at_us.min(latest_us);
    }

    /// Returns whether nothing is taken. Then it need not be kept.
    pub fn is_whole(&self, now_us: u64) -> bool {
        self.whole_at_us <= now_us
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    const SECOND_US: u64 = 1_000_000;

    fn rate(count: u32, period: Duration) -> Rate {
        Rate::new(count, period).unwrap()
    }

    fn per_second(count: u32) -> Rate {
        Rate::per_second(count).unwrap()
    }

    #[test]
    fn an_allowance_goes_on_where_it_was_kept() {
        let rate = per_second(10).with_burst(2);
        let mut first = Allowance::default();
        first.take(SECOND_US, rate).unwrap();
        first.take(SECOND_US, rate).unwrap();
        let mut kept = Allowance::whole_at(first.whole_at_us());
        assert_eq!(kept.take(SECOND_US, rate), Err(100_000));
        assert_eq!(kept.take(SECOND_US + 100_000, rate), Ok(()));
    }

    #[test]
    fn a_burst_of_a_second_is_allowed_and_then_the_rate_holds() {
        let mut allowance = Allowance::default();
        assert!((0..50).all(|_| allowance.take(0, per_second(50)).is_ok()));
        assert_eq!(allowance.take(0, per_second(50)), Err(20_000));
        assert_eq!(allowance.take(20_000, per_second(50)), Ok(()));
        assert!(!allowance.is_whole(1_019_999) && allowance.is_whole(1_020_000));
    }

    #[test]
    fn a_smaller_burst_leaves_the_rest_to_others() {
        let (half, whole) = (per_second(100).with_burst(50), per_second(100));
        let mut allowance = Allowance::default();
        let mut taken = |rate| (0..1_000).take_while(|_| allowance.take(0, rate).is_ok()).count();
        assert_eq!((taken(half), taken(half), taken(whole)), (50, 0, 50));
        let none = per_second(1).with_burst(0);
        assert_eq!(Allowance::default().take(0, none), Ok(()), "one cell is had of a whole allowance");
    }

    #[test]
    fn more_than_one_a_millisecond_is_counted_too() {
        let rate = rate(70_000, Duration::from_secs(60));
        let mut allowance = Allowance::default();
        assert!((0..70_000).all(|_| allowance.take(0, rate).is_ok()));
        assert_eq!(allowance.take(0, rate), Err(858));
        assert_eq!(allowance.take(858, rate), Ok(()));
    }

    #[test]
    fn never_more_than_the_rate_and_one_burst_of_it() {
        // 7 does not divide the period.
        let rate = rate(7, Duration::from_secs(1));
        let mut allowance = Allowance::default();
        let taken = (0..10_000_000).step_by(500).filter(|now_us| allowance.take(*now_us, rate).is_ok());
        assert_eq!(taken.count(), 7 + 69, "7 at once, then 7 per second for 10 s, less what rounding costs");
    }

    #[test]
    fn each_who_is_refused_has_a_place_of_its_own_and_the_line_has_an_end() {
        let mut allowance = Allowance::default();
        while allowance.take(0, per_second(50)).is_ok() {}
        let places: Vec<u64> = (0..2_000).filter_map(|_| allowance.take(0, per_second(50)).err()).collect();
        assert_eq!(places[..3], [40_000, 60_000, 80_000], "20 ms was the one before");
        assert_eq!(places[1_498..], [30_000_000; 502]);
        // Nobody came back.
        assert_eq!(allowance.take(60_000_000, per_second(50)), Ok(()));
        while allowance.take(60_000_000, per_second(50)).is_ok() {}
        assert_eq!(allowance.take(60_000_000, per_second(50)), Err(40_000), "an old line is over");
    }

    #[test]
    fn the_line_of_other_rates_is_a_period_long() {
        let rate = rate(3, Duration::from_secs(3));
        let mut allowance = Allowance::default();
        let verdicts: Vec<_> = (0..8).map(|_| allowance.take(0, rate)).collect();
        let places = [SECOND_US, 2 * SECOND_US, 3 * SECOND_US, 3 * SECOND_US, 3 * SECOND_US];
        assert_eq!(verdicts[..3], [Ok(()); 3]);
        assert_eq!(verdicts[3..], places.map(Err));
    }

    #[test]
    fn of_those_who_come_when_told_to_nobody_is_refused_twice() {
        // Callers, who may be late by so many milliseconds, and the rate.
        for (callers, late_ms_max, rate) in
            [(400, 1_000, per_second(50)), (200, 2_000, rate(100, Duration::from_secs(60)))]
        {
            let mut allowance = Allowance::default();
            let mut coming: BTreeSet<(u64, u64)> = (0..callers).map(|n| (0, n)).collect();
            let (mut refused, mut last_us) = (0, 0);
            while let Some((now_us, n)) = coming.pop_first() {
                last_us = now_us;
                if let Err(away_us) = allowance.take(now_us, rate) {
                    refused += 1;
                    coming.insert((now_us + away_us + n * 7_919 % late_ms_max * 1_000, n));
                }
            }
            let burst = (rate.tolerance_us() / rate.interval_us()) + 1;
            assert_eq!(refused, callers - burst);
            let needed_us = (callers - burst) * rate.interval_us();
            assert!(last_us <= needed_us + late_ms_max * 1_000, "{last_us}");
        }
    }

    #[test]
    fn what_was_charged_beyond_the_burst_is_waited_for() {
        let mut allowance = Allowance::default();
        assert_eq!(allowance.charge(0, 100, per_second(100)), 0);
        assert_eq!(allowance.charge(0, 50, per_second(100)), 500_000);
        assert_eq!(allowance.take(0, per_second(100)), Err(510_000));
        assert_eq!(allowance.take(510_000, per_second(100)), Ok(()));
    }

    #[test]
    fn a_clock_set_back_locks_nobody_out() {
        let rate = rate(1, Duration::from_secs(1));
        let mut allowance = Allowance::default();
        assert_eq!(allowance.take(3_600 * SECOND_US, rate), Ok(()));
        assert!(allowance.take(3_600 * SECOND_US, rate).is_err());
        allowance.cap(0, rate);
        assert_eq!(allowance.take(0, rate), Err(SECOND_US));
    }
}
