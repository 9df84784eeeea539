//! The messages under way, and what became of them.

use crate::histogram::Histogram;
use crate::marker::Marker;

/// Messages that may be under way at one time; a power of two.
const UNDER_WAY_MAX: usize = 1 << 17;

/// A message under way.
#[derive(Clone, Copy, Debug, Default)]
struct Message {
    number: u32,
    /// Receivers that do not have it.
    remaining: u32,
    /// When it was due, until it is acknowledged; 0 after that.
    unacknowledged_ns: u64,
}

/// The messages of a run.
#[derive(Debug)]
pub struct Messages {
    ring: Vec<Message>,
    next: u32,
    /// Messages that some receiver does not have.
    pub outstanding: usize,
    /// What is counted since the last [`reset`](Self::reset).
    pub counted: Counted,
    /// Deliveries that can't happen any more.
    lost: u64,
    /// Deliveries beyond the expected ones.
    pub extra: u64,
}

/// What is counted while it counts.
#[derive(Debug, Default)]
pub struct Counted {
    /// Messages that were sent.
    pub sent: u64,
    /// Messages that arrived.
    pub delivered: u64,
    /// From when they were due to their arrival.
    pub delivery: Histogram,
    /// From when they were due to their acknowledgement.
    pub acknowledge: Histogram,
    /// How late they were sent.
    pub late: Histogram,
}

impl Messages {
    /// None yet.
    pub fn new() -> Self {
        let ring = vec![Message::default(); UNDER_WAY_MAX];
        Self { ring, next: 0, outstanding: 0, counted: Counted::default(), lost: 0, extra: 0 }
    }

    /// Counts a message that is about to be sent to so many receivers. Returns its number.
    pub fn send(&mut self, due_ns: u64, now_ns: u64, receivers: u32, acknowledged: bool) -> u32 {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let slot = &mut self.ring[number as usize % UNDER_WAY_MAX];
        if slot.remaining > 0 {
            self.lost += u64::from(slot.remaining);
            self.outstanding -= 1;
        }
        *slot = Message {
            number,
            remaining: receivers,
            unacknowledged_ns: if acknowledged { due_ns } else { 0 },
        };
        if receivers > 0 {
            self.outstanding += 1;
        }
        self.counted.sent += 1;
        self.counted.late.record(now_ns.saturating_sub(due_ns));
        number
    }

    /// Counts a delivery.
    pub fn deliver(&mut self, marker: Marker, now_ns: u64) {
        self.counted.delivered += 1;
        self.counted.delivery.record(now_ns.saturating_sub(marker.due_ns));
        let message = &mut self.ring[marker.number as usize % UNDER_WAY_MAX];
        if message.number != marker.number || message.remaining == 0 {
            self.extra += 1;
            return;
        }
        message.remaining -= 1;
        if message.remaining == 0 {
            self.outstanding -= 1;
        }
    }

    /// Counts the answer to a message.
    pub fn acknowledge(&mut self, number: u32, now_ns: u64) {
        let message = &mut self.ring[number as usize % UNDER_WAY_MAX];
        if message.number == number && message.unacknowledged_ns > 0 {
            self.counted.acknowledge.record(now_ns.saturating_sub(message.unacknowledged_ns));
            message.unacknowledged_ns = 0;
        }
    }

    /// A server refused a message: nobody gets it.
    pub fn refuse(&mut self, number: u32) {
        let message = &mut self.ring[number as usize % UNDER_WAY_MAX];
        if message.number == number && std::mem::take(&mut message.remaining) > 0 {
            self.outstanding -= 1;
        }
    }

    /// Begins to count anew.
    pub fn reset(&mut self) -> Counted {
        std::mem::take(&mut self.counted)
    }

    /// Deliveries that are missing.
    pub fn lost(&self) -> u64 {
        self.lost + self.ring.iter().map(|message| u64::from(message.remaining)).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_and_what_is_too_much_is_counted() {
        let mut messages = Messages::new();
        let first = messages.send(10, 15, 2, true);
        let second = messages.send(20, 20, 2, true);
        let marker = |number| Marker { due_ns: 10, number };
        messages.deliver(marker(first), 30);
        messages.deliver(marker(first), 40);
        assert_eq!((messages.outstanding, messages.lost(), messages.extra), (1, 2, 0));
        messages.deliver(marker(first), 50);
        assert_eq!(messages.extra, 1, "a message that arrives twice is no success");
        messages.acknowledge(second, 60);
        messages.refuse(second);
        assert_eq!((messages.outstanding, messages.lost()), (0, 0));
        assert_eq!((messages.counted.sent, messages.counted.delivered), (2, 3));
    }

    #[test]
    fn a_message_that_is_never_complete_is_lost_when_its_place_is_used_again() {
        let mut messages = Messages::new();
        for _ in 0..=UNDER_WAY_MAX {
            messages.send(1, 1, 3, false);
        }
        assert_eq!(messages.lost(), 3 + 3 * UNDER_WAY_MAX as u64);
        assert_eq!(messages.outstanding, UNDER_WAY_MAX);
    }
}
