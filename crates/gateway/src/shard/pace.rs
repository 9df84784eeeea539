//! Limits on the commands and bytes of one connection.

use starling_rate::{Allowance, Rate};

/// Rates of one connection; 0: no limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PaceLimits {
    /// Commands per second, with a burst of as many.
    pub commands_per_second: u32,
    /// Bytes per second, with a burst of as many.
    pub bytes_per_second: u32,
}

/// A connection's allowances. Their clock is the shard's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    commands: Allowance,
    bytes: Allowance,
}

impl Pace {
    /// Takes one command. `Err`: how long to wait, milliseconds.
    pub fn command(&mut self, now_us: u64, limits: PaceLimits) -> Result<(), u64> {
        let Some(rate) = Rate::per_second(limits.commands_per_second) else { return Ok(()) };
        self.commands.take(now_us, rate).map_err(|us| us.div_ceil(1_000))
    }

    /// Takes some bytes. Bytes that have come can't be refused, so it returns how long to read no further, microseconds.
    pub fn bytes(&mut self, now_us: u64, bytes: usize, limits: PaceLimits) -> u64 {
        Rate::per_second(limits.bytes_per_second)
            .map_or(0, |rate| self.bytes.charge(now_us, bytes as u64, rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_refused_and_bytes_are_read_later() {
        let limits = PaceLimits { commands_per_second: 50, bytes_per_second: 1_000 };
        let mut pace = Pace::default();
        for _ in 0..50 {
            assert_eq!(pace.command(0, limits), Ok(()));
        }
        assert_eq!(pace.command(0, limits), Err(20));
        assert_eq!(pace.command(20_000, limits), Ok(()));
        assert_eq!(pace.bytes(0, 1_000, limits), 0);
        assert_eq!(pace.bytes(0, 500, limits), 500_000);
    }
}
