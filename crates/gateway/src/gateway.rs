//! Putting the gateway together, and taking it down in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use starling_hub::{Hub, vital};
use starling_wire::websocket::deflate::DeflateConfig;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::addresses::Addresses;
use crate::admission::Admission;
use crate::config::GatewayConfig;
use crate::metrics::METRICS;
use crate::pages::Pages;
use crate::requests::Requests;
use crate::shard::{self, DrainPlan, Inbox, Inboxes, Item, PaceLimits, Service, ShardSettings};
use crate::tls::Certificate;
use crate::upgrade::Front;
use crate::{http, listener, rebalance, tls};

/// The path of the WebSocket.
const WEBSOCKET_PATH: &str = "/v1/ws";
/// The hard limit of a socket's outbox, in soft limits: an answer of the largest size fits.
const HARD_PER_SOFT: usize = 16;

/// How often a drain says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// How long taking leave of the other nodes may take at least, where the clients took all the time of the drain.
const LEAVE_MIN: Duration = Duration::from_secs(3);

/// Why the gateway can't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The public port can't be opened. The operator's to mend.
    #[error("listen: can't listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Certificate or key can't be used. The operator's to mend.
    #[error("{0}")]
    Tls(String),
    /// A shard's thread can't be started.
    #[error("a shard's thread can't be started: {0}")]
    Thread(std::io::Error),
    /// A shard's runtime can't be made: most often, no file descriptors are left.
    #[error("a shard can't be started: {0}")]
    Runtime(std::io::Error),
}

/// A gateway whose port is open.
pub struct Gateway {
    config: GatewayConfig,
    listener: TcpListener,
    certificate: Option<Arc<Certificate>>,
}

impl Gateway {
    /// Opens the public port. Nobody is served yet.
    pub fn bind(config: GatewayConfig) -> Result<Gateway, Error> {
        let certificate = config.tls()?.as_ref().map(Certificate::read).transpose()?;
        let address = config.listen;
        let listener = listener::bind(address).map_err(|source| Error::Listen { address, source })?;
        Ok(Gateway { config, listener, certificate })
    }

    /// The address of the public port: with port 0 configured, the one that was given.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap_or(self.config.listen)
    }

    /// The certificate of the public port, so that it can be replaced; `None` without TLS.
    pub fn certificate(&self) -> Option<Arc<Certificate>> {
        self.certificate.clone()
    }

    /// Serves until `drain` says so, then takes leave of all clients and returns.
    pub async fn run(
        self,
        hub: Arc<Hub>,
        inboxes: Arc<Inboxes>,
        ends: Vec<Inbox>,
        mut drain: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        let Gateway { config, listener, certificate } = self;
        let front = front(&config, certificate.map(tls::acceptor), Some(hub.clone()), Some(WEBSOCKET_PATH));
        let state = http::ApiState { hub: hub.clone(), front: front.clone() };
        let _ = front.router.set(http::router(state));
        start_shards(&config, &Service::Hub(hub.clone()), &front, ends).await?;
        let (stop, stopped) = oneshot::channel::<()>();
        // Dropping the sender is the signal.
        let stopped = async move { _ = stopped.await };
        let accepting = listener::accept(listener, inboxes.clone(), front.clone(), stopped);
        let accepting = tokio::spawn(vital("accept", accepting));
        let rebalancing = tokio::spawn(rebalance::run(config.clone(), hub.clone(), inboxes.clone()));
        tokio::select! {
            // An error means that the other end is gone, which is a wish to stop, too.
            _ = drain.wait_for(|drain| *drain) => {}
            () = hub.drain_wanted() => tracing::info!("an operator wants this node to drain"),
        }
        rebalancing.abort();
        take_leave(&config, &front, &hub, &inboxes).await;
        drop(stop);
        let _ = accepting.await;
        Ok(())
    }

    /// Gives every message back, for ever: to hold listener, shards and codec against conformance suites.
    pub async fn run_echo(self) -> Result<(), Error> {
        let Gateway { config, listener, certificate } = self;
        let front = front(&config, certificate.map(tls::acceptor), None, None);
        let (inboxes, ends) = Inboxes::new(1);
        start_shards(&config, &Service::Echo, &front, ends).await?;
        listener::accept(listener, inboxes, front, std::future::pending()).await;
        Ok(())
    }
}

pub(crate) fn front(
    config: &GatewayConfig,
    tls: Option<tokio_rustls::TlsAcceptor>,
    hub: Option<Arc<Hub>>,
    path: Option<&'static str>,
) -> Arc<Front> {
    Arc::new(Front {
        pages: Pages::new(config.origins.clone()),
        addresses: Addresses::new(config.address_limits),
        admission: Arc::new(Admission::new(config.handshakes_per_second)),
        proxies: config.trusted_proxies.clone(),
        tls,
        router: OnceLock::new(),
        closing: AtomicBool::new(false),
        draining: AtomicBool::new(false),
        requests: Requests::new(config.request_limits),
        asked: Arc::default(),
        started: Instant::now(),
        hub,
        path,
    })
}

/// Starts the shards, and waits until all of them can serve: the share of connections of one that can't would be lost.
async fn start_shards(
    config: &GatewayConfig,
    service: &Service,
    front: &Arc<Front>,
    ends: Vec<Inbox>,
) -> Result<(), Error> {
    let settings = shard_settings(config, service, front);
    let mut starts = Vec::with_capacity(ends.len());
    for (index, inbox) in ends.into_iter().enumerate() {
        let (started, start) = oneshot::channel();
        starts.push(start);
        let (service, settings, front) = (service.clone(), settings.clone(), front.clone());
        let index = u16::try_from(index).unwrap_or(u16::MAX);
        std::thread::Builder::new()
            .name(format!("shard-{index}"))
            .spawn(move || shard::run(index, inbox, service, settings, front, started))
            .map_err(Error::Thread)?;
    }
    for start in starts {
        // One that ends without a word has panicked, which ends the node.
        start.await.unwrap_or(Ok(())).map_err(Error::Runtime)?;
    }
    Ok(())
}

pub(crate) fn shard_settings(config: &GatewayConfig, service: &Service, front: &Front) -> ShardSettings {
    let seconds = |duration: Duration| u32::try_from(duration.as_secs().max(1)).unwrap_or(u32::MAX);
    ShardSettings {
        heartbeat_s: seconds(config.heartbeat),
        connect_timeout_s: seconds(config.connect_timeout),
        max_age_s: u32::try_from(config.connection_max_age.as_secs()).unwrap_or(u32::MAX),
        outbox_bytes_soft: config.queue_bytes,
        outbox_bytes_hard: config.queue_bytes.saturating_mul(HARD_PER_SOFT),
        message_bytes_max: config.message_bytes_max,
        deflate: config.deflate.then(|| deflate(service)),
        pace: PaceLimits {
            commands_per_second: config.commands_per_second,
            bytes_per_second: config.bytes_per_second,
        },
        admission: front.admission.clone(),
        asked: front.asked.clone(),
    }
}

/// The program keeps no memory for compression between messages. The echo carries over what clients offer to, so that all of the
/// codec is held against conformance suites.
fn deflate(service: &Service) -> DeflateConfig {
    let forgets = !matches!(service, Service::Echo);
    DeflateConfig {
        server_no_context_takeover: forgets,
        client_no_context_takeover: forgets,
        ..DeflateConfig::default()
    }
}

/// Drains: readiness falls at once, load balancers get a moment to notice, then clients are told when to move to other nodes, and the
/// rest is closed in random order before the time is over. Where there is no other node, everybody is closed at once.
pub(crate) async fn take_leave(config: &GatewayConfig, front: &Front, hub: &Arc<Hub>, inboxes: &Inboxes) {
    let began = Instant::now();
    front.draining.store(true, Ordering::Relaxed);
    METRICS.draining.set(1.0);
    hub.announce_drain().await;
    // A node that has never learnt which others there are can't take itself for the only one.
    let others = hub.elsewhere().unwrap_or(1);
    tracing::info!(
        clients = front.connections(),
        other_nodes = others,
        seconds_max = config.drain.as_secs(),
        "draining; signal again to stop now"
    );
    // Where nobody else could take the connections, no load balancer has anything to notice.
    let notice = if others > 0 { config.drain_notice.min(config.drain / 4) } else { Duration::ZERO };
    tokio::time::sleep(notice.saturating_sub(began.elapsed())).await;
    front.closing.store(true, Ordering::Relaxed);
    let left = config.drain.saturating_sub(began.elapsed());
    let plan = DrainPlan::new(left, front.connections(), others, config.drain_clients_per_second);
    for shard in 0..inboxes.count() {
        inboxes.send(shard, Item::Drain(plan)).await;
    }
    let mut told = Instant::now();
    while front.connections() + front.requests() > 0 && began.elapsed() < config.drain {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if told.elapsed() >= PROGRESS_EVERY {
            told = Instant::now();
            tracing::info!(
                clients = front.connections(),
                requests = front.requests(),
                seconds_left = config.drain.saturating_sub(began.elapsed()).as_secs(),
                "still draining; signal again to stop now"
            );
        }
    }
    hub.leave(config.drain.saturating_sub(began.elapsed()).max(LEAVE_MIN)).await;
    let seconds = (began.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    tracing::info!(clients_left = front.connections(), seconds, "drained");
}
