//! Counts the instructions of each operation. `cargo xtask instructions` builds and runs this program.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use starling_costs::{Cost, Operation, Precision, instructions};

/// Counts what an operation costs a node.
#[derive(Parser)]
#[command(name = "costs")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Counts the instructions of handshakes, commands and deliveries with callgrind
    Instructions(Instructions),
}

#[derive(clap::Args)]
struct Instructions {
    /// Counts those of this program instead of the one beside this
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Counts those of this program as well, and prints how much they differ
    #[arg(long, value_name = "PATH")]
    against: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Command::Instructions(arguments) = Arguments::parse().command;
    match count(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn count(arguments: &Instructions) -> Result<()> {
    let program = match &arguments.program {
        Some(program) => std::path::absolute(program)?,
        None => tokio::task::spawn_blocking(starling_testkit::node::program).await??,
    };
    let cost = counted(&program).await?;
    let other = match &arguments.against {
        Some(other) => Some(counted(&std::path::absolute(other)?).await?),
        None => None,
    };
    starling_testkit::remove_own()?;
    print!("{}", table(&cost, other.as_ref()));
    Ok(())
}

async fn counted(program: &Path) -> Result<Cost> {
    eprintln!("counting the instructions of {}", program.display());
    instructions(program, Precision::Exact).await
}

/// One line for each operation: its instructions, and those of the other program with the difference.
fn table(cost: &Cost, other: Option<&Cost>) -> String {
    let mut table = format!("{:<40} {:>12}", "instructions", "this");
    if other.is_some() {
        table.push_str(&format!(" {:>12} {:>10}", "other", "difference"));
    }
    table.push('\n');
    for operation in Operation::all() {
        let Some(own) = cost.get(&operation) else { continue };
        table.push_str(&format!("{:<40} {own:>12.0}", operation.name()));
        if let Some(other) = other.and_then(|other| other.get(&operation)) {
            table.push_str(&format!(" {other:>12.0} {:>+8.1} %", (own / other - 1.0) * 100.0));
        }
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_how_much_two_programs_differ() {
        let own = Cost::from([(Operation::Ping, 1030.0)]);
        let other = Cost::from([(Operation::Ping, 1000.0)]);
        let text = table(&own, Some(&other));
        assert!(text.contains("ping") && text.contains("1030") && text.contains("+3.0 %"), "{text}");
        assert!(!table(&own, None).contains("difference"));
    }
}
