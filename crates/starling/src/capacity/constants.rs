//! What things cost, as they were measured. Every figure of `starling capacity` comes from this table and from the demand.

/// A cost, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Constant {
    /// Its name in JSON and in the docs.
    pub name: &'static str,
    /// How much, in its unit.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What it is the cost of.
    pub what: &'static str,
    /// How it was found.
    pub source: Source,
}

/// How a constant was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Measured on [`MACHINE`] at [`DATE`], with some room added. `cargo xtask peers` measures the same.
    Measured,
    /// Estimated from the protocol, from parts of what was measured, or from common practice.
    Assumed,
}

impl Source {
    /// In words.
    pub fn text(self) -> String {
        match self {
            Self::Measured => format!("measured {DATE}"),
            Self::Assumed => "assumed".to_owned(),
        }
    }
}

/// When the measurements were made.
pub const DATE: &str = "2026-12-01";
/// The machine on which they were made.
pub const MACHINE: &str =
    "2 virtual cores of an AMD EPYC, 24 GiB, Linux 6.18; everything on one machine, over the loopback";

const fn measured(name: &'static str, value: f64, unit: &'static str, what: &'static str) -> Constant {
    Constant { name, value, unit, what, source: Source::Measured }
}

const fn assumed(name: &'static str, value: f64, unit: &'static str, what: &'static str) -> Constant {
    Constant { name, value, unit, what, source: Source::Assumed }
}

pub const NODE_MESSAGE: Constant = measured(
    "node_message_us",
    60.0,
    "µs",
    "taking, committing and publishing a message at its sender's node",
);
pub const NODE_DELIVERY: Constant =
    measured("node_delivery_us", 7.0, "µs", "delivering it to one session that has joined");
pub const NODE_RECEIPT: Constant = assumed("node_receipt_us", 10.0, "µs", "hearing it at one node");
pub const NODE_SESSION: Constant = measured("node_session_us", 0.4, "µs a second", "an idle session");
pub const NODE_SESSION_BYTES: Constant =
    measured("node_session_bytes", 3_900.0, "bytes", "memory of a node for a session");
pub const KERNEL_SESSION_BYTES: Constant =
    measured("kernel_session_bytes", 4_800.0, "bytes", "memory of the kernel for its socket");
pub const REDIS_MESSAGE: Constant = measured("redis_message_us", 15.0, "µs", "taking a publication");
pub const REDIS_RECEIPT: Constant = assumed("redis_receipt_us", 3.0, "µs", "sending it to one node");
pub const REDIS_SESSION_BYTES: Constant =
    assumed("redis_session_bytes", 1_000.0, "bytes", "memory of Redis for a session and its presence");
pub const POSTGRES_MESSAGE: Constant =
    measured("postgres_message_us", 100.0, "µs", "storing a message, in batches of medium size");
pub const POSTGRES_ROW_BYTES: Constant =
    assumed("postgres_row_bytes", 350.0, "bytes", "disk for a message beside its text: row and indexes");
pub const POSTGRES_WAL_BYTES: Constant =
    assumed("postgres_wal_bytes", 700.0, "bytes", "write-ahead log for a message beside its text");
pub const FRAME_BYTES: Constant =
    assumed("frame_bytes", 250.0, "bytes", "a delivery on the network beside its text: JSON, WebSocket, TCP");

/// The share of a processor that is planned with; the rest is for peaks and for the failure of a node.
pub const USED_SHARE: Constant =
    assumed("used_share", 0.6, "", "share of each processor that is planned with");
pub const NODE_CORES: Constant = assumed("node_cores", 8.0, "cores", "of a node");
pub const NODE_GIB: Constant = assumed("node_gib", 16.0, "GiB", "memory of a node");
pub const NODE_SESSIONS: Constant = assumed(
    "node_sessions",
    250_000.0,
    "sessions",
    "at a node, more of which would be too many to lose at once",
);
pub const POSTGRES_CORES_MAX: Constant = assumed("postgres_cores_max", 64.0, "cores", "of one PostgreSQL");
pub const POSTGRES_WAL_MAX: Constant = assumed(
    "postgres_wal_max",
    200e6,
    "bytes a second",
    "of write-ahead log that one PostgreSQL and its standby can take",
);
pub const POSTGRES_DISK_MAX: Constant =
    assumed("postgres_disk_max", 16e12, "bytes", "that one PostgreSQL should hold");
pub const REDIS_SHARDS_MAX: Constant = assumed(
    "redis_shards_max",
    16.0,
    "shards",
    "of Redis Cluster over which publications are spread: the fan-out has 16 partitions",
);
pub const NODES_MAX: Constant = assumed(
    "nodes_max",
    100.0,
    "nodes",
    "that should know one another; beyond that, divide by regions or tenants",
);

/// All of them.
pub static ALL: [Constant; 22] = [
    NODE_MESSAGE,
    NODE_DELIVERY,
    NODE_RECEIPT,
    NODE_SESSION,
    NODE_SESSION_BYTES,
    KERNEL_SESSION_BYTES,
    REDIS_MESSAGE,
    REDIS_RECEIPT,
    REDIS_SESSION_BYTES,
    POSTGRES_MESSAGE,
    POSTGRES_ROW_BYTES,
    POSTGRES_WAL_BYTES,
    FRAME_BYTES,
    USED_SHARE,
    NODE_CORES,
    NODE_GIB,
    NODE_SESSIONS,
    POSTGRES_CORES_MAX,
    POSTGRES_WAL_MAX,
    POSTGRES_DISK_MAX,
    REDIS_SHARDS_MAX,
    NODES_MAX,
];

/// The largest demand that was measured: sessions, messages a second and deliveries a second.
pub const MEASURED_SESSIONS: f64 = 10_000.0;
/// See [`MEASURED_SESSIONS`].
pub const MEASURED_MESSAGES: f64 = 20_000.0;
/// See [`MEASURED_SESSIONS`].
pub const MEASURED_DELIVERIES: f64 = 1_000_000.0;
