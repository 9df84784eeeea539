//! What a node does with webhooks and hooks: it tells backends what has happened, and asks them what may happen.
//!
//! [`WebhookService`] stands over a [`starling_webhooks::WebhookStore`], and knows neither tokens nor HTTP. There is one per node. It puts parts
//! together that each have a file: `knowledge` knows all webhooks and hooks, `registrar` sets them, `asking` asks first, `recorder` records
//! deliveries of what `announcing` and `online` find and of what it is told, and `delivering` makes attempts.
//!
//! **Knowing.** A command must not wait for the database to learn that nobody wants to decide about it. So each node has all hooks in its memory
//! ([`WebhookService::decider`]), from before it serves. It learns of changes in three ways: from itself when it makes them, from other nodes by a
//! notice ([`WebhookService::hear_changed`]), and from a look at a number in the database each second. While the database is away, what was
//! known holds.
//!
//! **Telling.** Whether any webhook wants an event is known as hooks are ([`WebhookService::wants`]). A message that is wanted is noted in
//! the transaction that adds it to the log; each node then records its deliveries and forgets the note
//! ([`WebhookService::announce_forever`]). Failed jobs are noted by the store of jobs in the same way
//! ([`WebhookService::announce_failures_forever`]). Who comes online or goes offline, the database decides
//! ([`WebhookService::follow_users_forever`]). Other events are recorded after their commit ([`WebhookService::tell`]). Nodes with the role
//! `worker` claim deliveries and make attempts ([`WebhookService::deliver_forever`]).
//!
//! **Asking.** Requests to backends run on the node's control threads, never on a shard's. Each tenant has its own places for them.

mod announcing;
mod asking;
mod config;
mod deciders;
mod delivering;
mod knowledge;
mod metrics;
mod online;
mod overview;
mod recorder;
mod registrar;
mod service;
mod time;
mod trimming;
mod wanted;

pub use config::{AllowedNetworks, WebhookSettings};
pub use deciders::Decider;
pub use online::{NoSessions, Sessions};
pub use registrar::WEBHOOKS_MAX;
pub use service::WebhookService;
pub use starling_webhooks as webhooks;
