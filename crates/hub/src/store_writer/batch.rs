//! Changes for the session store, and a batch of them sorted by kind.

use starling_session_store::{Dropped, PresenceChange, SessionChange};
use tokio::sync::oneshot;

use crate::lane::Weigh;
use crate::publisher::Outgoing;

/// An item of the queue. It is done when all changes before it have been written.
pub(super) enum StoreChange {
    /// Write the number of a user's sessions in a conversation.
    Presence(PresenceChange),
    /// Write that a session joined or left.
    Session(SessionChange),
    /// Write that the connection of an attach dropped at this time, Unix milliseconds.
    Detached { dropped: Dropped, at_ms: i64 },
    /// Publish a message.
    Publish(Outgoing),
    /// Tell the waiting caller that everything before this is written.
    Flush(oneshot::Sender<()>),
    /// Write the presence of all users on this node, and return whether the store accepted it.
    AllPresence(oneshot::Sender<bool>),
}

impl Weigh for StoreChange {
    fn bytes(&self) -> usize {
        let publication = if let StoreChange::Publish(publication) = self { publication.bytes() } else { 0 };
        // The names are short, so they are not counted.
        size_of::<StoreChange>() + publication
    }
}

/// A batch of changes, sorted by kind.
#[derive(Default)]
pub(super) struct Batch {
    pub sessions: Vec<SessionChange>,
    pub presence: Vec<PresenceChange>,
    pub drops: Vec<Dropped>,
    /// When the last of `drops` happened, Unix milliseconds.
    pub dropped_at_ms: i64,
    pub publications: Vec<Outgoing>,
    pub flushes: Vec<oneshot::Sender<()>>,
    pub rewriters: Vec<oneshot::Sender<bool>>,
}

impl Batch {
    /// Sorts changes by kind. Those of one kind keep their order.
    pub fn from_changes(changes: Vec<StoreChange>) -> Batch {
        let mut batch = Batch::default();
        for change in changes {
            match change {
                StoreChange::Presence(change) => batch.presence.push(change),
                StoreChange::Session(change) => batch.sessions.push(change),
                StoreChange::Detached { dropped, at_ms } => batch.add_drop(dropped, at_ms),
                StoreChange::Publish(publication) => batch.publications.push(publication),
                StoreChange::Flush(waiter) => batch.flushes.push(waiter),
                StoreChange::AllPresence(waiter) => batch.rewriters.push(waiter),
            }
        }
        batch
    }

    /// Adds a dropped connection.
    pub fn add_drop(&mut self, dropped: Dropped, at_ms: i64) {
        self.drops.push(dropped);
        self.dropped_at_ms = self.dropped_at_ms.max(at_ms);
    }
}
