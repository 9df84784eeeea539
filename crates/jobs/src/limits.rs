//! Limits of queues: how many jobs run at the same time, and how many begin per second.

use std::time::Duration;

use starling_model::{NAME_RULE, is_name};
use starling_rate::Rate;

/// The most jobs at the same time that a limit may name.
pub const CONCURRENCY_MAX: u32 = 10_000;
/// The largest rate, jobs in 1,000 seconds: 10,000 per second.
pub const RATE_MAX: u32 = 10_000_000;
/// The largest burst, jobs.
pub const BURST_MAX: u32 = 10_000;
/// The most queues that may have limits.
pub const LIMITED_QUEUES_MAX: u32 = 1_000;

/// How many jobs may begin in a time: evenly, with a burst after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartRate {
    /// Jobs in 1,000 seconds, 1 to [`RATE_MAX`].
    pub per_1000_seconds: u32,
    /// Jobs that may begin at once after a pause, 1 to [`BURST_MAX`].
    pub burst: u32,
}

impl StartRate {
    /// Returns the rate for the algorithm; `None` if it is 0.
    pub(crate) fn rate(self) -> Option<Rate> {
        Rate::new(self.per_1000_seconds, Duration::from_secs(1000)).map(|rate| rate.with_burst(self.burst))
    }
}

/// A limit. Without anything in it there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// The most jobs that run at the same time, over all nodes: 1 to [`CONCURRENCY_MAX`].
    pub concurrency: Option<u32>,
    /// How many begin in a time, over all nodes.
    pub rate: Option<StartRate>,
}

impl Limit {
    /// Whether it limits nothing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.concurrency.is_none() && self.rate.is_none()
    }

    fn is_in_range(&self) -> bool {
        let rate_is = |rate: StartRate| {
            (1..=RATE_MAX).contains(&rate.per_1000_seconds) && (1..=BURST_MAX).contains(&rate.burst)
        };
        self.concurrency.is_none_or(|jobs| (1..=CONCURRENCY_MAX).contains(&jobs))
            && self.rate.is_none_or(rate_is)
    }
}

/// The limits of a queue. All of them hold at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueLimits {
    /// Of all its jobs.
    pub total: Limit,
    /// Of the jobs of each tenant.
    pub per_tenant: Limit,
    /// Of the jobs with the same concurrency key of each tenant. Jobs without a key are not limited by it.
    pub per_key: Limit,
}

/// Why limits can't be kept. The caller is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidLimits {
    /// The queue has no name.
    #[error("queue must have {NAME_RULE}")]
    Queue,
    /// They limit nothing.
    #[error("there is no limit among them")]
    None,
    /// A number is out of range.
    #[error(
        "a concurrency and a burst must be 1 to {CONCURRENCY_MAX}, and a rate 0.001 to {} per second",
        RATE_MAX / 1000
    )]
    Range,
}

impl QueueLimits {
    /// Whether they limit nothing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.all().iter().all(Limit::is_none)
    }

    /// Whether any of them is a rate.
    #[must_use]
    pub fn has_rate(&self) -> bool {
        self.all().iter().any(|limit| limit.rate.is_some())
    }

    /// Checks everything that comes from outside.
    ///
    /// # Errors
    /// [`InvalidLimits`] for the first fault that is found.
    pub fn check(&self, queue: &str) -> Result<(), InvalidLimits> {
        match () {
            () if !is_name(queue) => Err(InvalidLimits::Queue),
            () if self.is_none() => Err(InvalidLimits::None),
            () if !self.all().iter().all(Limit::is_in_range) => Err(InvalidLimits::Range),
            () => Ok(()),
        }
    }

    fn all(&self) -> [Limit; 3] {
        [self.total, self.per_tenant, self.per_key]
    }

    /// Returns the columns of the database: concurrency, rate and burst of each limit.
    pub(crate) fn columns(&self) -> [Option<i32>; 9] {
        let column = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let mut columns = [None; 9];
        for (limit, columns) in self.all().iter().zip(columns.chunks_exact_mut(3)) {
            let rate = limit.rate;
            let numbers =
                [limit.concurrency, rate.map(|rate| rate.per_1000_seconds), rate.map(|rate| rate.burst)];
            columns.copy_from_slice(&numbers.map(|number| number.map(column)));
        }
        columns
    }

    /// Reads what [`Self::columns`] wrote.
    pub(crate) fn of_columns(columns: [Option<i32>; 9]) -> Self {
        let [total, per_tenant, per_key] = [0, 3, 6].map(|first| {
            let number = |place: usize| columns[first + place].and_then(|number| u32::try_from(number).ok());
            let rate = number(1).zip(number(2));
            Limit {
                concurrency: number(0),
                rate: rate.map(|(per_1000_seconds, burst)| StartRate { per_1000_seconds, burst }),
            }
        });
        Self { total, per_tenant, per_key }
    }
}

/// Why a claim gave no more jobs of a backlog, although there are some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// As many jobs run as may, so one of them must end.
    Full,
    /// A rate lets the next one begin after this time.
    For(Duration),
}

impl Hold {
    /// Reads the time after which to ask again, milliseconds; 0: when a job ends.
    pub(crate) fn of_ms(retry_in_ms: i64) -> Self {
        match u64::try_from(retry_in_ms) {
            Ok(ms) if ms > 0 => Self::For(Duration::from_millis(ms)),
            _ => Self::Full,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_1000_seconds: u32, burst: u32) -> Limit {
        Limit { concurrency: None, rate: Some(StartRate { per_1000_seconds, burst }) }
    }

    #[test]
    fn limits_are_read_as_they_were_written() {
        let limits = QueueLimits {
            total: Limit { concurrency: Some(7), ..rate(2_500, 3) },
            per_tenant: Limit::default(),
            per_key: Limit { concurrency: Some(1), rate: None },
        };
        assert_eq!(QueueLimits::of_columns(limits.columns()), limits);
        assert!(limits.has_rate() && !limits.is_none());
    }

    #[test]
    fn what_limits_nothing_or_is_out_of_range_is_refused() {
        let per_key = |limit| QueueLimits { per_key: limit, ..QueueLimits::default() };
        let concurrency = |jobs| per_key(Limit { concurrency: Some(jobs), rate: None });
        assert_eq!(QueueLimits::default().check("q"), Err(InvalidLimits::None));
        assert_eq!(concurrency(1).check("a b"), Err(InvalidLimits::Queue));
        for limits in [
            concurrency(0),
            concurrency(CONCURRENCY_MAX + 1),
            per_key(rate(0, 1)),
            per_key(rate(1, 0)),
            per_key(rate(RATE_MAX + 1, 1)),
            per_key(rate(1, BURST_MAX + 1)),
        ] {
            assert_eq!(limits.check("q"), Err(InvalidLimits::Range), "{limits:?}");
        }
        for limits in [concurrency(1), concurrency(CONCURRENCY_MAX), per_key(rate(RATE_MAX, BURST_MAX))] {
            assert_eq!(limits.check("q"), Ok(()), "{limits:?}");
        }
    }
}
