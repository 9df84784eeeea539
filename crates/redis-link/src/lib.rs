//! Connections to Redis: the address, TLS, clients, scripts, and whether the server answers. Nothing here knows what is kept in Redis.
//!
//! [`RedisAddress`] is read once, when the program starts. [`client`] makes one client, for whoever looks after its connection itself.
//! [`Pool`] is a few clients that connect again by themselves: every call ends in bounded time, and calls to a Redis that is known to
//! be away fail at once.

mod address;
pub mod client;
mod command;
mod error;
mod health;
mod pool;
mod script;
mod tls;
mod version;

pub use address::RedisAddress;
pub use command::Command;
pub use error::{Error, Fault};
pub use pool::{Connection, PIPELINE_MAX, Pool, PoolConfig, PoolMetrics, Resend};
pub use script::Script;
pub use version::{VERSION_MIN, check_version, version};
