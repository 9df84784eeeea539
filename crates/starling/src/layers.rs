//! A place for tests to change the program.

use std::sync::Arc;

use starling_conversation_store::{ConversationStore, SCHEMA};
use starling_database::Schema;
use starling_hub::Shards;
use starling_job_service::Handlers;
use starling_rabbitmq_bridge::JobSink;

/// Wraps a part of the node in another one.
pub type Layer<Part> = Box<dyn Fn(Arc<Part>) -> Arc<Part>>;

/// What is different in programs of tests: what stands between the hub and its parts, and which migrations the program knows.
pub struct Layers {
    /// Wraps the durable log.
    pub conversations: Layer<dyn ConversationStore>,
    /// Wraps the inboxes of the shards.
    pub shards: Layer<dyn Shards>,
    /// The migrations of the log.
    pub log_schema: &'static Schema,
    /// Wraps what takes the jobs that messages of RabbitMQ become.
    pub rabbitmq_jobs: Layer<dyn JobSink>,
    /// Adds to the jobs that the node can do itself.
    pub handlers: Box<dyn Fn(Handlers) -> Handlers>,
}

impl Default for Layers {
    fn default() -> Self {
        Self {
            conversations: Box::new(|log| log),
            shards: Box::new(|shards| shards),
            log_schema: &SCHEMA,
            rabbitmq_jobs: Box::new(|jobs| jobs),
            handlers: Box::new(|handlers| handlers),
        }
    }
}
