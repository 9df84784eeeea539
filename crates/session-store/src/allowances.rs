//! Users' allowances, kept inside the process.

use std::collections::HashMap;

use starling_rate::{Allowance, Rate};

use crate::{Error, Verdict};

/// Allowances of the users who took from them lately. One node alone uses them always; others only while the shared store is away.
#[derive(Debug)]
pub struct Allowances {
    /// The most users. When there are as many, no further user may take.
    max: usize,
    /// The number of users at which those with a whole allowance are removed.
    sweep_at: usize,
    users: HashMap<Box<str>, Allowance>,
}

const SWEEP_AT_MIN: usize = 1024;

impl Allowances {
    /// Makes an empty map for at most `max` users at a time.
    pub fn new(max: usize) -> Self {
        Self { max, sweep_at: SWEEP_AT_MIN.min(max), users: HashMap::new() }
    }

    /// Takes one cell from a user's allowance, at a time in microseconds on a clock that may be set back.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the allowances of too many others are kept.
    pub fn take(&mut self, tenant: &str, user: &str, rate: Rate, now_us: u64) -> Result<Verdict, Error> {
        // A name has no slash.
        let key = format!("{tenant}/{user}").into_boxed_str();
        if !self.users.contains_key(&key) {
            self.make_room(now_us)?;
        }
        let allowance = self.users.entry(key).or_default();
        allowance.cap(now_us, rate);
        Ok(match allowance.take(now_us, rate) {
            Ok(()) => Verdict::Allowed,
            Err(away_us) => Verdict::denied(away_us),
        })
    }

    fn make_room(&mut self, now_us: u64) -> Result<(), Error> {
        if self.users.len() >= self.sweep_at {
            self.users.retain(|_, allowance| !allowance.is_whole(now_us));
            self.sweep_at = (self.users.len() * 2).clamp(SWEEP_AT_MIN.min(self.max), self.max);
        }
        if self.users.len() >= self.max {
            return Err(Error::Unavailable(format!("the allowances of {} users are kept", self.max)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn users_with_their_whole_allowance_are_forgotten_when_room_is_needed() {
        let mut limits = Allowances::new(2);
        let rate = Rate::new(1, Duration::from_secs(1)).unwrap();
        assert_eq!(limits.take("t", "a", rate, 0).unwrap(), Verdict::Allowed);
        assert_eq!(limits.take("t", "b", rate, 500_000).unwrap(), Verdict::Allowed);
        assert!(limits.take("t", "c", rate, 600_000).is_err());
        assert_eq!(limits.take("t", "c", rate, 1_000_000).unwrap(), Verdict::Allowed);
        assert_eq!(limits.users.len(), 2);
    }

    #[test]
    fn a_clock_set_back_locks_nobody_out() {
        let mut limits = Allowances::new(1);
        let rate = Rate::new(1, Duration::from_secs(1)).unwrap();
        assert_eq!(limits.take("t", "a", rate, 3_600_000_000).unwrap(), Verdict::Allowed);
        assert_eq!(limits.take("t", "a", rate, 0).unwrap(), Verdict::Denied { retry_after_ms: 1_000 });
    }
}
