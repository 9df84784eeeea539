//! The version of a conversation's members that a node has.
//!
//! The database numbers the changes of each conversation's members. A node hears of them late, twice, in another order or not at all.
//! Members that are read from the database include all changes up to a version.

/// Where a change that a node hears of stands among those it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionOrder {
    /// The change is the next one. It has been counted and must be applied.
    Next,
    /// The members had this change already when the room was loaded, so nobody on this node has been told of it.
    Loaded,
    /// The change has been applied before.
    Repeat,
    /// Changes before this one are missing, so the members must be read.
    Ahead,
}

/// The version of one conversation's members on this node.
#[derive(Debug)]
pub struct MembersVersion {
    /// The version that was loaded first.
    loaded: u64,
    /// The latest version that has been applied.
    applied: u64,
    /// The latest version that is known to exist.
    known: u64,
}

impl MembersVersion {
    /// Starts with members that include all changes up to `version`.
    pub fn loaded(version: u64) -> MembersVersion {
        MembersVersion { loaded: version, applied: version, known: version }
    }

    /// Returns the latest version that is known to exist.
    pub fn known(&self) -> u64 {
        self.known
    }

    /// Notes a change that was heard of.
    pub fn hear(&mut self, version: u64) -> VersionOrder {
        self.known = self.known.max(version);
        if version <= self.loaded {
            VersionOrder::Loaded
        } else if version <= self.applied {
            VersionOrder::Repeat
        } else if version == self.applied + 1 {
            self.applied = version;
            VersionOrder::Next
        } else {
            VersionOrder::Ahead
        }
    }

    /// Notes that a version exists. `true`: some of its changes are missing here.
    pub fn learn(&mut self, version: u64) -> bool {
        self.known = self.known.max(version);
        self.applied < version
    }

    /// Notes that members of this `version` were read from the database. `known_before`: the value of [`known`](Self::known) before the
    /// read. `false`: a later version was heard of during the read, so the members must be read again.
    pub fn read(&mut self, known_before: u64, version: u64) -> bool {
        if version < self.known && self.known > known_before {
            return false;
        }
        // If a version that was known before the read is missing now, the database was set back.
        self.applied = version;
        self.known = version;
        self.loaded = self.loaded.min(version);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_next_change_is_applied() {
        let mut version = MembersVersion::loaded(3);
        assert_eq!(version.hear(2), VersionOrder::Loaded);
        assert_eq!(version.hear(3), VersionOrder::Loaded);
        assert_eq!(version.hear(4), VersionOrder::Next);
        assert_eq!(version.hear(4), VersionOrder::Repeat);
        assert_eq!(version.hear(6), VersionOrder::Ahead, "the fifth is on its way, or lost");
        assert_eq!(version.hear(5), VersionOrder::Next);
        assert!(!version.learn(5));
        assert!(version.learn(6));
    }

    #[test]
    fn what_was_read_before_the_newest_word_is_read_again() {
        let mut version = MembersVersion::loaded(0);
        let before = version.known();
        assert_eq!(version.hear(2), VersionOrder::Ahead);
        assert!(!version.read(before, 1));
        assert!(version.read(version.known(), 2));
        assert_eq!(version.hear(1), VersionOrder::Repeat);
        assert_eq!(version.hear(3), VersionOrder::Next);
        assert!(version.read(version.known(), 1), "of a database that was set back");
        assert_eq!(version.hear(2), VersionOrder::Next);
    }

    proptest! {
        /// A user is added and removed in turns, and the changes are heard in any order or not at all. In the end the node knows whether
        /// the user is a member, provided that it reads the members when told to.
        #[test]
        fn any_arrival_ends_with_the_truth(arrivals in prop::collection::vec(1u64..20, 0..60), made in 1u64..20) {
            let truth = |version: u64| version % 2 == 1;
            let (mut version, mut member) = (MembersVersion::loaded(0), false);
            for heard in arrivals.into_iter().filter(|heard| *heard <= made).chain([made]) {
                match version.hear(heard) {
                    VersionOrder::Next => member = truth(heard),
                    VersionOrder::Ahead => {
                        prop_assert!(version.read(version.known(), made));
                        member = truth(made);
                    }
                    VersionOrder::Loaded | VersionOrder::Repeat => {}
                }
            }
            prop_assert_eq!(member, truth(made));
        }
    }
}
