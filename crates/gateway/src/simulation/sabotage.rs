//! Faults that are made on purpose. The checks must find each of them.

/// A fault that is made on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// The broker loses messages without notice, and also the heads in the nodes' beats.
    LosePublications,
    /// The broker changes the text of a message.
    AlterPublications,
    /// The database gives the same seq to two messages.
    NumberTwice,
    /// The database reports an append as committed and does not commit it.
    AcknowledgeOnly,
    /// A client is not given an event.
    LoseEvent,
    /// A client is given an event twice.
    DoubleEvent,
    /// A client is given two events in the wrong order.
    SwapEvents,
    /// A client is given an event with another text.
    AlterEvent,
    /// The session store does not return who is online.
    HidePresence,
    /// The session store gives all attaches the same stamp.
    SameStamps,
    /// The session store keeps stamps to 20 ms, so that attaches at about the same time have the same stamp.
    CoarseStamps,
    /// The session store lets every attach hold its session, and names no node that held it before. Nodes do not hear in the conversations
    /// that a session moved.
    HoldAll,
    /// No node hears that a session was ended.
    HideEnds,
    /// The database gives a conversation that is created again the log id of the earlier one.
    KeepLog,
    /// Nodes' messages of this kind are taken for the conversation that has the name when they are heard, whatever id they give. In the
    /// case of presence, the session store keeps it by name, too.
    ByName(&'static str),
    /// No node hears that it holds a session again after an attach that took the session broke off.
    KeepBack,
    /// The broker tells no node what another one is interested in, but that it is interested in nothing.
    HideInterest,
    /// A node closes clients that it asked to move for balance.
    CloseForBalance,
}
