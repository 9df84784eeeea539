//! Setting webhooks and hooks, and looking at what was delivered.

use std::sync::Arc;

use starling_model::TenantName;
use starling_webhooks::{
    DeliveryDetails, DeliveryStatus, Endpoint, Error, EventId, Events, Hook, HookPoint, NewWebhook, Rotated,
    Secret, Webhook, WebhookActivity, WebhookChange, WebhookId, WebhookStore,
};

use crate::knowledge::Knowledge;
use crate::recorder::Recorder;

/// The most webhooks of a tenant.
pub const WEBHOOKS_MAX: u32 = 20;
/// The most attempts that are shown with a webhook.
const ATTEMPTS_SHOWN: u16 = 10;

/// Sets the webhooks and hooks of tenants. This node knows of a change when a call returns, others within about a second.
pub(crate) struct Registrar {
    store: Arc<dyn WebhookStore>,
    knowledge: Arc<Knowledge>,
    recorder: Arc<Recorder>,
}

impl Registrar {
    pub fn new(store: Arc<dyn WebhookStore>, knowledge: Arc<Knowledge>, recorder: Arc<Recorder>) -> Self {
        Self { store, knowledge, recorder }
    }

    /// Adds a webhook, and returns it with its secret; `None` if the tenant has [`WEBHOOKS_MAX`] already.
    pub async fn add(
        &self,
        tenant: &TenantName,
        endpoint: Endpoint,
        events: Events,
        ordered: bool,
    ) -> Result<Option<(Webhook, Secret)>, Error> {
        let (id, secret) = (WebhookId::new(), Secret::generate());
        let new = NewWebhook { id, tenant: tenant.clone(), endpoint, events, ordered };
        let added = self.store.add(&new, &secret, WEBHOOKS_MAX).await?;
        self.knowledge.learn_of_own().await;
        Ok(added.map(|webhook| (webhook, secret)))
    }

    /// Returns a webhook.
    pub async fn webhook(&self, tenant: &TenantName, id: WebhookId) -> Result<Option<Webhook>, Error> {
        self.store.webhook(tenant, id).await
    }

    /// Returns webhooks of a tenant, oldest first, those that come after `after`.
    pub async fn webhooks(
        &self,
        tenant: &TenantName,
        after: Option<WebhookId>,
        limit: u16,
    ) -> Result<Vec<Webhook>, Error> {
        self.store.webhooks(tenant, after, limit).await
    }

    /// Changes a webhook, and returns it.
    pub async fn change(
        &self,
        tenant: &TenantName,
        id: WebhookId,
        change: &WebhookChange,
    ) -> Result<Option<Webhook>, Error> {
        let changed = self.store.change(tenant, id, change).await?;
        self.knowledge.learn_of_own().await;
        self.recorder.wake();
        Ok(changed)
    }

    /// Removes a webhook with its deliveries. Returns whether there was one.
    pub async fn remove(&self, tenant: &TenantName, id: WebhookId) -> Result<bool, Error> {
        let was_there = self.store.remove(tenant, id).await?;
        self.knowledge.learn_of_own().await;
        Ok(was_there)
    }

    /// Gives a webhook a new secret, and returns the secret with the result.
    pub async fn rotate(&self, tenant: &TenantName, id: WebhookId) -> Result<(Rotated, Secret), Error> {
        let secret = Secret::generate();
        Ok((self.store.rotate(tenant, id, &secret).await?, secret))
    }

    /// Returns the activity of these webhooks of a tenant, in their order.
    pub async fn activity(
        &self,
        tenant: &TenantName,
        webhooks: &[WebhookId],
    ) -> Result<Vec<WebhookActivity>, Error> {
        self.store.activity(tenant, webhooks, ATTEMPTS_SHOWN).await
    }

    /// Returns a delivery with what is sent.
    pub async fn delivery(
        &self,
        tenant: &TenantName,
        webhook: WebhookId,
        event: EventId,
    ) -> Result<Option<DeliveryDetails>, Error> {
        self.store.delivery(tenant, webhook, event).await
    }

    /// Returns deliveries of a webhook, the newest first, beginning before the position `before`.
    pub async fn deliveries(
        &self,
        tenant: &TenantName,
        webhook: WebhookId,
        before: Option<i64>,
        limit: u16,
    ) -> Result<Vec<DeliveryStatus>, Error> {
        self.store.deliveries(tenant, webhook, before, limit).await
    }

    /// Sends an event again whose delivery has ended, or at once one that waits. Returns whether there is such a delivery.
    pub async fn resend(
        &self,
        tenant: &TenantName,
        webhook: WebhookId,
        event: EventId,
    ) -> Result<bool, Error> {
        let again = self.store.resend(tenant, webhook, event).await?;
        self.recorder.wake();
        Ok(again || self.store.delivery(tenant, webhook, event).await?.is_some())
    }

    /// Sets a hook, which must have passed [`Hook::check`]. Returns its secret if it is new.
    pub async fn put_hook(&self, hook: &Hook) -> Result<Option<Secret>, Error> {
        let secret = Secret::generate();
        let is_new = self.store.put_hook(hook, &secret).await?;
        self.knowledge.learn_of_own().await;
        Ok(is_new.then_some(secret))
    }

    /// Gives a hook a new secret, and returns the secret with the result.
    pub async fn rotate_hook(
        &self,
        tenant: &TenantName,
        point: HookPoint,
    ) -> Result<(Rotated, Secret), Error> {
        let secret = Secret::generate();
        let rotated = self.store.rotate_hook(tenant, point, &secret).await?;
        self.knowledge.learn_of_own().await;
        Ok((rotated, secret))
    }

    /// Returns the hooks of a tenant.
    pub async fn hooks(&self, tenant: &TenantName) -> Result<Vec<Hook>, Error> {
        self.store.hooks(tenant).await
    }

    /// Removes a hook. Returns whether there was one.
    pub async fn remove_hook(&self, tenant: &TenantName, point: HookPoint) -> Result<bool, Error> {
        let was_there = self.store.remove_hook(tenant, point).await?;
        self.knowledge.learn_of_own().await;
        Ok(was_there)
    }
}
