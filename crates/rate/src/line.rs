use crate::Rate;

/// The line of those who were refused: the last place that was given, in microseconds on its owner's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line(u64);

impl Line {
    /// Gives the next place: one interval of the rate behind the last one, at least `first_us` from now, and at most at the end of the
    /// line. Returns how far away it is, microseconds.
    pub fn place(&mut self, now_us: u64, first_us: u64, rate: Rate) -> u64 {
        let next_us = self.0.saturating_add(rate.interval_us());
        let away_us = next_us.saturating_sub(now_us).clamp(first_us, rate.line_us().max(first_us));
        self.0 = now_us.saturating_add(away_us);
        away_us
    }
}
