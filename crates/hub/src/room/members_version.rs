//! Which changes of a conversation's members a node has taken over.
//!
//! The database numbers the changes of each conversation. Word of them reaches a node late, twice, swapped or not at all; what is
//! read from the database holds all changes up to a number.

/// What a change means for a node that hears of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The next one: it has been counted, and is to be applied.
    Next,
    /// Contained in what was read when the node began to know the conversation: nobody here has been told of it.
    Loaded,
    /// Applied already.
    Repeat,
    /// Changes before it are missing: the members are to be read.
    Ahead,
}

/// Up to which change a node knows the members of one conversation.
#[derive(Debug)]
pub struct MembersVersion {
    /// The one that was read first.
    loaded: u64,
    /// The newest that has been taken over.
    applied: u64,
    /// The newest that is known to have been made.
    known: u64,
}

impl MembersVersion {
    /// Begins with members that hold all changes up to `version`.
    pub fn loaded(version: u64) -> MembersVersion {
        MembersVersion { loaded: version, applied: version, known: version }
    }

    /// The newest change that is known to have been made.
    pub fn known(&self) -> u64 {
        self.known
    }

    /// Hears of a change.
    pub fn hear(&mut self, version: u64) -> Heard {
        self.known = self.known.max(version);
        if version <= self.loaded {
            Heard::Loaded
        } else if version <= self.applied {
            Heard::Repeat
        } else if version == self.applied + 1 {
            self.applied = version;
            Heard::Next
        } else {
            Heard::Ahead
        }
    }

    /// Hears that there have been so many changes. `true`: some of them are missing here.
    pub fn learn(&mut self, version: u64) -> bool {
        self.known = self.known.max(version);
        self.applied < version
    }

    /// Takes over members that were read from the database, which hold all changes up to `version`; `known_before` is what
    /// [`known`](Self::known) was before the reading began. `false`: more has been heard of meanwhile than was read, and the
    /// members are to be read again.
    pub fn read(&mut self, known_before: u64, version: u64) -> bool {
        if version < self.known && self.known > known_before {
            return false;
        }
        // A version that had been heard of before the reading, and is not there now, is of a database that was set back since.
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
        assert_eq!(version.hear(2), Heard::Loaded);
        assert_eq!(version.hear(3), Heard::Loaded);
        assert_eq!(version.hear(4), Heard::Next);
        assert_eq!(version.hear(4), Heard::Repeat);
        assert_eq!(version.hear(6), Heard::Ahead, "the fifth is on its way, or lost");
        assert_eq!(version.hear(5), Heard::Next);
        assert!(!version.learn(5));
        assert!(version.learn(6));
    }

    #[test]
    fn what_was_read_before_the_newest_word_is_read_again() {
        let mut version = MembersVersion::loaded(0);
        let before = version.known();
        assert_eq!(version.hear(2), Heard::Ahead);
        assert!(!version.read(before, 1));
        assert!(version.read(version.known(), 2));
        assert_eq!(version.hear(1), Heard::Repeat);
        assert_eq!(version.hear(3), Heard::Next);
        assert!(version.read(version.known(), 1), "of a database that was set back");
        assert_eq!(version.hear(2), Heard::Next);
    }

    proptest! {
        /// Somebody is added and removed by turns. Whatever of it is heard, in whatever order: in the end the node knows whether they
        /// are a member, if it reads where it is told to.
        #[test]
        fn any_arrival_ends_with_the_truth(arrivals in prop::collection::vec(1u64..20, 0..60), made in 1u64..20) {
            let truth = |version: u64| version % 2 == 1;
            let (mut version, mut member) = (MembersVersion::loaded(0), false);
            for heard in arrivals.into_iter().filter(|heard| *heard <= made).chain([made]) {
                match version.hear(heard) {
                    Heard::Next => member = truth(heard),
                    Heard::Ahead => {
                        prop_assert!(version.read(version.known(), made));
                        member = truth(made);
                    }
                    Heard::Loaded | Heard::Repeat => {}
                }
            }
            prop_assert_eq!(member, truth(made));
        }
    }
}
