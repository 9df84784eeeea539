//! Which handler does which jobs.

use std::collections::HashMap;
use std::sync::Arc;

use starling_jobs::{INTERNAL_QUEUES, is_internal};
use starling_model::TenantName;

use super::handler::Handler;

/// The handlers of a node: of internal queues, by queue and kind, and of whole queues of users.
#[derive(Clone, Default)]
pub struct Handlers {
    internal: HashMap<&'static str, HashMap<&'static str, Arc<dyn Handler>>>,
    queues: Vec<QueueHandler>,
}

/// The handler of a whole queue of users.
#[derive(Clone)]
struct QueueHandler {
    queue: String,
    /// The tenant whose jobs it does; `None`: those of all tenants.
    tenant: Option<TenantName>,
    at_once: u16,
    handler: Arc<dyn Handler>,
}

impl QueueHandler {
    fn is_for(&self, queue: &str, tenant: &TenantName) -> bool {
        self.queue == queue && self.tenant.as_ref().is_none_or(|only| only == tenant)
    }
}

/// Jobs that share a number of places in a worker, so that one queue does not take those of another: those of all internal queues, or those
/// of one handler of a whole queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Crew {
    /// Internal queues.
    Internal,
    /// The handler of a whole queue, by its place in the list.
    Queue(usize),
}

impl Handlers {
    /// Adds the handler of a queue and kind.
    ///
    /// # Panics
    /// If the queue is one that users may use, or if there is such a handler already.
    #[must_use]
    pub fn with(mut self, queue: &'static str, kind: &'static str, handler: Arc<dyn Handler>) -> Self {
        assert!(is_internal(queue), "{queue} does not begin with {INTERNAL_QUEUES}");
        let before = self.internal.entry(queue).or_default().insert(kind, handler);
        assert!(before.is_none(), "{queue} has two handlers of {kind}");
        self
    }

    /// Adds a handler of all jobs of a queue that users may use, of one tenant or of all (`None`). It does `at_once` jobs at a time, besides those of
    /// other handlers.
    ///
    /// # Panics
    /// If the queue is internal.
    #[must_use]
    pub fn with_queue(
        mut self,
        queue: &str,
        tenant: Option<TenantName>,
        at_once: u16,
        handler: Arc<dyn Handler>,
    ) -> Self {
        assert!(!is_internal(queue), "{queue} begins with {INTERNAL_QUEUES}");
        self.queues.push(QueueHandler { queue: queue.to_owned(), tenant, at_once, handler });
        self
    }

    /// Replaces each handler by what `replace` makes of it.
    #[must_use]
    pub fn map(mut self, replace: impl Fn(Arc<dyn Handler>) -> Arc<dyn Handler>) -> Self {
        let internal = self.internal.values_mut().flat_map(HashMap::values_mut);
        let queues = self.queues.iter_mut().map(|queue| &mut queue.handler);
        internal.chain(queues).for_each(|handler| *handler = replace(handler.clone()));
        self
    }

    /// Whether there is no handler.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.internal.is_empty() && self.queues.is_empty()
    }

    /// Returns the crews, each with its places. `internal` is the number of those for internal queues.
    pub(super) fn crews(&self, internal: u16) -> impl Iterator<Item = (Crew, u16)> {
        let queues = self.queues.iter().enumerate().map(|(place, queue)| (Crew::Queue(place), queue.at_once));
        std::iter::once((Crew::Internal, internal)).chain(queues)
    }

    /// Returns the queues of a crew.
    pub(super) fn queues_of(&self, crew: Crew) -> impl Iterator<Item = &str> {
        let (internal, queue) = match crew {
            Crew::Internal => (Some(self.internal.keys().copied()), None),
            Crew::Queue(place) => (None, self.queues.get(place).map(|handler| handler.queue.as_str())),
        };
        internal.into_iter().flatten().chain(queue)
    }

    /// Whether there is a handler for jobs of this queue and tenant.
    pub(super) fn serve(&self, queue: &str, tenant: &TenantName) -> bool {
        self.internal.contains_key(queue) || self.queues.iter().any(|handler| handler.is_for(queue, tenant))
    }

    /// Whether the crew does jobs of this queue and tenant, and can do so now.
    pub(super) fn wants(&self, crew: Crew, queue: &str, tenant: &TenantName) -> bool {
        match crew {
            Crew::Internal => self.internal.contains_key(queue),
            Crew::Queue(place) => self
                .queues
                .get(place)
                .is_some_and(|handler| handler.is_for(queue, tenant) && handler.handler.is_ready()),
        }
    }

    /// Returns the crew's handler of a job.
    pub(super) fn of(&self, crew: Crew, queue: &str, kind: &str) -> Option<Arc<dyn Handler>> {
        match crew {
            Crew::Internal => self.internal.get(queue)?.get(kind).cloned(),
            Crew::Queue(place) => Some(self.queues.get(place)?.handler.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;
    use starling_jobs::ClaimedJob;

    use super::*;
    use crate::{Report, Stop};

    struct Door(AtomicBool);

    #[async_trait]
    impl Handler for Door {
        async fn run(&self, _job: &ClaimedJob, _stop: Stop) -> Report {
            Report::Done(None)
        }

        fn is_ready(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_crew_wants_the_jobs_of_its_handler_while_that_is_ready() {
        let (one, other) = (Arc::new(Door(AtomicBool::new(true))), Arc::new(Door(AtomicBool::new(false))));
        let handlers = Handlers::default()
            .with("starling.q", "k", one.clone())
            .with_queue("mail", None, 3, one.clone())
            .with_queue("import", Some("t".into()), 5, other.clone());
        let crews: Vec<_> = handlers.crews(8).collect();
        assert_eq!(crews, [(Crew::Internal, 8), (Crew::Queue(0), 3), (Crew::Queue(1), 5)]);
        let wants = |crew, queue, tenant: &str| handlers.wants(crew, queue, &tenant.into());
        assert!(wants(Crew::Internal, "starling.q", "t") && !wants(Crew::Internal, "mail", "t"));
        assert!(wants(Crew::Queue(0), "mail", "t") && wants(Crew::Queue(0), "mail", "u"));
        assert!(!wants(Crew::Queue(0), "import", "t") && !wants(Crew::Queue(1), "import", "t"));
        other.0.store(true, Ordering::Relaxed);
        assert!(wants(Crew::Queue(1), "import", "t") && !wants(Crew::Queue(1), "import", "u"));
        assert!(handlers.of(Crew::Queue(1), "import", "any").is_some());
        assert!(handlers.of(Crew::Internal, "starling.q", "other").is_none());
    }
}
