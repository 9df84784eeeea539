//! Hooks that ask first: setting them, and asking.

use std::sync::Arc;
use std::time::{Duration, Instant};

use starling_model::TenantName;
use starling_webhooks::{
    Asked, Endpoint, Error, Hook, HookPoint, Question, RefusedAddress, Rotated, Secret, Verdict,
};
use tokio::task::JoinSet;

use crate::WebhookService;
use crate::metrics::METRICS;

/// Time to retry for a client whose question was cancelled because the node is stopping.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A hook with the secrets that sign, as a node asks it.
pub struct Decider {
    pub(crate) hook: Hook,
    pub(crate) secrets: Vec<Secret>,
}

impl WebhookService {
    /// Checks an address that a URL contains in the place of a name.
    ///
    /// # Errors
    /// [`RefusedAddress`] if no request may go there.
    pub fn check(&self, endpoint: &Endpoint) -> Result<(), RefusedAddress> {
        endpoint.check(&self.networks)
    }

    /// Sets a hook, which must have passed [`Hook::check`]. Returns its secret if it is new. Holds on this node when it returns, and on
    /// others within about a second.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn put_hook(&self, hook: &Hook) -> Result<Option<Secret>, Error> {
        let secret = Secret::generate();
        let is_new = self.store.put_hook(hook, &secret).await?;
        self.learn_of_own().await;
        Ok(is_new.then_some(secret))
    }

    /// Gives a hook a new secret, and returns the secret with the result. The one before signs as well for
    /// [`starling_webhooks::ROTATION_OVERLAP`], or a little longer: until this node learns of the next change.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn rotate_hook(
        &self,
        tenant: &TenantName,
        point: HookPoint,
    ) -> Result<(Rotated, Secret), Error> {
        let secret = Secret::generate();
        let rotated = self.store.rotate_hook(tenant, point, &secret).await?;
        self.learn_of_own().await;
        Ok((rotated, secret))
    }

    /// Returns the hooks of a tenant.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn hooks(&self, tenant: &TenantName) -> Result<Vec<Hook>, Error> {
        self.store.hooks(tenant).await
    }

    /// Removes a hook. Returns whether there was one.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn remove_hook(&self, tenant: &TenantName, point: HookPoint) -> Result<bool, Error> {
        let was_there = self.store.remove_hook(tenant, point).await?;
        self.learn_of_own().await;
        Ok(was_there)
    }

    /// Returns the hook at a point of a tenant, if there is one. Waits for nothing.
    pub fn decider(&self, tenant: &TenantName, point: HookPoint) -> Option<Arc<Decider>> {
        self.deciders.at(tenant, point)
    }

    /// Asks a backend, within the time of its hook. The question is given up if its caller stops waiting.
    pub async fn ask(&self, decider: &Arc<Decider>, question: &Question<'_>) -> Verdict {
        let began = Instant::now();
        let (asking, decider) = (self.asking.clone(), decider.clone());
        let written = question.write(&decider.hook);
        // The caller may be on a shard's thread, whose connections must not wait for a backend's TLS.
        let mut task = JoinSet::new();
        task.spawn_on(
            async move {
                let _counted = UnderWay::begin();
                let asked = asking.ask(&decider.hook, &decider.secrets, written).await;
                note(&decider.hook, &asked, began.elapsed());
                asked.verdict
            },
            &self.runtime,
        );
        match task.join_next().await {
            Some(Ok(verdict)) => verdict,
            Some(Err(_)) | None => Verdict::Unavailable(RETRY_AFTER),
        }
    }

    /// Learns of a change of this node's own. If the database does not answer, the next look finds it.
    pub(crate) async fn learn_of_own(&self) {
        if let Err(error) = self.learn().await {
            tracing::debug!(%error, "a change of a hook could not be read again at once");
            self.hear_changed();
        }
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
