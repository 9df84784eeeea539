//! `starling serve`: the parts, put together.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use starling_auth::Verifier;
use starling_gateway::{Gateway, Inboxes};
use starling_hub::{Hub, HubParts, Shards};
use starling_settings::BadConfig;
use starling_telemetry::{Metrics, Telemetry};

use crate::config::Values;
use crate::failure::Failure;
use crate::process::{raise_file_limit, runtime, use_crypto};
use crate::reload::{ReadAgain, Reload};
use crate::setup::Setup;
use crate::signals::Signals;
use crate::{first_link, metrics_port};

/// How long the last spans may take to be sent.
const FLUSH: Duration = Duration::from_secs(2);

/// Serves until told to stop.
pub fn serve(values: &Values, read_again: ReadAgain) -> Result<(), Failure> {
    let setup = Setup::read(&values.settings)?;
    raise_file_limit();
    runtime()?.block_on(run(setup, values.clone(), read_again))
}

async fn run(setup: Setup, values: Values, read_again: ReadAgain) -> Result<(), Failure> {
    use_crypto();
    let Signals { mut drain, reload } = Signals::listen()?;
    let telemetry = Telemetry::install(&setup.telemetry).map_err(|error| BadConfig(error.to_string()))?;
    let metrics = Metrics::install(&setup.hub.version).map_err(|error| anyhow!("metrics: {error}"))?;
    let keys = setup.keys;
    let claims = keys.options.claims.clone();
    let verifier =
        Verifier::new(keys.algorithm, keys.source, keys.options).map_err(|e| BadConfig(e.to_string()))?;
    let conversations = setup.database.open().await?;

    // All ports are open before work begins: a mistake shows at once, and a client that comes early waits instead of failing.
    let gateway = Gateway::bind(setup.gateway).map_err(|error| match error {
        starling_gateway::Error::Tls(message) => Failure::from(BadConfig(message)),
        error => anyhow!(error).into(),
    })?;
    let address = gateway.address();
    let metrics_listener = metrics_port::bind(setup.metrics_listen).await?;
    tokio::spawn(metrics_port::serve(metrics_listener, metrics));
    let reloading =
        Reload { read: read_again, filter: telemetry.filter(), certificate: gateway.certificate() };
    tokio::spawn(reloading.run(reload, values));

    let lease = setup.hub.lease();
    let opening = async {
        setup.database.wait_until_ready(&*conversations).await?;
        setup.redis.open(&lease).await
    };
    let opened = tokio::select! {
        opened = opening => Some(opened?),
        _ = drain.wait_for(|wanted| *wanted) => None,
    };
    let Some(shared) = opened else {
        tracing::info!("told to stop before it served");
        return Ok(());
    };
    let (inboxes, ends) = Inboxes::new(setup.shards);
    let shards: Arc<dyn Shards> = inboxes.clone();
    #[cfg(feature = "sabotage")]
    let (conversations, shards) = sabotaged(conversations, shards)?;
    let log = Arc::clone(&conversations);
    let hub = Hub::new(HubParts {
        config: setup.hub,
        conversations,
        sessions: shared.sessions,
        fanout: shared.fanout,
        verifier: Arc::new(verifier),
        tickets: keys.tickets,
        shards,
        shard_count: setup.shards,
        runtime: tokio::runtime::Handle::current(),
    });
    hub.start().await.map_err(|error| anyhow!(error))?;
    tracing::info!(%address, name = %hub.node(), shards = setup.shards, "serving");
    if let Some(secret) = &keys.own_secret {
        first_link::show(secret, &claims, address, gateway.certificate().is_some());
    }
    gateway.run(hub, inboxes, ends, drain).await.map_err(|error| anyhow!(error))?;
    log.close().await;
    let _ = tokio::task::spawn_blocking(move || telemetry.shutdown(FLUSH)).await;
    Ok(())
}

#[cfg(feature = "sabotage")]
fn sabotaged(
    log: Arc<dyn starling_conversation_store::ConversationStore>,
    shards: Arc<dyn Shards>,
) -> Result<(Arc<dyn starling_conversation_store::ConversationStore>, Arc<dyn Shards>), Failure> {
    use crate::sabotage::{BadLog, BadShards, Sabotage};
    Ok(match Sabotage::wanted()? {
        None => (log, shards),
        Some(sabotage @ (Sabotage::EarlyOk | Sabotage::RetryTwice)) => {
            (BadLog::before(log, sabotage), shards)
        }
        Some(sabotage) => (log, BadShards::before(shards, sabotage)),
    })
}
