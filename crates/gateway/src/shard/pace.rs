//! Limits on the commands and bytes of one connection.

use starling_rate::{Allowance, Rate};

/// The rates of each connection; `None` is no limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PaceLimits {
    pub commands: Option<Rate>,
    pub bytes: Option<Rate>,
}

/// A connection's allowances. Their clock is the shard's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    commands: Allowance,
    bytes: Allowance,
}

impl Pace {
    /// Charges one command. `Err`: how long to wait, milliseconds.
    pub fn command(&mut self, now_us: u64, limits: PaceLimits) -> Result<(), u64> {
        let Some(rate) = limits.commands else { return Ok(()) };
        self.commands.take(now_us, rate).map_err(|us| us.div_ceil(1_000))
    }

    /// Charges some bytes. Bytes that have come can't be refused, so it returns for how long nothing more must be read, microseconds.
    pub fn bytes(&mut self, now_us: u64, bytes: usize, limits: PaceLimits) -> u64 {
        limits.bytes.map_or(0, |rate| self.bytes.charge(now_us, bytes as u64, rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_refused_and_bytes_are_read_later() {
        let limits = PaceLimits { commands: Rate::per_second(50), bytes: Rate::per_second(1_000) };
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
