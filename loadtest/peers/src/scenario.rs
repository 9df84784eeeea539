//! What the servers are compared in.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use starling_peers_load::{Dialect, Pace, Shape};

use crate::peer::Peer;

/// A scenario: a row group of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// One room of 1,000 over two nodes, 32 messages under way
    FanOut,
    /// The same at 30 messages a second
    FanOutSteady,
    /// 1,000 rooms of 5 over two nodes, 256 messages under way
    Rooms,
    /// The same at 1,500 messages a second
    RoomsSteady,
    /// 10,000 idle connections in 1,000 rooms at one node
    Idle,
    /// 1,000 durable conversations of 5 over two nodes, 256 messages under way
    Durable,
    /// The same at 1,500 messages a second
    DurableSteady,
    /// One durable conversation of 50 over two nodes, 256 messages under way
    DurableHot,
    /// 10,000 idle sessions in 1,000 conversations at one node
    DurableIdle,
    /// 10,000 idle sessions in 1,000 topics at one node, MessagePack
    IdleMsgpack,
}

impl Scenario {
    /// Its heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::FanOut => "One room of 1,000 over two nodes, as fast as it goes (32 messages under way)",
            Self::FanOutSteady => "One room of 1,000 over two nodes, 30 messages a second",
            Self::Rooms => "1,000 rooms of 5 over two nodes, as fast as it goes (256 messages under way)",
            Self::RoomsSteady => "1,000 rooms of 5 over two nodes, 1,500 messages a second",
            Self::Idle => "10,000 idle connections at one node, each in one of 1,000 rooms",
            Self::Durable => {
                "Durable: 1,000 conversations of 5 over two nodes, as fast as it goes (256 under way)"
            }
            Self::DurableSteady => {
                "Durable: 1,000 conversations of 5 over two nodes, 1,500 messages a second"
            }
            Self::DurableHot => {
                "Durable: one conversation of 50 over two nodes, as fast as it goes (256 under way)"
            }
            Self::DurableIdle => {
                "Durable: 10,000 idle sessions at one node, each in one of 1,000 conversations"
            }
            Self::IdleMsgpack => "MessagePack: 10,000 idle sessions at one node, each in one of 1,000 topics",
        }
    }

    /// Whether this server can do it.
    pub fn suits(self, peer: Peer) -> bool {
        peer == Peer::Starling || !self.is_starling_only()
    }

    /// Whether nobody but Starling can do it.
    pub fn is_starling_only(self) -> bool {
        self.is_durable() || self == Self::IdleMsgpack
    }

    /// Whether messages are stored.
    pub fn is_durable(self) -> bool {
        matches!(self, Self::Durable | Self::DurableSteady | Self::DurableHot | Self::DurableIdle)
    }

    /// Whether connections stay idle.
    pub fn is_idle(self) -> bool {
        matches!(self, Self::Idle | Self::DurableIdle | Self::IdleMsgpack)
    }

    /// How many nodes there are.
    pub fn nodes(self) -> usize {
        if self.is_idle() { 1 } else { 2 }
    }

    /// The protocol that this server speaks in it.
    pub fn dialect(self, peer: Peer) -> Dialect {
        match self {
            _ if self.is_durable() => Dialect::StarlingConversation,
            Self::IdleMsgpack => Dialect::StarlingTopicMsgpack,
            _ => peer.dialect(),
        }
    }

    /// Who connects.
    pub fn shape(self) -> Shape {
        match self {
            Self::FanOut | Self::FanOutSteady => Shape::FanOut { subscribers: 1_000 },
            Self::Rooms | Self::RoomsSteady | Self::Durable | Self::DurableSteady => {
                Shape::Rooms { rooms: 1_000, members: 5, spread: 2 }
            }
            Self::DurableHot => Shape::Rooms { rooms: 1, members: 50, spread: 2 },
            Self::Idle | Self::DurableIdle | Self::IdleMsgpack => {
                Shape::Idle { connections: 10_000, rooms: 1_000 }
            }
        }
    }

    /// What is sent.
    pub fn pace(self) -> Pace {
        match self {
            Self::FanOut => Pace::Outstanding(32),
            Self::FanOutSteady => Pace::PerSecond(30.0),
            Self::Rooms | Self::Durable | Self::DurableHot => Pace::Outstanding(256),
            Self::RoomsSteady | Self::DurableSteady => Pace::PerSecond(1_500.0),
            Self::Idle | Self::DurableIdle | Self::IdleMsgpack => Pace::Silent,
        }
    }
}
