use crate::Rate;

/// The line of refused cells, as the time of the last place, in microseconds on the owner's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line(u64);

impl Line {
    /// Assigns the next place: one interval after the last one, at least `first_us` from now, and at most at the end of the line. Returns the
    /// time until then, microseconds.
    pub fn place(&mut self, now_us: u64, first_us: u64, rate: Rate) -> u64 {
        let next_us = self.0.saturating_add(rate.interval_us());
        let away_us = next_us.saturating_sub(now_us).clamp(first_us, rate.line_us().max(first_us));
        self.0 = now_us.saturating_add(away_us);
        away_us
    }
}
