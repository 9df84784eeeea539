//! The service of a node, put together from its parts.

use std::sync::Arc;
use std::time::Duration;

use starling_conversation_store::ConversationStore;
use starling_jobs::JobStore;
use starling_model::{TenantName, UserName};
use starling_trust::{Authorities, Error as TrustError, Trust, client_config};
use starling_webhooks::{
    Client, ClientConfiguration, DeliveryDetails, DeliveryStatus, Endpoint, Error, EventId, EventType,
    Events, Hook, HookPoint, Networks, Question, RefusedAddress, Rotated, Secret, SystemResolver, Verdict,
    Webhook, WebhookActivity, WebhookChange, WebhookId, WebhookStore,
};
use starling_wire::protocol::Timestamp;
use tokio::runtime::Handle;

use crate::announcing::{FailureAnnouncer, LogAnnouncer};
use crate::asking::Asking;
use crate::config::WebhookSettings;
use crate::deciders::Decider;
use crate::delivering::{Deliverer, DeliveryTimes};
use crate::knowledge::Knowledge;
use crate::online::{Online, Sessions};
use crate::overview::Overview;
use crate::recorder::Recorder;
use crate::registrar::Registrar;
use crate::trimming::Trimmer;

/// The time to connect to a backend. A question has less, by the time of its hook.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a node does with webhooks and hooks.
pub struct WebhookService {
    networks: Networks,
    knowledge: Arc<Knowledge>,
    asking: Arc<Asking>,
    recorder: Arc<Recorder>,
    registrar: Registrar,
    log_announcer: LogAnnouncer,
    failure_announcer: FailureAnnouncer,
    online: Online,
    deliverer: Arc<Deliverer>,
    trimmer: Trimmer,
    overview: Overview,
}

impl WebhookService {
    /// Makes the service of a node. It knows nothing before [`Self::learn_all`]. `jobs` are those that webhooks are told of when they fail.
    ///
    /// # Errors
    /// [`TrustError`] if the authorities that may sign the certificates of backends can't be read.
    pub fn new(
        store: Arc<dyn WebhookStore>,
        jobs: Arc<dyn JobStore>,
        settings: &WebhookSettings,
        runtime: Handle,
    ) -> Result<Arc<Self>, TrustError> {
        let networks = settings.allowed_networks.networks();
        let client = Client::new(ClientConfiguration {
            networks: networks.clone(),
            resolver: Arc::new(SystemResolver::default()),
            tls: client_config(Trust::AuthorityAndName(Authorities::System))?,
            connect_timeout: CONNECT_TIMEOUT,
        });
        let asking = Arc::new(Asking::new(client.clone(), runtime));
        let knowledge = Arc::new(Knowledge::new(store.clone(), jobs.clone(), asking.clone()));
        let recorder = Arc::new(Recorder::new(store.clone()));
        let times = DeliveryTimes { timeout: settings.timeout, pause_after: settings.pause_after };
        let deliverer = Deliverer::new(store.clone(), client, knowledge.clone(), recorder.clone(), times);
        Ok(Arc::new(Self {
            networks,
            registrar: Registrar::new(store.clone(), knowledge.clone(), recorder.clone()),
            log_announcer: LogAnnouncer::new(knowledge.clone(), recorder.clone()),
            failure_announcer: FailureAnnouncer::new(knowledge.clone(), recorder.clone(), jobs),
            online: Online::new(store.clone(), knowledge.clone(), recorder.clone()),
            deliverer: Arc::new(deliverer),
            trimmer: Trimmer::new(store.clone(), knowledge.clone()),
            overview: Overview::new(store, knowledge.clone(), asking.clone()),
            knowledge,
            asking,
            recorder,
        }))
    }
}

/// Knowing.
impl WebhookService {
    /// Learns of all hooks, before the node serves anybody. Waits as long as the database does not answer.
    pub async fn learn_all(&self) {
        self.knowledge.learn_all().await;
    }

    /// Records that another node has changed something.
    pub fn hear_changed(&self) {
        self.knowledge.hear_changed();
    }

    /// Keeps knowing what others change. Never returns.
    pub async fn watch_forever(self: Arc<Self>) {
        self.knowledge.watch_forever().await;
    }

    /// Whether a webhook of the tenant wants events of this type. Waits for nothing.
    pub fn wants(&self, tenant: &TenantName, kind: EventType) -> bool {
        self.knowledge.wanted().has(tenant, kind)
    }

    /// Returns the hook at a point of a tenant, if there is one. Waits for nothing.
    pub fn decider(&self, tenant: &TenantName, point: HookPoint) -> Option<Arc<Decider>> {
        self.knowledge.decider(tenant, point)
    }
}

/// Asking.
impl WebhookService {
    /// Asks a backend, within the time of its hook. The question is given up if its caller stops waiting.
    pub async fn ask(&self, decider: &Arc<Decider>, question: &Question<'_>) -> Verdict {
        self.asking.ask(decider, question).await
    }
}

/// Telling.
impl WebhookService {
    /// Records an event that has happened at `at`, with details as JSON, for all webhooks that want it. Events with the same `order_key`
    /// keep their order at webhooks that ask for it.
    pub async fn tell(
        &self,
        tenant: &TenantName,
        kind: EventType,
        at: Timestamp,
        order_key: Option<&str>,
        data: &str,
    ) {
        self.recorder.tell(tenant, kind, at, order_key, data).await;
    }

    /// Records a test event for one webhook, whatever that wants. Returns the event, or `None` if the tenant has no such webhook.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn test(
        &self,
        tenant: &TenantName,
        webhook: WebhookId,
        at: Timestamp,
    ) -> Result<Option<EventId>, Error> {
        self.recorder.test(tenant, webhook, at).await
    }

    /// Counts and logs an event that no webhook will be told of.
    pub fn note_lost(&self, kind: EventType, error: &dyn std::error::Error) {
        self.recorder.note_lost(kind, error);
    }

    /// Records that this node has added a message to the log that webhooks want.
    pub fn note_announced(&self) {
        self.log_announcer.wake();
    }

    /// Records the deliveries of messages and changes of members that were noted with their commits. Several nodes may do so at the same
    /// time: each event is recorded once. Never returns.
    pub async fn announce_forever(self: Arc<Self>, log: Arc<dyn ConversationStore>) {
        self.log_announcer.run_forever(&*log).await;
    }

    /// Records the deliveries of jobs that have failed for good. Several nodes may do so at the same time: each event is recorded once.
    /// Never returns.
    pub async fn announce_failures_forever(self: Arc<Self>) {
        self.failure_announcer.run_forever().await;
    }

    /// Records that a session of a user was attached to this node or is gone from it. Waits for nothing.
    pub fn note_sessions(&self, tenant: &TenantName, user: &UserName) {
        self.online.note(tenant, user);
    }

    /// Tells the database who is here, for tenants with webhooks that want to know. A user counts as here for `linger` after the last
    /// session. Never returns.
    pub async fn follow_users_forever(self: Arc<Self>, sessions: Arc<dyn Sessions>, linger: Duration) {
        self.online.follow_forever(sessions, linger).await;
    }

    /// Delivers events. Never returns. Attempts that are under way when it is dropped are made again by others.
    pub async fn deliver_forever(self: Arc<Self>) {
        self.deliverer.clone().run_forever().await;
    }

    /// Removes deliveries that are too many. Never returns.
    pub async fn trim_forever(self: Arc<Self>) {
        self.trimmer.run_forever().await;
    }

    /// Keeps the metrics of all webhooks, and of the breakers of this node. Never returns.
    pub async fn show_forever(self: Arc<Self>) {
        self.overview.run_forever().await;
    }
}

/// Setting hooks. This node knows of a change when a call returns, others within about a second.
impl WebhookService {
    /// Checks an address that a URL contains in the place of a name.
    ///
    /// # Errors
    /// [`RefusedAddress`] if no request may go there.
    pub fn check(&self, endpoint: &Endpoint) -> Result<(), RefusedAddress> {
        endpoint.check(&self.networks)
    }

    /// Sets a hook, which must have passed [`Hook::check`]. Returns its secret if it is new.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn put_hook(&self, hook: &Hook) -> Result<Option<Secret>, Error> {
        self.registrar.put_hook(hook).await
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
        self.registrar.rotate_hook(tenant, point).await
    }

    /// Returns the hooks of a tenant.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn hooks(&self, tenant: &TenantName) -> Result<Vec<Hook>, Error> {
        self.registrar.hooks(tenant).await
    }

    /// Removes a hook. Returns whether there was one.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn remove_hook(&self, tenant: &TenantName, point: HookPoint) -> Result<bool, Error> {
        self.registrar.remove_hook(tenant, point).await
    }
}

/// Setting webhooks, and looking at what was delivered.
impl WebhookService {
    /// Adds a webhook, and returns it with its secret; `None` if the tenant has [`crate::WEBHOOKS_MAX`] already.
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
        self.registrar.add(tenant, endpoint, events, ordered).await
    }

    /// Returns a webhook.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn webhook(&self, tenant: &TenantName, id: WebhookId) -> Result<Option<Webhook>, Error> {
        self.registrar.webhook(tenant, id).await
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
        self.registrar.webhooks(tenant, after, limit).await
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
        self.registrar.change(tenant, id, change).await
    }

    /// Removes a webhook with its deliveries. Returns whether there was one.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn remove(&self, tenant: &TenantName, id: WebhookId) -> Result<bool, Error> {
        self.registrar.remove(tenant, id).await
    }

    /// Gives a webhook a new secret, and returns the secret with the result.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn rotate(&self, tenant: &TenantName, id: WebhookId) -> Result<(Rotated, Secret), Error> {
        self.registrar.rotate(tenant, id).await
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
        self.registrar.activity(tenant, webhooks).await
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
        self.registrar.delivery(tenant, webhook, event).await
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
        self.registrar.deliveries(tenant, webhook, before, limit).await
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
        self.registrar.resend(tenant, webhook, event).await
    }
}
