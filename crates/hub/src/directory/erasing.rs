//! Erases the messages of deleted conversations in the background.

use std::sync::Arc;
use std::time::Duration;

use starling_conversation_store::ConversationStore;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How often a node looks for messages that another node left to be erased.
const LOOK: Duration = Duration::from_secs(600);
/// How long a node waits after the database failed to erase.
const RETRY: Duration = Duration::from_secs(30);

/// Erases the messages of deleted conversations.
pub(crate) struct Eraser {
    store: Arc<dyn ConversationStore>,
    /// Notified when a conversation was deleted.
    wanted: Notify,
}

impl Eraser {
    /// Creates an eraser. It erases nothing until [`Eraser::erase_forever`] runs.
    pub fn new(store: Arc<dyn ConversationStore>) -> Arc<Eraser> {
        Arc::new(Eraser { store, wanted: Notify::new() })
    }

    /// Requests that the messages of deleted conversations be erased soon.
    pub fn request(&self) {
        self.wanted.notify_one();
    }

    /// Erases at the start, after each deletion on this node, and regularly.
    pub async fn erase_forever(self: Arc<Self>) {
        loop {
            let wait = if self.erase_all().await { LOOK } else { RETRY };
            // Requested or not, it is time to look.
            let _ = tokio::time::timeout(wait, self.wanted.notified()).await;
        }
    }

    /// Erases all that is left. `false`: the database failed, and the rest is erased later.
    async fn erase_all(&self) -> bool {
        loop {
            let began = Instant::now();
            match self.store.erase().await {
                // Leave half of the time to others who wait for the database.
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
