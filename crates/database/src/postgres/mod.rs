//! PostgreSQL: pools of connections to a server, and transactions that cost one round trip.
//!
//! It works through a PgBouncer in transaction mode, since it relies neither on the state of a session nor, by default, on named prepared
//! statements.

mod config;
mod connection;
mod dsn;
mod error;
mod hosts;
mod outage;
mod pool;
mod row;
mod schema;
mod server;
mod statement;
mod tls;
mod tls_stream;
mod trust;

pub use config::PoolConfig;
pub use dsn::check_url;
pub use error::{Cause, Failed};
pub use pool::Pool;
pub use row::{column, to_ms, to_time};
pub use schema::{check, is_current, migrate};
pub use statement::{Parameter, Statement};
