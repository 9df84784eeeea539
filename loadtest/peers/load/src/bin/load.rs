//! Reads a plan, puts its load on the nodes, and prints what was measured as a line of JSON.
//!
//! A line `measuring` comes before the time that counts and a line `measured` after it, so that whoever started the program can read
//! counters of its own at these moments.

use std::process::ExitCode;

use anyhow::{Context, Result};
use starling_peers_load::{Plan, load};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let path = std::env::args_os().nth(1).context("usage: peers-load PLAN.json")?;
    let text = std::fs::read_to_string(&path).context("read the plan")?;
    let plan: Plan = serde_json::from_str(&text).context("the plan")?;
    let outcome = load(&plan, &mut |moment| println!("{moment}"))?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}
