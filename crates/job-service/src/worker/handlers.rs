//! Which handler does which jobs.

use std::collections::HashMap;
use std::sync::Arc;

use starling_jobs::{INTERNAL_QUEUES, is_internal};

use super::handler::Handler;

/// The handlers of a node, by queue and kind.
#[derive(Clone, Default)]
pub struct Handlers(HashMap<&'static str, HashMap<&'static str, Arc<dyn Handler>>>);

impl Handlers {
    /// Adds the handler of a queue and kind.
    ///
    /// # Panics
    /// If the queue is one that users may use, or if there is such a handler already.
    #[must_use]
    pub fn with(mut self, queue: &'static str, kind: &'static str, handler: Arc<dyn Handler>) -> Self {
        assert!(is_internal(queue), "{queue} does not begin with {INTERNAL_QUEUES}");
        let before = self.0.entry(queue).or_default().insert(kind, handler);
        assert!(before.is_none(), "{queue} has two handlers of {kind}");
        self
    }

    /// Whether there is no handler.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is a handler for jobs of this queue.
    pub(super) fn has_queue(&self, queue: &str) -> bool {
        self.0.contains_key(queue)
    }

    pub(super) fn of(&self, queue: &str, kind: &str) -> Option<Arc<dyn Handler>> {
        self.0.get(queue)?.get(kind).cloned()
    }
}
