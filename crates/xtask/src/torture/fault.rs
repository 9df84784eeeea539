//! What can be broken on purpose.

use std::time::Duration;

use clap::ValueEnum;

/// By how many times a promised time may be missed before that is a failure: a busy machine is some times slower than promised, and
/// what is broken takes for ever.
const GENEROSITY: u32 = 10;
/// No time is too long that is shorter than this.
const ALWAYS_ALLOWED: Duration = Duration::from_secs(20);

/// What is broken, besides single sockets, which are cut at random all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Fault {
    /// Nothing but the cuts
    None,
    /// kill -9 of a node; another one takes its place
    KillNode,
    /// A new node comes and an old one gets SIGTERM, until all have been replaced
    RollingDeploy,
    /// SIGTERM of a node, and none in its place
    ScaleIn,
    /// All sockets of all clients cut at once
    Storm,
    /// Redis hangs (SIGSTOP)
    RedisStop,
    /// Redis dies (SIGKILL), and comes back empty
    RedisKill,
    /// FLUSHALL
    RedisFlush,
    /// One node can't reach Redis: nothing gets through, and nobody is told
    RedisPartition,
    /// The way to Redis takes 50 to 300 ms, another time for each node
    NetworkDelay,
    /// The links of clients, and of nodes to Redis and to PostgreSQL, cut or silent at random
    NetworkCut,
    /// PostgreSQL is stopped, and started again
    PostgresStop,
    /// No way to PostgreSQL lets anything through, for longer than a statement may take, and nobody is told
    PostgresHang,
    /// All connections to PostgreSQL are cut, again and again
    PostgresKillBackends,
    /// Members of a busy conversation stop reading
    SlowReader,
    /// The clocks of nodes jump, by minutes and in both directions
    ClockJump,
    /// The disk of PostgreSQL is full
    DiskFull,
    /// PostgreSQL's primary crashes, and its synchronous standby is promoted
    PostgresFailover,
    /// Two or three of the others at the same time, drawn from the seed
    Combination,
    /// The Redis master dies, and its replica takes over
    RedisFailover,
}

impl Fault {
    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What it is, in a sentence.
    pub fn about(self) -> String {
        let value = self.to_possible_value();
        value.and_then(|value| value.get_help().map(ToString::to_string)).unwrap_or_default()
    }

    /// Whether it needs links to Redis, which are there only to a server alone.
    pub fn needs_links_to_redis(self) -> bool {
        use Fault::*;
        matches!(self, RedisPartition | NetworkDelay)
    }

    /// Whether it is done to Redis or on the way there, and to nothing else.
    pub fn is_of_redis(self) -> bool {
        use Fault::*;
        matches!(self, RedisStop | RedisKill | RedisFlush | RedisFailover | RedisPartition)
    }

    /// Whether nodes are asked to end.
    pub fn drains(self) -> bool {
        matches!(self, Fault::RollingDeploy | Fault::ScaleIn)
    }

    /// Whether it goes on for a while, rather than being over at once.
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

    /// How long it goes on at least, to be more than a hiccup.
    pub fn lasts_at_least(self) -> Duration {
        // A statement may take five seconds, and so may the next one.
        if self == Fault::PostgresHang { Duration::from_secs(8) } else { Duration::ZERO }
    }

    /// What is promised while it lasts and after it. Missing it is shown, and is a failure beyond [`Promise::limit`].
    pub fn promise(self) -> Promise {
        use Fault::*;
        let seconds = Duration::from_secs;
        let (shown_within, recovered_within) = match self {
            // Nothing that happens to Redis is felt for longer than two seconds, and full speed is back after five.
            RedisStop | RedisKill | RedisFlush | RedisPartition => (Some(seconds(2)), seconds(5)),
            RedisFailover => (Some(seconds(2)), seconds(5)),
            // Who reads is not harmed by who does not.
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

/// What is promised under a fault, as times.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// From the commit until everybody connected was shown a message, while the fault lasts.
    pub shown_within: Option<Duration>,
    /// From the end of the fault to full speed.
    pub recovered_within: Duration,
    /// The longest time without any socket for a client that follows `draining`.
    pub interruption: Option<Duration>,
}

impl Promise {
    /// What is broken, rather than slow, where this time was promised.
    pub fn limit(promised: Duration) -> Duration {
        (promised * GENEROSITY).max(ALWAYS_ALLOWED)
    }
}

/// The Redis that the nodes work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RedisKind {
    /// One server
    Alone,
    /// Three masters with a replica each
    Cluster,
    /// A master and a replica under three sentinels
    Sentinel,
}

/// The PostgreSQL that the nodes work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseKind {
    /// One server.
    Alone,
    /// A primary and a synchronous standby.
    Pair,
    /// One server on a small disk.
    SmallDisk,
}

/// What has to stand for a fault. Faults that need the same run one after the other on the same nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Redis.
    pub redis: RedisKind,
    /// PostgreSQL.
    pub database: DatabaseKind,
    /// Whether the clocks of the nodes can be moved.
    pub clocks: bool,
}

/// A fault and where it is to happen.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What is broken.
    pub fault: Fault,
    /// Where.
    pub topology: Topology,
}

impl Case {
    /// The cases of a fault with the Redis that was asked for: more than one where nothing was asked for and it makes a
    /// difference.
    ///
    /// # Errors
    /// Says why there is none.
    pub fn of(fault: Fault, redis: Option<RedisKind>) -> Result<Vec<Self>, String> {
        let kinds = match (fault, redis) {
            (Fault::RedisFailover, None) => vec![RedisKind::Sentinel, RedisKind::Cluster],
            // The second one stands on what the failover of Redis needs, which comes next.
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
            // One of the two has something to fail over to.
            Fault::Combination if redis == RedisKind::Alone => DatabaseKind::Pair,
            Fault::DiskFull => DatabaseKind::SmallDisk,
            _ => DatabaseKind::Alone,
        };
        let clocks = fault == Fault::ClockJump;
        let case = |redis| Self { fault, topology: Topology { redis, database: database(redis), clocks } };
        Ok(kinds.into_iter().map(case).collect())
    }

    /// The fault's name, with the Redis where that is not the usual one.
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
