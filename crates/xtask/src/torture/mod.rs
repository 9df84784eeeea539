//! `cargo xtask torture`: everything that can break is broken on purpose, under load, and what every client saw is counted.

mod case;
mod crowd;
mod disk;
mod draw;
mod fault;
mod html;
mod measure;
mod member;
mod outcome;
mod pulse;
mod quiet;
mod redis;
mod report;
mod stage;
mod strike;
mod table;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};

use crate::workspace;
use case::Pace;
use fault::{Case, Fault, RedisKind};
use outcome::Outcome;
use report::Run;
use stage::{Fleet, Stage};

/// How long the short form does each fault.
const SHORT: u64 = 6;
/// What the short form in the tests draws its combinations from.
const SHORT_SEED: u64 = 1;

/// Breaks things on purpose under load, one fault after the other, and counts what was lost, doubled, swapped or altered.
#[derive(clap::Args)]
pub struct Arguments {
    /// Does this fault; may be given several times. Without it, or with `all`: every one
    #[arg(long = "fault", value_name = "NAME", value_parser = parse_fault, long_help = faults_help())]
    faults: Vec<Choice>,
    /// How long each fault is done for, again and again
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(4..))]
    seconds: u64,
    /// Does each fault once, as `cargo xtask test` does
    #[arg(long, conflicts_with = "seconds")]
    short: bool,
    /// Draws the same targets, times and combinations again as the run that printed it
    #[arg(long)]
    seed: Option<u64>,
    /// The Redis for all faults. Without it: one server, for redis-failover both others, and for combination Sentinel, too
    #[arg(long, value_enum)]
    redis: Option<RedisKind>,
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=16))]
    nodes: u8,
    /// How many clients
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(50..=5000))]
    clients: u16,
    /// How many messages all of them together send in a second
    #[arg(long, value_name = "SENDS", default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..))]
    rate: u32,
    /// Builds the program with optimisations
    #[arg(long)]
    release: bool,
    /// Runs this program, and builds none
    #[arg(long, value_name = "PATH", conflicts_with = "release")]
    program: Option<PathBuf>,
    /// Sets a variable for all nodes; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_variable)]
    node_env: Vec<(String, String)>,
    /// Writes everything to this file as JSON, anew after each fault
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes a page with the latency over time to this file, anew after each fault
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// What `--fault` takes.
#[derive(Clone, Copy)]
enum Choice {
    All,
    One(Fault),
}

/// How a run went: how many cases held, and how many did not.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    /// Nothing went wrong in these.
    pub passed: u64,
    /// Something did in these.
    pub failed: u64,
}

/// Does the faults that were asked for. Returns whether nothing went wrong.
pub async fn run(arguments: &Arguments) -> Result<bool> {
    let stopped = told_to_stop()?;
    let tally = tokio::select! {
        tally = torture(arguments) => tally?,
        () = stopped => anyhow::bail!("interrupted"),
    };
    // By now all servers have been dropped, and thereby ended.
    starling_testkit::remove_own()?;
    Ok(tally.failed == 0)
}

/// The short form of every fault.
pub async fn short() -> Result<Tally> {
    torture(&Arguments {
        faults: Vec::new(),
        seconds: SHORT,
        short: true,
        // The same each time: a test that draws anew finds on one change what another broke.
        seed: Some(SHORT_SEED),
        redis: None,
        nodes: 3,
        clients: 200,
        rate: 200,
        release: false,
        program: None,
        node_env: Vec::new(),
        json: None,
        html: None,
    })
    .await
}

async fn torture(arguments: &Arguments) -> Result<Tally> {
    let program = match &arguments.program {
        Some(program) => std::path::absolute(program)?,
        None => workspace::build_program(arguments.release).await?,
    };
    let cases = cases(arguments);
    let run = Run {
        seed: arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u32>())),
        seconds: if arguments.short { SHORT } else { arguments.seconds },
        nodes: usize::from(arguments.nodes),
        members: usize::from(arguments.clients),
        sends_per_second: f64::from(arguments.rate),
        release: arguments.release,
        cases: cases.len(),
    };
    println!(
        "{} nodes, {} clients, {} sends a second, {} s a fault, seed {}",
        run.nodes, run.members, run.sends_per_second, run.seconds, run.seed
    );
    let drain = Duration::from_secs(if run.seconds <= SHORT { 4 } else { 12 });
    let fleet = Fleet { program, nodes: run.nodes, drain, env: arguments.node_env.clone() };
    // A long run that is cut short leaves a report of what it has done.
    let save = |outcomes: &[Outcome]| save(arguments, &run, outcomes);
    let outcomes = all(&cases, &fleet, pace(&run, arguments.short), save).await?;
    println!("\n{}", table::table(&outcomes, std::io::stdout().is_terminal()));
    println!("Seed {}: give it again with --seed {} to draw the same.", run.seed, run.seed);
    let passed = outcomes.iter().filter(|outcome| outcome.is_sound()).count() as u64;
    Ok(Tally { passed, failed: outcomes.len() as u64 - passed })
}

/// Writes the reports that were asked for.
fn save(arguments: &Arguments, run: &Run, outcomes: &[Outcome]) -> Result<()> {
    if let Some(file) = &arguments.json {
        replace(file, &format!("{:#}\n", report::json(run, outcomes)))?;
    }
    if let Some(file) = &arguments.html {
        replace(file, &html::page(run, outcomes))?;
    }
    Ok(())
}

/// Whoever reads the file, or cuts the run short, finds it whole.
fn replace(file: &Path, text: &str) -> Result<()> {
    let next = file.with_added_extension("part");
    let written = std::fs::write(&next, text).and_then(|()| std::fs::rename(&next, file));
    written.with_context(|| format!("write {}", file.display()))
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it looks like NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Does all cases, those with the same needs on the same servers, and hands over what is done after each. One that can't be done, or
/// not to its end, has failed, and the next one is done all the same.
async fn all(
    cases: &[Case],
    fleet: &Fleet,
    pace: Pace,
    save: impl Fn(&[Outcome]) -> Result<()>,
) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    let mut standing: Option<Stage> = None;
    for (number, case) in cases.iter().enumerate() {
        let begun = Instant::now();
        let outcome = match one(*case, &mut standing, fleet, &pace, number).await {
            Ok(outcome) => outcome,
            Err(error) => {
                // Whatever state it is in, the next case is not to suffer from it.
                standing = None;
                Outcome::broken(*case, &error, begun.elapsed())
            }
        };
        let word = if outcome.is_sound() { "ok" } else { "FAILED" };
        println!("  {:<28} {word:<7} {:>5.1} s", outcome.name, begun.elapsed().as_secs_f64());
        outcomes.push(outcome);
        save(&outcomes)?;
    }
    Ok(outcomes)
}

/// Does a case on what stands, or on something new where that is not what it needs.
async fn one(
    case: Case,
    standing: &mut Option<Stage>,
    fleet: &Fleet,
    pace: &Pace,
    number: usize,
) -> Result<Outcome> {
    if standing.as_ref().is_none_or(|stage| stage.topology() != case.topology) {
        // The old one ends before the new one begins: the machine is not theirs alone.
        drop(standing.take());
        *standing = Some(Stage::start(case.topology, fleet).await?);
    }
    case::run(case, standing.as_mut().context("a stage stands")?, pace, number).await
}

/// What was asked for, in the order of the faults: those with the same needs stand together there.
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

fn pace(run: &Run, short: bool) -> Pace {
    let times = |calm: f64, least: f64, most: f64| {
        let seconds = Duration::from_secs_f64;
        (seconds(calm), (seconds(least), seconds(most)))
    };
    let (calm, hold) =
        if short || run.seconds <= SHORT { times(1.5, 3.0, 3.0) } else { times(4.0, 3.0, 10.0) };
    Pace {
        lasts: Duration::from_secs(run.seconds),
        calm,
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
        "Does this fault; may be given several times. Without it, or with `all`: every one\n\n{}",
        lines.join("\n")
    )
}

/// Ctrl-C and SIGTERM end it with all its servers.
fn told_to_stop() -> Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
