//! What a node knows of all webhooks and hooks, and how it keeps knowing it.

use std::sync::Arc;
use std::time::Duration;

use starling_jobs::JobStore;
use starling_model::TenantName;
use starling_webhooks::{Error, EventType, Events, HookPoint, Registry, WebhookStore};
use tokio::sync::{Mutex, Notify};
use tokio::time::sleep;

use crate::asking::Asking;
use crate::deciders::{Decider, Deciders};
use crate::metrics::METRICS;
use crate::time::about;
use crate::wanted::Wanted;

/// How often a node looks for changes of which no notice told it, on average.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The least time between two looks. Changes in between are found together.
const LOOKS_APART: Duration = Duration::from_millis(20);
/// How long a node waits at its start until it asks the database again.
const START_PAUSE: Duration = Duration::from_millis(200);

/// What a node knows of all webhooks and hooks.
pub(crate) struct Knowledge {
    store: Arc<dyn WebhookStore>,
    /// It notes the failed jobs of tenants whose webhooks want to know of them.
    jobs: Arc<dyn JobStore>,
    /// It forgets what it knows of hooks that are gone.
    asking: Arc<Asking>,
    deciders: Deciders,
    wanted: Wanted,
    /// The version of what is known. Held while the node learns.
    version: Mutex<i64>,
    /// Notified when another node has changed something.
    look_wanted: Notify,
}

impl Knowledge {
    /// Knows nothing before [`Self::learn_all`].
    pub fn new(store: Arc<dyn WebhookStore>, jobs: Arc<dyn JobStore>, asking: Arc<Asking>) -> Self {
        // The series are there from the start.
        METRICS.hooks.set(0.0);
        Self {
            store,
            jobs,
            asking,
            deciders: Deciders::default(),
            wanted: Wanted::default(),
            version: Mutex::new(0),
            look_wanted: Notify::new(),
        }
    }

    /// Returns the hook at a point of a tenant, if there is one. Waits for nothing.
    pub fn decider(&self, tenant: &TenantName, point: HookPoint) -> Option<Arc<Decider>> {
        self.deciders.at(tenant, point)
    }

    /// Returns which events are wanted.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Learns everything, before the node serves anybody. Waits as long as the database does not answer.
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

    /// Learns of a change of this node's own. If the database does not answer, the next look finds it.
    pub async fn learn_of_own(&self) {
        if let Err(error) = self.learn().await {
            tracing::debug!(%error, "a change of a hook could not be read again at once");
            self.hear_changed();
        }
    }

    /// Keeps knowing what others change. Never returns.
    pub async fn watch_forever(&self) {
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
    async fn learn(&self) -> Result<(), Error> {
        let mut version = self.version.lock().await;
        if let Some(registry) = self.store.registry(*version).await? {
            self.jobs.note_failures_of(&listeners(&registry), registry.version).await?;
            *version = registry.version;
            let (hooks, webhooks) = (registry.hooks.len(), registry.wanted.len());
            self.wanted.replace(&registry);
            self.asking.keep(&registry);
            self.deciders.replace(registry);
            // Who sees these figures can rely on them.
            METRICS.hooks.set(hooks as f64);
            METRICS.webhooks.set(webhooks as f64);
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
