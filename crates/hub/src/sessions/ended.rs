//! Sessions that operators ended. The database keeps their ids for as long as their tickets would be valid, so that no ticket becomes valid
//! again if Redis or the node loses its data.
//!
//! A resume asks the database only if the session store does not know the session; otherwise the store knows whether it was ended. An end
//! is published to every node. A node that may have missed it reads the latest ends from the database every second.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use starling_conversation_store::ConversationStore;
use starling_session_store::SessionStore;
use starling_wire::protocol::CloseReason;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Attachments, Sessions};
use crate::clock::every_second;
use crate::config::TICKET_DAYS;
use crate::lane::{self, Bound, Lane, Weigh};
use crate::neighbours::Neighbours;
use crate::presence::Presence;
use crate::{CommandError, Set};

/// Limit of the questions that wait for the database.
const QUEUE: Bound = Bound { items: 65_536, bytes: 16 << 20 };
/// Limit of the questions in one query.
const BATCH_MAX: Bound = Bound { items: 1_000, bytes: 1 << 20 };
/// Most ended sessions that a node remembers. The session store and the database know all of them.
const REMEMBERED_MAX: usize = 10_000;
/// How often the latest ends are read if nothing seems to have been missed, seconds.
const READ_EVERY: u64 = 10;
/// How far a read goes back before the last successful one. This is longer than an end takes to be committed.
const OVERLAP: Duration = Duration::from_secs(60);
/// How long an end is kept: the lifetime of a ticket, and one more day for clocks that differ.
const KEPT: Duration = Duration::from_secs((TICKET_DAYS as u64 + 1) * 24 * 3_600);

/// The sessions that operators ended.
pub(crate) struct EndedSessions {
    /// Keeps the ends durably.
    store: Arc<dyn ConversationStore>,
    session_store: Arc<dyn SessionStore>,
    sessions: Arc<Sessions>,
    attachments: Arc<Attachments>,
    presence: Arc<Presence>,
    /// Sessions whose end this node has heard of lately.
    remembered: Mutex<Remembered>,
    /// Questions to the database that wait.
    questions: Lane<Question>,
}

/// The latest ends.
#[derive(Default)]
struct Remembered {
    ids: Set<Arc<str>>,
    /// The same ids, in the order in which they came.
    order: VecDeque<Arc<str>>,
}

/// A question to the database: was this session ended?
struct Question {
    session: Arc<str>,
    answer: oneshot::Sender<Result<bool, CommandError>>,
}

impl Weigh for Question {
    fn bytes(&self) -> usize {
        size_of::<Question>() + self.session.len()
    }
}

impl EndedSessions {
    /// Begins with no ended sessions. A task on `runtime` asks the database.
    pub fn new(
        store: Arc<dyn ConversationStore>,
        session_store: Arc<dyn SessionStore>,
        sessions: Arc<Sessions>,
        attachments: Arc<Attachments>,
        presence: Arc<Presence>,
        runtime: &Handle,
    ) -> Arc<EndedSessions> {
        let (questions, end) = Lane::new(QUEUE);
        let ended = Arc::new(EndedSessions {
            store,
            session_store,
            sessions,
            attachments,
            presence,
            remembered: Mutex::default(),
            questions,
        });
        lane::spawn(runtime, "ended", end, BATCH_MAX, &ended, EndedSessions::answer);
        ended
    }

    /// Whether a session is known to have been ended.
    pub fn contains(&self, id: &str) -> bool {
        self.remembered.lock().ids.contains(id)
    }

    /// Ends a session for good, in the database.
    pub async fn keep(&self, id: &str) -> Result<(), CommandError> {
        Ok(self.store.end_session(id, KEPT).await?)
    }

    /// Ends a session on this node, after an operator ended it. Its connection is closed, and so is one that is attaching it.
    pub fn end_here(&self, id: &str) {
        self.remembered.lock().insert(id);
        let attached = self.sessions.end(id);
        self.presence.stop_lingering(id);
        if let Some(session) = attached {
            self.attachments.close(&session, CloseReason::Ended);
        }
    }

    /// Asks the database whether a session was ended.
    pub async fn was_ended(&self, session: &Arc<str>) -> Result<bool, CommandError> {
        let (answer, answered) = oneshot::channel();
        let busy = || CommandError::unavailable("too many sessions are being resumed");
        self.questions.push(Question { session: session.clone(), answer }).map_err(|_| busy())?;
        answered.await.unwrap_or_else(|_| Err(busy()))
    }

    /// Asks the database about all sessions of a batch.
    async fn answer(self: Arc<Self>, batch: Vec<Question>) {
        let ids: Vec<String> = batch.iter().map(|question| question.session.to_string()).collect();
        let ended = self.store.ended_among(&ids).await.map_err(CommandError::from);
        for Question { session, answer } in batch {
            let is_ended = match &ended {
                Ok(ended) => Ok(ended.iter().any(|id| **id == *session)),
                Err(error) => Err(error.clone()),
            };
            // The caller may have gone.
            let _ = answer.send(is_ended);
        }
    }

    /// Reads the latest ends from the database: every second while one may have been missed, otherwise seldom.
    pub async fn watch_forever(self: Arc<Self>, neighbours: Arc<Neighbours>) {
        let (mut interval, mut ticks, mut read_at) = (every_second(), 0_u64, Instant::now());
        // Whether the last read failed.
        let mut is_doubted = false;
        while neighbours.lifetime().next_tick(&mut interval).await {
            ticks += 1;
            if !is_doubted && !neighbours.may_miss_messages() && !ticks.is_multiple_of(READ_EVERY) {
                continue;
            }
            let began = Instant::now();
            match self.store.ended_sessions((began - read_at + OVERLAP).min(KEPT)).await {
                Ok(ended) => {
                    (read_at, is_doubted) = (began, false);
                    for id in ended.iter().filter(|id| !self.contains(id)) {
                        self.end_missed(id).await;
                    }
                }
                Err(error) => {
                    is_doubted = true;
                    tracing::debug!(%error, "ended sessions could not be read; trying again with the next tick");
                }
            }
        }
    }

    /// Ends a session whose end this node missed. If it was attached here, the session store may list it as attached.
    async fn end_missed(&self, id: &str) {
        let attached = self.sessions.get(id);
        self.end_here(id);
        if let Some(session) = attached
            && let Err(error) = self.session_store.end(&session.tenant, id).await
        {
            tracing::debug!(%error, "an ended session could not be removed from the session store");
        }
    }
}

impl Remembered {
    fn insert(&mut self, id: &str) {
        let id: Arc<str> = id.into();
        if !self.ids.insert(id.clone()) {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_ends_are_remembered() {
        let mut ended = Remembered::default();
        (0..=REMEMBERED_MAX).for_each(|number| ended.insert(&number.to_string()));
        ended.insert("1");
        let contains = |id: &str| ended.ids.contains(id);
        assert!(!contains("0") && contains("1") && contains(&REMEMBERED_MAX.to_string()));
        assert_eq!(ended.order.len(), REMEMBERED_MAX);
    }
}
