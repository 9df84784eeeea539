//! The service of a node, and how it keeps knowing all hooks.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use starling_jobs::JobStore;
use starling_model::TenantName;
use starling_webhooks::{
    AskingClient, AskingLimits, Client, ClientConfiguration, Error, EventType, Events, Networks, Registry,
    SystemResolver, TlsError, WebhookStore, system_tls,
};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify};
use tokio::time::sleep;

use crate::WebhookSettings;
use crate::deciders::Deciders;
use crate::metrics::METRICS;
use crate::online::Notes;
use crate::wanted::Wanted;

/// The time to connect to a backend. A question has less, by the time of its hook.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a node looks for changes of which no notice told it, on average.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The least time between two looks. Changes in between are found together.
const LOOKS_APART: Duration = Duration::from_millis(20);
/// How long a node waits at its start until it asks the database again.
const START_PAUSE: Duration = Duration::from_millis(200);

/// What a node does with hooks.
pub struct WebhookService {
    pub(crate) store: Arc<dyn WebhookStore>,
    /// Jobs, which webhooks are told of when they fail.
    pub(crate) jobs: Arc<dyn JobStore>,
    pub(crate) networks: Networks,
    pub(crate) asking: Arc<AskingClient>,
    pub(crate) client: Client,
    pub(crate) deciders: Deciders,
    pub(crate) wanted: Wanted,
    /// Users whose sessions have come or gone.
    pub(crate) notes: Notes,
    /// See [`WebhookSettings::timeout`].
    pub(crate) timeout: Duration,
    /// See [`WebhookSettings::pause_after`].
    pub(crate) pause_after: Duration,
    /// Notified when this node has added messages to the log that webhooks want.
    pub(crate) announced_wanted: Notify,
    /// Notified when deliveries may have become due.
    pub(crate) due_wanted: Notify,
    /// The version of what this node knows. Held while it learns.
    version: Mutex<i64>,
    /// Notified when another node has changed something.
    look_wanted: Notify,
    /// Requests to backends run here.
    pub(crate) runtime: Handle,
}

impl WebhookService {
    /// Makes the service of a node. It knows nothing before [`Self::learn_all`].
    ///
    /// # Errors
    /// [`TlsError`] if the authorities that vouch for backends can't be read.
    pub fn new(
        store: Arc<dyn WebhookStore>,
        jobs: Arc<dyn JobStore>,
        settings: &WebhookSettings,
        runtime: Handle,
    ) -> Result<Arc<Self>, TlsError> {
        // The series are there from the start.
        METRICS.hooks.set(0.0);
        let networks = settings.allowed_networks.networks();
        let client = Client::new(ClientConfiguration {
            networks: networks.clone(),
            resolver: Arc::new(SystemResolver::default()),
            tls: system_tls()?,
            connect_timeout: CONNECT_TIMEOUT,
        });
        Ok(Arc::new(Self {
            store,
            jobs,
            networks,
            asking: Arc::new(AskingClient::new(client.clone(), AskingLimits::default())),
            client,
            deciders: Deciders::default(),
            wanted: Wanted::default(),
            notes: Notes::default(),
            timeout: settings.timeout,
            pause_after: settings.pause_after,
            announced_wanted: Notify::new(),
            due_wanted: Notify::new(),
            version: Mutex::new(0),
            look_wanted: Notify::new(),
            runtime,
        }))
    }

    /// Learns of all hooks, before the node serves anybody. Waits as long as the database does not answer.
    pub async fn learn_all(&self) {
        while let Err(error) = self.learn().await {
            tracing::warn!(%error, "waiting for the database, to know the hooks");
            sleep(START_PAUSE).await;
        }
    }

    /// Records that another node has changed something.
    pub fn hear_changed(&self) {
        self.look_wanted.notify_one();
    }

    /// Keeps knowing what others change. Never returns.
    pub async fn watch_forever(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.look_wanted.notified() => {}
                () = sleep(about(LOOK_EVERY)) => {}
            }
            if let Err(error) = self.learn().await {
                tracing::debug!(%error, "changes of hooks could not be looked for");
            }
            sleep(LOOKS_APART).await;
        }
    }

    /// Learns of everything that was changed before this call.
    pub(crate) async fn learn(&self) -> Result<(), Error> {
        let mut version = self.version.lock().await;
        if let Some(registry) = self.store.registry(*version).await? {
            self.jobs.note_failures_of(&listeners(&registry), registry.version).await?;
            *version = registry.version;
            let (hooks, webhooks) = (registry.hooks.len(), registry.wanted.len());
            self.wanted.replace(&registry);
            self.asking.keep(registry.hooks.iter().map(|(hook, _)| hook));
            self.deciders.replace(registry);
            // Who sees these figures can rely on them.
            METRICS.hooks.set(hooks as f64);
            METRICS.webhooks.set(webhooks as f64);
            self.notes.wanted.notify_one();
        }
        Ok(())
    }
}

/// Returns the tenants with webhooks that want to know of failed jobs, each once.
fn listeners(registry: &Registry) -> Vec<TenantName> {
    let listens = |events: &Events| match events {
        Events::All => true,
        Events::Types(types) => types.contains(&EventType::JobFailed),
    };
    let wanted = registry.wanted.iter().filter(|(_, _, events)| listens(events));
    let mut tenants: Vec<TenantName> = wanted.map(|(tenant, _, _)| tenant.clone()).collect();
    tenants.sort_unstable();
    tenants.dedup();
    tenants
}

/// Returns the time, Unix milliseconds.
pub(crate) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// Returns about this time, so that nodes do not do the same at the same moment.
pub(crate) fn about(time: Duration) -> Duration {
    time.mul_f64(0.8 + 0.4 * rand::random::<f64>())
}
