//! What both implementations do to a batch before it goes to the database.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::{ConversationId, Error, LastSeen, ReadMark};

/// The parts of a batch that are still to be tried, from first to last.
///
/// At first that is the whole batch. A part that failed because of one of its rows is split in halves, until the guilty rows stand
/// alone. A batch of n rows takes 2n - 1 attempts at most, and no part is split after the time is up.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The next one last.
    waiting: Vec<Range<usize>>,
    until: Instant,
}

impl Parts {
    /// All of a batch of so many rows. Parts are split for that long.
    pub(crate) fn of(rows: usize, limit: Duration) -> Self {
        let whole = 0..rows;
        Self { waiting: vec![whole], until: Instant::now() + limit }
    }

    /// The next part to try.
    pub(crate) fn next(&mut self) -> Option<Range<usize>> {
        self.waiting.pop()
    }

    /// Splits a part that failed. `false`: it is a single row, or time is up; its failure stands.
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

/// The rows of a batch that the database refused while it took others, for one line in the log.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    count: usize,
    first: Option<Error>,
}

impl Refusals {
    /// Notes that one more row was refused.
    pub(crate) fn note(&mut self, error: Error) {
        self.count += 1;
        self.first.get_or_insert(error);
    }

    /// Says how many rows of the batch were refused, and why the first one was.
    pub(crate) fn log(&self, rows: &'static str, batch: usize) {
        if let Some(error) = &self.first {
            tracing::error!(%error, rows, refused = self.count, batch, "the database refused rows of a batch; the others are in");
        }
    }
}

/// The highest mark per member, ascending by (conversation, user) so that nodes take locks in one order, each with the
/// position in the batch that it stands at. A lower mark of the same member has been overtaken before it was set.
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

/// The latest time per user, ascending by (tenant, user) so that nodes take locks in one order.
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

/// A number of a message as databases hold it; none of theirs is larger than the largest.
pub(crate) fn to_database(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// A number of a message as the database gave it; it holds none below zero.
pub(crate) fn from_database(seq: i64) -> u64 {
    u64::try_from(seq).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tries parts that fail where they hold a guilty row. Answers what became of each row, and how many attempts that took.
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
        let mark = |conversation, user: &str, seq| ReadMark { conversation, user: user.into(), seq };
        let batch = [mark(2, "b", 1), mark(1, "b", 4), mark(1, "b", 9), mark(1, "b", 3), mark(1, "a", 2)];
        let highest: Vec<_> = highest_marks(&batch).iter().map(|(position, m)| (*position, m.seq)).collect();
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
