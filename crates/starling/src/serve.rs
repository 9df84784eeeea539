//! `starling serve`: the story of a start. Open the ports, wait for what is needed, do the work of the roles, leave the cluster.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use starling_gateway::probe::{Bridges, BridgesNow};
use starling_hub::essential;
use starling_job_service::{Handlers, JobService, JobServiceParts, WorkerSetup};
use starling_rabbitmq_bridge::{Bridge, BridgeHealth};
use starling_settings::BadConfig;
use starling_telemetry::{Metrics, Telemetry};
use starling_trust::install_provider;
use starling_webhook_service::{NoSessions, WebhookService};
use tokio::runtime::Handle;

use crate::config::Values;
use crate::failure::Failure;
use crate::gateway_node::{GatewayNode, Services};
use crate::probes::Probes;
use crate::process::{Threads, raise_file_limit};
use crate::reload::{ReadAgain, Reload};
use crate::setup::Setup;
use crate::signals::Signals;
use crate::{Layers, metrics_port, worker};

/// How long the last spans may take to be sent.
const FLUSH: Duration = Duration::from_secs(2);

/// Serves until told to stop.
pub fn serve(values: &Values, read_again: ReadAgain, layers: &Layers) -> Result<(), Failure> {
    let setup = Setup::read(&values.settings)?;
    raise_file_limit();
    let threads = Threads::of(setup.shards);
    threads.run(run(setup, threads, values.clone(), read_again, layers))
}

async fn run(
    setup: Setup,
    threads: Threads,
    values: Values,
    read_again: ReadAgain,
    layers: &Layers,
) -> Result<(), Failure> {
    install_provider();
    let Signals { mut drain, reload } = Signals::listen()?;
    let telemetry = Telemetry::install(&setup.telemetry).map_err(|error| BadConfig(error.to_string()))?;
    let metrics = Metrics::install(&setup.hub.version).map_err(|error| anyhow!("metrics: {error}"))?;
    let database = setup.database.with_log_schema(layers.log_schema);
    let stores = database.open().await?;

    // All ports are open before work begins: a mistake shows at once, and a client that comes early waits instead of failing.
    let gateway = match setup.keys {
        Some(keys) => Some(GatewayNode::bind(setup.gateway, keys, setup.shards, threads)?),
        None => None,
    };
    let probes = Probes::new(&setup.hub.node);
    let probed = gateway.is_none().then(|| probes.routes());
    let metrics_listener = metrics_port::bind(setup.metrics_listen).await?;
    tokio::spawn(metrics_port::serve(metrics_listener, metrics, probed));
    let certificate = gateway.as_ref().and_then(GatewayNode::certificate);
    let reloading = Reload { read: read_again, filter: telemetry.filter(), certificate };
    tokio::spawn(reloading.run(reload, values));

    let lease = setup.hub.lease();
    let webhooks =
        WebhookService::new(stores.webhooks.clone(), stores.jobs.clone(), &setup.webhooks, Handle::current())
            .map_err(|error| BadConfig(error.to_string()))?;
    let opening = async {
        for newer in database.wait_until_ready(&stores).await? {
            tracing::info!("a newer program has migrated the database: {newer}");
        }
        webhooks.learn_all().await;
        setup.redis.open(&lease).await
    };
    let opened = tokio::select! {
        opened = opening => Some(opened?),
        _ = drain.wait_for(|wanted| *wanted) => None,
    };
    let Some(shared) = opened else {
        tracing::info!("told to stop before serving");
        return Ok(());
    };
    let (runtime, log) = (Handle::current(), stores.conversations.clone());
    essential::spawn(&runtime, "announce_messages", webhooks.clone().announce_forever(log));
    essential::spawn(&runtime, "announce_failures", webhooks.clone().announce_failures_forever());
    essential::spawn(&runtime, "trim_deliveries", webhooks.clone().trim_forever());
    essential::spawn(&runtime, "show_webhooks", webhooks.clone().show_forever());
    if setup.roles.worker {
        essential::spawn(&runtime, "deliver_webhooks", webhooks.clone().deliver_forever());
    }
    if gateway.is_none() {
        essential::spawn(&runtime, "watch_webhooks", webhooks.clone().watch_forever());
        // Such a node removes the users of others that died.
        let following = webhooks.clone().follow_users_forever(Arc::new(NoSessions), Duration::ZERO);
        essential::spawn(&runtime, "follow_users", following);
    }
    let plan = setup.rabbitmq.filter(|plan| setup.roles.worker && plan.has_bridges());
    let bridge = plan.map(|plan| Bridge::new(plan, &setup.hub.node));
    let worker = setup.roles.worker.then(|| {
        let handlers = bridge.iter().fold(Handlers::default(), |handlers, bridge| bridge.handlers(handlers));
        WorkerSetup { node: setup.hub.node.clone(), handlers: (layers.handlers)(handlers) }
    });
    let jobs = JobService::new(JobServiceParts {
        store: stores.jobs.clone(),
        settings: setup.jobs,
        worker,
        runtime: Handle::current(),
    });
    if let Some(bridge) = &bridge {
        let sink = (layers.rabbitmq_jobs)(jobs.clone());
        essential::spawn(&runtime, "bridge_rabbitmq", bridge.clone().run(jobs.clone(), sink));
    }
    let bridges = bridge.clone().map(bridges_now);
    match gateway {
        Some(node) => {
            node.run(
                setup.hub,
                stores.conversations.clone(),
                Services { jobs, webhooks, bridges },
                shared,
                drain,
                layers,
            )
            .await?;
        }
        None => {
            probes.show_bridges(bridges);
            worker::run(setup.hub, stores.conversations.clone(), jobs, shared, probes, drain).await?;
        }
    }
    if let Some(bridge) = bridge {
        bridge.end().await;
    }
    stores.conversations.close().await;
    let _ = tokio::task::spawn_blocking(move || telemetry.shutdown(FLUSH)).await;
    Ok(())
}

/// Returns the function that counts the bridges that work, for the node's health.
fn bridges_now(bridge: Arc<Bridge>) -> BridgesNow {
    Arc::new(move || {
        let BridgeHealth { bridges, working } = bridge.health();
        Bridges { bridges, working }
    })
}
