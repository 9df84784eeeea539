//! Starling's jobs beside those of graphile-worker, pg-boss and BullMQ, and claims while somebody holds an old snapshot.

mod held;
mod held_report;
mod install;
mod place;
mod results;
mod run;
mod system;
mod tables;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

pub use held::{HeldArguments, held_snapshot};
pub use install::Programs;
use place::Place;
pub use results::JobsComparison;
use results::JobsLoad;
use system::{JobsScenario, System};
pub use tables::markdown;

use crate::results::{self as kept, About};

/// The longest that a part of a run may count.
const SECONDS_MAX: f64 = 120.0;

/// Arguments of the comparison of jobs.
#[derive(clap::Args)]
pub struct JobsArguments {
    /// Starling's program, from a release build
    #[arg(long, value_name = "PATH")]
    program: PathBuf,
    /// The program that does Starling's jobs inside a process; by default the one of the release build
    #[arg(long, value_name = "PATH")]
    inside: Option<PathBuf>,
    /// Only these systems. Starling over HTTP should be among them: all others are divided by it
    #[arg(long, value_delimiter = ',')]
    systems: Vec<System>,
    /// Only these scenarios
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<JobsScenario>,
    /// How often everything runs. Every second time the systems run in reverse order
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds that count of the idle and of the steady scenario
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Jobs a second of the idle scenario
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Jobs that wait at the beginning of a drain
    #[arg(long, default_value_t = 5_000)]
    jobs: u32,
    /// Jobs that are done at a time
    #[arg(long, default_value_t = 10)]
    at_once: u16,
    /// Jobs that are added at a time
    #[arg(long, default_value_t = 16)]
    adders: u16,
    /// Jobs that are not done at any time of the steady scenario
    #[arg(long, default_value_t = 256)]
    outstanding: u32,
    /// The length of a payload
    #[arg(long, default_value_t = 128)]
    payload_bytes: u32,
    /// The cores that all processes share, as taskset takes them; by default all
    #[arg(long, value_name = "LIST")]
    cores: Option<String>,
    /// Where results go; by default into the build folder
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Keeps the results beside the code, from where they get into docs/performance.md
    #[arg(long)]
    keep: bool,
    /// Only installs the systems
    #[arg(long)]
    only_install: bool,
}

/// Runs the systems one after the other in each scenario, and writes the tables.
pub async fn compare(arguments: &JobsArguments, target: &Path) -> Result<()> {
    let systems = choice(&arguments.systems);
    let scenarios = choice(&arguments.scenarios);
    let (at_once, jobs) = (arguments.at_once, arguments.jobs);
    ensure!((10..=100).contains(&at_once) && at_once.is_multiple_of(10), "--at-once: 10, 20 … 100");
    ensure!((1..=1_000_000).contains(&jobs), "--jobs: 1 to 1,000,000");
    let seconds = arguments.seconds;
    ensure!(seconds > 0.0 && seconds <= SECONDS_MAX, "--seconds: above 0, at most {SECONDS_MAX}");
    ensure!(arguments.rate > 0.0 && arguments.rate <= 10_000.0, "--rate: above 0, at most 10,000");
    let programs = install::install(&arguments.program, arguments.inside.as_deref(), target)?;
    if arguments.only_install {
        return Ok(());
    }
    if let Some(cores) = &arguments.cores {
        run::pin_own(cores)?;
    }
    let load = JobsLoad {
        at_once,
        jobs,
        adders: arguments.adders,
        rate: arguments.rate,
        outstanding: arguments.outstanding,
        payload_bytes: arguments.payload_bytes,
    };
    let about = About::here(seconds, arguments.rounds);
    let mut comparison = JobsComparison { about, load, runs: Vec::new() };
    let mut place = Place::start().await?;
    for round in 0..arguments.rounds {
        for scenario in &scenarios {
            let mut order: Vec<System> =
                systems.iter().copied().filter(|system| scenario.suits(*system)).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for system in order {
                let run = run::run(&mut place, &programs, &comparison, system, *scenario, round).await?;
                println!("{}", run::line(&run));
                comparison.runs.push(run);
            }
        }
    }
    write(arguments, &comparison, target)
}

/// What was chosen, or all.
fn choice<T: ValueEnum + Clone>(chosen: &[T]) -> Vec<T> {
    if chosen.is_empty() { T::value_variants().to_vec() } else { chosen.to_vec() }
}

fn write(arguments: &JobsArguments, comparison: &JobsComparison, target: &Path) -> Result<()> {
    let folder = arguments.output.clone().unwrap_or_else(|| target.join("peers/report"));
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    kept::write(&folder.join("jobs.json"), comparison)?;
    if arguments.keep {
        kept::write(&kept::place("jobs"), comparison)?;
    }
    let markdown = markdown(comparison);
    let page = folder.join("jobs.md");
    std::fs::write(&page, &markdown)?;
    println!("\n{markdown}\n{}", page.display());
    Ok(())
}
