//! Sessions whose connections dropped a moment ago. Their users still count as online, so that a resume shows nothing.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use starling_model::{TenantName, UserName};
use starling_session_store::Stamp;
use tokio::time::Instant;

use super::Presence;
use crate::room::Room;
use crate::{Map, clock};

/// How long a user counts as online after the connection dropped.
pub(crate) const LINGER: Duration = Duration::from_secs(10);

/// A session whose connection dropped a moment ago.
pub(crate) struct Lingerer {
    user: UserName,
    /// The rooms in which the user still counts as online.
    rooms: Vec<Arc<Room>>,
    until: Instant,
    /// When the connection dropped, Unix milliseconds.
    dropped_at_ms: i64,
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

impl Presence {
    /// Makes a session linger after its connection dropped. Returns an earlier lingerer of the same session, which the caller must release.
    #[must_use]
    pub fn linger(&self, tenant: &TenantName, session: Arc<str>, lingerer: Lingerer) -> Option<Lingerer> {
        self.last_seen.note(tenant, &lingerer.user, lingerer.dropped_at_ms);
        self.lingering.add(session, lingerer)
    }

    /// Ends the lingering of a session that continues elsewhere or has ended.
    pub fn stop_lingering(&self, session: &str) {
        if let Some(lingerer) = self.lingering.take(session) {
            self.release(&lingerer);
        }
    }

    /// Ends the lingering of a session in the rooms of a partition. It continues on another node, by an attach with this stamp, and that
    /// node's presence in these rooms has been heard.
    pub fn stop_lingering_in(&self, partition: u16, session: &str, stamp: Option<Stamp>) {
        if let Some(lingerer) = self.lingering.take_partition(session, partition, stamp) {
            self.release(&lingerer);
        }
    }

    /// Releases the lingerers whose time is over.
    pub fn end_lingering(&self) {
        for lingerer in self.lingering.take_expired(Instant::now()) {
            self.release(&lingerer);
        }
    }

    /// Counts the user of a lingering session out of its rooms.
    pub fn release(&self, lingerer: &Lingerer) {
        for room in &lingerer.rooms {
            self.count_out(room, &lingerer.user, lingerer.dropped_at_ms);
        }
    }

    /// Whether a session lingers on this node.
    pub fn lingers(&self, session: &str) -> bool {
        self.lingering.inner.lock().contains_key(session)
    }

    /// Returns the number of sessions that linger on this node.
    pub fn lingering_count(&self) -> usize {
        self.lingering.inner.lock().len()
    }
}

/// The lingering sessions, by session id.
#[derive(Default)]
pub(super) struct Lingering {
    inner: Mutex<Map<Arc<str>, Lingerer>>,
}

impl Lingering {
    /// Adds a lingerer, and returns an earlier one of the same session.
    fn add(&self, session: Arc<str>, lingerer: Lingerer) -> Option<Lingerer> {
        let mut inner = self.inner.lock();
        // A session that was already detached has no rooms left to count out of. They belong to the earlier lingerer.
        if lingerer.rooms.is_empty() && inner.contains_key(&session) {
            return None;
        }
        inner.insert(session, lingerer)
    }

    fn take(&self, session: &str) -> Option<Lingerer> {
        self.inner.lock().remove(session)
    }

    /// Removes a session from its rooms of a partition, unless it was attached later than `before`. It stays in the rooms of other
    /// partitions.
    fn take_partition(&self, session: &str, partition: u16, before: Option<Stamp>) -> Option<Lingerer> {
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

    fn take_expired(&self, now: Instant) -> Vec<Lingerer> {
        let mut inner = self.inner.lock();
        inner.extract_if(|_, lingerer| lingerer.until <= now).map(|(_, lingerer)| lingerer).collect()
    }
}
