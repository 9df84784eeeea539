//! What an operator may set.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::dsn::Dsn;
use crate::Error;

/// How to use a PostgreSQL database.
#[derive(Clone)]
pub struct PostgresConfig {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with libpq's `sslmode` (`disable`, `prefer`, `require`,
    /// `verify-ca`, `verify-full`) and `sslrootcert`.
    pub url: String,
    /// A read replica, for history and lists that need not be fresh.
    pub read_url: Option<String>,
    /// Connections at most, to the primary and to the replica each.
    pub pool_size_max: usize,
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

impl PostgresConfig {
    /// The defaults, for the database at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            read_url: None,
            pool_size_max: 50,
            connect_timeout: Duration::from_secs(3),
            wait_timeout: Duration::from_secs(3),
            recycle_timeout: Duration::from_secs(1),
            statement_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            ca_file: None,
            prepared_statements: false,
        }
    }

    /// Reads the URLs and the files that they name, and connects to nothing.
    ///
    /// # Errors
    /// [`Error::Address`] if one can't be used.
    pub fn check(&self) -> Result<(), Error> {
        std::iter::once(&self.url)
            .chain(&self.read_url)
            .try_for_each(|url| Dsn::parse(url)?.tls(self.ca_file.as_deref()).map(drop))
    }
}

/// Without the URLs, which hold passwords.
impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig").field("pool_size_max", &self.pool_size_max).finish_non_exhaustive()
    }
}
