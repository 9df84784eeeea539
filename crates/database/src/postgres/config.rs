use std::path::PathBuf;
use std::time::Duration;

/// How a pool connects, and how long it waits.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// How long it may take to open a connection.
    pub connect_timeout: Duration,
    /// How long a call may wait for a connection to become free.
    pub wait_timeout: Duration,
    /// How long it may take to take a connection up again.
    pub recycle_timeout: Duration,
    /// How long a round trip may take; then it is cancelled, its connection closed.
    pub statement_timeout: Duration,
    /// A connection unused for that long is closed.
    pub idle_timeout: Duration,
    /// PEM file with the authorities that `verify-ca` and `verify-full` trust, unless the URL has a `sslrootcert`;
    /// without either, those that browsers trust.
    pub ca_file: Option<PathBuf>,
    /// Named prepared statements: saves some planning, but does not go with a PgBouncer in transaction mode.
    pub prepared_statements: bool,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            wait_timeout: Duration::from_secs(3),
            recycle_timeout: Duration::from_secs(1),
            statement_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            ca_file: None,
            prepared_statements: false,
        }
    }
}
