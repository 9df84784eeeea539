//! The generic cell rate algorithm (ITU-T I.371), which every rate of the gateway goes by, in 8 bytes.

/// A second, microseconds: how much of a rate may come as one burst.
pub(crate) const BURST_US: u64 = 1_000_000;

/// When an allowance is whole again (the algorithm's theoretical arrival time), microseconds since a moment of its owner's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allowance(u64);

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
        let (next, latest) = (self.0.max(now_us) + cost, now_us + burst_us.max(cost));
        if next > latest {
            return Err(next - latest);
        }
        self.0 = next;
        Ok(())
    }

    /// Takes cells that can't be refused any more. Answers how long it is until something can be had again, microseconds.
    pub fn charge(&mut self, now_us: u64, cells: u64, per_second: u32) -> u64 {
        if per_second == 0 {
            return 0;
        }
        self.0 = self.0.max(now_us) + cost_us(cells, per_second);
        (self.0 - now_us).saturating_sub(BURST_US)
    }

    /// Whether nothing of it is used up: then it need not be remembered.
    pub fn is_whole(self, now_us: u64) -> bool {
        self.0 <= now_us
    }
}

fn cost_us(cells: u64, per_second: u32) -> u64 {
    cells.saturating_mul(1_000_000) / u64::from(per_second)
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
