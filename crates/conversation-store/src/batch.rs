//! Preparing batches, as both implementations do.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::{ConversationId, Error, LastSeen, ReadMark, Seq};

/// The parts of a batch that remain to be tried, in order.
///
/// At first there is one part, the whole batch. A part that fails because of one of its rows is split into halves, until each bad row is a
/// part of its own. A batch of n rows takes at most 2n - 1 attempts, and no part is split after the time limit.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The remaining parts, the next one last.
    waiting: Vec<Range<usize>>,
    until: Instant,
}

impl Parts {
    /// Makes the parts of a batch with this number of rows. They are split until `limit` has passed.
    pub(crate) fn of(rows: usize, limit: Duration) -> Self {
        let whole = 0..rows;
        Self { waiting: vec![whole], until: Instant::now() + limit }
    }

    /// Returns the next part to try.
    pub(crate) fn next(&mut self) -> Option<Range<usize>> {
        self.waiting.pop()
    }

    /// Splits a part that failed. Returns false if it is a single row or the time is up; then it has failed for good.
    pub(crate) fn split(&mut self, part: &Range<usize>) -> bool {
        if part.len() < 2 || Instant::now() >= self.until {
            return false;
        }
        let middle = part.start + part.len() / 2;
        self.waiting.push(middle..part.end);
        self.waiting.push(part.start..middle);
        true
    }
}

/// The rows of a batch that the database refused, for one line in the log.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    count: usize,
    first: Option<Error>,
}

impl Refusals {
    /// Notes another refused row.
    pub(crate) fn note(&mut self, error: Error) {
        self.count += 1;
        self.first.get_or_insert(error);
    }

    /// Logs the number of refused rows, and the reason of the first one.
    pub(crate) fn log(&self, rows: &'static str, batch: usize) {
        if let Some(error) = &self.first {
            tracing::error!(%error, rows, refused = self.count, batch, "the database refused rows of a batch; the others were written");
        }
    }
}

/// Returns the highest mark of each member with its position in the batch. They are ascending by conversation and user, so that all nodes take
/// locks in the same order.
pub(crate) fn highest_marks(batch: &[ReadMark]) -> Vec<(usize, &ReadMark)> {
    let mut highest: BTreeMap<(ConversationId, &str), (usize, &ReadMark)> = BTreeMap::new();
    for (position, mark) in batch.iter().enumerate() {
        let best = highest.entry((mark.conversation, &mark.user)).or_insert((position, mark));
        if mark.seq > best.1.seq {
            *best = (position, mark);
        }
    }
    highest.into_values().collect()
}

/// Returns the latest time of each user, ascending by tenant and user, so that all nodes take locks in the same order.
pub(crate) fn latest_sightings(batch: &[LastSeen]) -> Vec<&LastSeen> {
    let mut latest: BTreeMap<(&str, &str), &LastSeen> = BTreeMap::new();
    for seen in batch {
        let best = latest.entry((&seen.tenant, &seen.user)).or_insert(seen);
        if seen.at_ms > best.at_ms {
            *best = seen;
        }
    }
    latest.into_values().collect()
}

/// Returns a number as databases store it. Numbers beyond their largest become that one.
pub(crate) fn to_database(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Returns a number from the database, which stores none below zero.
pub(crate) fn from_database(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// Returns a seq from the database.
pub(crate) fn seq_from_database(number: i64) -> Seq {
    Seq::new(from_database(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tries parts, which fail if they contain a bad row. Returns whether each row succeeded, and the number of attempts.
    fn tried(rows: usize, guilty: &[usize], limit: Duration) -> (Vec<bool>, usize) {
        let (mut parts, mut fates, mut attempts) = (Parts::of(rows, limit), Vec::new(), 0);
        while let Some(part) = parts.next() {
            attempts += 1;
            assert_eq!(part.start, fates.len(), "in order");
            let fails = guilty.iter().any(|row| part.contains(row));
            if !(fails && parts.split(&part)) {
                fates.extend(part.map(|_| !fails));
            }
        }
        (fates, attempts)
    }

    #[test]
    fn only_guilty_rows_fail_and_the_work_is_bounded() {
        let hour = Duration::from_secs(3600);
        for guilty in [vec![], vec![0], vec![511], vec![7, 8, 300], (0..512).collect()] {
            let (fates, attempts) = tried(512, &guilty, hour);
            let failed: Vec<usize> = (0..512).filter(|row| !fates[*row]).collect();
            assert_eq!(failed, guilty);
            assert!(attempts <= (1 + 18 * guilty.len()).min(1023), "{attempts} for {guilty:?}");
        }
        assert_eq!(tried(1, &[0], hour), (vec![false], 1));
    }

    #[test]
    fn when_time_is_up_a_part_fails_as_a_whole() {
        assert_eq!(tried(4, &[2], Duration::ZERO), (vec![false; 4], 1));
    }

    #[test]
    fn of_several_marks_of_a_member_the_highest_counts() {
        let mark = |conversation, user: &str, seq| {
            let conversation = ConversationId::new(conversation);
            ReadMark { conversation, user: user.into(), seq: Seq::new(seq) }
        };
        let batch = [mark(2, "b", 1), mark(1, "b", 4), mark(1, "b", 9), mark(1, "b", 3), mark(1, "a", 2)];
        let highest: Vec<_> =
            highest_marks(&batch).iter().map(|(position, m)| (*position, m.seq.get())).collect();
        assert_eq!(highest, [(4, 2), (2, 9), (0, 1)]);
    }

    #[test]
    fn of_several_sightings_of_a_user_the_latest_counts() {
        let seen = |user: &str, at_ms| LastSeen { tenant: "t".into(), user: user.into(), at_ms };
        let batch = [seen("b", 5), seen("a", 1), seen("b", 7), seen("b", 6)];
        let latest: Vec<_> = latest_sightings(&batch).iter().map(|s| (&*s.user, s.at_ms)).collect();
        assert_eq!(latest, [("a", 1), ("b", 7)]);
    }
}
