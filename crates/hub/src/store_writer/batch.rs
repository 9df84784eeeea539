//! Changes for the session store, and a batch of them sorted by what the store is asked to do.

use starling_fanout::Publication;
use starling_session_store::{Dropped, PresenceChange, SessionChange};
use tokio::sync::oneshot;

use crate::lane::Weigh;

/// Something to do once all changes before it have been written.
pub(super) enum StoreChange {
    /// Write with how many sessions a user is online in a conversation.
    Presence(PresenceChange),
    /// Write what a session joined or left.
    Session(SessionChange),
    /// Write that the socket of an attach dropped at this time, Unix milliseconds.
    Detached { dropped: Dropped, at_ms: i64 },
    /// Publish.
    Publish(Publication),
    /// Tell somebody who waits.
    Flush(oneshot::Sender<()>),
    /// Write everybody who is online, and tell whether the store took it.
    AllPresence(oneshot::Sender<bool>),
}

impl Weigh for StoreChange {
    fn bytes(&self) -> usize {
        let publication = if let StoreChange::Publish(publication) = self { publication.bytes() } else { 0 };
        // Names are short.
        size_of::<StoreChange>() + publication
    }
}

/// A batch of changes, by what the store is asked to do.
#[derive(Default)]
pub(super) struct Batch {
    pub sessions: Vec<SessionChange>,
    pub presence: Vec<PresenceChange>,
    pub drops: Vec<Dropped>,
    /// When the last of `drops` dropped, Unix milliseconds.
    pub dropped_at_ms: i64,
    pub publications: Vec<Publication>,
    pub flushes: Vec<oneshot::Sender<()>>,
    pub rewriters: Vec<oneshot::Sender<bool>>,
}

impl Batch {
    /// Sorts changes. Those of one kind keep their order.
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

    /// Adds a socket that dropped.
    pub fn add_drop(&mut self, dropped: Dropped, at_ms: i64) {
        self.drops.push(dropped);
        self.dropped_at_ms = self.dropped_at_ms.max(at_ms);
    }
}
