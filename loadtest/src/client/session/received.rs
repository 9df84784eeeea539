//! What a session has received of its room.

use serde_json::Value;

/// What the session has received of its room.
#[derive(Default)]
pub(super) struct Received {
    /// The number of the newest message, if the session has a position.
    pub position: Option<u64>,
    /// Messages that were passed over.
    missing: u64,
    /// The number of the last message that the session sent.
    pub sent: u64,
    /// The log of the conversation, or the epoch of the topic.
    pub log: Value,
}

/// The place of a message among those that were received before.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is newer than all others. This many between were passed over.
    Newest { passed_over: u64 },
    /// It had been passed over.
    Late,
    /// It had been received.
    Doubled,
}

impl Received {
    /// Takes the message with this number.
    pub fn take(&mut self, number: u64) -> Arrival {
        match self.position {
            Some(position) if number <= position && self.missing > 0 => {
                self.missing -= 1;
                Arrival::Late
            }
            Some(position) if number <= position => Arrival::Doubled,
            known => {
                let passed_over = known.map_or(0, |position| number - position - 1);
                self.missing += passed_over;
                self.position = Some(number);
                Arrival::Newest { passed_over }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_in_order_passed_over_late_or_doubled() {
        let mut received = Received::default();
        assert_eq!(
            received.take(5),
            Arrival::Newest { passed_over: 0 },
            "nothing is missing before the first one"
        );
        assert_eq!(received.take(6), Arrival::Newest { passed_over: 0 });
        assert_eq!(received.take(6), Arrival::Doubled);
        assert_eq!(received.take(9), Arrival::Newest { passed_over: 2 });
        assert_eq!(
            (received.take(7), received.take(8), received.take(8)),
            (Arrival::Late, Arrival::Late, Arrival::Doubled)
        );
    }
}
