//! The client protocol on real nodes. Each scenario runs in both encodings, on a single node with SQLite and on two
//! nodes with Redis and PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod balance;
mod configuration;
mod connect;
mod conversations;
mod drain;
mod frames;
mod keys;
mod limits;
mod logs;
mod marks;
mod messages;
mod place;
mod presence;
mod raw;
mod replay;
mod resume;
mod talk;
mod tenants;
mod tokens;
mod topics;
mod websocket;
