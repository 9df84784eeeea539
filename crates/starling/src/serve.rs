//! `serve` and `migrate`: the parts, put together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use starling_auth::Verifier;
use starling_conversation_store::postgres::PostgresStore;
use starling_conversation_store::{ConversationStore, connect};
use starling_fanout::Fanout;
use starling_fanout::memory::MemoryFanout;
use starling_fanout::redis::{RedisConfig as FanoutConfig, RedisFanout};
use starling_gateway::{Gateway, Inboxes};
use starling_hub::{Hub, HubParts, Shards};
use starling_redis_link::RedisAddress;
use starling_session_store::SessionStore;
use starling_session_store::memory::MemoryStore;
use starling_session_store::redis::{RedisConfig, RedisStore};
use starling_telemetry::{Metrics, Telemetry};
use tokio::runtime::Runtime;

use crate::Failure;
use crate::config::{BadConfig, Values};
use crate::output::{print, warn};
use crate::reload::Reload;
use crate::setup::{Database, Setup};
use crate::signals::Signals;
use crate::{first_link, metrics_port};

/// Threads for the database, Redis and HTTP's waiting: the sockets have threads of their own.
const CONTROL_THREADS: usize = 2;
/// How long the last spans may take on their way out.
const FLUSH: Duration = Duration::from_secs(2);
/// The most files that are asked for: a connection is one.
const FILES_MAX: u64 = 1_048_576;

/// Reads the configuration that the program was started with once more.
pub type ReadAgain = Arc<dyn Fn() -> Result<Values, BadConfig> + Send + Sync>;

/// Serves until told to stop.
pub fn serve(values: &Values, read_again: ReadAgain) -> Result<(), Failure> {
    let setup = Setup::read(values)?;
    raise_file_limit();
    runtime()?.block_on(run(setup, values.clone(), read_again))
}

/// Brings the schema up to date. `restored`: begins another incarnation of the database, so that clients forget what it lacks.
pub fn migrate(values: &Values, restored: bool) -> Result<(), Failure> {
    let database = Database { migrate: true, ..Database::read(values)? };
    runtime()?.block_on(async {
        use_crypto();
        let store = open_database(&database).await?;
        wait_for_database(&*store, &database).await?;
        print("the schema is up to date\n")?;
        if restored {
            let incarnation = store.reincarnate().await.map_err(|error| anyhow!("database_url: {error}"))?;
            print(&format!(
                "incarnation {incarnation} has begun: clients forget what they showed, and load it again\n"
            ))?;
        }
        Ok(())
    })
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
    // Connects to nothing yet, but opens a database file.
    let conversations = open_database(&setup.database).await?;

    // All ports are open before work begins: a mistake shows at once, and a client that comes early waits instead of failing.
    let tls = setup.gateway.tls.is_some();
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
    let stores = async {
        wait_for_database(&*conversations, &setup.database).await?;
        open_redis(setup.redis, &setup.redis_prefix, &lease, setup.topics).await
    };
    let stores = tokio::select! {
        stores = stores => Some(stores?),
        _ = drain.wait_for(|wanted| *wanted) => None,
    };
    let Some((sessions, fanout)) = stores else {
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
        sessions,
        fanout,
        verifier: Arc::new(verifier),
        tickets: keys.tickets,
        shards,
        shard_count: setup.shards,
        runtime: tokio::runtime::Handle::current(),
    });
    hub.start().await.map_err(|error| anyhow!(error))?;
    tracing::info!(%address, name = %hub.node(), shards = setup.shards, "serving");
    if let Some(secret) = &keys.own_secret {
        if !address.ip().is_loopback() {
            tracing::warn!(
                "other machines can reach this node, and it signs tokens with a secret that it made itself; set jwt_secret \
                 to one of your own before you use it for more than a trial"
            );
        }
        first_link::show(secret, &claims, address, tls);
    }
    gateway.run(hub, inboxes, ends, drain).await.map_err(|error| anyhow!(error))?;
    log.close().await;
    let _ = tokio::task::spawn_blocking(move || telemetry.shutdown(FLUSH)).await;
    Ok(())
}

async fn open_database(database: &Database) -> Result<Arc<dyn ConversationStore>, Failure> {
    let opened = match &database.postgres {
        Some(config) => PostgresStore::connect(config.clone()).map(|store| Arc::new(store) as Arc<_>),
        None => connect(&database.url).await,
    };
    opened.map_err(|error| match error {
        starling_conversation_store::Error::Address(_) => BadConfig(error.to_string()).into(),
        error => Failure::about("database_url", error),
    })
}

/// Waits until the database answers, and brings its schema up to date.
async fn wait_for_database(store: &dyn ConversationStore, database: &Database) -> Result<(), Failure> {
    let limit = database.start_timeout;
    let began = Instant::now();
    let mut pause = Duration::from_millis(100);
    loop {
        let ready = match store.check().await {
            Ok(()) if database.migrate => store.migrate().await.map(|()| true),
            Ok(()) => store.is_migrated().await,
            Err(error) => Err(error),
        };
        match ready {
            Ok(true) => return Ok(()),
            Ok(false) => {
                return Err(
                    anyhow!("database_url: the schema is not up to date; run `starling migrate`").into()
                );
            }
            Err(error) if error.is_transient() && began.elapsed() < limit => {
                tracing::warn!(%error, "waiting for the database");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            Err(error) if error.is_transient() => {
                let waited = limit.as_secs();
                let message = format!("{error} (after {waited} s; start_timeout_seconds)");
                return Err(Failure::about("database_url", message));
            }
            Err(error) => return Err(Failure::about("database_url", error)),
        }
    }
}

#[cfg(feature = "sabotage")]
fn sabotaged(
    log: Arc<dyn ConversationStore>,
    shards: Arc<dyn Shards>,
) -> Result<(Arc<dyn ConversationStore>, Arc<dyn Shards>), Failure> {
    use crate::sabotage::{BadLog, BadShards, Sabotage};
    Ok(match Sabotage::wanted()? {
        None => (log, shards),
        Some(sabotage @ (Sabotage::EarlyOk | Sabotage::RetryTwice)) => {
            (BadLog::before(log, sabotage), shards)
        }
        Some(sabotage) => (log, BadShards::before(shards, sabotage)),
    })
}

type Shared = (Arc<dyn SessionStore>, Arc<dyn Fanout>);

/// Redis, or what stands in for it on a single node. Redis may be away at the start: the node serves from the log, once it knows that
/// no other node does better, and is whole when Redis is back. Of a wrong version it must not be.
async fn open_redis(
    address: Option<RedisAddress>,
    prefix: &str,
    node: &str,
    topics: starling_fanout::TopicSettings,
) -> Result<Shared, Failure> {
    let Some(address) = address else {
        return Ok((Arc::new(MemoryStore::new()), MemoryFanout::alone(node, topics)));
    };
    let bad = |error: &dyn std::fmt::Display| Failure::from(BadConfig(error.to_string()));
    let config = RedisConfig { prefix: format!("{prefix}:"), ..RedisConfig::new(address.clone()) };
    let sessions = RedisStore::connect(config).await.map_err(|error| bad(&error))?;
    let mut config = FanoutConfig::new(address, node);
    config.topics = topics;
    config.prefix = prefix.to_owned();
    let fanout = RedisFanout::connect(config).map_err(|error| bad(&error))?;
    match sessions.check().await {
        Ok(()) => match fanout.check().await {
            Err(error @ (starling_fanout::Error::Refused(_) | starling_fanout::Error::Unsupported(_))) => {
                return Err(anyhow!("redis_url: {error}").into());
            }
            Err(error) => tracing::debug!(%error, "the link to Redis can't be tried yet"),
            Ok(()) => {}
        },
        Err(starling_session_store::Error::Unavailable(error)) => {
            tracing::warn!(%error, "redis_url: Redis does not answer; the node serves from the database until it does");
        }
        Err(error) => return Err(Failure::about("redis_url", error)),
    }
    Ok((Arc::new(sessions), Arc::new(fanout)))
}

fn runtime() -> Result<Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .context("the runtime can't be started")?;
    Ok(runtime)
}

/// One provider of cryptography for everything that speaks TLS.
fn use_crypto() {
    // An error means that one is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

fn raise_file_limit() {
    if let Ok((_, hard)) = rlimit::Resource::NOFILE.get()
        && let Err(error) = rlimit::Resource::NOFILE.set(hard.min(FILES_MAX), hard)
    {
        warn(&format!("warning: the limit of open files could not be raised: {error}"));
    }
}
