//! A connection on its way from the listener to a shard.

use std::net::IpAddr;

use tokio::time::Instant;

use crate::addresses::AddressGuard;

/// A connection on its way from the listener to a shard.
pub(crate) struct Accepted {
    pub stream: std::net::TcpStream,
    /// The address of the other end: the client's, or that of a load balancer.
    pub peer: IpAddr,
    /// Counts the connection against its address.
    pub guard: Option<AddressGuard>,
    /// When it was accepted, so that its shard knows how long it has waited for its first turn.
    pub at: Instant,
}
