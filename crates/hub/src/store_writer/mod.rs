//! Writes to the session store what this node's sessions have joined, which connections dropped, and who is online on this node.
//!
//! Changes are written in batches, in the order in which they were made. Changes that the store did not accept are written again when the
//! store is back.

mod batch;
mod unwritten;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use batch::{Batch, StoreChange};
use starling_session_store::{Change, Dropped, Error, PresenceChange, SessionChange, SessionStore, Stamp};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use unwritten::Unwritten;

use crate::clock;
use crate::lane::{self, Bound, Lane};
use crate::publisher::{Outgoing, Publisher};
use crate::room::Rooms;

/// Limit of the changes that wait for the session store.
const QUEUE: Bound = Bound { items: 65_536, bytes: 64 << 20 };
/// Limit of the changes in one batch.
const BATCH_MAX: Bound = Bound { items: 2_048, bytes: 4 << 20 };
/// Longest time that a resume waits for the last changes of its session to be written.
const FLUSH_WAIT: Duration = Duration::from_secs(1);

/// Writes the changes of this node's sessions to the session store.
pub(crate) struct StoreWriter {
    /// The lease under which this node writes.
    node: Arc<str>,
    store: Arc<dyn SessionStore>,
    /// Changes that wait for the store.
    queue: Lane<StoreChange>,
    /// Publishes messages that other nodes may hear only after the changes before them were written.
    publisher: Arc<Publisher>,
    /// The rooms, which know who is online on this node.
    rooms: Arc<Rooms>,
    /// Changes that the store did not accept.
    unwritten: Unwritten,
    /// Whether everything must be written again, because the store may lack something that this node wrote.
    rewrite_wanted: AtomicBool,
}

impl StoreWriter {
    /// Creates a writer whose work runs on `runtime`.
    pub fn new(
        node: Arc<str>,
        store: Arc<dyn SessionStore>,
        publisher: Arc<Publisher>,
        rooms: Arc<Rooms>,
        runtime: &Handle,
    ) -> Arc<StoreWriter> {
        let (queue, end) = Lane::new(QUEUE);
        let writer = Arc::new(StoreWriter {
            node,
            store,
            queue,
            publisher,
            rooms,
            unwritten: Unwritten::default(),
            rewrite_wanted: AtomicBool::new(false),
        });
        lane::spawn(runtime, "presence", end, BATCH_MAX, &writer, StoreWriter::write_batch);
        writer
    }

    /// Writes the number of a user's sessions in a conversation on this node.
    pub fn set_presence(&self, change: PresenceChange) {
        self.push(StoreChange::Presence(change));
    }

    /// Writes that a session joined or left a conversation or a topic.
    pub fn update_session(&self, session: &str, change: Change) {
        self.push(StoreChange::Session(SessionChange { session: session.to_owned(), change }));
    }

    /// Writes that the connection of an attach dropped now.
    pub fn detach(&self, session: &str, stamp: Stamp) {
        let dropped = Dropped { session: session.to_owned(), stamp };
        self.push(StoreChange::Detached { dropped, at_ms: clock::now_ms() });
    }

    /// Publishes something after all changes so far have been written. A node that reads the store before the write then hears of the
    /// change afterwards. In the other order it could miss both.
    pub fn publish_when_written(&self, outgoing: Outgoing) {
        if self.publisher.is_clustered() {
            self.push(StoreChange::Publish(outgoing));
        }
    }

    /// Waits until all changes so far have been written, but at most for [`FLUSH_WAIT`].
    pub async fn flush(&self) {
        let (waiter, written) = oneshot::channel();
        if self.queue.push(StoreChange::Flush(waiter)).is_ok() {
            // Changes that are not written in time are written later.
            let _ = tokio::time::timeout(FLUSH_WAIT, written).await;
        }
    }

    /// Writes the presence of all users on this node, after all changes so far. `false`: the store did not accept it.
    pub async fn rewrite_presence(&self) -> bool {
        let (waiter, written) = oneshot::channel();
        self.queue.push(StoreChange::AllPresence(waiter)).is_ok() && written.await.unwrap_or(false)
    }

    /// Notes that the store may lack something that this node wrote.
    pub fn want_rewrite(&self) {
        self.rewrite_wanted.store(true, Ordering::Relaxed);
    }

    /// Returns whether everything must be written again, and clears the flag. The caller must do it.
    pub fn take_rewrite_wanted(&self) -> bool {
        self.rewrite_wanted.swap(false, Ordering::Relaxed)
    }

    /// Whether no change waits for the store.
    pub fn is_idle(&self) -> bool {
        self.queue.is_idle()
    }

    /// Returns the number of changes that wait for the store.
    pub fn depth(&self) -> usize {
        self.queue.depth()
    }

    fn push(&self, change: StoreChange) {
        let Err(change) = self.queue.push(change) else { return };
        match change {
            StoreChange::Publish(publication) => return self.publisher.publish(publication),
            StoreChange::Presence(change) => self.unwritten.keep_departures(&[change]),
            StoreChange::Detached { dropped, at_ms } => self.unwritten.keep_drops(vec![dropped], at_ms),
            _ => {}
        }
        self.want_rewrite();
    }

    async fn write_batch(self: Arc<Self>, changes: Vec<StoreChange>) {
        let mut batch = Batch::from_changes(changes);
        let is_written = match self.write(&mut batch).await {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "sessions and presence could not be written; trying again later");
                self.unwritten.keep_departures(&batch.presence);
                self.unwritten.keep_drops(batch.drops, batch.dropped_at_ms);
                self.want_rewrite();
                false
            }
        };
        // The callers may have stopped waiting.
        for rewriter in batch.rewriters {
            let _ = rewriter.send(is_written);
        }
        for publication in batch.publications {
            self.publisher.publish(publication);
        }
        for waiter in batch.flushes {
            let _ = waiter.send(());
        }
    }

    async fn write(&self, batch: &mut Batch) -> Result<(), Error> {
        if !batch.sessions.is_empty() {
            self.store.update(&batch.sessions).await?;
        }
        if !batch.presence.is_empty() {
            self.store.set_presence(&self.node, &batch.presence).await?;
        }
        if !batch.rewriters.is_empty() {
            let everybody = self.own_presence();
            self.store.set_presence(&self.node, &everybody).await?;
            self.unwritten.forget_departures(&everybody);
            // A session that was attached again meanwhile has another stamp, so this drop does not concern it.
            self.unwritten.take_drops(|dropped, at_ms| batch.add_drop(dropped, at_ms));
        }
        if !batch.drops.is_empty() {
            self.store.detach(&self.node, &batch.drops, batch.dropped_at_ms).await?;
        }
        Ok(())
    }

    /// Returns the presence of all users on this node, and the departures that could not be written.
    fn own_presence(&self) -> Vec<PresenceChange> {
        // Take a copy, to avoid a deadlock: a caller that counts a user in or out locks a room and then the departures.
        let departures = self.unwritten.departures();
        let mut everybody: Vec<PresenceChange> = departures
            .into_iter()
            .map(|(conversation, user)| {
                let devices = self.rooms.devices_on(&self.node, &conversation, &user);
                PresenceChange { conversation, user, devices }
            })
            .collect();
        for room in self.rooms.joined() {
            let conversation = room.presence_key();
            let state = room.state();
            everybody.extend(state.presence.online().of_node(&self.node).map(|(user, devices)| {
                PresenceChange { conversation: conversation.clone(), user: user.clone(), devices }
            }));
        }
        everybody
    }
}
