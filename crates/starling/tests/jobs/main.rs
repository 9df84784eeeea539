//! Jobs over HTTP, on real nodes. Each scenario runs on a single node with SQLite and on two nodes with Redis and PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod enqueueing;
mod examples;
mod limits;
mod operating;
mod permissions;
mod place;
mod reporting;
mod schedules;
mod survival;
mod taking;
