//! Webhooks: HTTP requests that tell the backend of an application what has happened, or ask it what may happen.
//!
//! **Signatures.** Every request is signed by the convention [Standard Webhooks](https://www.standardwebhooks.com), so that a backend can verify it
//! with any library of that convention ([`Secret`], [`SignedHeaders`]).
//!
//! **Requests.** [`Client`] makes one request to one [`Endpoint`]. An endpoint makes a node send requests where its owner wants, so the client
//! refuses addresses that are not public ([`Networks`]). It checks an address in the moment in which it connects to it, follows no
//! redirects, and limits the time and the size of each answer. [`Client::deliver`] delivers an event, and [`Retries`] says when to try
//! again.
//!
//! **Storage.** [`WebhookStore`] keeps webhooks, the [deliveries](DeliveryStatus) of events to them, and hooks that ask first. [`postgres`]
//! and [`sqlite`] implement it, and `tests/conformance` runs one suite against both.
//!
//! **Presence.** Nodes say which users have come to them and gone ([`WebhookStore::users_came`]). The store decides whether that makes a
//! user online or offline, and records that event in the same transaction, so that each is told once over all nodes.
//!
//! **Questions.** A [`Hook`] lets a backend decide before something happens. [`AskingClient`] asks it, within the time of the hook, and
//! keeps the slow backend of one tenant from the commands of others.

mod activity;
mod asking;
mod client;
mod connector;
mod delivery;
mod endpoint;
mod event;
mod failure;
#[doc(hidden)]
pub mod fuzzing;
mod hook;
mod model;
mod networks;
mod online;
pub mod postgres;
mod resolver;
mod retries;
mod retry_after;
mod schema;
mod secret;
mod signature;
pub mod sqlite;
mod store;

pub use activity::{AnsweredAttempt, WebhookActivity};
pub use asking::{
    AskFailure, Asked, AskingClient, AskingLimits, BreakerSettings, HOOK_ANSWER_BYTES_MAX, Question, Rewrite,
    Verdict, WrittenQuestion,
};
pub use client::{Client, ClientConfiguration};
pub use delivery::{ANSWER_BYTES_MAX, Delivered, Delivery, Outcome};
pub use endpoint::{Endpoint, InvalidEndpoint, URL_BYTES_MAX};
pub use event::{
    BODY_BYTES_MAX, EventId, EventType, Events, InvalidEvent, InvalidEvents, NewEvent, ORDER_KEY_BYTES_MAX,
};
pub use failure::Failure;
pub use hook::{HOOK_TIMEOUT_DEFAULT, HOOK_TIMEOUT_MAX, Hook, HookPoint, InvalidTimeout, OnFailure};
pub use model::*;
pub use networks::{Networks, RefusedAddress};
pub use online::{BeatOutcome, MoveOutcome, NodeRun, OrphanedUser, UserMove};
pub use resolver::{Resolver, SystemResolver};
pub use retries::Retries;
pub use schema::SCHEMA;
pub use secret::{InvalidSecret, ROTATION_OVERLAP, Secret};
pub use signature::{NotVerified, SignedHeaders, TOLERANCE};
pub use starling_database::{Error, SchemaStatus};
pub use store::WebhookStore;
