//! What a store of webhooks does.

use std::time::Duration;

use async_trait::async_trait;
use starling_model::TenantName;

use crate::{
    AttemptEnd, BeatOutcome, Busy, DeliveryClaim, DeliveryDetails, DeliveryStatus, DueDelivery, Endpoint,
    Error, EventId, Hook, HookPoint, MoveOutcome, NewEvent, NewWebhook, NodeRun, Noted, OrphanedUser,
    Recorded, Registry, Retention, Rotated, SchemaStatus, Secret, Trimmed, UserMove, Webhook,
    WebhookActivity, WebhookChange, WebhookId, WebhookOverview,
};

/// A store of webhooks, of their deliveries, and of hooks that ask first.
///
/// Each call names a tenant and reaches nothing of another one, except for what nodes ask for all. Every method may be retried after an
/// [`Error`] whose [`Error::is_transient`] is true.
#[async_trait]
pub trait WebhookStore: Send + Sync + 'static {
    /// Brings the schema up to date, under a lock, so that many nodes may start at once.
    async fn migrate(&self) -> Result<(), Error>;

    /// Returns how the schema compares with the one that this program knows.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a schema that is too new.
    async fn schema_status(&self) -> Result<SchemaStatus, Error>;

    /// Returns all hooks, and the events that each tenant's webhooks want; `None` if nothing has changed since this version. 0 is the
    /// version of nothing. A hook that can't be read, as one that a newer version has written, is logged, and refuses.
    async fn registry(&self, known: i64) -> Result<Option<Registry>, Error>;

    /// Adds a webhook with its secret, and returns it; `None` if the tenant has `webhooks_max` already.
    async fn add(
        &self,
        webhook: &NewWebhook,
        secret: &Secret,
        webhooks_max: u32,
    ) -> Result<Option<Webhook>, Error>;

    /// Returns a webhook; `None` if there is none.
    async fn webhook(&self, tenant: &TenantName, id: WebhookId) -> Result<Option<Webhook>, Error>;

    /// Returns webhooks of a tenant, oldest first, those that come after `after`.
    async fn webhooks(
        &self,
        tenant: &TenantName,
        after: Option<WebhookId>,
        limit: u16,
    ) -> Result<Vec<Webhook>, Error>;

    /// Changes a webhook, and returns it; `None` if there is none.
    async fn change(
        &self,
        tenant: &TenantName,
        id: WebhookId,
        change: &WebhookChange,
    ) -> Result<Option<Webhook>, Error>;

    /// Removes a webhook with its deliveries. Returns whether there was one.
    async fn remove(&self, tenant: &TenantName, id: WebhookId) -> Result<bool, Error>;

    /// Removes a webhook whose backend wants no more events, with its deliveries, if it still goes to the endpoint that said so. Returns whether it
    /// did.
    async fn remove_gone(
        &self,
        tenant: &TenantName,
        id: WebhookId,
        endpoint: &Endpoint,
    ) -> Result<bool, Error>;

    /// Replaces the secret of a webhook. The old one still signs for [`crate::ROTATION_OVERLAP`].
    async fn rotate(&self, tenant: &TenantName, id: WebhookId, secret: &Secret) -> Result<Rotated, Error>;

    /// Returns the secrets that sign for a webhook at present, the newest first. For signing only: they are shown once, when they are made.
    async fn secrets(&self, tenant: &TenantName, id: WebhookId) -> Result<Vec<Secret>, Error>;

    /// Adds the deliveries of events to all webhooks of their tenants that want them, in one transaction. Returns those deliveries of these
    /// events that wait, also if an earlier call added them.
    async fn record(&self, events: &[NewEvent]) -> Result<Vec<Recorded>, Error>;

    /// Adds the delivery of an event to one webhook, whatever that wants. Returns whether there is such a webhook.
    async fn record_for(&self, webhook: WebhookId, event: &NewEvent) -> Result<bool, Error>;

    /// Returns what goes on at these webhooks, in their order: how many deliveries wait, and the newest attempts, at most `attempts` of
    /// each. Webhooks that do not exist are left out.
    async fn activity(
        &self,
        tenant: &TenantName,
        webhooks: &[WebhookId],
        attempts: u16,
    ) -> Result<Vec<WebhookActivity>, Error>;

    /// Returns a delivery; `None` if there is none.
    async fn delivery(
        &self,
        tenant: &TenantName,
        webhook: WebhookId,
        event: EventId,
    ) -> Result<Option<DeliveryDetails>, Error>;

    /// Returns deliveries of a webhook, the newest first, beginning before the position `before`.
    async fn deliveries(
        &self,
        tenant: &TenantName,
        webhook: WebhookId,
        before: Option<i64>,
        limit: u16,
    ) -> Result<Vec<DeliveryStatus>, Error>;

    /// Returns waiting deliveries of a webhook, oldest first, those that come after the position `after`: what the webhook missed while it
    /// was paused.
    async fn waiting(
        &self,
        tenant: &TenantName,
        webhook: WebhookId,
        after: Option<i64>,
        limit: u16,
    ) -> Result<Vec<DeliveryStatus>, Error>;

    /// Returns the oldest delivery of a webhook that waits and has this order key. At a webhook with [`Webhook::ordered`], it is the only
    /// one of them that may be attempted.
    async fn first_in_order(
        &self,
        tenant: &TenantName,
        webhook: WebhookId,
        order_key: &str,
    ) -> Result<Option<EventId>, Error>;

    /// Claims deliveries that wait, whose time has come, and that are the first in their order where there is one. Paused webhooks give none.
    /// Tenants take turns: the first delivery of each comes before the second of any. A delivery that can't be read is logged and left out until its
    /// claim is over.
    async fn claim(&self, claim: &DeliveryClaim) -> Result<Vec<DueDelivery>, Error>;

    /// Stores the outcome of an attempt, if nothing has happened to the delivery since its claim: another claim, or a resend. Pauses the webhook if
    /// all its attempts have failed for `pause_after`.
    async fn note_attempt(
        &self,
        tenant: &TenantName,
        webhook: WebhookId,
        event: EventId,
        end: &AttemptEnd,
        pause_after: Duration,
    ) -> Result<Noted, Error>;

    /// Makes a delivery that has ended wait again, as if it had not been attempted, and ends the wait of one for its next attempt. Its time is
    /// now. Returns whether there was one; nothing is to be done for one that is due or under way.
    async fn resend(&self, tenant: &TenantName, webhook: WebhookId, event: EventId) -> Result<bool, Error>;

    /// Removes some deliveries of a webhook that are more than those to be kept: the oldest. Those that wait and are too many fail. Returns
    /// how many; none if there is nothing left to do.
    async fn trim(
        &self,
        tenant: &TenantName,
        webhook: WebhookId,
        retention: Retention,
    ) -> Result<Trimmed, Error>;

    /// Returns what stands at the webhooks of all tenants. Takes a few steps for each webhook, however many deliveries wait.
    async fn overview(&self, busy: Busy) -> Result<WebhookOverview, Error>;

    /// Lists a run of a node, whose users may come from now on. It must send beats.
    async fn list_run(&self, run: NodeRun) -> Result<(), Error>;

    /// Notes that a run is alive, by the database's clock. It may take others for dead once it has sent beats for `silence` without a break
    /// of that length.
    async fn beat_run(&self, run: NodeRun, silence: Duration) -> Result<BeatOutcome, Error>;

    /// Removes a run that has no users from the list.
    async fn unlist_run(&self, run: NodeRun) -> Result<(), Error>;

    /// Notes that users have come to the node of this run, each given once. The event of a user who is on no node yet is recorded in the
    /// same transaction.
    async fn users_came(&self, run: NodeRun, moves: &[UserMove]) -> Result<MoveOutcome, Error>;

    /// Notes that users are no longer on the node of this run, each given once. The event of a user who is on no other node is recorded in the same
    /// transaction. Returns the number of deliveries that were recorded.
    async fn users_went(&self, run: NodeRun, moves: &[UserMove]) -> Result<u64, Error>;

    /// Reaps runs other than `by` that have sent no beat for `silence`: they count as dead. Returns users of dead runs, at most `limit`, for
    /// [`Self::users_went`].
    async fn reap_runs(&self, by: NodeRun, silence: Duration, limit: u16)
    -> Result<Vec<OrphanedUser>, Error>;

    /// Adds a hook or changes the one of its point. The hook must have passed [`Hook::check`]. A hook that is new gets the secret, another
    /// one keeps its own. Returns whether it is new.
    async fn put_hook(&self, hook: &Hook, secret: &Secret) -> Result<bool, Error>;

    /// Returns the hooks of a tenant, in the order of [`HookPoint`]'s names.
    async fn hooks(&self, tenant: &TenantName) -> Result<Vec<Hook>, Error>;

    /// Returns a hook with the secrets that sign, the newest first; `None` if there is none.
    async fn hook(&self, tenant: &TenantName, point: HookPoint)
    -> Result<Option<(Hook, Vec<Secret>)>, Error>;

    /// Replaces the secret of a hook. The old one still signs for [`crate::ROTATION_OVERLAP`], and the next one is not replaced before that.
    async fn rotate_hook(
        &self,
        tenant: &TenantName,
        point: HookPoint,
        secret: &Secret,
    ) -> Result<Rotated, Error>;

    /// Removes a hook. Returns whether there was one.
    async fn remove_hook(&self, tenant: &TenantName, point: HookPoint) -> Result<bool, Error>;
}

/// Why a delivery fails that is one of too many that wait.
pub(crate) const TOO_MANY_WAITED: &str = "too many deliveries waited";
