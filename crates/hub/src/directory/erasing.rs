//! Erasing the messages of deleted conversations, when nobody waits for it.

use std::sync::Arc;
use std::time::Duration;

use starling_conversation_store::ConversationStore;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How often a node looks whether there is something to erase that another one left behind.
const LOOK: Duration = Duration::from_secs(600);
/// When a node tries again after the database refused, or was away.
const RETRY: Duration = Duration::from_secs(30);

/// Erases the messages of deleted conversations.
pub(crate) struct Eraser {
    store: Arc<dyn ConversationStore>,
    /// A conversation was deleted.
    wanted: Notify,
}

impl Eraser {
    /// Erases nothing until [`Eraser::erase_forever`] runs.
    pub fn new(store: Arc<dyn ConversationStore>) -> Arc<Eraser> {
        Arc::new(Eraser { store, wanted: Notify::new() })
    }

    /// Has messages erased soon: a conversation was deleted.
    pub fn request(&self) {
        self.wanted.notify_one();
    }

    /// Erases at the start, after each deletion by this node, and now and then.
    pub async fn erase_forever(self: Arc<Self>) {
        loop {
            let wait = if self.erase_all().await { LOOK } else { RETRY };
            // Requested or not: the next look is due.
            let _ = tokio::time::timeout(wait, self.wanted.notified()).await;
        }
    }

    /// `false`: the database did not do it; the rest waits for the next time.
    async fn erase_all(&self) -> bool {
        loop {
            let began = Instant::now();
            match self.store.erase().await {
                // Half of the time is left to those who wait for the database.
                Ok(true) => tokio::time::sleep(began.elapsed()).await,
                Ok(false) => return true,
                Err(error) => {
                    tracing::debug!(%error, "messages of a deleted conversation could not be erased yet");
                    return false;
                }
            }
        }
    }
}
