//! Puts the messages of one conversation in order.
//!
//! Messages reach a node in several ways (its own commits, other nodes' publications, reads of the log). They come late, twice or not at
//! all. The sequencer lets each seq through once and in order, and reports missing ones.

use std::collections::BTreeMap;

use starling_model::Seq;

/// Most messages that may wait behind a hole. Further ones are dropped, since the log has them.
pub const WAITING_MAX: usize = 1_024;

/// The result of feeding a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// The message was released, and perhaps others that waited for it.
    Released,
    /// The message had come before.
    Repeat,
    /// The message waits behind a hole.
    Waits,
}

/// The order of one conversation's messages on one node.
#[derive(Debug)]
pub struct Sequencer<T> {
    /// The seq that was released last.
    head: Seq,
    /// The highest seq that is known to exist.
    known: Seq,
    /// Messages that wait behind a hole.
    waiting: BTreeMap<Seq, T>,
}

impl<T> Sequencer<T> {
    /// Creates a sequencer that begins after `head`.
    pub fn new(head: Seq) -> Sequencer<T> {
        Sequencer { head, known: head, waiting: BTreeMap::new() }
    }

    /// Returns the last seq that was released.
    pub fn head(&self) -> Seq {
        self.head
    }

    /// Returns the highest seq that is known to exist.
    pub fn known(&self) -> Seq {
        self.known
    }

    /// Feeds a message. Calls `release`, in order, for each message that can be released now.
    pub fn feed(&mut self, seq: Seq, item: T, mut release: impl FnMut(Seq, T)) -> Fed {
        if seq <= self.head {
            return Fed::Repeat;
        }
        self.known = self.known.max(seq);
        if seq != self.head.next() {
            return self.wait(seq, item);
        }
        release(seq, item);
        self.head = seq;
        while let Some(entry) = self.waiting.first_entry() {
            if *entry.key() != self.head.next() {
                break;
            }
            let (seq, item) = entry.remove_entry();
            release(seq, item);
            self.head = seq;
        }
        Fed::Released
    }

    /// Learns that messages up to `head` exist.
    pub fn learn(&mut self, head: Seq) {
        self.known = self.known.max(head);
    }

    /// Skips to `head` without releasing anything, for a conversation that no session here has joined.
    pub fn skip_to(&mut self, head: Seq) {
        if head > self.head {
            self.head = head;
            self.known = self.known.max(head);
            self.waiting = self.waiting.split_off(&head.next());
        }
    }

    /// Gives the hole up, because the log does not have the missing messages.
    pub fn give_up(&mut self) {
        self.known = self.head;
        self.waiting.clear();
    }

    /// Whether messages are known to exist that have not been released.
    pub fn has_hole(&self) -> bool {
        self.known > self.head
    }

    fn wait(&mut self, seq: Seq, item: T) -> Fed {
        if self.waiting.contains_key(&seq) {
            return Fed::Repeat;
        }
        self.waiting.insert(seq, item);
        if self.waiting.len() > WAITING_MAX {
            // Drop the last one, which is needed last. The log has it.
            self.waiting.pop_last();
        }
        Fed::Waits
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn feed(s: &mut Sequencer<u64>, seq: u64, out: &mut Vec<u64>) -> Fed {
        s.feed(Seq::new(seq), seq, |released, item| {
            assert_eq!(released, item);
            out.push(item);
        })
    }

    #[test]
    fn a_repeat_is_dropped_and_a_hole_waits() {
        let (mut s, mut out) = (Sequencer::new(Seq::ZERO), vec![]);
        assert_eq!(feed(&mut s, 1, &mut out), Fed::Released);
        assert_eq!(feed(&mut s, 1, &mut out), Fed::Repeat);
        assert_eq!(feed(&mut s, 3, &mut out), Fed::Waits);
        assert_eq!(feed(&mut s, 3, &mut out), Fed::Repeat);
        assert!(s.has_hole());
        assert_eq!(feed(&mut s, 2, &mut out), Fed::Released);
        assert!(!s.has_hole());
        assert_eq!(out, [1, 2, 3]);
    }

    #[test]
    fn a_lost_last_message_is_a_hole_once_the_head_is_known() {
        let mut s: Sequencer<u64> = Sequencer::new(Seq::new(4));
        s.learn(Seq::new(5));
        assert!(s.has_hole());
        assert_eq!(s.head(), 4);
    }

    #[test]
    fn a_hole_that_the_log_can_not_fill_is_none_and_the_numbers_may_come_again() {
        let (mut s, mut out) = (Sequencer::new(Seq::new(3)), vec![]);
        assert_eq!(feed(&mut s, 6, &mut out), Fed::Waits);
        s.learn(Seq::new(9));
        s.give_up();
        assert!(!s.has_hole());
        assert_eq!((s.head().get(), s.known().get()), (3, 3));
        for seq in 4..=6 {
            assert_eq!(feed(&mut s, seq, &mut out), Fed::Released);
        }
        assert_eq!(out, [4, 5, 6]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let (mut s, mut out) = (Sequencer::new(Seq::ZERO), vec![]);
        for seq in 2..5_000 {
            feed(&mut s, seq, &mut out);
        }
        assert_eq!(s.waiting.len(), WAITING_MAX);
        feed(&mut s, 1, &mut out);
        assert_eq!(out.len(), WAITING_MAX + 1);
        assert!(s.has_hole());
    }

    proptest! {
        /// With any order, loss and repetition, the released messages are 1, 2, 3 … and after the log was read, all of them.
        #[test]
        fn any_arrival_goes_out_in_order(arrivals in prop::collection::vec(1u64..60, 0..300)) {
            let (mut s, mut out) = (Sequencer::new(Seq::ZERO), vec![]);
            for seq in &arrivals {
                feed(&mut s, *seq, &mut out);
            }
            let top = arrivals.iter().copied().max().unwrap_or(0);
            while s.has_hole() {
                let missing = s.head().next();
                feed(&mut s, missing.get(), &mut out);
            }
            prop_assert_eq!(out, (1..=top).collect::<Vec<_>>());
        }
    }
}
