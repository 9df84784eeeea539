//! Faults put in on purpose, to see that the witness finds them.

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// The fan-out loses messages without a word, and the beats' heads with them.
    LosePublications,
    /// The fan-out changes what is said in a message.
    AlterPublications,
    /// The database gives a number twice.
    NumberTwice,
    /// The database says that it committed what it did not.
    AcknowledgeOnly,
    /// A client is not given an event.
    LoseEvent,
    /// A client is given an event twice.
    DoubleEvent,
    /// A client is given two events in the wrong order.
    SwapEvents,
    /// A client is given an event with another text.
    AlterEvent,
    /// The session store does not say who is there.
    HidePresence,
    /// The session store gives all attaches the same place in their order.
    SameStamps,
    /// The session store says that every attach holds its session, and that nobody held it before; nor does anybody hear in a
    /// conversation that it moved.
    HoldAll,
    /// Nobody hears that a session was ended.
    HideEnds,
    /// The database gives a conversation that is made again the log of the one before it.
    KeepLog,
    /// What a node says of this kind about a conversation is taken for the one that has its name when it is heard, whichever number it
    /// gives.
    ByName(&'static str),
    /// No node hears that it has a session again which a broken attach had taken from it.
    KeepBack,
    /// A node closes clients that it asked to move for balance.
    CloseForBalance,
}
