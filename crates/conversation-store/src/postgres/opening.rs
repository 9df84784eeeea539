//! Reading conversations by name, many in one query: after a node's death its clients join thousands of conversations at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use starling_model::{ConversationName, TenantName};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::conversations;
use super::pools::Pools;
use crate::{Conversation, Error};

/// Most conversations in one query.
const BATCH_MAX: usize = 64;
/// Limit on the conversations that wait. Further ones are read by themselves.
const WAITING_MAX: usize = 4_096;
/// Queries under way at once. While there are as many, the next batch gathers.
const QUERIES_MAX: usize = 2;

/// Reads conversations by name.
pub(super) struct Opening {
    pools: Arc<Pools>,
    /// Runs the queries, whichever caller goes away meanwhile. `None` outside of a runtime: each conversation is read by itself.
    runtime: Option<Handle>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Wanted>,
    /// Number of queries under way.
    queries: usize,
}

/// A conversation that somebody waits for.
struct Wanted {
    tenant: TenantName,
    name: ConversationName,
    /// Dropped without an answer if the query failed.
    answer: oneshot::Sender<Option<Conversation>>,
}

impl Opening {
    pub(super) fn new(pools: Arc<Pools>) -> Arc<Self> {
        Arc::new(Self { pools, runtime: Handle::try_current().ok(), queue: Mutex::default() })
    }

    /// Reads a conversation; `None` if there is none of this name.
    pub(super) async fn open(
        self: &Arc<Self>,
        tenant: &TenantName,
        name: &ConversationName,
    ) -> Result<Option<Conversation>, Error> {
        if let Some(answer) = self.ask(tenant, name)
            && let Ok(conversation) = answer.await
        {
            return Ok(conversation);
        }
        // The query failed. Its reason may be another conversation of the batch.
        conversations::open(&self.pools.primary, tenant, name).await
    }

    fn ask(
        self: &Arc<Self>,
        tenant: &TenantName,
        name: &ConversationName,
    ) -> Option<oneshot::Receiver<Option<Conversation>>> {
        let runtime = self.runtime.as_ref()?;
        let (answer, answered) = oneshot::channel();
        let mut queue = self.queue();
        if queue.waiting.len() >= WAITING_MAX {
            return None;
        }
        queue.waiting.push(Wanted { tenant: tenant.clone(), name: name.clone(), answer });
        if queue.queries < QUERIES_MAX {
            queue.queries += 1;
            runtime.spawn(self.clone().read_all());
        }
        Some(answered)
    }

    /// Reads batches until nobody waits.
    async fn read_all(self: Arc<Self>) {
        while let Some(batch) = self.next_batch() {
            let names: Vec<(&str, &str)> =
                batch.iter().map(|wanted| (&*wanted.tenant, &*wanted.name)).collect();
            match conversations::open_named(&self.pools.primary, &names).await {
                Ok(read) => answer(batch, read),
                Err(error) => tracing::debug!(%error, "conversations could not be read together"),
            }
        }
    }

    /// Takes out the next batch. `None` if nobody waits: then a query less is under way.
    fn next_batch(&self) -> Option<Vec<Wanted>> {
        let mut queue = self.queue();
        queue.waiting.retain(|wanted| !wanted.answer.is_closed());
        if queue.waiting.is_empty() {
            queue.queries -= 1;
            return None;
        }
        let count = queue.waiting.len().min(BATCH_MAX);
        Some(queue.waiting.drain(..count).collect())
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while the queue is changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers the callers with what was read, by the place of each in the batch.
fn answer(batch: Vec<Wanted>, mut read: HashMap<usize, Conversation>) {
    for (place, wanted) in batch.into_iter().enumerate() {
        // The caller may have gone.
        let _ = wanted.answer.send(read.remove(&place));
    }
}
