//! Webhooks in PostgreSQL, 15 or newer, for any number of nodes.

mod activity;
mod claim;
mod deliveries;
mod hooks;
mod online;
mod overview;
mod registry;
mod values;
mod webhooks;

use std::time::Duration;

use async_trait::async_trait;
use starling_database::postgres::{Pool, migrate, schema_status};
use starling_model::TenantName;

use crate::schema::SCHEMA;
use crate::{
    AttemptEnd, BeatOutcome, Busy, DeliveryClaim, DeliveryDetails, DeliveryStatus, DueDelivery, Endpoint,
    Error, EventId, Hook, HookPoint, MoveOutcome, NewEvent, NewWebhook, NodeRun, Noted, OrphanedUser,
    Recorded, Registry, Retention, Rotated, SchemaStatus, Secret, Trimmed, UserMove, Webhook,
    WebhookActivity, WebhookChange, WebhookId, WebhookOverview, WebhookStore,
};

/// Webhooks in PostgreSQL.
pub struct PostgresWebhooks {
    database: Pool,
}

impl PostgresWebhooks {
    /// Makes a store over these connections.
    #[must_use]
    pub fn new(database: Pool) -> Self {
        Self { database }
    }
}

#[async_trait]
impl WebhookStore for PostgresWebhooks {
    async fn migrate(&self) -> Result<(), Error> {
        migrate(&self.database, &SCHEMA).await
    }

    async fn schema_status(&self) -> Result<SchemaStatus, Error> {
        schema_status(&self.database, &SCHEMA).await
    }

    async fn registry(&self, known: i64) -> Result<Option<Registry>, Error> {
        registry::registry(&self.database, known).await
    }

    async fn add(
        &self,
        webhook: &NewWebhook,
        secret: &Secret,
        webhooks_max: u32,
    ) -> Result<Option<Webhook>, Error> {
        webhooks::add(&self.database, webhook, secret, webhooks_max).await
    }

    async fn webhook(&self, tenant: &TenantName, id: WebhookId) -> Result<Option<Webhook>, Error> {
        webhooks::webhook(&self.database, tenant, id).await
    }

    async fn webhooks(
        &self,
        tenant: &TenantName,
        after: Option<WebhookId>,
        limit: u16,
    ) -> Result<Vec<Webhook>, Error> {
        webhooks::webhooks(&self.database, tenant, after, limit).await
    }

    async fn change(
        &self,
        tenant: &TenantName,
        id: WebhookId,
        change: &WebhookChange,
    ) -> Result<Option<Webhook>, Error> {
        webhooks::change(&self.database, tenant, id, change).await
    }

    async fn remove(&self, tenant: &TenantName, id: WebhookId) -> Result<bool, Error> {
        webhooks::remove(&self.database, tenant, id).await
    }

    async fn remove_gone(
        &self,
        tenant: &TenantName,
        id: WebhookId,
        endpoint: &Endpoint,
    ) -> Result<bool, Error> {
        webhooks::remove_gone(&self.database, tenant, id, endpoint).await
    }

    async fn rotate(&self, tenant: &TenantName, id: WebhookId, secret: &Secret) -> Result<Rotated, Error> {
        webhooks::rotate(&self.database, tenant, id, secret).await
    }

    async fn secrets(&self, tenant: &TenantName, id: WebhookId) -> Result<Vec<Secret>, Error> {
        webhooks::secrets(&self.database, tenant, id).await
    }

    async fn record(&self, events: &[NewEvent]) -> Result<Vec<Recorded>, Error> {
        deliveries::record(&self.database, events).await
    }

    async fn record_for(&self, webhook: WebhookId, event: &NewEvent) -> Result<bool, Error> {
        deliveries::record_for(&self.database, webhook, event).await
    }

    async fn activity(
        &self,
        tenant: &TenantName,
        webhooks: &[WebhookId],
        attempts: u16,
    ) -> Result<Vec<WebhookActivity>, Error> {
        activity::activity(&self.database, tenant, webhooks, attempts).await
    }

    async fn delivery(
        &self,
        tenant: &TenantName,
        webhook: WebhookId,
        event: EventId,
    ) -> Result<Option<DeliveryDetails>, Error> {
        deliveries::delivery(&self.database, tenant, webhook, event).await
    }

    async fn deliveries(
        &self,
        tenant: &TenantName,
        webhook: WebhookId,
        before: Option<i64>,
        limit: u16,
    ) -> Result<Vec<DeliveryStatus>, Error> {
        deliveries::deliveries(&self.database, tenant, webhook, before, limit).await
    }

    async fn waiting(
        &self,
        tenant: &TenantName,
        webhook: WebhookId,
        after: Option<i64>,
        limit: u16,
    ) -> Result<Vec<DeliveryStatus>, Error> {
        deliveries::waiting(&self.database, tenant, webhook, after, limit).await
    }

    async fn first_in_order(
        &self,
        tenant: &TenantName,
        webhook: WebhookId,
        order_key: &str,
    ) -> Result<Option<EventId>, Error> {
        deliveries::first_in_order(&self.database, tenant, webhook, order_key).await
    }

    async fn claim(&self, claim: &DeliveryClaim) -> Result<Vec<DueDelivery>, Error> {
        claim::claim(&self.database, claim).await
    }

    async fn note_attempt(
        &self,
        tenant: &TenantName,
        webhook: WebhookId,
        event: EventId,
        end: &AttemptEnd,
        pause_after: Duration,
    ) -> Result<Noted, Error> {
        deliveries::note_attempt(&self.database, tenant, webhook, event, end, pause_after).await
    }

    async fn resend(&self, tenant: &TenantName, webhook: WebhookId, event: EventId) -> Result<bool, Error> {
        deliveries::resend(&self.database, tenant, webhook, event).await
    }

    async fn trim(
        &self,
        tenant: &TenantName,
        webhook: WebhookId,
        retention: Retention,
    ) -> Result<Trimmed, Error> {
        deliveries::trim(&self.database, tenant, webhook, retention).await
    }

    async fn overview(&self, busy: Busy) -> Result<WebhookOverview, Error> {
        overview::overview(&self.database, busy).await
    }

    async fn list_run(&self, run: NodeRun) -> Result<(), Error> {
        online::list(&self.database, run).await
    }

    async fn beat_run(&self, run: NodeRun, silence: Duration) -> Result<BeatOutcome, Error> {
        online::beat(&self.database, run, silence).await
    }

    async fn unlist_run(&self, run: NodeRun) -> Result<(), Error> {
        online::unlist(&self.database, run).await
    }

    async fn users_came(&self, run: NodeRun, moves: &[UserMove]) -> Result<MoveOutcome, Error> {
        online::came(&self.database, run, moves).await
    }

    async fn users_went(&self, run: NodeRun, moves: &[UserMove]) -> Result<u64, Error> {
        online::went(&self.database, run, moves).await
    }

    async fn reap_runs(
        &self,
        by: NodeRun,
        silence: Duration,
        limit: u16,
    ) -> Result<Vec<OrphanedUser>, Error> {
        online::reap(&self.database, by, silence, limit).await
    }

    async fn put_hook(&self, hook: &Hook, secret: &Secret) -> Result<bool, Error> {
        hooks::put(&self.database, hook, secret).await
    }

    async fn hooks(&self, tenant: &TenantName) -> Result<Vec<Hook>, Error> {
        hooks::hooks(&self.database, tenant).await
    }

    async fn hook(
        &self,
        tenant: &TenantName,
        point: HookPoint,
    ) -> Result<Option<(Hook, Vec<Secret>)>, Error> {
        hooks::hook(&self.database, tenant, point).await
    }

    async fn rotate_hook(
        &self,
        tenant: &TenantName,
        point: HookPoint,
        secret: &Secret,
    ) -> Result<Rotated, Error> {
        hooks::rotate(&self.database, tenant, point, secret).await
    }

    async fn remove_hook(&self, tenant: &TenantName, point: HookPoint) -> Result<bool, Error> {
        hooks::remove(&self.database, tenant, point).await
    }
}
