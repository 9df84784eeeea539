//! What a run does.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Dialect;

/// What a run does.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The addresses of the nodes, all on the loopback. Connections take turns.
    pub nodes: Vec<SocketAddr>,
    /// What they speak.
    pub dialect: Dialect,
    /// Who connects.
    pub shape: Shape,
    /// What is sent.
    pub pace: Pace,
    /// Seconds of traffic that do not count.
    pub warm_seconds: f64,
    /// Seconds that count.
    pub seconds: f64,
    /// The size of a message's text.
    pub payload_bytes: usize,
    /// Source addresses, 127.0.0.1 and those after it, to connect from. Each has about 28,000 ports.
    pub sources: u8,
    /// A file with a token per line: the user of connection 0, 1, 2 …, and the user that makes conversations in the end. Starling only.
    pub tokens: Option<PathBuf>,
    /// The processes to observe.
    pub watched: Watched,
}

/// Who connects, and to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Shape {
    /// One room: a publisher at each node, and subscribers.
    FanOut {
        /// How many subscribers.
        subscribers: usize,
    },
    /// Many rooms, whose members are spread over the nodes and all send.
    Rooms {
        /// How many rooms.
        rooms: usize,
        /// Members of each.
        members: usize,
        /// Nodes that the members of one room are spread over.
        spread: usize,
    },
    /// Connections that only stay.
    Idle {
        /// How many.
        connections: usize,
        /// The rooms that they are in.
        rooms: usize,
    },
}

/// How messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Pace {
    /// So many are under way at any time: the highest rate.
    Outstanding(usize),
    /// At fixed times, so many a second. Times count from when a message was due.
    PerSecond(f64),
    /// None.
    Silent,
}

/// The processes to observe, by their ids. Their children count, too.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Watched {
    /// The nodes.
    pub nodes: Vec<u32>,
    /// Redis.
    pub redis: Option<u32>,
    /// Where Redis listens.
    pub redis_address: Option<SocketAddr>,
    /// PostgreSQL.
    pub postgres: Option<u32>,
}

impl Shape {
    /// Rooms.
    pub fn rooms(self) -> usize {
        match self {
            Self::FanOut { .. } => 1,
            Self::Rooms { rooms, .. } | Self::Idle { rooms, .. } => rooms,
        }
    }

    /// Connections, publishers included.
    pub fn connections(self, nodes: usize) -> usize {
        match self {
            Self::FanOut { subscribers } => subscribers + nodes,
            Self::Rooms { rooms, members, .. } => rooms * members,
            Self::Idle { connections, .. } => connections,
        }
    }
}
