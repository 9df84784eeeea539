//! The defects.

/// The defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Some messages are not shown to anybody.
    Lose,
    /// Some messages are shown twice.
    Duplicate,
    /// Some messages are shown after the one that follows them.
    Swap,
    /// Some `send`s are answered with `ok` first and committed a little later.
    EarlyOk,
    /// A `send` repeated with its key becomes a second message. Some answers of the log are lost, so that there are such repetitions.
    RetryTwice,
    /// Some messages are shown in another conversation, of any tenant.
    Leak,
    /// The first message ends the node with a panic, whose text quotes the message.
    Panic,
    /// Messages are noted for webhooks a little after their commit, outside of the transaction.
    TellLate,
    /// A connection stays open when a later one has attached its session.
    KeepOlder,
    /// A message of RabbitMQ is acknowledged before its job is committed.
    EarlyAck,
    /// A job that goes to RabbitMQ is done before RabbitMQ has confirmed its message.
    EarlyDone,
}

impl Sabotage {
    /// Returns the defect with this name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "lose" => Self::Lose,
            "double" => Self::Duplicate,
            "swap" => Self::Swap,
            "early-ok" => Self::EarlyOk,
            "retry-twice" => Self::RetryTwice,
            "leak" => Self::Leak,
            "panic" => Self::Panic,
            "tell-late" => Self::TellLate,
            "keep-older" => Self::KeepOlder,
            "early-ack" => Self::EarlyAck,
            "early-done" => Self::EarlyDone,
            _ => return None,
        })
    }
}
