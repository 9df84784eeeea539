//! Webhooks and deliveries, as plain data.

use std::fmt;
use std::time::Duration;

use starling_model::TenantName;
use uuid::Uuid;

use crate::{Endpoint, EventId, Events, Hook, Secret};

/// The most secrets of a webhook that sign at the same time: the newest, and those that were replaced within [`crate::ROTATION_OVERLAP`].
pub const SECRETS_MAX: u32 = 4;
/// The longest reason that is kept of a failed attempt, bytes. The rest is cut off.
pub const REASON_BYTES_MAX: usize = 1024;

/// The id of a webhook. Ids that were made later are greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebhookId(pub(crate) Uuid);

impl WebhookId {
    /// Makes the id of a new webhook.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// Reads an id as [`fmt::Display`] writes it. `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::parse_str(text).ok().map(Self)
    }
}

impl Default for WebhookId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for WebhookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for WebhookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A webhook to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewWebhook {
    /// Its id. A webhook that is added again under the same id is not added twice.
    pub id: WebhookId,
    /// The tenant that it belongs to.
    pub tenant: TenantName,
    /// Where its events go.
    pub endpoint: Endpoint,
    /// The events that it is told of.
    pub events: Events,
    /// Whether events with the same order key must arrive in order.
    pub ordered: bool,
}

/// A webhook. Its secrets are not part of it, so that nothing that lists webhooks can show them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// See [`NewWebhook::id`].
    pub id: WebhookId,
    /// See [`NewWebhook::tenant`].
    pub tenant: TenantName,
    /// See [`NewWebhook::endpoint`].
    pub endpoint: Endpoint,
    /// See [`NewWebhook::events`].
    pub events: Events,
    /// See [`NewWebhook::ordered`].
    pub ordered: bool,
    /// Whether its deliveries wait until it is resumed.
    pub paused: bool,
    /// Since when every attempt has failed, Unix milliseconds by the database's clock.
    pub failing_since_ms: Option<i64>,
    /// When it was added, Unix milliseconds by the database's clock.
    pub created_at_ms: i64,
}

/// What is changed of a webhook. `None` leaves it as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookChange {
    /// See [`NewWebhook::endpoint`].
    pub endpoint: Option<Endpoint>,
    /// See [`NewWebhook::events`].
    pub events: Option<Events>,
    /// See [`NewWebhook::ordered`].
    pub ordered: Option<bool>,
    /// See [`Webhook::paused`]. Resuming a webhook also forgets that it was failing, makes all that waits due, and begins the time for retries
    /// anew. For one that is not paused, what waits becomes due.
    pub paused: Option<bool>,
}

/// The answer to a new secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotated {
    /// The new secret signs, and the one before it for [`crate::ROTATION_OVERLAP`].
    Rotated,
    /// [`SECRETS_MAX`] secrets of a webhook sign at present, or two of a hook.
    TooMany,
    /// There is no such webhook or hook.
    NotFound,
}

/// What the tenants want to be told and asked: what a node must know before something happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    /// It rises with each change. After a restore of the database it may be lower.
    pub version: i64,
    /// All hooks, each with the secrets that sign, the newest first. Those of points that this program does not know are left out.
    pub hooks: Vec<(Hook, Vec<Secret>)>,
    /// For each webhook its tenant and the events that it wants.
    pub wanted: Vec<(TenantName, WebhookId, Events)>,
}

/// The state of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// It waits for its first or its next attempt.
    Waiting,
    /// The backend has the event.
    Delivered,
    /// It was given up.
    Failed,
}

impl DeliveryState {
    /// All states. Each one's place here is its number in the database.
    pub const ALL: [Self; 3] = [Self::Waiting, Self::Delivered, Self::Failed];

    /// Returns the name that the API uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }

    pub(crate) const fn number(self) -> i16 {
        self as i16
    }

    pub(crate) fn of_number(number: i16) -> Option<Self> {
        usize::try_from(number).ok().and_then(|place| Self::ALL.get(place).copied())
    }
}

/// A delivery that waits, as its recording tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The webhook that is to be told.
    pub webhook: WebhookId,
    /// The event.
    pub event: EventId,
    /// Whether the webhook is paused, so that the delivery waits for its resumption.
    pub paused: bool,
}

/// Where a delivery stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryStatus {
    /// The event.
    pub event: EventId,
    /// Its place among the deliveries of all webhooks, in the order of their recording.
    pub position: i64,
    /// The name of the event's type.
    pub kind: String,
    /// Its state.
    pub state: DeliveryState,
    /// The attempts that were made.
    pub attempts: u32,
    /// The HTTP status of the newest attempt, if there was an answer.
    pub status: Option<u16>,
    /// Why the newest attempt failed.
    pub reason: Option<String>,
    /// The beginning of the newest answer.
    pub answer: String,
    /// When the event was recorded, Unix milliseconds by the database's clock.
    pub recorded_at_ms: i64,
    /// When the first attempt ended, Unix milliseconds by the database's clock. [`crate::Retries::window`] begins there.
    pub first_attempt_at_ms: Option<i64>,
    /// When the newest attempt ended, Unix milliseconds by the database's clock.
    pub attempted_at_ms: Option<i64>,
}

/// A delivery with what is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryDetails {
    /// Where it stands.
    pub status: DeliveryStatus,
    /// See [`crate::NewEvent::order_key`].
    pub order_key: Option<String>,
    /// The body of the request.
    pub body: String,
}

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptEnd {
    /// The claim that the attempt was made under: [`DueDelivery::claimed_until_ms`].
    pub claimed_until_ms: i64,
    /// The state of the delivery from now on: waiting if it will be tried again.
    pub state: DeliveryState,
    /// The HTTP status of the answer, if there was one.
    pub status: Option<u16>,
    /// Why it failed; `None` if the event was delivered. It is cut off at [`REASON_BYTES_MAX`].
    pub reason: Option<String>,
    /// The beginning of the answer, which [`crate::Delivered::answer`] has.
    pub answer: String,
    /// How long it waits for its next attempt, if it waits.
    pub again_after: Duration,
}

/// Which deliveries are claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryClaim {
    /// The most deliveries.
    pub limit: u16,
    /// The most deliveries of one webhook.
    pub of_each: u16,
    /// The most deliveries of one tenant.
    pub of_tenant: u16,
    /// Webhooks that get none, because enough of their deliveries are under way.
    pub except: Vec<WebhookId>,
    /// Tenants that get none, because enough of their deliveries are under way.
    pub except_tenants: Vec<TenantName>,
    /// The most webhooks that keep an order and are failing: as many of them, chosen at random, may get some. Behind their deliveries that are
    /// tried again thousands of others may wait, all of which a claim has to read.
    pub failing_in_order: u16,
    /// How long the claim lasts. If the attempt has not been recorded by then, the node that claims it next makes another one.
    pub lasts: Duration,
}

/// A delivery whose time has come, with all that an attempt needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueDelivery {
    /// The tenant.
    pub tenant: TenantName,
    /// The webhook.
    pub webhook: WebhookId,
    /// The event.
    pub event: EventId,
    /// Where it goes.
    pub endpoint: Endpoint,
    /// The secrets that sign at present, the newest first.
    pub secrets: Vec<Secret>,
    /// The attempts that were made before.
    pub attempts: u32,
    /// How long ago the first attempt ended; zero if there was none.
    pub since_first: Duration,
    /// The body of the request.
    pub body: String,
    /// Until when the claim lasts, Unix milliseconds by the database's clock. It tells the claim from all others of the delivery.
    pub claimed_until_ms: i64,
}

/// The answer to the end of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It is kept.
    Kept,
    /// It is kept, and the webhook is paused now, because it has failed for too long.
    Paused,
    /// The delivery does not wait any more, does not exist, or somebody else has claimed it or sent it again. Nothing has changed.
    NotClaimed,
}

/// How many deliveries of a webhook are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Those that have ended.
    pub ended: u32,
    /// Those that wait. Older ones fail.
    pub waiting: u32,
}

/// What was trimmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Deliveries that waited and have failed, since they were too many.
    pub failed: u64,
    /// Deliveries that had ended and are removed.
    pub removed: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { ended: 500, waiting: 10_000 }
    }
}

/// Returns the part of a text that is kept, which does not end within a character.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// Totals over all webhooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WebhookOverview {
    /// Webhooks that are paused and whose newest attempt has failed.
    pub paused_for_failures: u64,
    /// Webhooks that are paused although nothing has failed: somebody has done it.
    pub paused_by_hand: u64,
    /// How long ago the first event was recorded that waits, without webhooks that are paused. `None`: nothing waits.
    pub oldest_waiting: Option<Duration>,
    /// How long the first delivery that may be attempted has been due, without those of webhooks and tenants that are [`Busy`]. `None`: there
    /// is none.
    pub oldest_due: Option<Duration>,
}

/// From how many claims of its deliveries on a webhook or a tenant is busy: what else is due there waits for the ends of these, and not for a
/// node. A claim counts as long as it was made for, also after the attempt has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy {
    /// Of one webhook.
    pub of_webhook: u16,
    /// Of one tenant.
    pub of_tenant: u16,
}
