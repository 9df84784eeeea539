//! Sessions whose sockets dropped a moment ago: their people still count as there, so that a resume shows nothing.

use std::sync::Arc;

use parking_lot::Mutex;
use starling_model::UserName;
use starling_session_store::Stamp;
use tokio::time::Instant;

use crate::Map;
use crate::room::Room;

/// What is left of a session whose socket dropped.
pub struct Lingerer {
    /// Who.
    pub user: UserName,
    /// Where they still count as there.
    pub rooms: Vec<Arc<Room>>,
    /// Until when.
    pub until: Instant,
    /// When the socket dropped, Unix milliseconds.
    pub dropped_at_ms: i64,
    /// The stamp of the attach that ended with it.
    pub stamp: Stamp,
}

/// All of them, by session.
#[derive(Default)]
pub struct Lingering {
    inner: Mutex<Map<Arc<str>, Lingerer>>,
}

impl Lingering {
    /// Adds one; answers the one that lingered under the same session.
    pub fn add(&self, session: Arc<str>, lingerer: Lingerer) -> Option<Lingerer> {
        let mut inner = self.inner.lock();
        // A socket that was detached before it dropped has nothing left to let go; what it was in lingers already.
        if lingerer.rooms.is_empty() && inner.contains_key(&session) {
            return None;
        }
        inner.insert(session, lingerer)
    }
    /// Whether one lingers under this session.
    pub fn contains(&self, session: &str) -> bool {
        self.inner.lock().contains_key(session)
    }
    /// Takes one out.
    pub fn take(&self, session: &str) -> Option<Lingerer> {
        self.inner.lock().remove(session)
    }
    /// Takes one out of its rooms of a lane, if it comes before the attach with this stamp; in other lanes it stays.
    pub fn take_lane(&self, session: &str, lane: u16, before: Option<Stamp>) -> Option<Lingerer> {
        let mut inner = self.inner.lock();
        let lingerer = inner.get_mut(session)?;
        if before.is_some_and(|stamp| stamp < lingerer.stamp) {
            return None;
        }
        let rooms: Vec<_> = lingerer.rooms.extract_if(.., |room| room.lane == lane).collect();
        let taken = Lingerer { user: lingerer.user.clone(), rooms, ..*lingerer };
        if lingerer.rooms.is_empty() {
            inner.remove(session);
        }
        Some(taken)
    }
    /// Takes those out whose time is over.
    pub fn take_expired(&self, now: Instant) -> Vec<Lingerer> {
        let mut expired = Vec::new();
        self.inner
            .lock()
            .extract_if(|_, lingerer| lingerer.until <= now)
            .for_each(|(_, lingerer)| expired.push(lingerer));
        expired
    }
    /// How many there are.
    pub fn count(&self) -> usize {
        self.inner.lock().len()
    }
}
