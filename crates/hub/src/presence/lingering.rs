//! Sessions whose sockets dropped a moment ago: their users still count as online, so that a resume shows nothing.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use starling_model::{TenantName, UserName};
use starling_session_store::Stamp;
use tokio::time::Instant;

use super::Presence;
use crate::room::Room;
use crate::{Map, clock};

/// How long the user of a dropped socket still counts as online, so that a resume shows nothing.
pub(crate) const LINGER: Duration = Duration::from_secs(10);

/// What is left of a session whose socket dropped.
pub(crate) struct Lingerer {
    user: UserName,
    /// Where the user still counts as online.
    rooms: Vec<Arc<Room>>,
    until: Instant,
    /// When the socket dropped, Unix milliseconds.
    dropped_at_ms: i64,
    /// The stamp of the attach that ended with the socket.
    stamp: Stamp,
}

impl Lingerer {
    /// The session of this user was in these rooms, by an attach with this stamp, until now.
    pub fn new(user: UserName, rooms: Vec<Arc<Room>>, stamp: Stamp) -> Lingerer {
        let until = Instant::now() + LINGER;
        Lingerer { user, rooms, until, dropped_at_ms: clock::now_ms(), stamp }
    }
}

impl Presence {
    /// A session's socket dropped: its user counts as online for a while longer. Returns who lingered under the same session, to be
    /// released by the caller.
    #[must_use]
    pub fn linger(&self, tenant: &TenantName, session: Arc<str>, lingerer: Lingerer) -> Option<Lingerer> {
        self.last_seen.note(tenant, &lingerer.user, lingerer.dropped_at_ms);
        self.lingering.add(session, lingerer)
    }

    /// The session continues somewhere else, or has ended.
    pub fn stop_lingering(&self, session: &str) {
        if let Some(lingerer) = self.lingering.take(session) {
            self.release(&lingerer);
        }
    }

    /// The session continues at another node, by an attach with this stamp, and that node's presence in the rooms of this partition has
    /// been heard.
    pub fn stop_lingering_in(&self, partition: u16, session: &str, stamp: Option<Stamp>) {
        if let Some(lingerer) = self.lingering.take_partition(session, partition, stamp) {
            self.release(&lingerer);
        }
    }

    /// Counts out whose time is over.
    pub fn end_lingering(&self) {
        for lingerer in self.lingering.take_expired(Instant::now()) {
            self.release(&lingerer);
        }
    }

    /// Counts a lingering session's user out.
    pub fn release(&self, lingerer: &Lingerer) {
        for room in &lingerer.rooms {
            self.count_out(room, &lingerer.user, lingerer.dropped_at_ms);
        }
    }

    /// Whether a session lingers here.
    pub fn lingers(&self, session: &str) -> bool {
        self.lingering.inner.lock().contains_key(session)
    }

    /// How many sessions linger here.
    pub fn lingering_count(&self) -> usize {
        self.lingering.inner.lock().len()
    }
}

/// Those who linger, by session.
#[derive(Default)]
pub(super) struct Lingering {
    inner: Mutex<Map<Arc<str>, Lingerer>>,
}

impl Lingering {
    /// Adds one, and returns the one that lingered under the same session.
    fn add(&self, session: Arc<str>, lingerer: Lingerer) -> Option<Lingerer> {
        let mut inner = self.inner.lock();
        // A socket that was detached before it dropped has nothing left to count out: what it was in lingers already.
        if lingerer.rooms.is_empty() && inner.contains_key(&session) {
            return None;
        }
        inner.insert(session, lingerer)
    }

    fn take(&self, session: &str) -> Option<Lingerer> {
        self.inner.lock().remove(session)
    }

    /// Takes one out of its rooms of a partition, if its attach comes before the one with this stamp. In other partitions it stays.
    fn take_partition(&self, session: &str, partition: u16, before: Option<Stamp>) -> Option<Lingerer> {
        let mut inner = self.inner.lock();
        let lingerer = inner.get_mut(session)?;
        if before.is_some_and(|stamp| stamp < lingerer.stamp) {
            return None;
        }
        let rooms: Vec<_> = lingerer.rooms.extract_if(.., |room| room.lane == partition).collect();
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
