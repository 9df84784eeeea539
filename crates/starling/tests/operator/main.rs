//! Tests for operators: TLS and load balancers in front of the public port, the first start, starts with something down or
//! too old, and the program's other commands.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod check;
mod commands;
mod database;
mod doctor;
mod first_start;
mod healthcheck;
mod newer_schema;
mod proxies;
mod redis;
mod roles;
mod secret_files;
mod signals;
mod sqlite;
mod tenants;
mod threads;
mod tls;

use std::time::Duration;

use starling_testkit::node::NodeBuilder;

/// Timeout for something that should happen at once, on a busy machine.
const SOON: Duration = Duration::from_secs(30);
/// Exit status of a bad configuration.
const BAD: i32 = 64;

/// Runs the program until it ends; returns its exit status and output.
async fn finished(builder: NodeBuilder) -> (i32, String) {
    let node = builder.without_waiting().start().await.unwrap();
    let status = node.ended(SOON).await.unwrap();
    (status.code().expect("an exit status"), node.log())
}
