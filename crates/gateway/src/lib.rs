//! The edge of a node: listens, owns sockets and their queues in shards, HTTP, drain, the console page.
//!
//! The gateway knows no meaning: what a command does, the hub decides. [`Gateway::bind`] opens the port before any work begins;
//! [`Gateway::run`] serves until it is told to drain.

mod addresses;
mod admission;
mod config;
mod echo;
#[doc(hidden)]
pub mod fuzzing;
mod gateway;
mod host;
mod http;
mod listener;
mod metrics;
mod origin;
mod pages;
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
pub use gateway::{Error, Gateway};
pub use origin::{NoOrigin, OriginPattern, Origins};
pub use proxies::{NoNetwork, Proxies};
pub use shard::{Inbox, Inboxes};
pub use tls::Certificate;
