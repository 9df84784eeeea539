//! Setting webhooks, and looking at their deliveries.

use starling_model::TenantName;
use starling_webhooks::{
    DeliveryDetails, DeliveryStatus, Endpoint, Error, EventId, Events, NewWebhook, Rotated, Secret, Webhook,
    WebhookActivity, WebhookChange, WebhookId,
};

use crate::WebhookService;

/// The most webhooks of a tenant.
pub const WEBHOOKS_MAX: u32 = 20;
/// The most attempts that are shown with a webhook.
const ATTEMPTS_SHOWN: u16 = 10;

impl WebhookService {
    /// Adds a webhook, and returns it with its secret; `None` if the tenant has [`WEBHOOKS_MAX`] already.
    ///
    /// # Errors
    /// Those of the store.
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
        self.learn_of_own().await;
        Ok(added.map(|webhook| (webhook, secret)))
    }

    /// Returns a webhook.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn webhook(&self, tenant: &TenantName, id: WebhookId) -> Result<Option<Webhook>, Error> {
        self.store.webhook(tenant, id).await
    }

    /// Returns webhooks of a tenant, oldest first, those that come after `after`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn webhooks(
        &self,
        tenant: &TenantName,
        after: Option<WebhookId>,
        limit: u16,
    ) -> Result<Vec<Webhook>, Error> {
        self.store.webhooks(tenant, after, limit).await
    }

    /// Changes a webhook, and returns it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn change(
        &self,
        tenant: &TenantName,
        id: WebhookId,
        change: &WebhookChange,
    ) -> Result<Option<Webhook>, Error> {
        let changed = self.store.change(tenant, id, change).await?;
        self.learn_of_own().await;
        self.due_wanted.notify_one();
        Ok(changed)
    }

    /// Removes a webhook with its deliveries. Returns whether there was one.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn remove(&self, tenant: &TenantName, id: WebhookId) -> Result<bool, Error> {
        let was_there = self.store.remove(tenant, id).await?;
        self.learn_of_own().await;
        Ok(was_there)
    }

    /// Gives a webhook a new secret, and returns the secret with the result.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn rotate(&self, tenant: &TenantName, id: WebhookId) -> Result<(Rotated, Secret), Error> {
        let secret = Secret::generate();
        Ok((self.store.rotate(tenant, id, &secret).await?, secret))
    }

    /// Returns the activity of these webhooks of a tenant, in their order.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn activity(
        &self,
        tenant: &TenantName,
        webhooks: &[WebhookId],
    ) -> Result<Vec<WebhookActivity>, Error> {
        self.store.activity(tenant, webhooks, ATTEMPTS_SHOWN).await
    }

    /// Returns a delivery with what is sent.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn delivery(
        &self,
        tenant: &TenantName,
        webhook: WebhookId,
        event: EventId,
    ) -> Result<Option<DeliveryDetails>, Error> {
        self.store.delivery(tenant, webhook, event).await
    }

    /// Returns deliveries of a webhook, the newest first, beginning before the position `before`.
    ///
    /// # Errors
    /// Those of the store.
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
    ///
    /// # Errors
    /// Those of the store.
    pub async fn resend(
        &self,
        tenant: &TenantName,
        webhook: WebhookId,
        event: EventId,
    ) -> Result<bool, Error> {
        let again = self.store.resend(tenant, webhook, event).await?;
        self.due_wanted.notify_one();
        Ok(again || self.store.delivery(tenant, webhook, event).await?.is_some())
    }
}
