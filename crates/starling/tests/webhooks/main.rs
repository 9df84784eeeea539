//! Webhooks, and hooks that ask first, on real nodes with a real backend. Each scenario runs on a single node with SQLite and on two nodes
//! with Redis and PostgreSQL, in one encoding each.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod asking;
mod crowded;
mod examples;
mod failed_jobs;
mod failing;
mod online;
mod order;
mod place;
mod setting;
mod survival;
mod telling;
