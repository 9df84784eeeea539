use std::path::PathBuf;
use std::time::Duration;

/// When named prepared statements are used. They save the server most of a small transaction's work, and do not work with a PgBouncer in
/// transaction mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PreparedStatements {
    /// On connections that lead to the server itself. There, the settings of transactions are made once per connection, too.
    #[default]
    Auto,
    /// On all connections.
    Always,
    /// Never. Nothing is left on a connection.
    Never,
}

/// Settings of a [`Pool`](super::Pool).
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// The time to open a connection to one address of a host.
    pub connect_timeout: Duration,
    /// The time that a call may wait for a free connection.
    pub wait_timeout: Duration,
    /// The time to check a connection before it is used again.
    pub recycle_timeout: Duration,
    /// The time of a round trip. Then it is cancelled and its connection is closed.
    pub statement_timeout: Duration,
    /// A connection that was unused for this long is closed.
    pub idle_timeout: Duration,
    /// PEM file of the authorities for `verify-ca` and `verify-full`, unless the URL has an `sslrootcert`. Without either, the authorities of
    /// the system and of browsers apply.
    pub ca_file: Option<PathBuf>,
    /// When statements and settings stay on a connection.
    pub prepared_statements: PreparedStatements,
    /// Settings of the server for all statements of the pool, as names and values.
    pub settings: &'static [(&'static str, &'static str)],
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
            prepared_statements: PreparedStatements::Auto,
            settings: &[],
        }
    }
}
