//! A short tag of a log's id. Publications carry it, so that a message of an earlier log is not taken for one of the present log.

/// Bits of a tag.
const BITS: u32 = 12;

/// A tag of a log's id. Logs of one conversation have different tags, except in one case of 4,095.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogTag(u16);

impl LogTag {
    /// Returns the tag of a log's id. Nodes of all versions must return the same one.
    pub fn of(log: &str) -> LogTag {
        // FNV-1a (Fowler, Noll and Vo).
        let hash = log.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        // 0 is no tag.
        LogTag((hash % 4_095) as u16 + 1)
    }

    /// Puts the tag above a time in Unix microseconds, which needs 51 bits until the year 2041 and 52 until 2112.
    pub fn above(tag: Option<LogTag>, time_us: u64) -> u64 {
        u64::from(tag.map_or(0, |tag| tag.0)) << (u64::BITS - BITS) | time_us & (u64::MAX >> BITS)
    }

    /// Splits what [`LogTag::above`] returned.
    pub fn split(tagged: u64) -> (Option<LogTag>, u64) {
        let tag = (tagged >> (u64::BITS - BITS)) as u16;
        ((tag > 0).then_some(LogTag(tag)), tagged & (u64::MAX >> BITS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_and_a_time_share_a_number() {
        let time_us = 1_800_000_000_000_000;
        for tag in [None, Some(LogTag(1)), Some(LogTag(4_095))] {
            assert_eq!(LogTag::split(LogTag::above(tag, time_us)), (tag, time_us));
        }
        assert_eq!(LogTag::split(time_us), (None, time_us), "a node that names no log");
    }

    #[test]
    fn incarnations_have_different_tags() {
        let tags: std::collections::BTreeSet<u16> =
            (0..100).map(|incarnation| LogTag::of(&format!("{incarnation:x}-7")).0).collect();
        assert!(tags.len() > 90, "{} of 100", tags.len());
        assert_eq!(LogTag::of("1-a"), LogTag(436), "other nodes return this one");
    }
}
