//! Who is online in which conversation: counted on each node, told to the others, and kept in the session store under the node's lease.

mod counting;
mod last_seen;
mod lingering;
mod reading;
mod typing;

use std::sync::Arc;

pub(crate) use last_seen::LastSeenTimes;
use lingering::Lingering;
pub(crate) use lingering::{LINGER, Lingerer};
use starling_session_store::SessionStore;
pub(crate) use typing::Typing;

use crate::publisher::PartitionSet;
use crate::room::Rooms;
use crate::shards::Shards;
use crate::store_writer::StoreWriter;

/// Who is online in the conversations of this node.
pub(crate) struct Presence {
    /// This node, as the others know it.
    node: Arc<str>,
    /// Whether there may be other nodes.
    clustered: bool,
    /// The sockets that are told who comes and goes.
    shards: Arc<dyn Shards>,
    /// What the other nodes wrote of who is online by them.
    store: Arc<dyn SessionStore>,
    /// Writes who is online by this node, and tells the others afterwards.
    writer: Arc<StoreWriter>,
    /// Each room's state holds who is online in it.
    rooms: Arc<Rooms>,
    last_seen: Arc<LastSeenTimes>,
    /// Sessions whose sockets dropped a moment ago.
    lingering: Lingering,
    /// Partitions whose rooms' presence must be read again from the session store.
    to_reload: PartitionSet,
}

impl Presence {
    /// Nobody is online yet.
    pub fn new(
        node: Arc<str>,
        clustered: bool,
        shards: Arc<dyn Shards>,
        store: Arc<dyn SessionStore>,
        writer: Arc<StoreWriter>,
        rooms: Arc<Rooms>,
        last_seen: Arc<LastSeenTimes>,
    ) -> Arc<Presence> {
        let (lingering, to_reload) = (Lingering::default(), PartitionSet::default());
        Arc::new(Presence { node, clustered, shards, store, writer, rooms, last_seen, lingering, to_reload })
    }
}
