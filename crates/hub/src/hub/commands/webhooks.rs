//! Requests about webhooks: what the token allows, and what the answers mean.

use starling_auth::Identity;
use starling_webhook_service::WEBHOOKS_MAX;
use starling_webhook_service::webhooks::{
    DeliveryDetails, DeliveryStatus, Endpoint, EventId, Events, Rotated, SECRETS_MAX, Secret, Webhook,
    WebhookActivity, WebhookChange, WebhookId,
};
use starling_wire::protocol::{ErrorCode, Timestamp};

use super::hooks::bad_url;
use crate::hub::Hub;
use crate::{CommandError, clock};

/// What is given of a webhook. `None`: its default, or what it was.
#[derive(Clone, Debug, Default)]
pub struct WebhookRequest {
    /// Where events go.
    pub url: Option<String>,
    /// The names of the events that are wanted.
    pub events: Option<Vec<String>>,
    /// Whether the events of a conversation arrive in order.
    pub ordered: Option<bool>,
    /// Whether deliveries wait until it is resumed.
    pub paused: Option<bool>,
}

impl Hub {
    /// Adds a webhook. Returns it with its secret.
    pub async fn add_webhook(
        &self,
        identity: &Identity,
        request: WebhookRequest,
    ) -> Result<(Webhook, Secret), CommandError> {
        let webhooks = self.webhook_service(identity)?;
        let WebhookChange { endpoint, events, ordered, .. } = self.checked(identity, request)?;
        let missing = |field: &str| CommandError::bad_request(format!("`{field}` is missing"));
        let (endpoint, events) =
            (endpoint.ok_or_else(|| missing("url"))?, events.ok_or_else(|| missing("events"))?);
        let added = webhooks.add(&identity.tenant, endpoint, events, ordered.unwrap_or_default()).await?;
        self.tell_of_webhooks();
        added.ok_or_else(|| CommandError::conflict(format!("the tenant has its {WEBHOOKS_MAX} webhooks")))
    }

    /// Returns a page of webhooks, the oldest first.
    pub async fn webhooks(
        &self,
        identity: &Identity,
        after: Option<WebhookId>,
        limit: u16,
    ) -> Result<Vec<Webhook>, CommandError> {
        Ok(self.webhook_service(identity)?.webhooks(&identity.tenant, after, limit).await?)
    }

    /// Returns a webhook.
    pub async fn webhook(&self, identity: &Identity, id: WebhookId) -> Result<Webhook, CommandError> {
        let found = self.webhook_service(identity)?.webhook(&identity.tenant, id).await?;
        found.ok_or_else(no_such_webhook)
    }

    /// Returns what goes on at these webhooks of the tenant, in their order.
    pub async fn webhook_activity(
        &self,
        identity: &Identity,
        webhooks: &[WebhookId],
    ) -> Result<Vec<WebhookActivity>, CommandError> {
        Ok(self.webhook_service(identity)?.activity(&identity.tenant, webhooks).await?)
    }

    /// Sends a test event to a webhook, and to no other. Returns the event.
    pub async fn test_webhook(&self, identity: &Identity, id: WebhookId) -> Result<EventId, CommandError> {
        let webhooks = self.webhook_service(identity)?;
        if self.webhook(identity, id).await?.paused {
            return Err(CommandError::conflict("the webhook is paused; resume it first"));
        }
        let event = webhooks.test(&identity.tenant, id, Timestamp(clock::now_ms())).await?;
        event.ok_or_else(no_such_webhook)
    }

    /// Changes a webhook.
    pub async fn change_webhook(
        &self,
        identity: &Identity,
        id: WebhookId,
        request: WebhookRequest,
    ) -> Result<Webhook, CommandError> {
        let webhooks = self.webhook_service(identity)?;
        let change = self.checked(identity, request)?;
        let changed = webhooks.change(&identity.tenant, id, &change).await?;
        self.tell_of_webhooks();
        changed.ok_or_else(no_such_webhook)
    }

    /// Removes a webhook with its deliveries.
    pub async fn remove_webhook(&self, identity: &Identity, id: WebhookId) -> Result<(), CommandError> {
        let was_there = self.webhook_service(identity)?.remove(&identity.tenant, id).await?;
        self.tell_of_webhooks();
        if was_there { Ok(()) } else { Err(no_such_webhook()) }
    }

    /// Gives a webhook a new secret.
    pub async fn rotate_secret(&self, identity: &Identity, id: WebhookId) -> Result<Secret, CommandError> {
        match self.webhook_service(identity)?.rotate(&identity.tenant, id).await? {
            (Rotated::Rotated, secret) => Ok(secret),
            (Rotated::TooMany, _) => Err(CommandError::conflict(format!(
                "{SECRETS_MAX} secrets sign at present; each that was replaced signs for a day"
            ))),
            (Rotated::NotFound, _) => Err(no_such_webhook()),
        }
    }

    /// Returns a page of the deliveries of a webhook, the newest first.
    pub async fn deliveries(
        &self,
        identity: &Identity,
        id: WebhookId,
        before: Option<i64>,
        limit: u16,
    ) -> Result<Vec<DeliveryStatus>, CommandError> {
        self.webhook(identity, id).await?;
        let webhooks = self.webhook_service(identity)?;
        Ok(webhooks.deliveries(&identity.tenant, id, before, limit).await?)
    }

    /// Returns a delivery with what is sent.
    pub async fn delivery(
        &self,
        identity: &Identity,
        id: WebhookId,
        event: EventId,
    ) -> Result<DeliveryDetails, CommandError> {
        let found = self.webhook_service(identity)?.delivery(&identity.tenant, id, event).await?;
        found.ok_or_else(no_such_delivery)
    }

    /// Sends an event again.
    pub async fn resend(
        &self,
        identity: &Identity,
        id: WebhookId,
        event: EventId,
    ) -> Result<(), CommandError> {
        if self.webhook_service(identity)?.resend(&identity.tenant, id, event).await? {
            return Ok(());
        }
        Err(no_such_delivery())
    }

    fn checked(&self, identity: &Identity, request: WebhookRequest) -> Result<WebhookChange, CommandError> {
        let webhooks = self.webhook_service(identity)?;
        let WebhookRequest { url, events, ordered, paused } = request;
        let endpoint = url.map(|url| {
            let endpoint = Endpoint::parse(&url).map_err(|error| bad_url(&error))?;
            webhooks.check(&endpoint).map_err(|error| bad_url(&error))?;
            Ok::<_, CommandError>(endpoint)
        });
        let events = events.map(|names| {
            let events = Events::parse(names.iter().map(String::as_str));
            events.map_err(|error| CommandError::bad_request(format!("`events`: {error}")))
        });
        Ok(WebhookChange { endpoint: endpoint.transpose()?, events: events.transpose()?, ordered, paused })
    }
}

fn no_such_delivery() -> CommandError {
    CommandError::new(ErrorCode::NotFound, "no such delivery")
}

fn no_such_webhook() -> CommandError {
    CommandError::new(ErrorCode::NotFound, "no such webhook")
}
