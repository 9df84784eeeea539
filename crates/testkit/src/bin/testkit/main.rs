//! Servers of the testkit from the command line: a cluster to try, and servers for tests that are not written in Rust.

mod cluster;
mod servers;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "testkit")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a cluster on this machine to try: nodes, Redis, PostgreSQL and a load balancer
    Cluster(cluster::Arguments),
    /// Runs a command beside a Redis and a PostgreSQL, whose addresses are in its environment
    With(servers::Arguments),
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::Cluster(arguments) => cluster::run(&arguments).await.map(|()| ExitCode::SUCCESS),
        Command::With(arguments) => servers::run(&arguments).await,
    }
}
