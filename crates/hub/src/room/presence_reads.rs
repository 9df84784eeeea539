//! Merges what is heard of a conversation's presence with reads of the session store. What is heard during a read is newer than the answer.
//! Of two reads at the same time it is unknown which answer is the later one.

use std::sync::Arc;

use starling_model::UserName;

/// What a node reports of a user's sessions on it: (user, node, devices).
type PresenceReport = (UserName, Arc<str>, u32);

/// Most entries that are kept during a read. If more are heard, the read counts as failed.
const HEARD_MAX: usize = 16_384;

/// The presence that is heard of one conversation during one or several reads.
#[derive(Debug, Default)]
pub struct PresenceReads {
    readers: usize,
    heard: Vec<PresenceReport>,
    /// Whether more was heard than is kept.
    overrun: bool,
    /// The number of answers that were used since the first of these reads began.
    taken: usize,
    /// Whether an answer could not be used.
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
    /// What was heard since the read began, in order. It is newer than the answer. `None`: the answer can't be used.
    pub heard: Option<Vec<PresenceReport>>,
    /// Whether presence must be read again, because an answer could not be used. Only set when no read is under way.
    pub again: bool,
}

impl PresenceReads {
    /// Begins a read. The result must be passed to [`PresenceReads::end`].
    pub fn begin(&mut self) -> Begun {
        self.readers += 1;
        Begun { heard: self.heard.len(), taken: self.taken }
    }

    /// Notes what another node said.
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

    /// Notes that a node died. The answer of a read that is under way may still have its users.
    pub fn lose_node(&mut self) {
        self.overrun |= self.readers > 0;
    }

    /// Ends a read, with or without an answer. The answer can't be used if another one was used since the read began, since that may be the
    /// later one, or if more was heard than is kept.
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
