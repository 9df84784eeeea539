//! Fuzz targets: one function for each parser of bytes from strangers. A function panics if the bytes break an invariant.
//!
//! libFuzzer calls these functions from `fuzz/fuzz_targets`, for any length of time (`cargo xtask fuzz`). The tests of this crate call
//! them with the seeds of `fuzz/seeds` and a fixed number of mutations of each.
#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a broken promise is a panic, and that is what the fuzzer looks for"
)]

mod config;
mod cron;
mod deflate;
mod hook_answer;
mod json;
mod jwks;
mod msgpack;
mod node_message;
mod query;
mod rabbitmq_message;
mod redis_answer;
mod ticket;
mod token;
mod upgrade;
mod websocket;

use arbitrary::{Arbitrary, Unstructured};

pub use config::config;
pub use cron::cron;
pub use deflate::deflate;
pub use hook_answer::hook_answer;
pub use json::json;
pub use jwks::jwks;
pub use msgpack::msgpack;
pub use node_message::node_message;
pub use query::query;
pub use rabbitmq_message::rabbitmq_message;
pub use redis_answer::redis_answer;
pub use ticket::ticket;
pub use token::token;
pub use upgrade::upgrade;
pub use websocket::websocket;

/// Reads a value from the fuzzer's bytes; `None` if there are too few of them.
fn value<'a, T: Arbitrary<'a>>(bytes: &'a [u8]) -> Option<T> {
    T::arbitrary_take_rest(Unstructured::new(bytes)).ok()
}
