//! Reading from the log what was published but not heard.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use starling_conversation_store::{ConversationHead, Range};
use tokio::sync::{Semaphore, mpsc};

use crate::encoded::Encoded;
use crate::hub::{Hub, PAGE_BYTES_MAX};
use crate::log::message::stored;
use crate::metrics::METRICS;
use crate::room::Room;
use crate::vital::vital;

/// How long a hole may stand before the log is read: what is missing is mostly just on its way from another node.
const PATIENCE: Duration = Duration::from_millis(25);
/// How many conversations are repaired at once.
const REPAIRS_AT_ONCE: usize = 16;
/// How many messages one read takes.
const PAGE: u32 = 200;
/// How many heads are asked for in one query.
const HEADS_PER_QUERY: usize = 5_000;
/// How often a repair is tried while the database does not answer, before the next tick takes it up again.
const ATTEMPTS: u32 = 5;

impl Hub {
    /// Has a conversation's hole read from the log, soon and once.
    pub(crate) fn repair(&self, room: &Arc<Room>) {
        if !room.repairing.swap(true, Ordering::AcqRel) && self.repair_lane.try_send(room.clone()).is_err() {
            // The next tick finds it by its hole.
            room.repairing.store(false, Ordering::Release);
        }
    }

    /// Has a conversation's head looked up: whether an append was committed is not known.
    pub(crate) fn suspect(&self, room: &Arc<Room>) {
        let mut suspects = self.suspects.lock();
        if suspects.len() < HEADS_PER_QUERY && !suspects.iter().any(|other| Arc::ptr_eq(other, room)) {
            suspects.push_back(room.clone());
        }
    }

    /// Repairs what comes along the lane, a few at a time.
    pub(crate) async fn repair_all(self: Arc<Self>, mut rooms: mpsc::Receiver<Arc<Room>>) {
        let slots = Arc::new(Semaphore::new(REPAIRS_AT_ONCE));
        while let Some(room) = rooms.recv().await {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let hub = self.clone();
            // A room whose repair failed would never be repaired again.
            tokio::spawn(vital("repair_one", async move {
                hub.repair_one(&room).await;
                room.repairing.store(false, Ordering::Release);
                // Something may have come between the last look and the flag.
                if room.state().has_hole() {
                    hub.repair(&room);
                }
                drop(slot);
            }));
        }
    }

    /// Looks up where these conversations stand, in one query for many, and reads what moved. `false`: the database
    /// did not answer.
    pub(crate) async fn check_heads(&self, rooms: &[Arc<Room>]) -> bool {
        for chunk in rooms.chunks(HEADS_PER_QUERY) {
            let ids: Vec<i64> = chunk.iter().map(|room| room.conversation).collect();
            let heads = match self.conversations.heads(&ids).await {
                Ok(heads) => heads,
                Err(error) => {
                    tracing::debug!(%error, "heads could not be read; they will be with the next tick");
                    rooms.iter().for_each(|room| self.missed.insert(room.lane));
                    return false;
                }
            };
            let heads: crate::Map<i64, ConversationHead> =
                heads.into_iter().map(|head| (head.id, head)).collect();
            let mut outdated = Vec::new();
            for room in chunk {
                match heads.get(&room.conversation) {
                    Some(head) if self.learn(room, head) => {}
                    Some(_) => outdated.push(room.clone()),
                    None => self.apply_deleted(room),
                }
            }
            // All at once: each time, all of the node's sessions are looked at.
            self.outdate(&outdated);
        }
        true
    }

    /// Looks up the heads of conversations to which an append had no answer, and has the other nodes told: the sender may
    /// never ask again.
    pub(crate) async fn check_suspects(&self) {
        let suspects: Vec<Arc<Room>> = self.suspects.lock().drain(..).collect();
        if suspects.is_empty() {
            return;
        }
        let answered = self.check_heads(&suspects).await;
        for room in &suspects {
            if answered && self.publisher.is_clustered() {
                self.publisher.note_commit(room, room.state().known());
            } else if !answered {
                self.suspect(room);
            }
        }
    }

    async fn repair_one(&self, room: &Arc<Room>) {
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
            match self
                .conversations
                .messages(room.conversation, Range::After(after), PAGE, PAGE_BYTES_MAX, true)
                .await
            {
                Ok(page) if page.messages.is_empty() => {
                    // The conversation was deleted meanwhile, or the database was set back: nothing will come. What was
                    // heard since the log was asked may be there by now.
                    if room.state().give_up(known) {
                        tracing::warn!(conversation = %room.key.name, after, known, "the log lacks messages that were published");
                    }
                }
                Ok(page) => {
                    for message in page.messages {
                        room.log_tells(message.seq);
                        room.feed(
                            &*self.shards,
                            message.seq,
                            Arc::new(Encoded::new(stored(&room.key.name, message))),
                        );
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
