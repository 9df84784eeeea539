//! Sessions that operators ended. The database keeps their ids for as long as their tickets would live, so that no ticket becomes good
//! again, whatever becomes of Redis or of the node.
//!
//! A resume asks the database only where the session store does not know the session: elsewhere the store says that it was ended. Every
//! node is told of an end through the fan-out; a node that may have missed it reads the latest ends from the database, each second.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use starling_wire::protocol::CloseReason;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::clock::every_second;
use crate::hub::Hub;
use crate::hub::commands::TICKET_DAYS;
use crate::lane::{Bound, Weigh};
use crate::{CommandError, Set};

/// How many questions may wait for the database.
pub(crate) const ENDED_QUEUE: Bound = Bound { items: 65_536, bytes: 16 << 20 };
/// How many are asked in one query.
pub(crate) const ENDED_BATCH_MAX: Bound = Bound { items: 1_000, bytes: 1 << 20 };
/// How many ended sessions a node remembers; the session store and the database know them all.
const REMEMBERED_MAX: usize = 10_000;
/// How often the latest ends are read where nothing seems to have been missed, in seconds.
const READ_EVERY: u64 = 10;
/// How much further back than the last successful read the next one looks: longer than an end takes to be committed.
const OVERLAP: Duration = Duration::from_secs(60);
/// For how long an end is kept: as long as a ticket lives, and a day more for clocks that differ.
const KEPT: Duration = Duration::from_secs((TICKET_DAYS as u64 + 1) * 24 * 3_600);

/// The ended sessions that this node has heard of lately.
#[derive(Default)]
pub(crate) struct EndedSessions {
    remembered: Mutex<Remembered>,
    /// An end may have been missed.
    doubted: AtomicBool,
}

#[derive(Default)]
struct Remembered {
    ids: Set<Arc<str>>,
    /// The same, in the order in which they came.
    order: VecDeque<Arc<str>>,
}

/// Whether a session was ended: a question to the database.
pub(crate) struct EndedQuestion {
    session: Arc<str>,
    teller: oneshot::Sender<Result<bool, CommandError>>,
}

impl Weigh for EndedQuestion {
    fn bytes(&self) -> usize {
        size_of::<EndedQuestion>() + self.session.len()
    }
}

impl EndedSessions {
    /// Whether a session is known to have been ended.
    pub fn contains(&self, id: &str) -> bool {
        self.remembered.lock().ids.contains(id)
    }

    /// Remembers one; `false` if it was known.
    pub fn enter(&self, id: &str) -> bool {
        let mut remembered = self.remembered.lock();
        let id: Arc<str> = id.into();
        if !remembered.ids.insert(id.clone()) {
            return false;
        }
        remembered.order.push_back(id);
        if remembered.order.len() > REMEMBERED_MAX
            && let Some(oldest) = remembered.order.pop_front()
        {
            remembered.ids.remove(&oldest);
        }
        true
    }

    /// An end may have been missed: the database is asked with the next tick.
    pub fn doubt(&self) {
        self.doubted.store(true, Ordering::Relaxed);
    }
}

impl Hub {
    /// Writes down for good that a session was ended.
    pub(crate) async fn keep_end(&self, session: &str) -> Result<(), CommandError> {
        Ok(self.conversations.end_session(session, KEPT).await?)
    }

    /// An operator ended a session: its socket on this node is closed, and so is one that is just attaching it.
    pub(crate) fn end_here(&self, id: &str) {
        self.ended.enter(id);
        let attached = self.sessions.end(id);
        self.stop_lingering(id);
        if let Some(session) = attached {
            self.close(&session, CloseReason::Ended);
        }
    }

    /// Whether an operator ended a session, by the database.
    pub(crate) async fn was_ended(&self, session: &Arc<str>) -> Result<bool, CommandError> {
        let (teller, told) = oneshot::channel();
        let busy = || CommandError::unavailable("too many sessions are being resumed");
        self.ended_lane.push(EndedQuestion { session: session.clone(), teller }).map_err(|_| busy())?;
        told.await.unwrap_or_else(|_| Err(busy()))
    }

    /// Asks the database about all sessions that wait for it.
    pub(crate) async fn look_up_ended(self: Arc<Self>, batch: Vec<EndedQuestion>) {
        let ids: Vec<String> = batch.iter().map(|question| question.session.to_string()).collect();
        let ended = self.conversations.ended_among(&ids).await.map_err(CommandError::from);
        for EndedQuestion { session, teller } in batch {
            let answer = match &ended {
                Ok(ended) => Ok(ended.iter().any(|id| **id == *session)),
                Err(error) => Err(error.clone()),
            };
            // Whoever asked may have gone.
            let _ = teller.send(answer);
        }
    }

    /// Reads the latest ends from the database: each second where one may have been missed, else seldom.
    pub(crate) async fn watch_ended_forever(self: Arc<Self>) {
        let (mut interval, mut ticks, mut read_at) = (every_second(), 0_u64, Instant::now());
        while self.neighbours.lifetime().goes_on(&mut interval).await {
            ticks += 1;
            let doubted = self.ended.doubted.swap(false, Ordering::Relaxed);
            if !doubted && !self.neighbours.may_lack() && !ticks.is_multiple_of(READ_EVERY) {
                continue;
            }
            let began = Instant::now();
            match self.conversations.ended_sessions((began - read_at + OVERLAP).min(KEPT)).await {
                Ok(ended) => {
                    read_at = began;
                    for id in ended.iter().filter(|id| !self.ended.contains(id)) {
                        self.end_missed(id).await;
                    }
                }
                Err(error) => {
                    self.ended.doubt();
                    tracing::debug!(%error, "ended sessions could not be read; the next tick tries");
                }
            }
        }
    }

    /// Ends a session of which this node was not told. If it was attached here, the session store may have it as attached.
    async fn end_missed(&self, id: &str) {
        let attached = self.sessions.get(id);
        self.end_here(id);
        if let Some(session) = attached
            && let Err(error) = self.session_store.end(&session.tenant, id).await
        {
            tracing::debug!(%error, "the session store could not be told of an ended session");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_ends_are_remembered() {
        let ended = EndedSessions::default();
        for number in 0..=REMEMBERED_MAX {
            assert!(ended.enter(&number.to_string()));
        }
        assert!(!ended.enter("1"));
        assert!(!ended.contains("0"));
        assert!(ended.contains("1") && ended.contains(&REMEMBERED_MAX.to_string()));
    }
}
