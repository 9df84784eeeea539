//! A node that takes clients: the public port, its sockets, and the hub behind them.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::anyhow;
use starling_auth::{ClaimNames, TicketKey, Verifier};
use starling_conversation_store::ConversationStore;
use starling_gateway::probe::BridgesNow;
use starling_gateway::{Certificate, Gateway, GatewayConfig, Inboxes, ShardThreads};
use starling_hub::{Hub, HubConfig, HubParts, Shards};
use starling_job_service::JobService;
use starling_settings::BadConfig;
use starling_webhook_service::WebhookService;
use tokio::sync::watch;

use crate::failure::Failure;
use crate::keys::Keys;
use crate::process::Threads;
use crate::redis::Shared;
use crate::{Layers, first_link};

/// A node whose public port is open. Nobody is served yet.
pub struct GatewayNode {
    gateway: Gateway,
    address: SocketAddr,
    verifier: Verifier,
    tickets: TicketKey,
    claims: ClaimNames,
    own_secret: Option<Vec<u8>>,
    shards: usize,
    threads: Threads,
}

/// What a node does for its clients beside conversations.
pub struct Services {
    /// Durable jobs.
    pub jobs: Arc<JobService>,
    /// Hooks that ask first.
    pub webhooks: Arc<WebhookService>,
    /// Bridges to RabbitMQ; `None`: there are none.
    pub bridges: Option<BridgesNow>,
}

impl GatewayNode {
    /// Reads the keys and opens the public port.
    pub fn bind(
        config: GatewayConfig,
        keys: Keys,
        shards: usize,
        threads: Threads,
    ) -> Result<GatewayNode, Failure> {
        let claims = keys.options.claims.clone();
        let verifier = Verifier::new(keys.algorithm, keys.source, keys.options)
            .map_err(|error| BadConfig(error.to_string()))?;
        let gateway = Gateway::bind(config).map_err(|error| match error {
            starling_gateway::Error::Tls(message) => Failure::from(BadConfig(message)),
            error => anyhow!(error).into(),
        })?;
        let (address, tickets, own_secret) = (gateway.address(), keys.tickets, keys.own_secret);
        Ok(GatewayNode { gateway, address, verifier, tickets, claims, own_secret, shards, threads })
    }

    /// The certificate of the public port; `None`: it speaks no TLS.
    pub fn certificate(&self) -> Option<Arc<Certificate>> {
        self.gateway.certificate()
    }

    /// Serves until `drain` says to stop or an operator drains the node, then moves the clients to other nodes and leaves the cluster.
    pub async fn run(
        self,
        config: HubConfig,
        conversations: Arc<dyn ConversationStore>,
        services: Services,
        shared: Shared,
        drain: watch::Receiver<bool>,
        layers: &Layers,
    ) -> Result<(), Failure> {
        let (inboxes, ends) = Inboxes::new(self.shards);
        let shards: Arc<dyn Shards> = inboxes.clone();
        let (conversations, shards) = ((layers.conversations)(conversations), (layers.shards)(shards));
        let hub = Hub::new(HubParts {
            config,
            conversations,
            sessions: shared.sessions,
            fanout: shared.fanout,
            jobs: Some(services.jobs),
            webhooks: Some(services.webhooks),
            verifier: Arc::new(self.verifier),
            tickets: self.tickets,
            shards,
            shard_count: self.shards,
            runtime: tokio::runtime::Handle::current(),
        });
        hub.start().await.map_err(|error| anyhow!(error))?;
        tracing::info!(address = %self.address, name = %hub.node(), shards = self.shards, "serving");
        if let Some(secret) = &self.own_secret {
            let tls = self.gateway.certificate().is_some();
            first_link::show(secret, &self.claims, self.address, tls);
        }
        let threads = match self.threads {
            Threads::One => ShardThreads::Shared,
            Threads::Several => ShardThreads::Own,
        };
        self.gateway
            .with_bridges(services.bridges)
            .run(hub, inboxes, ends, threads, drain)
            .await
            .map_err(|error| anyhow!(error).into())
    }
}
