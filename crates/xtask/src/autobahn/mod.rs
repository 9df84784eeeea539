//! `cargo xtask autobahn`: the cases of the Autobahn test suite against Starling's listener, shards and WebSocket codec, by the
//! gateway's example `echo`.

mod client;
mod echo;
mod report;

use anyhow::{Context, Result};
use starling_testkit::install::{self, Tool};

use echo::Echo;
pub use report::Report;

/// Runs the Autobahn cases, and installs what is missing for that.
#[derive(clap::Args)]
pub struct Arguments {
    /// Runs these cases alone: an id, or a beginning with a star (9.*). All by default
    #[arg(value_name = "CASE")]
    cases: Vec<String>,
    /// Builds without optimisation, which is faster to build and slower to run
    #[arg(long)]
    debug: bool,
}

/// Groups that take seconds.
const QUICK_GROUPS: [&str; 9] = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"];
/// The groups on compression, one for each kind of data and of negotiation. Each case sends a thousand messages.
const COMPRESSION_GROUPS: [(u32, u32); 2] = [(12, 5), (13, 7)];
/// Their cases for every test: messages of 16 (too short to be compressed), 64, 1,024 and 16,384 bytes, and fragmented ones.
const COMPRESSION_CASES: [u32; 5] = [1, 2, 4, 7, 11];

/// Runs the cases and prints a table. Returns whether none has failed.
pub async fn run(arguments: &Arguments) -> Result<bool> {
    tokio::task::spawn_blocking(|| install::ensure_installed(&[Tool::Python])).await??;
    let report = report(&arguments.cases, !arguments.debug).await?;
    print!("{report}");
    Ok(report.is_sound())
}

/// Runs, against a build without optimisation, those cases that every test should run: all but most of compression.
pub async fn representative() -> Result<Report> {
    let mut cases: Vec<String> = QUICK_GROUPS.map(str::to_owned).into();
    for (group, parts) in COMPRESSION_GROUPS {
        for part in 1..=parts {
            cases.extend(COMPRESSION_CASES.map(|case| format!("{group}.{part}.{case}")));
        }
    }
    report(&cases, false).await
}

async fn report(cases: &[String], release: bool) -> Result<Report> {
    let python = client::installed().await?;
    let echo = Echo::start(release).await?;
    let lines = client::run(&python, echo.address(), cases).await?;
    let report = Report::read(&lines).context("read what the cases gave")?;
    let failed = report.failures();
    if failed.is_empty() {
        return Ok(report);
    }
    // Many cases give an answer half a second, and a machine may stand still for so long. What is wrong fails again.
    println!("once more: {}", failed.join(" "));
    let lines = client::run(&python, echo.address(), &failed).await?;
    Ok(report.amended(Report::read(&lines).context("read what the cases gave")?))
}
