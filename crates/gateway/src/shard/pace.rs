//! How fast a connection may command: the generic cell rate algorithm (ITU-T I.371) in 16 bytes.

/// Rates of one connection; 0: none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PaceLimits {
    /// Commands per second, with a burst of as many.
    pub commands_per_second: u32,
    /// Bytes per second, with a burst of as many.
    pub bytes_per_second: u32,
}

/// When a connection's allowances are whole again, microseconds since the shard's start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    commands_until_us: u64,
    bytes_until_us: u64,
}

impl Pace {
    /// Takes one command; `Err`: how long to wait, milliseconds.
    pub fn command(&mut self, now_us: u64, limits: PaceLimits) -> Result<(), u64> {
        take(&mut self.commands_until_us, now_us, 1, limits.commands_per_second)
    }

    /// Takes some bytes. Bytes that have come can't be refused: answers how long not to read further, microseconds.
    pub fn bytes(&mut self, now_us: u64, bytes: usize, limits: PaceLimits) -> u64 {
        if limits.bytes_per_second == 0 {
            return 0;
        }
        let cost = bytes as u64 * 1_000_000 / u64::from(limits.bytes_per_second);
        self.bytes_until_us = self.bytes_until_us.max(now_us) + cost;
        (self.bytes_until_us - now_us).saturating_sub(1_000_000)
    }
}

fn take(until_us: &mut u64, now_us: u64, cells: u64, per_second: u32) -> Result<(), u64> {
    if per_second == 0 {
        return Ok(());
    }
    let next = (*until_us).max(now_us) + cells * 1_000_000 / u64::from(per_second);
    if next > now_us + 1_000_000 {
        return Err((next - now_us - 1_000_000).div_ceil(1_000));
    }
    *until_us = next;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_a_second_is_allowed_and_then_the_rate_holds() {
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

    #[test]
    fn no_limit_is_no_limit() {
        let limits = PaceLimits { commands_per_second: 0, bytes_per_second: 0 };
        let mut pace = Pace::default();
        assert!((0..10_000).all(|_| pace.command(0, limits).is_ok()));
        assert_eq!(pace.bytes(0, 1 << 30, limits), 0);
    }
}
