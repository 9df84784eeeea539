//! The hub: what each command does, and who receives which event.
//!
//! The hub consists of plain async functions over three traits (conversation store, session store, fan-out) and two services (jobs,
//! webhooks). The WebSocket side, HTTP and tests call the same functions. The hub knows no sockets. It posts ordered, encoded events to the
//! [`Shards`] with subscriptions to them.

mod append;
#[doc(hidden)]
pub mod benchmarks;
pub mod clock;
mod config;
mod directory;
mod encoded;
mod error;
pub mod essential;
#[doc(hidden)]
pub mod fuzzing;
mod hub;
mod interest;
mod job_tasks;
mod lane;
mod latency;
mod limits;
mod log;
mod metrics;
mod neighbours;
mod node_message;
mod presence;
mod publisher;
pub mod random;
mod reads;
mod reply;
mod room;
mod sessions;
mod shards;
#[cfg(feature = "simulation")]
pub mod simulation;
mod store_writer;
#[cfg(test)]
mod testing;
mod topics;
mod trace;

pub use config::{HubConfig, OwnLimits, PAGE_BYTES_MAX, TICKET_DAYS, TenantLimits};
pub use encoded::Encoded;
pub use error::CommandError;
pub use hub::commands::{
    Attachment, ConversationPage, ConversationView, HookRequest, JobsMatching, JobsTaken, NewJobRequest,
    Posted, PreparedConnect, PreparedJoin, PreparedSubscribe, QueuesVisible, ScheduleRequest, TakeRequest,
    TopicAttachment, UserPresence, WebhookRequest,
};
pub use hub::{Hub, HubParts, NodeGauges};
pub use latency::LatencyWindow;
pub use log::LogPage;
pub use neighbours::{LoadsUnknown, NodeHealth, Worker, WorkerParts};
pub use random::Seeds;
pub use reply::{Answer, Handling, Reply};
pub use room::{Room, RoomKey};
pub use sessions::Session;
pub use shards::{ChannelId, ShardItem, Shards, SocketId};
pub use starling_fanout::EpochTag;

/// A map with untrusted keys, seeded against crafted collisions.
pub type Map<K, V> = hashbrown::HashMap<K, V, Seeds>;
/// A set of untrusted values, seeded like a [`Map`].
pub type Set<T> = hashbrown::HashSet<T, Seeds>;
