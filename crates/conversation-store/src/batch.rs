//! What both implementations do to a batch before it goes to the database.

use std::collections::BTreeMap;

use crate::{ConversationId, LastSeen, ReadMark};

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
