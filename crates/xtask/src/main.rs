//! What a developer of Starling does, as `cargo xtask COMMAND`.

mod autobahn;
mod cluster;
mod docs;
mod fuzz;
mod race;
mod storm;
mod test;
mod torture;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// What a developer of Starling does.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Checks and tests everything, and installs what is missing for that
    Test(test::Arguments),
    /// Runs the Autobahn cases against the WebSocket listener and codec
    Autobahn(autobahn::Arguments),
    /// Runs a cluster on this machine, for playing: nodes, Redis, PostgreSQL and a load balancer
    Cluster(cluster::Arguments),
    /// Breaks things on purpose under load, and counts what was lost, doubled, swapped or altered
    Torture(torture::Arguments),
    /// Kills a node that holds very many clients, and measures how they come back
    Storm(storm::Arguments),
    /// Has sockets race for the same sessions, through several nodes and with Redis breaking, and counts who is left
    Race(race::Arguments),
    /// Feeds everything that reads bytes from strangers with what a fuzzer thinks of
    Fuzz(fuzz::Arguments),
    /// Writes the pages that are generated from the program
    Docs(docs::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().command).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether everything was as it should be.
async fn run(command: Command) -> Result<bool> {
    match command {
        Command::Test(arguments) => test::run(&arguments).await,
        Command::Autobahn(arguments) => autobahn::run(&arguments).await,
        Command::Cluster(arguments) => cluster::run(&arguments).await.map(|()| true),
        Command::Torture(arguments) => torture::run(&arguments).await,
        Command::Storm(arguments) => storm::run(&arguments).await,
        Command::Race(arguments) => race::run(&arguments).await,
        Command::Fuzz(arguments) => fuzz::run(&arguments).await,
        Command::Docs(arguments) => docs::run(&arguments).await.map(|()| true),
    }
}
