//! The gateway: put together, started, and stopped in order.

use std::net::SocketAddr;
use std::sync::Arc;

use starling_hub::{Hub, essential};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::access::Access;
use crate::admission::{Admission, AdmissionLimits};
use crate::config::GatewayConfig;
use crate::drain::Drain;
use crate::error::Error;
use crate::handshake::{self, ConnectionService};
use crate::http::service::HttpService;
use crate::http::{self, ApiState};
use crate::lifecycle::Lifecycle;
use crate::probe::BridgesNow;
use crate::requests::Requests;
use crate::shard::{self, Inbox, Inboxes, Service, ShardSettings};
use crate::tls::Certificate;
use crate::upgrade::Gate;
use crate::{listener, rebalance, tls};

/// Where the shards run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardThreads {
    /// Each shard has a thread of its own.
    Own,
    /// Shards are tasks of the [`LocalSet`](tokio::task::LocalSet) in which the gateway runs. With a single processor, a thread of
    /// their own would only add switches between the two.
    Shared,
}

/// A gateway whose port is open.
pub struct Gateway {
    config: Arc<GatewayConfig>,
    listener: TcpListener,
    certificate: Option<Arc<Certificate>>,
    bridges: Option<BridgesNow>,
}

impl Gateway {
    /// Opens the public port. No connection is served yet.
    pub fn bind(config: GatewayConfig) -> Result<Gateway, Error> {
        let certificate = config.tls()?.as_ref().map(Certificate::read).transpose()?;
        let address = config.listen;
        let listener = listener::bind(address).map_err(|source| Error::Listen { address, source })?;
        Ok(Gateway { config: config.into(), listener, certificate, bridges: None })
    }

    /// The address of the public port: where port 0 is configured, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap_or(self.config.listen)
    }

    /// The certificate of the public port, so that it can be replaced; `None` without TLS.
    pub fn certificate(&self) -> Option<Arc<Certificate>> {
        self.certificate.clone()
    }

    /// Shows the node's bridges to RabbitMQ in its health.
    #[must_use]
    pub fn with_bridges(self, bridges: Option<BridgesNow>) -> Gateway {
        Gateway { bridges, ..self }
    }

    /// Serves until `drain` says so, then drains and returns.
    ///
    /// # Panics
    ///
    /// If `threads` is [`ShardThreads::Shared`] and the caller is not in a [`LocalSet`](tokio::task::LocalSet).
    pub async fn run(
        self,
        hub: Arc<Hub>,
        inboxes: Arc<Inboxes>,
        ends: Vec<Inbox>,
        threads: ShardThreads,
        mut drain: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        let Gateway { config, listener, certificate, bridges } = self;
        let (gate, service) = (gate(&config), Service::Hub(hub.clone()));
        let (access, lifecycle) = (gate.access.clone(), gate.lifecycle.clone());
        let requests = Arc::new(Requests::new(config.request_limits));
        let router = http::router(ApiState { hub: hub.clone(), lifecycle: lifecycle.clone(), bridges });
        let http = HttpService::new(router, requests.clone(), access.clone(), hub.clone());
        let settings = ShardSettings::new(config.clone(), &service, gate.admission.clone());
        let connections =
            Arc::new(ConnectionService { gate, tls: certificate.map(tls::acceptor), http: Some(http) });
        start_shards(&service, &settings, &connections, ends, threads).await?;
        let (stop, stopped) = oneshot::channel::<()>();
        // Dropping the sender is the signal.
        let stopped = async move { _ = stopped.await };
        let accepting = listener::accept(listener, inboxes.clone(), access, stopped);
        let runtime = &Handle::current();
        let accepting = essential::spawn(runtime, "accept", accepting);
        let rebalancing = rebalance::run(config.clone(), hub.clone(), inboxes.clone());
        let rebalancing = essential::spawn(runtime, "rebalance", rebalancing);
        tokio::select! {
            // An error means that the sender is gone, which is a signal to stop, too.
            _ = drain.wait_for(|drain| *drain) => {}
            () = hub.drain_wanted() => tracing::info!("an operator has asked this node to drain"),
        }
        rebalancing.abort();
        // A signal may come after an operator's call, as Kubernetes sends one after a hook. It does not cut that drain short.
        let signals = if *drain.borrow() { "again" } else { "twice" };
        Drain { config, lifecycle, requests, hub, inboxes, signals }.run().await;
        drop(stop);
        let _ = accepting.await;
        Ok(())
    }

    /// Sends every message back, for ever, to test listener, shards and codec against conformance suites.
    pub async fn run_echo(self) -> Result<(), Error> {
        let Gateway { config, listener, certificate, .. } = self;
        let (gate, service) = (gate(&config), Service::Echo);
        let access = gate.access.clone();
        let settings = ShardSettings::new(config, &service, gate.admission.clone());
        let connections =
            Arc::new(ConnectionService { gate, tls: certificate.map(tls::acceptor), http: None });
        let (inboxes, ends) = Inboxes::new(1);
        start_shards(&service, &settings, &connections, ends, ShardThreads::Own).await?;
        listener::accept(listener, inboxes, access, std::future::pending()).await;
        Ok(())
    }
}

/// Makes the checks that every handshake must pass.
pub(crate) fn gate(config: &GatewayConfig) -> Gate {
    let limits = AdmissionLimits {
        handshakes_per_second: config.handshakes_per_second,
        wait_max: config.connect_wait_max,
    };
    Gate {
        access: Arc::new(Access::new(config)),
        admission: Arc::new(Admission::new(limits)),
        lifecycle: Arc::new(Lifecycle::new()),
    }
}

/// Starts the shards, and waits until all of them can serve: the share of connections of one that can't would be lost.
async fn start_shards(
    service: &Service,
    settings: &ShardSettings,
    connections: &Arc<ConnectionService>,
    ends: Vec<Inbox>,
    threads: ShardThreads,
) -> Result<(), Error> {
    let mut starts = Vec::with_capacity(ends.len());
    for (index, inbox) in ends.into_iter().enumerate() {
        let (service, settings, connections) = (service.clone(), settings.clone(), connections.clone());
        let index = u16::try_from(index).unwrap_or(u16::MAX);
        let serve = move |shard, accepted| handshake::serve(shard, connections.clone(), accepted);
        let shard = move || shard::run(index, inbox, service, settings, serve);
        match threads {
            ShardThreads::Shared => _ = tokio::task::spawn_local(shard()),
            ShardThreads::Own => {
                let (started, start) = oneshot::channel();
                starts.push(start);
                std::thread::Builder::new()
                    .name(format!("shard-{index}"))
                    .spawn(move || shard::run_thread(shard(), started))
                    .map_err(Error::Thread)?;
            }
        }
    }
    for start in starts {
        // A shard that ends without a word has panicked, which ends the node.
        start.await.unwrap_or(Ok(())).map_err(Error::Runtime)?;
    }
    Ok(())
}
