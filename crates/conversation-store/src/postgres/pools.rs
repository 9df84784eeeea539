use metrics::Counter;
use starling_database::postgres::{Parameter, Pool, PoolConfig};
use tokio_postgres::Row;

use super::config::PostgresConfig;
use crate::{Error, PoolStatus};

/// One plan fits all batches, since every look-up has a fitting index. It is made once per connection: making it anew for each small batch,
/// as the planner would, costs more than the batch. Statistics from when the tables were empty must not make it one that reads a whole table.
const PLANNER: &[(&str, &str)] = &[
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];

/// The pools of connections to the servers.
pub(super) struct Pools {
    /// Only for messages, so that reads don't take the connections that sends need.
    pub(super) appends: Pool,
    pub(super) primary: Pool,
    /// For reads that need not be fresh.
    replica: Option<Pool>,
    /// Reads that the primary answered because the replica failed.
    replica_fallbacks: Counter,
}

impl Pools {
    pub(super) fn new(config: &PostgresConfig, replica_fallbacks: Counter) -> Result<Self, Error> {
        let appends_max = config.append_pool_size();
        let primary_max = config.pool_size_max.saturating_sub(appends_max);
        let primary = Pool::new("primary", &config.url, &config.pool, primary_max)?;
        let of_appends = PoolConfig { settings: PLANNER, ..config.pool.clone() };
        let appends = Pool::new("appends", &config.url, &of_appends, appends_max)?.beside(&primary);
        let replica = match &config.read_url {
            Some(url) => Some(Pool::new("replica", url, &config.pool, config.pool_size_max)?),
            None => None,
        };
        Ok(Self { appends, primary, replica, replica_fallbacks })
    }

    /// Returns rows from the replica, or from the primary if there is none or it fails.
    pub(super) async fn stale_rows(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Error> {
        if let Some(replica) = &self.replica {
            match replica.rows(sql, parameters).await {
                Ok(rows) => return Ok(rows),
                Err(error) => {
                    tracing::debug!(%error, "the read replica failed; asking the primary");
                    self.note_fallback();
                }
            }
        }
        self.primary.rows(sql, parameters).await
    }

    /// Counts a read that the primary answers because the replica failed.
    pub(super) fn note_fallback(&self) {
        self.replica_fallbacks.increment(1);
    }

    pub(super) fn status(&self) -> Vec<PoolStatus> {
        [&self.appends, &self.primary].into_iter().chain(&self.replica).map(Pool::status).collect()
    }
}
