//! Sessions whose connections dropped a moment ago. Their users still count as online, so that a resume shows nothing.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use starling_model::UserName;
use starling_session_store::Stamp;
use tokio::time::Instant;

use crate::room::Room;
use crate::{Map, clock};

/// How long a user counts as online after the connection dropped.
pub(crate) const LINGER: Duration = Duration::from_secs(10);

/// A session whose connection dropped a moment ago.
pub(crate) struct Lingerer {
    pub(super) user: UserName,
    /// The rooms in which the user still counts as online.
    pub(super) rooms: Vec<Arc<Room>>,
    until: Instant,
    /// When the connection dropped, Unix milliseconds.
    pub(super) dropped_at_ms: i64,
    /// The stamp of the attach that ended with the connection.
    stamp: Stamp,
}

impl Lingerer {
    /// Makes a lingerer of a session that was in these rooms, by an attach with this stamp.
    pub fn new(user: UserName, rooms: Vec<Arc<Room>>, stamp: Stamp) -> Lingerer {
        let until = Instant::now() + LINGER;
        Lingerer { user, rooms, until, dropped_at_ms: clock::now_ms(), stamp }
    }
}

/// The lingering sessions, by session id.
#[derive(Default)]
pub(super) struct Lingering {
    inner: Mutex<Map<Arc<str>, Lingerer>>,
}

impl Lingering {
    /// Adds a lingerer, and returns an earlier one of the same session.
    pub fn add(&self, session: Arc<str>, lingerer: Lingerer) -> Option<Lingerer> {
        let mut inner = self.inner.lock();
        // A session that was already detached has no rooms left to count out of. They belong to the earlier lingerer.
        if lingerer.rooms.is_empty() && inner.contains_key(&session) {
            return None;
        }
        inner.insert(session, lingerer)
    }

    /// Whether a session lingers.
    pub fn contains(&self, session: &str) -> bool {
        self.inner.lock().contains_key(session)
    }

    /// Returns the number of sessions that linger.
    pub fn count(&self) -> usize {
        self.inner.lock().len()
    }

    /// Removes a session.
    pub fn take(&self, session: &str) -> Option<Lingerer> {
        self.inner.lock().remove(session)
    }

    /// Removes a session from its rooms of a partition, unless it was attached later than `before`. It stays in the rooms of other
    /// partitions.
    pub fn take_partition(&self, session: &str, partition: u16, before: Option<Stamp>) -> Option<Lingerer> {
        let mut inner = self.inner.lock();
        let lingerer = inner.get_mut(session)?;
        if before.is_some_and(|stamp| stamp < lingerer.stamp) {
            return None;
        }
        let rooms: Vec<_> = lingerer.rooms.extract_if(.., |room| room.partition == partition).collect();
        let taken = Lingerer { user: lingerer.user.clone(), rooms, ..*lingerer };
        if lingerer.rooms.is_empty() {
            inner.remove(session);
        }
        Some(taken)
    }

    /// Removes the sessions whose time is over.
    pub fn take_expired(&self, now: Instant) -> Vec<Lingerer> {
        let mut inner = self.inner.lock();
        inner.extract_if(|_, lingerer| lingerer.until <= now).map(|(_, lingerer)| lingerer).collect()
    }
}
