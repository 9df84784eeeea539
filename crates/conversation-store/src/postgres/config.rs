//! What an operator may set.

use std::fmt;

use starling_database::postgres::{PoolConfig, check_url};

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
    /// How many batches of messages may be under way at once. Of the connections to the primary, as many and one are for messages
    /// alone, but at most half.
    pub appends_at_once: usize,
    /// How each pool connects, and how long it waits.
    pub pool: PoolConfig,
}

impl PostgresConfig {
    /// The defaults, for the database at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            read_url: None,
            pool_size_max: 50,
            appends_at_once: 2,
            pool: PoolConfig::default(),
        }
    }

    /// Connections to the primary that are for messages alone: one for each batch that may be under way, and one to open while
    /// another is being closed. At least one; so a pool of one has two connections.
    pub fn append_pool_size(&self) -> usize {
        self.appends_at_once.saturating_add(1).min(self.pool_size_max / 2).max(1)
    }

    /// Reads the URLs and the files that they name, and connects to nothing.
    ///
    /// # Errors
    /// [`Error::Address`] if one can't be used.
    pub fn check(&self) -> Result<(), Error> {
        std::iter::once(&self.url)
            .chain(&self.read_url)
            .try_for_each(|url| check_url(url, self.pool.ca_file.as_deref()))
    }
}

/// Without the URLs, which hold passwords.
impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig").field("pool_size_max", &self.pool_size_max).finish_non_exhaustive()
    }
}
