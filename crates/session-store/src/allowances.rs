//! Users' allowances, counted inside the process.

use std::collections::HashMap;

use crate::gcra::{self, Cells, Kept};
use crate::{Allowance, Error, Verdict};

/// The allowances of those who took from them lately: of one node for good, or while the store of all nodes is away.
#[derive(Debug)]
pub struct Allowances {
    /// Most users; beyond that, nobody new may take.
    max: usize,
    /// At how many users those who have their whole allowance again are dropped.
    sweep_at: usize,
    /// What is kept of each user.
    users: HashMap<Box<str>, Kept>,
}

const SWEEP_AT_MIN: usize = 1024;

impl Allowances {
    /// Nobody has taken anything yet; at most this many users are kept at a time.
    pub fn new(max: usize) -> Self {
        Self { max, sweep_at: SWEEP_AT_MIN.min(max), users: HashMap::new() }
    }

    /// Takes one from a user's allowance, at a time in microseconds from any beginning.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the allowances of too many others are kept.
    pub fn take(
        &mut self,
        tenant: &str,
        user: &str,
        allowance: Allowance,
        now_us: i64,
    ) -> Result<Verdict, Error> {
        let cells = match Cells::of(allowance) {
            Ok(cells) => cells,
            Err(verdict) => return Ok(verdict),
        };
        // A name has no slash.
        let key = format!("{tenant}/{user}").into_boxed_str();
        let before = self.users.get(&key).copied();
        let (verdict, kept) = gcra::take(before, now_us, cells);
        if before.is_none() {
            self.make_room(now_us)?;
        }
        self.users.insert(key, kept);
        Ok(verdict)
    }

    fn make_room(&mut self, now_us: i64) -> Result<(), Error> {
        if self.users.len() >= self.sweep_at {
            self.users.retain(|_, kept| kept.due_us > now_us);
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
    use super::*;

    #[test]
    fn users_with_their_whole_allowance_are_forgotten_when_room_is_needed() {
        let mut limits = Allowances::new(2);
        let allowance = Allowance { count: 1, period_ms: 1_000 };
        assert_eq!(limits.take("t", "a", allowance, 0).unwrap(), Verdict::Allowed);
        assert_eq!(limits.take("t", "b", allowance, 500_000).unwrap(), Verdict::Allowed);
        assert!(limits.take("t", "c", allowance, 600_000).is_err());
        assert_eq!(limits.take("t", "c", allowance, 1_000_000).unwrap(), Verdict::Allowed);
        assert_eq!(limits.users.len(), 2);
    }

    #[test]
    fn more_than_one_a_millisecond_is_counted_too() {
        let mut limits = Allowances::new(1);
        let allowance = Allowance { count: 70_000, period_ms: 60_000 };
        let mut take = |now_us| limits.take("t", "a", allowance, now_us).unwrap();
        assert!((0..70_000).all(|_| take(0) == Verdict::Allowed));
        assert_eq!(take(0), Verdict::Denied { retry_after_ms: 1 });
        assert_eq!(take(858), Verdict::Allowed);
    }
}
