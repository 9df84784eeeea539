//! Presence: who is online in which conversation. It is counted on each node, published, and kept in the session store under the node's
//! lease.

mod counting;
mod last_seen;
mod left;
mod lingering;
mod reading;
mod typing;

use std::sync::Arc;

pub(crate) use last_seen::LastSeenTimes;
use left::LeftNodes;
use lingering::Lingering;
pub(crate) use lingering::{LINGER, Lingerer};
use starling_model::TenantName;
use starling_session_store::{SessionStore, Stamp};
use tokio::time::Instant;
pub(crate) use typing::Typing;

use crate::publisher::PartitionSet;
use crate::room::Rooms;
use crate::shards::Shards;
use crate::store_writer::StoreWriter;

/// The presence in the conversations of this node.
pub(crate) struct Presence {
    /// This node's name, as the others know it.
    node: Arc<str>,
    /// Whether there may be other nodes.
    clustered: bool,
    /// The shards, whose connections are told of changes.
    shards: Arc<dyn Shards>,
    /// Stores the presence on the other nodes.
    store: Arc<dyn SessionStore>,
    /// Writes the presence on this node, and publishes it afterwards.
    writer: Arc<StoreWriter>,
    /// The rooms. Each room's state has its presence.
    rooms: Arc<Rooms>,
    last_seen: Arc<LastSeenTimes>,
    /// Sessions whose connections dropped a moment ago.
    lingering: Lingering,
    /// Other nodes that have left.
    left: LeftNodes,
    /// Partitions whose rooms' presence must be read again from the session store.
    to_reload: PartitionSet,
}

/// The parts that [`Presence`] works with.
pub(crate) struct PresenceParts {
    pub node: Arc<str>,
    pub shards: Arc<dyn Shards>,
    pub store: Arc<dyn SessionStore>,
    pub writer: Arc<StoreWriter>,
    pub rooms: Arc<Rooms>,
    pub last_seen: Arc<LastSeenTimes>,
}

impl Presence {
    /// Creates the presence of a node on which nobody is online yet. `clustered`: there may be other nodes.
    pub fn new(parts: PresenceParts, clustered: bool) -> Arc<Presence> {
        let PresenceParts { node, shards, store, writer, rooms, last_seen } = parts;
        Arc::new(Presence {
            node,
            clustered,
            shards,
            store,
            writer,
            rooms,
            last_seen,
            lingering: Lingering::default(),
            left: LeftNodes::default(),
            to_reload: PartitionSet::default(),
        })
    }

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
        self.lingering.contains(session)
    }

    /// Returns the number of sessions that linger on this node.
    pub fn lingering_count(&self) -> usize {
        self.lingering.count()
    }
}
