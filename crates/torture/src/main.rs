//! Breaks Starling on purpose: real nodes under load, and faults in everything that can fail.
//!
//! `cargo xtask torture`, `cargo xtask storm`, `cargo xtask race` and `cargo xtask upgrade` build and run this program.

mod faults;
mod program;
mod race;
mod storm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Breaks Starling on purpose.
#[derive(Parser)]
#[command(name = "torture")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Injects faults under load, one after the other, and counts lost, duplicated, reordered and altered messages
    Faults(faults::Arguments),
    /// Kills a node that holds very many clients, and measures how they come back
    Storm(storm::Arguments),
    /// Lets connections race for the same sessions, through several nodes and with Redis failing, and counts which one remains
    Race(race::Arguments),
    /// Replaces nodes of the previous release by nodes of this one under load, goes back, and counts as `faults` does
    Upgrade(faults::upgrade::Arguments),
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

/// Returns whether everything held.
async fn run(command: Command) -> Result<bool> {
    match command {
        Command::Faults(arguments) => faults::run(&arguments).await,
        Command::Storm(arguments) => storm::run(&arguments).await,
        Command::Race(arguments) => race::run(&arguments).await,
        Command::Upgrade(arguments) => faults::upgrade::run(&arguments).await,
    }
}
