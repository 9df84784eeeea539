//! What is heard of presence while the session store is being read: it is newer than what the store answers.

use std::sync::Arc;

/// A user's sessions on a node: (user, node, devices).
type Heard = (Arc<str>, Arc<str>, u32);

/// How much is kept during a read. A read during which more is heard counts as failed.
const HEARD_MAX: usize = 16_384;

/// What is heard of one conversation's presence while the session store is being read, by one reader or by several.
#[derive(Debug, Default)]
pub struct PresenceReads {
    readers: usize,
    heard: Vec<Heard>,
    overrun: bool,
}

impl PresenceReads {
    /// A read begins. Answers what [`PresenceReads::end`] is to be given.
    pub fn begin(&mut self) -> usize {
        self.readers += 1;
        self.heard.len()
    }

    /// Something was heard.
    pub fn hear(&mut self, user: &Arc<str>, node: &Arc<str>, devices: u32) {
        if self.readers == 0 {
            return;
        }
        if self.heard.len() < HEARD_MAX {
            self.heard.push((user.clone(), node.clone(), devices));
        } else {
            self.overrun = true;
        }
    }

    /// A read ends. Answers what was heard since it began, in order; `None` if that was too much to keep.
    pub fn end(&mut self, begun: usize) -> Option<Vec<Heard>> {
        let heard = (!self.overrun).then(|| self.heard.get(begun..).unwrap_or_default().to_vec());
        self.readers = self.readers.saturating_sub(1);
        if self.readers == 0 {
            *self = PresenceReads::default();
        }
        heard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(reads: &mut PresenceReads, user: &str) {
        reads.hear(&user.into(), &"node".into(), 1);
    }

    fn users(heard: Option<Vec<Heard>>) -> Vec<String> {
        heard.unwrap().into_iter().map(|(user, _, _)| user.to_string()).collect()
    }

    #[test]
    fn every_reader_gets_what_came_since_it_began_whichever_ends_first() {
        let mut reads = PresenceReads::default();
        heard(&mut reads, "before");
        let first = reads.begin();
        heard(&mut reads, "ann");
        let second = reads.begin();
        heard(&mut reads, "bob");
        assert_eq!(users(reads.end(first)), ["ann", "bob"]);
        heard(&mut reads, "cy");
        assert_eq!(users(reads.end(second)), ["bob", "cy"]);
        assert_eq!(reads.begin(), 0);
    }

    #[test]
    fn a_read_during_which_too_much_was_heard_counts_as_failed_and_the_next_one_does_not() {
        let mut reads = PresenceReads::default();
        let begun = reads.begin();
        for _ in 0..=HEARD_MAX {
            heard(&mut reads, "ann");
        }
        assert!(reads.end(begun).is_none());
        let begun = reads.begin();
        heard(&mut reads, "ann");
        assert_eq!(users(reads.end(begun)), ["ann"]);
    }
}
