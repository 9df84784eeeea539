//! PostgreSQL: pools of connections to a server, and transactions that cost one round trip.
//!
//! It works through a PgBouncer in transaction mode: statements and settings stay on a connection only where no pooler stands between.

mod config;
mod connection;
mod dsn;
mod error;
mod hosts;
mod low_water;
mod outage;
mod own_session;
mod pool;
mod pooler;
mod row;
mod schema;
mod server;
mod session;
mod ssl_mode;
mod statement;
mod tls;
mod tls_stream;

pub use config::{PoolConfig, PreparedStatements};
pub use dsn::check_url;
pub use error::{Cause, Failed};
pub use low_water::LowWater;
pub use own_session::OwnSession;
pub use pool::Pool;
pub use row::{column, to_ms, to_time};
pub use schema::{check, migrate, schema_status};
pub use statement::{Parameter, Statement};
