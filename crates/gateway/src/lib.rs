//! The edge of a node: the listener, shards that own sockets and their queues, the HTTP API, the drain, the console page.
//!
//! The gateway does not know what a command means: the hub decides that. [`Gateway::bind`] opens the port before any work begins;
//! [`Gateway::run`] serves until it is told to drain.

mod accepted;
mod access;
mod addresses;
mod admission;
mod config;
mod drain;
mod echo;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod gateway;
mod handshake;
mod host;
mod http;
mod lifecycle;
mod listener;
mod load;
mod metrics;
mod origin;
mod pages;
pub mod probe;
mod proxies;
mod rebalance;
mod requests;
mod shard;
#[cfg(test)]
mod simulation;
mod swept;
mod tls;
mod upgrade;

pub use config::{AddressLimits, GatewayConfig, RequestLimits, TlsConfig};
pub use error::Error;
pub use gateway::{Gateway, ShardThreads};
pub use listener::BACKLOG;
pub use origin::{NoOrigin, OriginPattern, Origins};
pub use proxies::{NoNetwork, Proxies};
pub use shard::{Inbox, Inboxes};
pub use tls::Certificate;
