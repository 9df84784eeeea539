//! Webhooks in SQLite, for a single node.

mod activity;
mod claim;
mod deliveries;
mod hooks;
mod online;
mod overview;
mod registry;
mod values;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use starling_database::sqlite::SqliteDatabase;
use starling_model::TenantName;

use crate::schema::SCHEMA;
use crate::{
    AttemptEnd, BeatOutcome, Busy, DeliveryClaim, DeliveryDetails, DeliveryStatus, DueDelivery, Endpoint,
    Error, EventId, Hook, HookPoint, MoveOutcome, NewEvent, NewWebhook, NodeRun, Noted, OrphanedUser,
    Recorded, Registry, Retention, Rotated, SchemaStatus, Secret, Trimmed, UserMove, Webhook,
    WebhookActivity, WebhookChange, WebhookId, WebhookOverview, WebhookStore,
};

/// Webhooks in an SQLite file.
pub struct SqliteWebhooks {
    database: Arc<SqliteDatabase>,
}

impl SqliteWebhooks {
    /// Makes a store over an open file.
    #[must_use]
    pub fn new(database: Arc<SqliteDatabase>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl WebhookStore for SqliteWebhooks {
    async fn migrate(&self) -> Result<(), Error> {
        self.database.migrate(&SCHEMA).await
    }

    async fn schema_status(&self) -> Result<SchemaStatus, Error> {
        self.database.schema_status(&SCHEMA).await
    }

    async fn registry(&self, known: i64) -> Result<Option<Registry>, Error> {
        self.database.read(move |connection| registry::registry(connection, known)).await
    }

    async fn add(
        &self,
        webhook: &NewWebhook,
        secret: &Secret,
        webhooks_max: u32,
    ) -> Result<Option<Webhook>, Error> {
        let (webhook, secret) = (webhook.clone(), secret.clone());
        self.database
            .write(move |connection| webhooks::add(connection, &webhook, &secret, webhooks_max))
            .await
    }

    async fn webhook(&self, tenant: &TenantName, id: WebhookId) -> Result<Option<Webhook>, Error> {
        let tenant = tenant.clone();
        self.database.read(move |connection| webhooks::webhook(connection, &tenant, id)).await
    }

    async fn webhooks(
        &self,
        tenant: &TenantName,
        after: Option<WebhookId>,
        limit: u16,
    ) -> Result<Vec<Webhook>, Error> {
        let tenant = tenant.clone();
        self.database.read(move |connection| webhooks::webhooks(connection, &tenant, after, limit)).await
    }

    async fn change(
        &self,
        tenant: &TenantName,
        id: WebhookId,
        change: &WebhookChange,
    ) -> Result<Option<Webhook>, Error> {
        let (tenant, change) = (tenant.clone(), change.clone());
        self.database.write(move |connection| webhooks::change(connection, &tenant, id, &change)).await
    }

    async fn remove(&self, tenant: &TenantName, id: WebhookId) -> Result<bool, Error> {
        let tenant = tenant.clone();
        self.database.write(move |connection| webhooks::remove(connection, &tenant, id)).await
    }

    async fn remove_gone(
        &self,
        tenant: &TenantName,
        id: WebhookId,
        endpoint: &Endpoint,
    ) -> Result<bool, Error> {
        let (tenant, endpoint) = (tenant.clone(), endpoint.clone());
        self.database.write(move |connection| webhooks::remove_gone(connection, &tenant, id, &endpoint)).await
    }

    async fn rotate(&self, tenant: &TenantName, id: WebhookId, secret: &Secret) -> Result<Rotated, Error> {
        let (tenant, secret) = (tenant.clone(), secret.clone());
        self.database.write(move |connection| webhooks::rotate(connection, &tenant, id, &secret)).await
    }

    async fn secrets(&self, tenant: &TenantName, id: WebhookId) -> Result<Vec<Secret>, Error> {
        let tenant = tenant.clone();
        self.database.read(move |connection| webhooks::secrets(connection, &tenant, id)).await
    }

    async fn record(&self, events: &[NewEvent]) -> Result<Vec<Recorded>, Error> {
        let events = events.to_vec();
        self.database.write(move |connection| deliveries::record(connection, &events)).await
    }

    async fn record_for(&self, webhook: WebhookId, event: &NewEvent) -> Result<bool, Error> {
        let event = event.clone();
        self.database.write(move |connection| deliveries::record_for(connection, webhook, &event)).await
    }

    async fn activity(
        &self,
        tenant: &TenantName,
        webhooks: &[WebhookId],
        attempts: u16,
    ) -> Result<Vec<WebhookActivity>, Error> {
        let (tenant, webhooks) = (tenant.clone(), webhooks.to_vec());
        self.database
            .read(move |connection| activity::activity(connection, &tenant, &webhooks, attempts))
            .await
    }

    async fn delivery(
        &self,
        tenant: &TenantName,
        webhook: WebhookId,
        event: EventId,
    ) -> Result<Option<DeliveryDetails>, Error> {
        let tenant = tenant.clone();
        self.database.read(move |connection| deliveries::delivery(connection, &tenant, webhook, event)).await
    }

    async fn deliveries(
        &self,
        tenant: &TenantName,
        webhook: WebhookId,
        before: Option<i64>,
        limit: u16,
    ) -> Result<Vec<DeliveryStatus>, Error> {
        let tenant = tenant.clone();
        self.database
            .read(move |connection| deliveries::deliveries(connection, &tenant, webhook, before, limit))
            .await
    }

    async fn waiting(
        &self,
        tenant: &TenantName,
        webhook: WebhookId,
        after: Option<i64>,
        limit: u16,
    ) -> Result<Vec<DeliveryStatus>, Error> {
        let tenant = tenant.clone();
        self.database
            .read(move |connection| deliveries::waiting(connection, &tenant, webhook, after, limit))
            .await
    }

    async fn first_in_order(
        &self,
        tenant: &TenantName,
        webhook: WebhookId,
        order_key: &str,
    ) -> Result<Option<EventId>, Error> {
        let (tenant, order_key) = (tenant.clone(), order_key.to_owned());
        self.database
            .read(move |connection| deliveries::first_in_order(connection, &tenant, webhook, &order_key))
            .await
    }

    async fn claim(&self, claim: &DeliveryClaim) -> Result<Vec<DueDelivery>, Error> {
        let claim = claim.clone();
        self.database.write(move |connection| claim::claim(connection, &claim)).await
    }

    async fn note_attempt(
        &self,
        tenant: &TenantName,
        webhook: WebhookId,
        event: EventId,
        end: &AttemptEnd,
        pause_after: Duration,
    ) -> Result<Noted, Error> {
        let (tenant, end) = (tenant.clone(), end.clone());
        self.database
            .write(move |connection| {
                deliveries::note_attempt(connection, &tenant, webhook, event, &end, pause_after)
            })
            .await
    }

    async fn resend(&self, tenant: &TenantName, webhook: WebhookId, event: EventId) -> Result<bool, Error> {
        let tenant = tenant.clone();
        self.database.write(move |connection| deliveries::resend(connection, &tenant, webhook, event)).await
    }

    async fn trim(
        &self,
        tenant: &TenantName,
        webhook: WebhookId,
        retention: Retention,
    ) -> Result<Trimmed, Error> {
        let tenant = tenant.clone();
        self.database.write(move |connection| deliveries::trim(connection, &tenant, webhook, retention)).await
    }

    async fn overview(&self, busy: Busy) -> Result<WebhookOverview, Error> {
        self.database.read(move |connection| overview::overview(connection, busy)).await
    }

    async fn list_run(&self, run: NodeRun) -> Result<(), Error> {
        self.database.write(move |connection| online::list(connection, run)).await
    }

    async fn beat_run(&self, run: NodeRun, silence: Duration) -> Result<BeatOutcome, Error> {
        self.database.write(move |connection| online::beat(connection, run, silence)).await
    }

    async fn unlist_run(&self, run: NodeRun) -> Result<(), Error> {
        self.database.write(move |connection| online::unlist(connection, run)).await
    }

    async fn users_came(&self, run: NodeRun, moves: &[UserMove]) -> Result<MoveOutcome, Error> {
        let moves = moves.to_vec();
        self.database.write(move |connection| online::came(connection, run, &moves)).await
    }

    async fn users_went(&self, run: NodeRun, moves: &[UserMove]) -> Result<u64, Error> {
        let moves = moves.to_vec();
        self.database.write(move |connection| online::went(connection, run, &moves)).await
    }

    async fn reap_runs(
        &self,
        by: NodeRun,
        silence: Duration,
        limit: u16,
    ) -> Result<Vec<OrphanedUser>, Error> {
        self.database.write(move |connection| online::reap(connection, by, silence, limit)).await
    }

    async fn put_hook(&self, hook: &Hook, secret: &Secret) -> Result<bool, Error> {
        let (hook, secret) = (hook.clone(), secret.clone());
        self.database.write(move |connection| hooks::put(connection, &hook, &secret)).await
    }

    async fn hooks(&self, tenant: &TenantName) -> Result<Vec<Hook>, Error> {
        let tenant = tenant.clone();
        self.database.read(move |connection| hooks::hooks(connection, &tenant)).await
    }

    async fn hook(
        &self,
        tenant: &TenantName,
        point: HookPoint,
    ) -> Result<Option<(Hook, Vec<Secret>)>, Error> {
        let tenant = tenant.clone();
        self.database.read(move |connection| hooks::hook(connection, &tenant, point)).await
    }

    async fn rotate_hook(
        &self,
        tenant: &TenantName,
        point: HookPoint,
        secret: &Secret,
    ) -> Result<Rotated, Error> {
        let (tenant, secret) = (tenant.clone(), secret.clone());
        self.database.write(move |connection| hooks::rotate(connection, &tenant, point, &secret)).await
    }

    async fn remove_hook(&self, tenant: &TenantName, point: HookPoint) -> Result<bool, Error> {
        let tenant = tenant.clone();
        self.database.write(move |connection| hooks::remove(connection, &tenant, point)).await
    }
}
