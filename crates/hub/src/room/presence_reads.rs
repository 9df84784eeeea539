//! Reads of one conversation's presence from the session store. What other nodes say during a read is newer than its answer, and of two
//! reads at the same time it is unknown which one the store answered later.

use std::sync::Arc;

use starling_model::UserName;

/// A user's sessions on a node: (user, node, devices).
type Heard = (UserName, Arc<str>, u32);

/// How much is kept during a read. A read during which more is heard counts as failed.
const HEARD_MAX: usize = 16_384;

/// What is heard of one conversation's presence while the session store is being read, by one reader or by several.
#[derive(Debug, Default)]
pub struct PresenceReads {
    readers: usize,
    heard: Vec<Heard>,
    /// More was heard than is kept.
    overrun: bool,
    /// How many answers have been taken over since nobody read.
    taken: usize,
    /// Whether an answer was not taken over.
    refused: bool,
}

/// The state of the reads when one of them began.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    heard: usize,
    taken: usize,
}

/// The result of a read.
#[derive(Debug)]
pub struct Ended {
    /// What was heard since it began, in order, and is newer than its answer; `None`: the answer is of no use.
    pub heard: Option<Vec<Heard>>,
    /// Some answer was of no use, and nobody reads any more: it is to be read again.
    pub again: bool,
}

impl PresenceReads {
    /// A read begins. Answers what [`PresenceReads::end`] is to be given.
    pub fn begin(&mut self) -> Begun {
        self.readers += 1;
        Begun { heard: self.heard.len(), taken: self.taken }
    }

    /// Something was heard.
    pub fn hear(&mut self, user: &UserName, node: &Arc<str>, devices: u32) {
        if self.readers == 0 {
            return;
        }
        if self.heard.len() < HEARD_MAX {
            self.heard.push((user.clone(), node.clone(), devices));
        } else {
            self.overrun = true;
        }
    }

    /// A node is gone with everybody who was there by it. The answer of a read that is under way may still hold them.
    pub fn lose_node(&mut self) {
        self.overrun |= self.readers > 0;
    }

    /// A read ends, with or without an answer. An answer is of no use if another one was taken over since the read began, since it may
    /// be the older one, or if more was heard than could be kept.
    pub fn end(&mut self, begun: Begun, answered: bool) -> Ended {
        let useful = answered && !self.overrun && begun.taken == self.taken;
        let heard = useful.then(|| self.heard.get(begun.heard..).unwrap_or_default().to_vec());
        self.taken += usize::from(useful);
        self.refused |= answered && !useful;
        self.readers = self.readers.saturating_sub(1);
        let again = self.readers == 0 && self.refused;
        if self.readers == 0 {
            *self = PresenceReads::default();
        }
        Ended { heard, again }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(reads: &mut PresenceReads, user: &str) {
        reads.hear(&user.into(), &"node".into(), 1);
    }

    fn users(ended: Ended) -> Vec<String> {
        ended.heard.unwrap().into_iter().map(|(user, _, _)| user.to_string()).collect()
    }

    #[test]
    fn a_reader_gets_what_came_since_it_began() {
        let mut reads = PresenceReads::default();
        heard(&mut reads, "before");
        let first = reads.begin();
        heard(&mut reads, "ann");
        let second = reads.begin();
        heard(&mut reads, "bob");
        assert_eq!(users(reads.end(second, true)), ["bob"]);
        let ended = reads.end(first, false);
        assert!(ended.heard.is_none() && !ended.again, "without an answer there is nothing to take over");
        assert_eq!(
            users({
                let begun = reads.begin();
                reads.end(begun, true)
            }),
            [""; 0]
        );
    }

    #[test]
    fn of_two_reads_at_the_same_time_the_first_answer_is_taken_and_it_is_read_again() {
        let mut reads = PresenceReads::default();
        let (first, second) = (reads.begin(), reads.begin());
        let ended = reads.end(second, true);
        assert!(ended.heard.is_some() && !ended.again, "the other one is still under way");
        let third = reads.begin();
        let ended = reads.end(first, true);
        assert!(ended.heard.is_none() && !ended.again, "it may be older than what was taken");
        let ended = reads.end(third, true);
        assert!(ended.heard.is_some() && ended.again, "it began when the second one had ended");
        let again = reads.begin();
        let ended = reads.end(again, true);
        assert!(ended.heard.is_some() && !ended.again);
    }

    #[test]
    fn a_read_during_which_a_node_went_is_of_no_use() {
        let mut reads = PresenceReads::default();
        reads.lose_node();
        let begun = reads.begin();
        assert!(reads.end(begun, true).heard.is_some(), "it went before");
        let begun = reads.begin();
        reads.lose_node();
        let ended = reads.end(begun, true);
        assert!(ended.heard.is_none() && ended.again);
    }

    #[test]
    fn a_read_during_which_too_much_was_heard_is_of_no_use_and_the_next_one_is() {
        let mut reads = PresenceReads::default();
        let begun = reads.begin();
        for _ in 0..=HEARD_MAX {
            heard(&mut reads, "ann");
        }
        let ended = reads.end(begun, true);
        assert!(ended.heard.is_none() && ended.again);
        let begun = reads.begin();
        heard(&mut reads, "ann");
        assert_eq!(users(reads.end(begun, true)), ["ann"]);
    }
}
