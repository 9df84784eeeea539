//! `cargo xtask torture`: injects every fault that can happen, under load, and checks what each client saw against the log.

mod case;
mod client;
mod clients;
mod combination;
mod disk;
mod fault;
mod html;
mod injection;
mod measure;
mod outcome;
mod progress;
mod redis;
mod report;
mod rows;
mod single_sender;
mod table;
mod testbed;
pub mod upgrade;
mod workload;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;
use futures_util::future::try_join_all;
use tokio::signal::unix::{SignalKind, signal};

use case::Schedule;
use fault::{Case, Fault, RedisKind};
use outcome::Outcome;
use report::Run;
use testbed::{NodeSettings, Testbed};

/// Duration of each fault in the short form, in seconds.
const SHORT: u64 = 6;
/// Seed of the short form.
const SHORT_SEED: u64 = 1;
/// Cases that the short form runs at once. They wait most of the time.
const CASES_AT_ONCE: usize = 2;

/// Injects faults under load, one after the other, and counts lost, duplicated, reordered and altered messages.
#[derive(clap::Args)]
pub struct Arguments {
    /// Injects this fault; may be given several times. By default, and with `all`: every fault
    #[arg(long = "fault", value_name = "NAME", value_parser = parse_fault, long_help = faults_help())]
    faults: Vec<Choice>,
    /// How long each fault is repeated
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(4..))]
    seconds: u64,
    /// Injects each fault once, as `cargo xtask test` does
    #[arg(long, conflicts_with = "seconds")]
    short: bool,
    /// Draws the same targets, times and combinations as the run that printed this seed
    #[arg(long)]
    seed: Option<u64>,
    /// The Redis for all faults. By default one server; for redis-failover both others; for combination also Sentinel
    #[arg(long, value_enum)]
    redis: Option<RedisKind>,
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=16))]
    nodes: u8,
    /// How many clients
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(50..=5000))]
    clients: u16,
    /// How many messages all clients together send per second
    #[arg(long, value_name = "SENDS", default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..))]
    rate: u32,
    /// Says in the reports that the program was built with optimisations
    #[arg(long)]
    release: bool,
    /// Runs this program instead of the one beside this
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Sets an environment variable of all nodes; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_variable)]
    node_env: Vec<(String, String)>,
    /// Writes the report to this file as JSON, after each fault
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes a page with the latency over time to this file, after each fault
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Values of `--fault`.
#[derive(Clone, Copy)]
enum Choice {
    All,
    One(Fault),
}

/// Injects the faults that were asked for. Returns whether everything held.
pub async fn run(arguments: &Arguments) -> Result<bool> {
    let stopped = stop_signals()?;
    let held = tokio::select! {
        held = inject_all(arguments) => held?,
        () = stopped => anyhow::bail!("interrupted"),
    };
    // By now all servers have been dropped, which ended them.
    starling_testkit::remove_own()?;
    Ok(held)
}

async fn inject_all(arguments: &Arguments) -> Result<bool> {
    let program = crate::program::program(arguments.program.as_ref()).await?;
    let cases = cases(arguments);
    let seed = match arguments.seed {
        Some(seed) => seed,
        // The same for each short run: a test that draws anew blames one change for what another one broke.
        None if arguments.short => SHORT_SEED,
        None => u64::from(rand::random::<u32>()),
    };
    let run = Run {
        seed,
        seconds: if arguments.short { SHORT } else { arguments.seconds },
        nodes: usize::from(arguments.nodes),
        members: usize::from(arguments.clients),
        sends_per_second: f64::from(arguments.rate),
        release: arguments.release,
        cases: cases.len(),
    };
    println!(
        "{} nodes, {} clients, {} sends per second, {} s per fault, seed {}",
        run.nodes, run.members, run.sends_per_second, run.seconds, run.seed
    );
    let drain = Duration::from_secs(if run.seconds <= SHORT { 4 } else { 12 });
    let settings = NodeSettings { program, nodes: run.nodes, drain, env: arguments.node_env.clone() };
    // A long run that is interrupted leaves a report of what it has done.
    let save = |outcomes: &[Outcome]| save(arguments, &run, outcomes);
    let outcomes = run_all(
        &cases,
        &settings,
        schedule(&run, arguments.short),
        if arguments.short { CASES_AT_ONCE } else { 1 },
        save,
    )
    .await?;
    println!("\n{}", table::table(&outcomes, std::io::stdout().is_terminal()));
    println!("To repeat this run: --seed {}", run.seed);
    let passed = outcomes.iter().filter(|outcome| outcome.is_sound()).count();
    println!("\n{passed} passed, {} failed", outcomes.len() - passed);
    Ok(passed == outcomes.len())
}

/// Writes the requested reports.
fn save(arguments: &Arguments, run: &Run, outcomes: &[Outcome]) -> Result<()> {
    if let Some(file) = &arguments.json {
        replace(file, &format!("{:#}\n", report::json(run, outcomes)))?;
    }
    if let Some(file) = &arguments.html {
        replace(file, &html::page(run, outcomes))?;
    }
    Ok(())
}

/// Replaces a file at once, so that it is always complete.
fn replace(file: &Path, text: &str) -> Result<()> {
    let next = file.with_added_extension("part");
    let written = std::fs::write(&next, text).and_then(|()| std::fs::rename(&next, file));
    written.with_context(|| format!("write {}", file.display()))
}

pub(crate) fn parse_variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it looks like NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs all cases in this many rows beside each other, those with the same topology on the same servers, and saves the outcomes after
/// each. A case that can't be carried out has failed, and the next one runs all the same.
async fn run_all(
    cases: &[Case],
    settings: &NodeSettings,
    schedule: Schedule,
    at_once: usize,
    save: impl Fn(&[Outcome]) -> Result<()>,
) -> Result<Vec<Outcome>> {
    // By the cases' numbers.
    let outcomes: RefCell<BTreeMap<usize, Outcome>> = RefCell::default();
    let outcomes_so_far = || -> Vec<Outcome> { outcomes.borrow().values().cloned().collect() };
    let run_row = async |numbers: Vec<usize>| -> Result<()> {
        let mut standing: Option<Testbed> = None;
        for number in numbers {
            let (case, begun) = (cases[number], Instant::now());
            let outcome = match run_case(case, &mut standing, settings, &schedule, number).await {
                Ok(outcome) => outcome,
                Err(error) => {
                    // The servers may be in any state; the next case gets new ones.
                    standing = None;
                    Outcome::broken(case, &error, begun.elapsed())
                }
            };
            let word = if outcome.is_sound() { "ok" } else { "FAILED" };
            println!("  {:<28} {word:<7} {:>5.1} s", outcome.name, begun.elapsed().as_secs_f64());
            outcomes.borrow_mut().insert(number, outcome);
            save(&outcomes_so_far())?;
        }
        Ok(())
    };
    try_join_all(rows::of(cases, at_once).into_iter().map(run_row)).await?;
    Ok(outcomes_so_far())
}

/// Runs a case on the standing servers, or on new ones if it needs another topology.
async fn run_case(
    case: Case,
    standing: &mut Option<Testbed>,
    settings: &NodeSettings,
    schedule: &Schedule,
    number: usize,
) -> Result<Outcome> {
    if standing.as_ref().is_none_or(|testbed| testbed.topology() != case.topology) {
        // The old servers end before the new ones start, to save memory.
        drop(standing.take());
        *standing = Some(Testbed::start(case.topology, settings).await?);
    }
    case::run(case, standing.as_mut().context("a stage stands")?, schedule, number).await
}

/// The requested cases in the order of the faults, in which those with the same topology are neighbours.
fn cases(arguments: &Arguments) -> Vec<Case> {
    let wanted = |fault: &Fault| {
        arguments.faults.is_empty()
            || arguments.faults.iter().any(|choice| match choice {
                Choice::All => true,
                Choice::One(one) => one == fault,
            })
    };
    let mut cases = Vec::new();
    for fault in Fault::value_variants().iter().filter(|fault| wanted(fault)) {
        match Case::of(*fault, arguments.redis) {
            Ok(of) => cases.extend(of),
            Err(why) => println!("  {:<28} left out: {why}", fault.name()),
        }
    }
    cases
}

fn schedule(run: &Run, short: bool) -> Schedule {
    let times = |settle: f64, least: f64, most: f64| {
        let seconds = Duration::from_secs_f64;
        (seconds(settle), (seconds(least), seconds(most)))
    };
    let (settle, hold) =
        if short || run.seconds <= SHORT { times(1.5, 3.0, 3.0) } else { times(4.0, 3.0, 10.0) };
    Schedule {
        lasts: Duration::from_secs(run.seconds),
        settle,
        hold,
        members: run.members,
        sends_per_second: run.sends_per_second,
        seed: run.seed,
    }
}

fn parse_fault(text: &str) -> Result<Choice, String> {
    if text == "all" {
        return Ok(Choice::All);
    }
    Fault::from_str(text, false).map(Choice::One).map_err(|_| {
        let names: Vec<String> = Fault::value_variants().iter().map(|fault| fault.name()).collect();
        format!("the faults are all, {}", names.join(", "))
    })
}

fn faults_help() -> String {
    let line = |fault: &Fault| format!("  {:<24} {}", fault.name(), fault.about());
    let lines: Vec<String> = Fault::value_variants().iter().map(line).collect();
    format!(
        "Injects this fault; may be given several times. By default, and with `all`: every fault\n\n{}",
        lines.join("\n")
    )
}

/// Completes on Ctrl-C or SIGTERM.
fn stop_signals() -> Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
