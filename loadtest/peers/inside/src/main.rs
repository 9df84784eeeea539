//! Adds jobs to Starling's service of jobs and does them in one process, as a plan in JSON says, and prints what was measured: the counterpart of
//! `loadtest/peers/jobs/drive.mjs` for workers inside a node.

mod held;
mod ledger;
mod scenarios;
mod worker;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use ledger::Ledger;
use worker::Worker;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What to do. The plan has further fields, for other systems.
#[derive(Clone, Debug, Deserialize)]
struct Plan {
    /// `idle`, `drain`, `steady` or `held`.
    scenario: String,
    /// The address of the database.
    url: String,
    /// Jobs that are done at a time.
    at_once: u16,
    /// Jobs that are added at a time.
    adders: usize,
    /// Jobs a second of `idle`.
    rate: f64,
    /// How long `idle` and `steady` last.
    seconds: f64,
    /// The jobs of `drain`.
    jobs: u64,
    /// Jobs that are not done at any time of `steady`.
    outstanding: u64,
    /// The length of a payload.
    payload_bytes: usize,
    /// The phases of `held`.
    held: Option<Held>,
}

/// How long the phases around a held snapshot last, and their slices.
#[derive(Clone, Debug, Deserialize)]
struct Held {
    warm_seconds: f64,
    before_seconds: f64,
    hold_seconds: f64,
    after_seconds: f64,
    slice_seconds: f64,
    after_slice_seconds: f64,
}

/// Prints marks. Whoever reads them looks at the processor time then, and answers with a line.
struct Marks;

impl Marks {
    async fn say(&mut self, event: &str, outcome: Value) -> Result<()> {
        let mut line = outcome;
        line["event"] = json!(event);
        println!("{line}");
        let read = spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
        ensure!(read > 0, "nobody reads the marks");
        Ok(())
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let plan = std::env::args().nth(1).context("usage: peers-jobs PLAN")?;
    let plan: Plan = serde_json::from_str(&plan).context("the plan")?;
    let mut marks = Marks;
    if plan.scenario == "held" {
        return held::held(&plan, &mut marks).await;
    }
    let ledger = Arc::new(Ledger::new(plan.payload_bytes));
    let worker = Worker::start(&plan, &ledger).await?;
    match plan.scenario.as_str() {
        "idle" => scenarios::idle(&plan, &worker, &ledger, &mut marks).await?,
        "drain" => scenarios::drain(&plan, &worker, &ledger, &mut marks).await?,
        _ => scenarios::steady(&plan, &worker, &ledger, &mut marks).await?,
    }
    marks.say("settled", json!({"lost": ledger.open(), "doubled": ledger.doubled()})).await?;
    worker.stop().await;
    Ok(())
}
