//! The bridges to RabbitMQ, with real brokers, nodes and databases: what they do, and what is lost when everything dies in turn.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod amqp;
mod controls;
mod example;
mod incoming;
mod outgoing;
mod place;
mod survival;
mod tls;

use std::time::Duration;

/// Longer than anything takes on a busy machine.
const SOON: Duration = Duration::from_secs(120);
