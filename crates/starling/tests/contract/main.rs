//! The client protocol, held against real nodes: each scenario in both encodings, on one node by itself with SQLite, and over two
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
