//! The bridge between RabbitMQ and Starling's jobs, in both directions.
//!
//! **In** (`incoming`): messages of a durable queue, which is bound to a topic exchange, become jobs. A message is acknowledged only after
//! its job was committed. Its id is the job's unique key, so that a message that comes again is not a second job. What can't become a job
//! goes to a dead-letter exchange, with the reason in its headers.
//!
//! **Out** (`outgoing`): jobs of a queue are published to a topic exchange, persistent and mandatory. A job is done only after RabbitMQ has
//! confirmed that it has the message. The message's id is the job's.
//!
//! Both directions are *at least once*: whatever dies, nothing is lost, and something may come twice, with the same id.
//!
//! Each bridge has a connection of its own, since RabbitMQ blocks connections that publish while it lacks memory or disk, and with them their
//! acknowledgements. A connection that was lost is opened again with a back-off (`reconnector`).

mod address;
mod bridge;
mod check;
mod config;
mod connection;
mod error;
mod examination;
mod incoming;
mod metrics;
mod outgoing;
mod reconnector;
mod sink;
mod template;
mod topology;
mod transport;

pub use bridge::{Bridge, BridgeHealth};
pub use check::Plan;
pub use config::{IncomingSettings, OutgoingSettings, QueueType, RabbitmqSettings};
pub use error::Error;
pub use examination::{Examined, examine};
pub use sink::JobSink;

/// For the fuzz targets.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::incoming::fuzzing::message;
}
