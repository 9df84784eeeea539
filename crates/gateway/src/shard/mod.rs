//! Shards: threads that own sockets and share nothing.
//!
//! What comes for a shard's sockets comes through its inbox. A *turn* takes what waits there (bounded), puts frames into the outboxes of
//! the sockets concerned, and then writes to each of these sockets once: when little happens a batch is one, when much happens batches
//! grow by themselves, without timers.

mod answers;
mod catch_up;
mod channel;
mod chunks;
mod client;
mod close_text;
mod commands;
mod conn;
mod deadlines;
mod deliver;
mod drain_plan;
mod early;
#[cfg(test)]
mod fixture;
mod framing;
mod guarded;
mod inbox;
mod leaving;
mod move_requests;
mod moving;
mod opening;
mod outbox;
mod pace;
mod queue;
mod reading;
mod running;
mod settings;
mod socket;
mod speed;
mod step;
mod subscribe;
mod subscriptions;
mod table;
mod task;
mod tick;
mod turns;

pub(crate) use drain_plan::DrainPlan;
pub(crate) use guarded::spawn_guarded;
pub(crate) use inbox::Item;
pub use inbox::{Inbox, Inboxes};
pub(crate) use opening::Opening;
pub(crate) use settings::{Env, Service, ShardSettings};
pub(crate) use socket::Socket;
pub(crate) use table::Shard;
pub(crate) use task::ConnTask;
pub(crate) use turns::{run, run_thread};
#[cfg(test)]
pub(crate) use turns::{take_turns, tick_forever};
