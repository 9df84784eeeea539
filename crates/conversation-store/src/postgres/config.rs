use std::fmt;

use starling_database::postgres::{PoolConfig, check_url};

use crate::Error;

/// Settings of a [`PostgresStore`](super::PostgresStore).
#[derive(Clone)]
pub struct PostgresConfig {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with libpq's `sslmode` (`disable`, `prefer`, `require`,
    /// `verify-ca`, `verify-full`) and `sslrootcert`.
    pub url: String,
    /// The URL of a read replica, for history and lists that need not be fresh.
    pub read_url: Option<String>,
    /// The most connections to the primary, and as many to the replica.
    pub pool_size_max: usize,
    /// The most batches of messages under way at once. Of the connections to the primary, that many plus one are reserved for messages, but
    /// no more than half.
    pub appends_at_once: usize,
    /// How each pool connects, and how long it waits.
    pub pool: PoolConfig,
}

impl PostgresConfig {
    /// Returns the default settings for the database at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            read_url: None,
            pool_size_max: 50,
            appends_at_once: 2,
            pool: PoolConfig::default(),
        }
    }

    /// Returns the number of connections to the primary that are reserved for messages: one for each batch that may be under way, and one
    /// to open while another is being closed. There is at least one, so with a pool of one there are two connections in all.
    pub fn append_pool_size(&self) -> usize {
        self.appends_at_once.saturating_add(1).min(self.pool_size_max / 2).max(1)
    }

    /// Checks the URLs and the files that they name. Connects to nothing.
    ///
    /// # Errors
    /// [`Error::Address`] if one can't be used.
    pub fn check(&self) -> Result<(), Error> {
        std::iter::once(&self.url)
            .chain(&self.read_url)
            .try_for_each(|url| check_url(url, self.pool.ca_file.as_deref()))
    }
}

/// Omits the URLs, which may contain passwords.
impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig").field("pool_size_max", &self.pool_size_max).finish_non_exhaustive()
    }
}
