//! The load generator that compares Starling with its peers: one thread and one epoll loop, so that it is cheaper than any server that it
//! measures.
//!
//! A [`Plan`] says which servers there are, which protocol they speak ([`Dialect`]), and what is sent. [`load`](load()) does it and returns
//! an [`Outcome`]. The program `peers-limit` shares the loop and the frames: it is the least that a WebSocket node can do.

pub mod dialect;
pub mod frames;
mod histogram;
mod load;
mod marker;
mod outcome;
mod plan;
pub mod poller;
mod usage;

pub use dialect::Dialect;
pub use load::load;
pub use outcome::Outcome;
pub use plan::{Pace, Plan, Shape, Watched};
pub use usage::processor_ns;
