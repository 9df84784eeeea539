//! The checked configuration of all parts: whatever can be wrong with it is found here, before a port is bound.

use std::net::SocketAddr;

use starling_gateway::GatewayConfig;
use starling_hub::HubConfig;
use starling_job_service::JobSettings;
use starling_rabbitmq_bridge::Plan;
use starling_settings::BadConfig;
use starling_telemetry::{TelemetryConfig, check_dsn, check_filter};
use starling_webhook_service::WebhookSettings;

use crate::config::Config;
use crate::database::{Database, log_reads_at_once};
use crate::failure::Failure;
use crate::keys::Keys;
use crate::own_secret::OwnSecret;
use crate::redis::Redis;
use crate::roles::Roles;

/// The program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The checked configuration of all parts.
pub struct Setup {
    /// The edge.
    pub gateway: GatewayConfig,
    /// The meaning of commands.
    pub hub: HubConfig,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// Address of the metrics port.
    pub metrics_listen: SocketAddr,
    /// Where Redis is.
    pub redis: Redis,
    /// Durable jobs.
    pub jobs: JobSettings,
    /// Webhooks and hooks.
    pub webhooks: WebhookSettings,
    /// The bridges to RabbitMQ; `None`: there is no RabbitMQ.
    pub rabbitmq: Option<Plan>,
    /// Where the log is.
    pub database: Database,
    /// How tokens are checked; `None`: this node takes no clients.
    pub keys: Option<Keys>,
    /// What the node does.
    pub roles: Roles,
    /// Threads that own sockets.
    pub shards: usize,
}

impl Setup {
    /// Checks everything that can be checked without opening or writing anything.
    pub fn check(config: &Config) -> Result<(), BadConfig> {
        config.gateway.tls().map_err(|error| BadConfig(error.to_string()))?;
        check_filter(&config.telemetry.log).map_err(|error| BadConfig(error.to_string()))?;
        if let Some(dsn) = sentry_dsn(config)? {
            check_dsn(&dsn).map_err(|error| BadConfig(error.to_string()))?;
        }
        Database::read(config)?;
        Redis::read(config)?;
        config.rabbitmq.plan(config.node.roles.worker)?;
        if config.node.roles.gateway
            && let OwnSecret::NotNeeded = OwnSecret::of(config)?
        {
            Keys::read(config, None)?;
        }
        Ok(())
    }

    /// Reads everything. Makes and keeps a secret if none is configured and one node serves alone.
    pub fn read(config: &Config) -> Result<Setup, Failure> {
        Setup::check(config)?;
        let keys = if config.node.roles.gateway {
            Some(Keys::read(config, OwnSecret::of(config)?.read_or_make()?)?)
        } else {
            None
        };
        let database = Database::read(config)?;
        let node = config.node.name.clone().unwrap_or_else(random_name);
        let shards = match config.node.shards {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            shards => shards,
        };
        let telemetry = &config.telemetry;
        Ok(Setup {
            gateway: config.gateway.clone(),
            hub: HubConfig {
                node: node.clone(),
                run: HubConfig::new_run(),
                roles: config.node.roles.names().into_iter().map(str::to_owned).collect(),
                version: VERSION.to_owned(),
                heartbeat: config.gateway.heartbeat,
                reads_at_once: database.reads_at_once(),
                log_reads_at_once: log_reads_at_once(config),
                ..config.hub.clone()
            },
            telemetry: TelemetryConfig {
                log_format: telemetry.log_format,
                filter: telemetry.log.clone(),
                otlp_endpoint: telemetry.otlp_endpoint.as_ref().map(|url| url.expose().to_owned()),
                sentry_dsn: sentry_dsn(config)?,
                node,
                version: VERSION.to_owned(),
            },
            metrics_listen: config.node.metrics_listen,
            redis: Redis::read(config)?,
            jobs: config.jobs.clone(),
            webhooks: config.webhooks.clone(),
            rabbitmq: config.rabbitmq.plan(config.node.roles.worker)?,
            database,
            keys,
            roles: config.node.roles,
            shards,
        })
    }
}

/// The address for error reports, which is a secret because it holds a key.
fn sentry_dsn(config: &Config) -> Result<Option<String>, BadConfig> {
    let dsn = config.telemetry.sentry_dsn.as_ref().map(|dsn| String::from_utf8(dsn.expose().to_vec()));
    dsn.transpose().map_err(|_| BadConfig("sentry_dsn: is not UTF-8".into()))
}

/// A name for a node that was given none: the host's, and a random suffix.
fn random_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(60).collect();
    let host = if host.is_empty() { "starling" } else { &host };
    format!("{host}-{:06x}", rand::random::<u32>() & 0xff_ffff)
}
