//! Connections to Redis: address, TLS, clients, scripts and health. The crate does not know what is kept in Redis.
//!
//! [`RedisAddress`] is parsed once, when the program starts. [`client`] makes a single client, for users that manage its connection by
//! themselves. A [`Pool`] has several clients that connect again by themselves. Its calls end in bounded time, and fail at once while Redis
//! is known to be away.

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
