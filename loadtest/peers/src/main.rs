//! Runs Starling beside other servers of its kind, and measures how its costs grow. `cargo xtask peers`, `cargo xtask growth`,
//! `cargo xtask jobs`, `cargo xtask held-snapshot` and `cargo xtask performance` build and run this program.

mod install;
mod jobs;
mod pages;
mod peer;
mod report;
mod results;
mod scenario;
mod servers;
mod studies;
mod svg;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};

use install::Programs;
use jobs::{HeldArguments, JobsArguments, JobsComparison};
use peer::Peer;
use results::{About, Comparison, Growth, Run};
use scenario::Scenario;
use servers::{Setup, Task};

/// The longest that one run may count.
const SECONDS_MAX: f64 = 120.0;

/// Runs Starling beside other servers, and measures how its costs grow.
#[derive(Parser)]
#[command(name = "peers")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs servers one after the other in each scenario, and writes the tables
    Compare(Compare),
    /// Measures how Starling's costs grow with members, sessions, load and nodes
    Growth(GrowthArguments),
    /// Runs Starling's jobs beside graphile-worker, pg-boss and BullMQ, and writes the tables
    Jobs(JobsArguments),
    /// Measures claims of jobs while another session holds an old snapshot
    HeldSnapshot(HeldArguments),
    /// Writes the tables and charts of docs/performance.md anew from the results
    Pages(Pages),
}

/// What both measurements need.
#[derive(clap::Args)]
struct Common {
    /// Starling's program, from a release build
    #[arg(long, value_name = "PATH")]
    program: PathBuf,
    /// Seconds that count in each run
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// The core of the nodes
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core of the generator, Redis and PostgreSQL
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Where results and the report go; by default into the build folder
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Keeps the results beside the code, from where they get into docs/performance.md
    #[arg(long)]
    keep: bool,
}

#[derive(clap::Args)]
struct Compare {
    #[command(flatten)]
    common: Common,
    /// Only these servers. The limit should be among them: all others are divided by it
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Only these scenarios
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<Scenario>,
    /// How often everything runs. Every second time the servers run in reverse order
    #[arg(long, default_value_t = 3)]
    repeat: u32,
    /// Only installs the servers
    #[arg(long)]
    only_install: bool,
}

#[derive(clap::Args)]
struct GrowthArguments {
    #[command(flatten)]
    common: Common,
    /// Only these studies: members, sessions, load-redis, load-sql, nodes-redis, nodes-cpu
    #[arg(long, value_delimiter = ',')]
    studies: Vec<String>,
}

#[derive(clap::Args)]
struct Pages {
    /// The results of a comparison, instead of the kept ones. They are kept
    #[arg(long, value_name = "PATH")]
    peers: Option<PathBuf>,
    /// The results of the growth studies, instead of the kept ones. They are kept
    #[arg(long, value_name = "PATH")]
    growth: Option<PathBuf>,
    /// The results of the comparison of jobs, instead of the kept ones. They are kept
    #[arg(long, value_name = "PATH")]
    jobs: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Compare(arguments) => compare(&arguments).await,
        Command::Growth(arguments) => growth(&arguments).await,
        Command::Jobs(arguments) => match target() {
            Ok(target) => jobs::compare(&arguments, &target).await,
            Err(error) => Err(error),
        },
        Command::HeldSnapshot(arguments) => match target() {
            Ok(target) => jobs::held_snapshot(&arguments, &target).await,
            Err(error) => Err(error),
        },
        Command::Pages(arguments) => write_pages(&arguments),
    };
    let done = done.and_then(|()| starling_testkit::remove_own());
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Common {
    fn setup(&self, programs: Programs) -> Result<Setup> {
        ensure!(
            self.seconds > 0.0 && self.seconds <= SECONDS_MAX,
            "--seconds: above 0, at most {SECONDS_MAX}"
        );
        ensure!(self.server_core != self.load_core, "nodes and load need a core each");
        let Self { seconds, server_core, load_core, .. } = *self;
        Ok(Setup { programs, server_core, load_core, seconds })
    }

    /// Writes results and the report.
    fn write(&self, comparison: Option<&Comparison>, growth: Option<&Growth>) -> Result<()> {
        let folder = self.output.clone().map_or_else(|| Ok(target()?.join("peers/report")), anyhow::Ok)?;
        std::fs::create_dir_all(&folder)?;
        let name = if comparison.is_some() { "peers" } else { "growth" };
        let mut places = vec![folder.join(format!("{name}.json"))];
        if self.keep {
            let place = results::place(name);
            std::fs::create_dir_all(place.parent().unwrap_or(&folder))?;
            places.push(place);
        }
        for place in &places {
            match (comparison, growth) {
                (Some(comparison), _) => results::write(place, comparison)?,
                (None, growth) => results::write(place, &growth)?,
            }
        }
        let markdown = comparison.map(report::comparison).or(growth.map(report::growth)).unwrap_or_default();
        std::fs::write(folder.join(format!("{name}.md")), &markdown)?;
        let page = folder.join(format!("{name}.html"));
        std::fs::write(&page, report::page(comparison, growth))?;
        println!("\n{markdown}\n{}", page.display());
        Ok(())
    }
}

/// The build folder: this program lies in `TARGET/debug`.
fn target() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.ancestors().nth(2).context("the build folder")?.to_owned())
}

fn release() -> Result<PathBuf> {
    Ok(target()?.join("release"))
}

async fn compare(arguments: &Compare) -> Result<()> {
    let common = &arguments.common;
    let peers = if arguments.peers.is_empty() { Peer::value_variants() } else { &arguments.peers };
    let scenarios =
        if arguments.scenarios.is_empty() { Scenario::value_variants() } else { &arguments.scenarios };
    let setup = common.setup(install::install(peers, &common.program, &release()?)?)?;
    if arguments.only_install {
        return Ok(());
    }
    let about = About::here(common.seconds, arguments.repeat);
    let mut comparison = Comparison { about, runs: Vec::new() };
    for repetition in 0..arguments.repeat {
        for scenario in scenarios {
            let mut order: Vec<Peer> = peers.iter().copied().filter(|peer| scenario.suits(*peer)).collect();
            if repetition % 2 == 1 {
                order.reverse();
            }
            for peer in order {
                let run = run(&setup, peer, *scenario, repetition).await;
                println!("{}", line(&run));
                comparison.runs.push(run);
            }
        }
    }
    common.write(Some(&comparison), None)
}

/// Runs a server in a scenario. A server that can't be run is a run that does not count.
async fn run(setup: &Setup, peer: Peer, scenario: Scenario, repetition: u32) -> Run {
    let task = Task {
        peer,
        nodes: scenario.nodes(),
        dialect: scenario.dialect(peer),
        shape: scenario.shape(),
        pace: scenario.pace(),
        generator_per_node: false,
        counts_statements: false,
    };
    match Box::pin(setup.run(task)).await {
        Ok(outcomes) => Run::new(peer, scenario, repetition, outcomes.into_iter().next().unwrap_or_default()),
        Err(error) => {
            let mut run = Run::new(peer, scenario, repetition, starling_peers_load::Outcome::default());
            run.fault = Some(format!("{error:#}"));
            run
        }
    }
}

/// A run in one line.
fn line(run: &Run) -> String {
    let outcome = &run.outcome;
    let figures = if run.scenario.is_idle() {
        format!(
            "{:>8.0} bytes a connection {:>8.1} µs a handshake",
            outcome.connection_bytes, outcome.handshake_nodes_us
        )
    } else {
        format!(
            "{:>9.0} messages/s {:>8.2} node µs a delivery, cores: nodes {:.2}, generator {:.2}",
            outcome.messages_per_second,
            outcome.nodes_us_per_delivery(),
            outcome.nodes_share(),
            outcome.generator_share()
        )
    };
    let fault = run.fault.as_ref().map(|fault| format!("  DOES NOT COUNT: {fault}")).unwrap_or_default();
    format!(
        "{:>2} {:<15} {:<20} {figures}{fault}",
        run.repetition,
        format!("{:?}", run.scenario),
        run.peer.name()
    )
}

async fn growth(arguments: &GrowthArguments) -> Result<()> {
    let common = &arguments.common;
    for name in &arguments.studies {
        ensure!(studies::STUDIES.iter().any(|study| study.name == name), "there is no study {name}");
    }
    let setup = common.setup(install::install(&[Peer::Starling], &common.program, &release()?)?)?;
    let mut growth = Growth { about: About::here(common.seconds, 1), points: Vec::new() };
    let wanted = |names: &[&str]| {
        arguments.studies.is_empty()
            || names.iter().any(|name| arguments.studies.iter().any(|given| given == name))
    };
    for measurement in studies::measurements().into_iter().filter(|one| wanted(one.studies)) {
        let name = measurement.name();
        let points = measurement.run(&setup).await.with_context(|| name.clone())?;
        let fault = points.first().and_then(|point| point.fault.clone());
        println!("{name}{}", fault.map(|fault| format!("  DOES NOT COUNT: {fault}")).unwrap_or_default());
        growth.points.extend(points);
    }
    common.write(None, Some(&growth))
}

fn write_pages(arguments: &Pages) -> Result<()> {
    let comparison: Option<Comparison> = keep("peers", arguments.peers.as_deref())?;
    let growth: Option<Growth> = keep("growth", arguments.growth.as_deref())?;
    let jobs: Option<JobsComparison> = keep("jobs", arguments.jobs.as_deref())?;
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    pages::write(&docs, comparison.as_ref(), growth.as_ref(), jobs.as_ref())
}

/// Keeps results that are given, or reads the kept ones.
fn keep<T: serde::de::DeserializeOwned + serde::Serialize>(
    name: &str,
    given: Option<&Path>,
) -> Result<Option<T>> {
    let Some(path) = given else { return results::kept(name) };
    let given = results::read(path)?;
    let place = results::place(name);
    if let Some(folder) = place.parent() {
        std::fs::create_dir_all(folder)?;
    }
    results::write(&place, &given)?;
    Ok(Some(given))
}
