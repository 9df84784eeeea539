//! What an operator can set about the gateway.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use crate::addresses::AddressLimits;
pub use crate::requests::RequestLimits;

use crate::origin::Origins;
use crate::proxies::Proxies;

/// What an operator can set about the gateway.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// The public port.
    pub listen: SocketAddr,
    /// How often a peer is pinged; twice as long silent, it is gone.
    pub heartbeat: Duration,
    /// How long the first command may take.
    pub connect_timeout: Duration,
    /// Which pages of browsers may connect, and call over HTTP.
    pub origins: Origins,
    /// Limits of one address.
    pub address_limits: AddressLimits,
    /// Limits of HTTP requests.
    pub request_limits: RequestLimits,
    /// Load balancers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Proxies,
    /// Commands per second on one connection; 0: no limit.
    pub commands_per_second: u32,
    /// Bytes per second on one connection; 0: no limit.
    pub bytes_per_second: u32,
    /// Beyond this, what can be had again is dropped from a socket's queue, bytes.
    pub queue_bytes: usize,
    /// Whether permessage-deflate is negotiated with clients that offer it.
    pub deflate: bool,
    /// TLS on the public port.
    pub tls: Option<TlsConfig>,
    /// How long the node still takes new connections after a drain began, so that load balancers notice.
    pub drain_notice: Duration,
    /// How long a drain may take, all in all.
    pub drain: Duration,
    /// How many clients a draining node sends to each other node a second.
    pub drain_clients_per_second: u32,
    /// How old a connection may get before its client is asked to move to another node; zero: as old as it likes.
    pub connection_max_age: Duration,
    /// How far above the mean of all nodes a node's sessions may be before it asks some clients to move, percent; 0: it never asks.
    pub shed_above_percent: u32,
    /// The same in sessions. Both must be exceeded.
    pub shed_above_sessions: u64,
    /// Handshakes a second that the node takes, of all clients together, and three times of what sessions may begin; 0: no limit.
    pub handshakes_per_second: u32,
    /// How long a client's message may be, bytes. The protocol's own limit, except for the echo.
    pub message_bytes_max: u32,
}

/// TLS on the public port.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}
