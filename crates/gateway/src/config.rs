//! The settings of the gateway.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use starling_settings::{
    COUNT_MAX, DAY_SECONDS, address, bytes, count, parsed, path, seconds, settings, switch,
};
use starling_wire::protocol::CLIENT_FRAME_BYTES_MAX;

pub use crate::addresses::AddressLimits;
pub use crate::requests::RequestLimits;

use crate::error::Error;
use crate::origin::Origins;
use crate::proxies::Proxies;

/// Where the public port is by default.
const LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8080));

settings! {
    /// What an operator can set about the gateway.
    pub struct GatewayConfig {
        /// Address of the public port: WebSocket, HTTP and the console page. By default only this machine can reach it.
        setting listen: SocketAddr = { Node "listen" address(LISTEN) }
        /// PEM file with the certificate chain, for TLS on the public port. TLS at the load balancer costs this node less.
        setting tls_certificate: Option<PathBuf> = { Node "tls_certificate_file" path() }
        /// PEM file with the private key of `tls_certificate_file`.
        setting tls_key: Option<PathBuf> = { Node "tls_key_file" path() }
        /// Origins of pages that may connect and call over HTTP (CORS), comma-separated: `https://app.example`,
        /// `https://*.app.example` (all sub-domains), `capacitor://localhost`, `null`; or `*`. Without it: pages of the same host.
        setting origins: Origins = { Node "allowed_origins" parsed("LIST", Origins::parse) }
        /// Addresses (`10.0.0.1`) and networks (`10.0.0.0/8`, `fd00::/8`) of load balancers, comma-separated. The node trusts their
        /// `X-Forwarded-For` and `X-Forwarded-Proto`, so that limits per address apply to the clients behind them.
        setting trusted_proxies: Proxies = { Node "trusted_proxies" parsed("LIST", Proxies::parse) }
        /// Whether compression is negotiated with clients that offer it. It costs processor time; no memory is kept between
        /// messages.
        setting deflate: bool = { Node "permessage_deflate" switch(false) }
        /// How often the node pings its clients. A client that has been silent for twice as long is disconnected.
        setting heartbeat: Duration = { Delivery "heartbeat_seconds" seconds(25, 1..=3_600) }
        /// How long after the upgrade a client may take to send its first command.
        setting connect_timeout: Duration = { Delivery "connect_timeout_seconds" seconds(10, 1..=3_600) }
        /// Bytes that may wait to be sent to one socket. A slower reader is served from the log instead.
        setting queue_bytes: usize = { Delivery "queue_bytes" bytes(262_144, 1..=1 << 30) }
        /// How long a drain may take.
        setting drain: Duration = { Delivery "drain_seconds" seconds(30, 0..=DAY_SECONDS) }
        /// How long a draining node still accepts connections, so that load balancers notice. At most a quarter of the drain.
        setting drain_notice: Duration = { Delivery "drain_notice_seconds" seconds(3, 0..=DAY_SECONDS) }
        /// Clients per second that a draining node sends to each of the other nodes, as far as the time of the drain allows.
        setting drain_clients_per_second: u32 = { Delivery "drain_clients_per_second" count(500, 1..=1_000_000) }
        /// Age at which a connection's client is asked to move to another node, up to a fifth earlier at random, and again each
        /// time it is as old once more. The node never closes the connection for that. 0 switches this off.
        setting connection_max_age: Duration = { Delivery "connection_max_age_seconds" seconds(0, 0..=30 * DAY_SECONDS) }
        /// How many percent above the mean of all nodes a node's sessions may be before it asks clients to move. Clients that stay
        /// are never closed for that. 0 switches this off.
        setting shed_above_percent: u32 = { Delivery "shed_above_percent" count(50, 0..=10_000) }
        /// How many sessions above the mean a node must also be before it asks clients to move.
        setting shed_above_sessions: u64 = { Delivery "shed_above_sessions" count(300, 0..=COUNT_MAX) }
        /// How often a node compares its sessions with the other nodes'. After a node came or went it waits for two of these times,
        /// and after asking did not help for at least four. Clients that are asked move within 10 seconds.
        setting shed_every: Duration = { Delivery "shed_every_seconds" seconds(15, 1..=3_600) }
        /// Commands per second on one connection.
        setting commands_per_second: u32 = { Limits "limit_connection_commands_per_second" count(50, 0..=COUNT_MAX) }
        /// Bytes per second from one connection. Beyond that the node reads from it more slowly.
        setting bytes_per_second: u32 = { Limits "limit_connection_bytes_per_second" bytes(1_048_576, 0..=COUNT_MAX) }
        /// Limits of HTTP requests.
        part request_limits: RequestLimits = {}
        /// Limits of one address.
        part address_limits: AddressLimits = {}
        /// How long a client may wait for its session while more come than the node can serve; a new client half as long. The
        /// node measures how many it serves per second, and refuses those who would wait longer, with a time to retry. 0: nobody.
        setting connect_wait_max: Duration = { Limits "limit_connect_wait_seconds" seconds(5, 0..=60) }
        /// Handshakes per second on one node, of all clients together, however fast the node is. At most a third as many
        /// sessions may start per second; resumes go first. Clients over the limit are refused with a time to retry. 0: no limit.
        setting handshakes_per_second: u32 = { Limits "limit_handshakes_per_second" count(0, 0..=COUNT_MAX) }
        /// Bytes of a client's message at most. The protocol's own limit, except for the echo.
        plain message_bytes_max: u32 = { CLIENT_FRAME_BYTES_MAX as u32 }
    }
}

impl GatewayConfig {
    /// The files for TLS on the public port; `None`: it speaks no TLS.
    ///
    /// # Errors
    /// [`Error::Tls`] when only one of the two is set.
    pub fn tls(&self) -> Result<Option<TlsConfig>, Error> {
        match (&self.tls_certificate, &self.tls_key) {
            (Some(certificate), Some(key)) => {
                Ok(Some(TlsConfig { certificate: certificate.clone(), key: key.clone() }))
            }
            (None, None) => Ok(None),
            (Some(_), None) => Err(Error::Tls("tls_key_file: is needed with tls_certificate_file".into())),
            (None, Some(_)) => Err(Error::Tls("tls_certificate_file: is needed with tls_key_file".into())),
        }
    }
}

/// The files for TLS on the public port.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}
