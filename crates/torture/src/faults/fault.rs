//! The faults, and what Starling promises under each.

use std::time::Duration;

use clap::ValueEnum;

/// A time that exceeds the promise by more than this factor is a failure: a busy machine is several times slower, and what is broken
/// takes forever.
const GENEROSITY: u32 = 10;
/// Times below this are never a failure.
const ALWAYS_ALLOWED: Duration = Duration::from_secs(20);

/// A fault. Single sockets are cut at random in addition, all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Fault {
    /// Only the random cuts of sockets
    None,
    /// kill -9 of a node; another one takes its place
    KillNode,
    /// A new node comes and an old one gets SIGTERM, until all have been replaced
    RollingDeploy,
    /// SIGTERM of a node, which is not replaced
    ScaleIn,
    /// All sockets of all clients are cut at once
    Storm,
    /// Redis hangs (SIGSTOP)
    RedisStop,
    /// Redis dies (SIGKILL) and comes back empty
    RedisKill,
    /// FLUSHALL
    RedisFlush,
    /// One node can't reach Redis: nothing gets through, and no connection is reset
    RedisPartition,
    /// The network to Redis has a latency of 50 to 300 ms, different for each node
    NetworkDelay,
    /// The connections of clients, and of nodes to Redis and PostgreSQL, are cut or stalled at random
    NetworkCut,
    /// PostgreSQL is stopped and started again
    PostgresStop,
    /// All connections to PostgreSQL stall for longer than a statement may take
    PostgresHang,
    /// All connections to PostgreSQL are cut, again and again
    PostgresKillBackends,
    /// Members of a busy conversation stop reading
    SlowReader,
    /// The clocks of nodes jump by minutes, in both directions
    ClockJump,
    /// The disk of PostgreSQL is full
    DiskFull,
    /// PostgreSQL's primary crashes, and its synchronous standby is promoted
    PostgresFailover,
    /// Two or three of the other faults at the same time, drawn from the seed
    Combination,
    /// The Redis master dies, and its replica takes over
    RedisFailover,
}

impl Fault {
    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Its description in one sentence.
    pub fn about(self) -> String {
        let value = self.to_possible_value();
        value.and_then(|value| value.get_help().map(ToString::to_string)).unwrap_or_default()
    }

    /// Whether it needs proxied links to Redis, which exist only for a single server.
    pub fn needs_links_to_redis(self) -> bool {
        use Fault::*;
        matches!(self, RedisPartition | NetworkDelay)
    }

    /// Whether it affects only Redis or the network to Redis.
    pub fn is_redis_fault(self) -> bool {
        use Fault::*;
        matches!(self, RedisStop | RedisKill | RedisFlush | RedisFailover | RedisPartition)
    }

    /// Whether nodes are asked to end.
    pub fn drains(self) -> bool {
        matches!(self, Fault::RollingDeploy | Fault::ScaleIn)
    }

    /// Whether it lasts for a while. The others are over at once.
    pub fn lasts(self) -> bool {
        use Fault::*;
        matches!(
            self,
            RedisStop
                | RedisKill
                | RedisPartition
                | NetworkDelay
                | NetworkCut
                | PostgresStop
                | PostgresHang
                | PostgresKillBackends
                | SlowReader
                | Combination
                | ClockJump
                | DiskFull
        )
    }

    /// The shortest duration that has an effect.
    pub fn lasts_at_least(self) -> Duration {
        // A statement may take five seconds, and so may the next one.
        if self == Fault::PostgresHang { Duration::from_secs(8) } else { Duration::ZERO }
    }

    /// The promised times during the fault and after it. A time beyond the promise is shown; one beyond [`Promise::limit`] is a failure.
    pub fn promise(self) -> Promise {
        use Fault::*;
        let seconds = Duration::from_secs;
        let (shown_within, recovered_within) = match self {
            // Faults of Redis delay messages for two seconds at most, and full speed is back after five.
            RedisStop | RedisKill | RedisFlush | RedisPartition => (Some(seconds(2)), seconds(5)),
            RedisFailover => (Some(seconds(2)), seconds(5)),
            // Slow readers do not harm the others.
            SlowReader => (Some(seconds(1)), seconds(5)),
            None | ClockJump | NetworkDelay => (Some(seconds(2)), seconds(5)),
            RollingDeploy | ScaleIn => (Some(seconds(2)), seconds(5)),
            KillNode | Storm | NetworkCut | Combination => (Option::None, seconds(10)),
            PostgresStop | PostgresHang | PostgresKillBackends | PostgresFailover | DiskFull => {
                (Option::None, seconds(10))
            }
        };
        let interruption = self.drains().then(|| Duration::from_millis(500));
        Promise { shown_within, recovered_within, interruption }
    }
}

/// The times that are promised under a fault.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// From the commit until all connected clients have received a message, while the fault lasts.
    pub shown_within: Option<Duration>,
    /// From the end of the fault to full speed.
    pub recovered_within: Duration,
    /// The longest time without a connection for a client that follows `draining`.
    pub interruption: Option<Duration>,
}

impl Promise {
    /// The time beyond which a promise of this time is broken, rather than missed on a busy machine.
    pub fn limit(promised: Duration) -> Duration {
        (promised * GENEROSITY).max(ALWAYS_ALLOWED)
    }
}

/// The Redis that the nodes use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RedisKind {
    /// One server
    Alone,
    /// Three masters with a replica each
    Cluster,
    /// A master and a replica under three sentinels
    Sentinel,
}

/// The PostgreSQL that the nodes use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseKind {
    /// One server.
    Alone,
    /// A primary and a synchronous standby.
    Pair,
    /// One server on a small disk.
    SmallDisk,
}

/// The servers that a fault needs. Faults with the same topology run one after the other on the same nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Redis.
    pub redis: RedisKind,
    /// PostgreSQL.
    pub database: DatabaseKind,
    /// Whether the clocks of the nodes can be changed.
    pub clocks: bool,
}

/// A fault and the servers that it is injected into.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The fault.
    pub fault: Fault,
    /// The servers.
    pub topology: Topology,
}

impl Case {
    /// The cases of a fault with this Redis. Without a choice there may be more than one, if the kind of Redis matters.
    ///
    /// # Errors
    /// The reason why there is none.
    pub fn of(fault: Fault, redis: Option<RedisKind>) -> Result<Vec<Self>, String> {
        let kinds = match (fault, redis) {
            (Fault::RedisFailover, None) => vec![RedisKind::Sentinel, RedisKind::Cluster],
            // The second one shares its topology with the failover of Redis, which comes next.
            (Fault::Combination, None) => vec![RedisKind::Alone, RedisKind::Sentinel],
            (Fault::RedisFailover, Some(RedisKind::Alone)) => {
                return Err("a Redis alone has nothing to fail over to".to_owned());
            }
            (
                Fault::RedisPartition | Fault::NetworkDelay | Fault::NetworkCut,
                Some(RedisKind::Cluster | RedisKind::Sentinel),
            ) => {
                return Err("needs links to Redis, and those of a Cluster or Sentinel can't be led through"
                    .to_owned());
            }
            (_, redis) => vec![redis.unwrap_or(RedisKind::Alone)],
        };
        let database = |redis| match fault {
            Fault::PostgresFailover => DatabaseKind::Pair,
            // One of the two includes failovers of PostgreSQL.
            Fault::Combination if redis == RedisKind::Alone => DatabaseKind::Pair,
            Fault::DiskFull => DatabaseKind::SmallDisk,
            _ => DatabaseKind::Alone,
        };
        let clocks = fault == Fault::ClockJump;
        let case = |redis| Self { fault, topology: Topology { redis, database: database(redis), clocks } };
        Ok(kinds.into_iter().map(case).collect())
    }

    /// The name of the fault, and the kind of Redis unless it is a single server.
    pub fn name(&self) -> String {
        match self.topology.redis {
            RedisKind::Alone => self.fault.name(),
            RedisKind::Cluster => format!("{} (cluster)", self.fault.name()),
            RedisKind::Sentinel => format!("{} (sentinel)", self.fault.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_case_or_says_why_not() {
        for fault in Fault::value_variants() {
            assert!(!Case::of(*fault, None).expect("a case where nothing was asked for").is_empty());
            assert!(!fault.about().is_empty() && !fault.name().contains(' '), "{fault:?}");
        }
        assert_eq!(Promise::limit(Duration::from_secs(1)), Duration::from_secs(20));
        assert_eq!(Promise::limit(Duration::from_secs(5)), Duration::from_secs(50));
        assert!(Case::of(Fault::RedisFailover, Some(RedisKind::Alone)).is_err());
        let names: Vec<String> =
            Case::of(Fault::RedisFailover, None).into_iter().flatten().map(|case| case.name()).collect();
        assert_eq!(names, ["redis-failover (sentinel)", "redis-failover (cluster)"]);
    }
}
