//! Repairs: reads messages from the log that were published but not received.

use std::sync::Arc;
use std::time::Duration;

use starling_conversation_store::{ConversationStore, Range};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

use super::stored;
use crate::config::PAGE_BYTES_MAX;
use crate::encoded::Encoded;
use crate::essential;
use crate::metrics::METRICS;
use crate::room::Room;
use crate::shards::Shards;

/// Most rooms that may wait for a repair. Others are found again with the next tick.
const QUEUE: usize = 4_096;
/// How long a repair waits before it reads the log, since most missing messages are just on their way from another node.
const PATIENCE: Duration = Duration::from_millis(25);
/// Most rooms that are repaired at once.
const AT_ONCE: usize = 16;
/// Most messages in one read.
const PAGE: u32 = 200;
/// Attempts of one repair while the database does not respond. The next tick begins another repair.
const ATTEMPTS: u32 = 5;

/// Fills the holes of rooms from the log.
pub(crate) struct Repairs {
    store: Arc<dyn ConversationStore>,
    shards: Arc<dyn Shards>,
    /// Rooms that wait for a repair.
    queue: mpsc::Sender<Arc<Room>>,
}

impl Repairs {
    /// Starts the repairs' task on `runtime`.
    pub fn new(store: Arc<dyn ConversationStore>, shards: Arc<dyn Shards>, runtime: &Handle) -> Arc<Repairs> {
        let (queue, rooms) = mpsc::channel(QUEUE);
        let repairs = Arc::new(Repairs { store, shards, queue });
        essential::spawn(runtime, "repair", repairs.clone().run(rooms));
        repairs
    }

    /// Requests that the missing messages of a room are read from the log. Requests before that begins count as one.
    pub fn request(&self, room: &Arc<Room>) {
        if room.begin_repair() && self.queue.try_send(room.clone()).is_err() {
            // The next tick finds the room by its hole.
            room.end_repair();
        }
    }

    /// Repairs the requested rooms, a few at a time.
    async fn run(self: Arc<Self>, mut rooms: mpsc::Receiver<Arc<Room>>) {
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        while let Some(room) = rooms.recv().await {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let repairs = self.clone();
            // A room whose repair panicked would never be repaired again.
            essential::spawn(&Handle::current(), "repair_one", async move {
                repairs.repair(&room).await;
                room.end_repair();
                // A message may have come between the last check and `end_repair`.
                if room.state().has_hole() {
                    repairs.request(&room);
                }
                drop(slot);
            });
        }
    }

    async fn repair(&self, room: &Arc<Room>) {
        tokio::time::sleep(PATIENCE).await;
        let mut failures = 0;
        loop {
            let (after, known) = {
                let state = room.state();
                if !state.has_hole() {
                    return;
                }
                (state.head(), state.known())
            };
            METRICS.repairs.increment(1);
            let range = Range::After(after);
            match self.store.messages(room.conversation, range, PAGE, PAGE_BYTES_MAX, true).await {
                Ok(page) if page.messages.is_empty() => {
                    // Nothing will come: the conversation was deleted, or the database was set back. Numbers heard since the read may
                    // exist, so they are not given up.
                    if room.state().give_up(known) {
                        tracing::warn!(conversation = %room.key.name, %after, %known, "the log does not contain messages that were published");
                    }
                }
                Ok(page) => {
                    for message in page.messages {
                        room.log_tells(message.seq);
                        let (seq, message) = (message.seq, stored(&room.key.name, message));
                        room.feed(&*self.shards, seq, Arc::new(Encoded::new(message)));
                    }
                }
                Err(error) => {
                    failures += 1;
                    tracing::debug!(%error, failures, "a hole could not be read");
                    if failures == ATTEMPTS {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(100 << failures)).await;
                }
            }
        }
    }
}
