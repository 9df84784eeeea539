//! A place for tests to put faults into the program.

use std::sync::Arc;

use starling_conversation_store::ConversationStore;
use starling_hub::Shards;

/// Wraps a part of the node in another one.
pub type Layer<Part> = Box<dyn Fn(Arc<Part>) -> Arc<Part>>;

/// What stands between the hub and its parts: nothing, except in programs that are built to fail.
pub struct Layers {
    /// Wraps the durable log.
    pub conversations: Layer<dyn ConversationStore>,
    /// Wraps the inboxes of the shards.
    pub shards: Layer<dyn Shards>,
}

impl Default for Layers {
    fn default() -> Self {
        Self { conversations: Box::new(|log| log), shards: Box::new(|shards| shards) }
    }
}
