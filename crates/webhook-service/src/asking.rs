//! Asking backends first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use starling_webhooks::{Asked, AskingClient, AskingLimits, Client, Hook, Question, Registry, Verdict};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::deciders::Decider;
use crate::metrics::METRICS;

/// Time to retry for a client whose question was cancelled because the node is stopping.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Asks backends before something happens.
pub(crate) struct Asking {
    client: Arc<AskingClient>,
    /// Questions run here.
    runtime: Handle,
}

impl Asking {
    pub fn new(client: Client, runtime: Handle) -> Self {
        Self { client: Arc::new(AskingClient::new(client, AskingLimits::default())), runtime }
    }

    /// Asks a backend, within the time of its hook. The question is given up if its caller stops waiting.
    pub async fn ask(&self, decider: &Arc<Decider>, question: &Question<'_>) -> Verdict {
        let began = Instant::now();
        let (client, decider) = (self.client.clone(), decider.clone());
        let written = question.write(decider.hook());
        // The caller may be on a shard's thread, whose connections must not wait for a backend's TLS.
        let mut task = JoinSet::new();
        task.spawn_on(
            async move {
                let _counted = UnderWay::begin();
                let asked = client.ask(decider.hook(), decider.secrets(), written).await;
                note(decider.hook(), &asked, began.elapsed());
                asked.verdict
            },
            &self.runtime,
        );
        match task.join_next().await {
            Some(Ok(verdict)) => verdict,
            Some(Err(_)) | None => Verdict::Unavailable(RETRY_AFTER),
        }
    }

    /// Forgets the breakers of backends that no hook of the registry names.
    pub fn keep(&self, registry: &Registry) {
        self.client.keep(registry.hooks.iter().map(|(hook, _)| hook));
    }

    /// Returns how many backends are not asked, because they have failed.
    pub fn open_breakers(&self) -> usize {
        self.client.open_breakers()
    }
}

/// A question under way, until it is dropped.
struct UnderWay;

impl UnderWay {
    fn begin() -> Self {
        METRICS.under_way.increment(1.0);
        Self
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        METRICS.under_way.decrement(1.0);
    }
}

fn note(hook: &Hook, asked: &Asked, took: Duration) {
    METRICS.question_seconds.record(took);
    METRICS.outcome(asked).increment(1);
    if let Some(failure) = &asked.failure {
        let (tenant, point) = (&*hook.tenant, hook.point.as_str());
        tracing::debug!(tenant, point, origin = hook.endpoint.origin(), %failure, "a hook did not decide");
    }
}
