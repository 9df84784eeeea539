//! The meaning: what each command does and who gets which event.
//!
//! The hub is plain async functions over three traits (the conversation store, the session store, the fan-out). The WebSocket side,
//! HTTP and tests call the same functions. It knows no sockets: it hands ordered, encoded events to the [`Shards`]
//! that have somebody who wants them.

mod append;
mod beat;
pub mod clock;
mod commands;
mod config;
mod deleted;
mod encoded;
mod ended;
mod erasing;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod heads;
mod holding;
mod hub;
mod incarnation;
mod lane;
mod latency;
mod limits;
mod linger;
mod link;
mod loads;
mod log_reads;
mod members;
mod members_version;
mod membership;
mod metrics;
mod node_message;
mod online;
mod peers;
mod places;
mod presence;
mod presence_reads;
mod random;
mod reads;
mod receive;
mod recovery;
mod repair;
mod reply;
mod room;
mod rooms;
mod sequencer;
mod session;
mod shards;
mod sightings;
#[cfg(feature = "simulation")]
pub mod simulation;
mod standing;
#[cfg(test)]
mod testing;
mod tick;
mod topic;
mod topic_lane;
mod trace;
mod typing;
mod untold;
mod vital;

pub use commands::{
    Attachment, ConversationPage, ConversationView, Posted, PreparedConnect, PreparedJoin, PreparedSubscribe,
    TICKET_DAYS, TopicAttachment, UserPresence,
};
pub use config::{HubConfig, TenantLimits};
pub use encoded::{Encoded, OwnedEvent};
pub use error::CommandError;
pub use hub::{Hub, HubParts, NodeGauges, PAGE_BYTES_MAX};
pub use latency::LatencyWindow;
pub use loads::Unsure;
pub use log_reads::LogPage;
pub use random::Seeds;
pub use reply::{Answer, Handling, Reply};
pub use room::{Room, RoomKey};
pub use session::Session;
pub use shards::{RoomId, ShardItem, Shards, SocketId};
pub use standing::Standing;
pub use starling_fanout::EpochTag;
pub use vital::vital;

/// A map whose keys come from outside: seeded per process against crafted collisions.
pub(crate) type Map<K, V> = hashbrown::HashMap<K, V, Seeds>;
/// A set of what comes from outside, seeded as a [`Map`] is.
pub(crate) type Set<T> = hashbrown::HashSet<T, Seeds>;
