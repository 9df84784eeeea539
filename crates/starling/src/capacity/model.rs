//! The arithmetic: from a demand to nodes, Redis, PostgreSQL and bandwidth.

use serde_json::{Value, json};

use super::constants::{self as c, Constant};

/// Seconds of a month of 30 days.
const MONTH: f64 = 30.0 * 86_400.0;
const GIB: f64 = 1_073_741_824.0;
/// Nodes that are planned beyond the needed ones: one may die, and one is replaced.
const SPARE_NODES: f64 = 1.0;
/// The least number of nodes of a service that must not stop.
const NODES_MIN: f64 = 3.0;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// Users, online or not.
    pub users: f64,
    /// The share of them that is online at the peak.
    pub online: f64,
    /// Number of conversations.
    pub conversations: f64,
    /// Members of one.
    pub members: f64,
    /// Messages a second at the peak.
    pub messages: f64,
    /// The mean rate of a day divided by that of the peak.
    pub mean_share: f64,
    /// Bytes of a message's text.
    pub message_bytes: f64,
    /// Months that messages are kept.
    pub months: f64,
}

/// What it takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Sessions at the peak.
    pub sessions: f64,
    /// Deliveries a second at the peak.
    pub deliveries: f64,
    /// Nodes, with the spare ones.
    pub nodes: f64,
    /// What decides how many: `processor`, `memory`, `sessions` or `redundancy`.
    pub nodes_by: &'static str,
    /// Nodes that hear a message, on average.
    pub nodes_hearing: f64,
    /// Shards of Redis.
    pub redis_shards: f64,
    /// Memory of all of them in GiB.
    pub redis_gib: f64,
    /// Bytes that Redis sends each second.
    pub redis_output: f64,
    /// Cores of PostgreSQL.
    pub postgres_cores: f64,
    /// GiB of disk that it needs more each month.
    pub disk_gib_month: f64,
    /// GiB of disk for all months.
    pub disk_gib: f64,
    /// Bytes of write-ahead log a second at the peak.
    pub wal: f64,
    /// Bits a second to the clients at the peak.
    pub bits: f64,
    /// GiB to the clients in a month.
    pub traffic_gib: f64,
    /// What is used of the most that one of each kind can do, the most used one first.
    pub engines: Vec<Engine>,
    /// How many times the largest measured demand this is.
    pub extrapolation: f64,
}

/// Something that can be used up.
#[derive(Clone, Debug, PartialEq)]
pub struct Engine {
    /// The name of what can be used up, such as "one PostgreSQL (disk)".
    pub name: &'static str,
    /// What is used of it; 1 is all.
    pub used: f64,
    /// What takes over beyond that.
    pub then: &'static str,
}

impl Demand {
    /// What this demand takes.
    pub fn plan(&self) -> Plan {
        let v = |constant: Constant| constant.value;
        let sessions = self.users * self.online;
        let receivers = self.members * self.online;
        let deliveries = self.messages * receivers;
        let node_bytes = v(c::NODE_SESSION_BYTES) + v(c::KERNEL_SESSION_BYTES);
        // How many nodes hear a message depends on how many there are: some rounds settle it.
        let (mut nodes, mut nodes_by, mut hearing) = (NODES_MIN, "redundancy", 1.0);
        for _ in 0..20 {
            hearing = nodes_concerned(nodes, receivers);
            let microseconds = self.messages * (v(c::NODE_MESSAGE) + hearing * v(c::NODE_RECEIPT))
                + deliveries * v(c::NODE_DELIVERY)
                + sessions * v(c::NODE_SESSION);
            let needs = [
                (microseconds / 1e6 / v(c::USED_SHARE) / v(c::NODE_CORES), "processor"),
                (sessions * node_bytes / GIB / v(c::USED_SHARE) / v(c::NODE_GIB), "memory"),
                (sessions / v(c::NODE_SESSIONS), "sessions"),
            ];
            let most = needs.iter().copied().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default();
            let wanted = most.0.ceil() + SPARE_NODES;
            (nodes, nodes_by) = if wanted > NODES_MIN { (wanted, most.1) } else { (NODES_MIN, "redundancy") };
        }
        let redis_us = self.messages * (v(c::REDIS_MESSAGE) + hearing * v(c::REDIS_RECEIPT));
        let redis_shards = (redis_us / 1e6 / v(c::USED_SHARE)).ceil().max(1.0);
        let postgres = self.messages * v(c::POSTGRES_MESSAGE) / 1e6 / v(c::USED_SHARE);
        let stored =
            self.messages * self.mean_share * MONTH * (self.message_bytes + v(c::POSTGRES_ROW_BYTES));
        let wal = self.messages * (self.message_bytes + v(c::POSTGRES_WAL_BYTES));
        let output = deliveries * (self.message_bytes + v(c::FRAME_BYTES));
        let mut engines = vec![
            Engine {
                name: "one Redis (one thread)",
                used: redis_us / 1e6 / v(c::USED_SHARE),
                then: "Redis Cluster: the fan-out's 16 partitions and the session keys spread over its shards",
            },
            Engine {
                name: "Redis Cluster with 16 shards",
                used: redis_us / 1e6 / v(c::USED_SHARE) / v(c::REDIS_SHARDS_MAX),
                then: "a Starling for each region or group of tenants, each with its own Redis",
            },
            Engine {
                name: "one PostgreSQL (processor)",
                used: postgres / v(c::POSTGRES_CORES_MAX),
                then: "a PostgreSQL for each group of tenants, or a sharded one",
            },
            Engine {
                name: "one PostgreSQL (write-ahead log)",
                used: wal / v(c::POSTGRES_WAL_MAX),
                then: "a PostgreSQL for each group of tenants, or a sharded one",
            },
            Engine {
                name: "one PostgreSQL (disk)",
                used: stored * self.months / v(c::POSTGRES_DISK_MAX),
                then: "a shorter retention or partitions by time on cheaper disks, then a sharded PostgreSQL",
            },
            Engine {
                name: "one cluster of nodes",
                used: nodes / v(c::NODES_MAX),
                then: "a Starling for each region or group of tenants",
            },
        ];
        engines.sort_by(|a, b| b.used.total_cmp(&a.used));
        let extrapolation = [
            sessions / c::MEASURED_SESSIONS,
            self.messages / c::MEASURED_MESSAGES,
            deliveries / c::MEASURED_DELIVERIES,
        ];
        Plan {
            sessions,
            deliveries,
            nodes,
            nodes_by,
            nodes_hearing: hearing,
            redis_shards,
            redis_gib: sessions * v(c::REDIS_SESSION_BYTES) / GIB / v(c::USED_SHARE),
            redis_output: self.messages * hearing * (self.message_bytes + v(c::FRAME_BYTES)),
            postgres_cores: postgres.ceil().max(2.0),
            disk_gib_month: stored / GIB,
            disk_gib: stored * self.months / GIB,
            wal,
            bits: output * 8.0,
            traffic_gib: output * self.mean_share * MONTH / GIB,
            engines,
            extrapolation: extrapolation.into_iter().fold(0.0, f64::max),
        }
    }
}

/// How many of some nodes have at least one of these receivers, if they are spread by chance.
pub fn nodes_concerned(nodes: f64, receivers: f64) -> f64 {
    nodes * (1.0 - (1.0 - 1.0 / nodes).powf(receivers))
}

impl Plan {
    /// The one that is used most: what breaks first.
    pub fn first(&self) -> &Engine {
        // There are always some.
        &self.engines[0]
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let engine = |one: &Engine| json!({"name": one.name, "used": one.used, "then": one.then});
        json!({
            "sessions": self.sessions,
            "deliveries_per_second": self.deliveries,
            "nodes": {
                "count": self.nodes,
                "decided_by": self.nodes_by,
                "cores_each": c::NODE_CORES.value,
                "gib_each": c::NODE_GIB.value,
                "that_hear_a_message": self.nodes_hearing,
            },
            "redis": {"shards": self.redis_shards, "gib": self.redis_gib, "output_bytes_per_second": self.redis_output},
            "postgres": {
                "cores": self.postgres_cores,
                "disk_gib_per_month": self.disk_gib_month,
                "disk_gib": self.disk_gib,
                "wal_bytes_per_second": self.wal,
            },
            "network": {"bits_per_second": self.bits, "gib_per_month": self.traffic_gib},
            "used_up_first": self.first().name,
            "engines": self.engines.iter().map(engine).collect::<Vec<_>>(),
            "extrapolation": self.extrapolation,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A demand to vary.
    pub fn demand() -> Demand {
        Demand {
            users: 1e6,
            online: 0.1,
            conversations: 1e6,
            members: 50.0,
            messages: 1_000.0,
            mean_share: 0.3,
            message_bytes: 200.0,
            months: 12.0,
        }
    }

    #[test]
    fn everything_follows_from_the_demand_and_the_constants() {
        let plan = demand().plan();
        assert_eq!((plan.sessions, plan.deliveries), (100_000.0, 5_000.0));
        let stored = 1_000.0 * 0.3 * MONTH * (200.0 + c::POSTGRES_ROW_BYTES.value) / GIB;
        assert!((plan.disk_gib_month - stored).abs() < 1e-6 && (plan.disk_gib - 12.0 * stored).abs() < 1e-6);
        assert_eq!(plan.wal, 1_000.0 * (200.0 + c::POSTGRES_WAL_BYTES.value));
        assert_eq!(plan.bits, 5_000.0 * (200.0 + c::FRAME_BYTES.value) * 8.0);
        assert_eq!(plan.extrapolation, 10.0);
        assert!(plan.nodes >= NODES_MIN && plan.nodes_hearing <= plan.nodes);
    }

    #[test]
    fn twice_the_demand_never_takes_less() {
        let small = demand();
        let less = small.plan();
        for more in [
            Demand { users: 2.0 * small.users, ..small },
            Demand { messages: 2.0 * small.messages, ..small },
            Demand { members: 2.0 * small.members, ..small },
            Demand { message_bytes: 2.0 * small.message_bytes, ..small },
        ] {
            let more = more.plan();
            assert!(more.nodes >= less.nodes && more.redis_shards >= less.redis_shards);
            assert!(more.postgres_cores >= less.postgres_cores && more.bits >= less.bits);
            assert!(more.first().used >= less.first().used);
        }
    }

    #[test]
    fn a_message_concerns_at_most_the_nodes_and_at_most_the_receivers() {
        assert!((nodes_concerned(10.0, 1.0) - 1.0).abs() < 1e-9);
        assert!(nodes_concerned(10.0, 1_000.0) > 9.99);
        assert!(nodes_concerned(500.0, 5.0) > 4.9 && nodes_concerned(500.0, 5.0) <= 5.0);
    }

    #[test]
    fn what_is_used_up_first_stands_first() {
        let plan = Demand { messages: 5e6, months: 0.0, ..demand() }.plan();
        assert!(plan.engines.is_sorted_by(|a, b| a.used >= b.used));
        assert!(plan.first().used > 1.0 && plan.first().name.starts_with("one Redis"), "{:?}", plan.first());
    }
}
