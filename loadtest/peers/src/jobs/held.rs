//! Claims of jobs while another session holds an old snapshot, such as a backup: `peers held-snapshot`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use super::held_report;
use super::place::Place;
use crate::results::{self as kept, About};

/// The longest that a snapshot may be held: a day.
const HOLD_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long jobs run before anything is measured.
const WARM_SECONDS: f64 = 20.0;
/// How long jobs run after the snapshot was released.
const AFTER_SECONDS: f64 = 120.0;
/// How much longer than its plan a run may take.
const LIMIT: Duration = Duration::from_secs(300);

/// Arguments of the measurement.
#[derive(clap::Args)]
pub struct HeldArguments {
    /// The program that adds and does jobs; by default the one of the release build
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// How long the snapshot is held, such as 90s, 5m or 1h
    #[arg(long, default_value = "30m", value_parser = duration)]
    hold: Duration,
    /// How long jobs run before that
    #[arg(long, default_value = "1m", value_parser = duration)]
    before: Duration,
    /// Jobs a second
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// Where the results go; by default into the build folder
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Held {
    /// Where and when.
    pub about: About,
    /// Jobs a second.
    pub rate: f64,
    /// How long the snapshot was held.
    pub hold_seconds: f64,
    /// The slices, in their order.
    pub slices: Vec<Slice>,
    /// Jobs that were left at the end.
    pub left: u64,
}

/// A part of the time.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Slice {
    /// `warm-up`, `before`, `during` or `after`.
    pub phase: String,
    /// When it began, after the beginning of the phase.
    pub from_seconds: f64,
    /// When it ended.
    pub to_seconds: f64,
    /// Jobs that were done.
    pub jobs: u64,
    /// Claims of jobs.
    pub claim: Figures,
    /// Looks for jobs that have become ready.
    pub look: Figures,
    /// Reports of jobs that are done.
    pub finish: Figures,
    /// Additions of jobs.
    pub add: Figures,
    /// From a job's being ready to its being claimed.
    pub begun: Figures,
}

/// Times of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Figures {
    /// How many.
    pub count: u64,
    /// The middle one.
    pub p50_ms: f64,
    /// Exceeded by one in a hundred.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// Reads `90s`, `5m` or `1h`.
fn duration(text: &str) -> Result<Duration> {
    let units = [('s', 1.0), ('m', 60.0), ('h', 3600.0)];
    let found = units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(*unit)?, seconds)));
    let (number, unit) = found.with_context(|| format!("{text}: write 90s, 5m or 1h"))?;
    let number: f64 = number.parse().with_context(|| format!("{text}: write 90s, 5m or 1h"))?;
    let seconds = number * unit;
    let most = HOLD_MAX.as_secs_f64();
    ensure!(seconds >= 1.0 && seconds <= most, "{text}: must be a second to a day");
    Ok(Duration::from_secs_f64(seconds))
}

/// Measures, and prints a line for each slice and the result.
pub async fn held_snapshot(arguments: &HeldArguments, target: &Path) -> Result<()> {
    let program = arguments.program.clone().unwrap_or_else(|| target.join("release/peers-jobs"));
    ensure!(program.is_file(), "{} is missing: `cargo xtask held-snapshot` builds it", program.display());
    ensure!(arguments.rate >= 1.0 && arguments.rate <= 10_000.0, "--rate: 1 to 10,000");
    let (before, hold) = (arguments.before.as_secs_f64(), arguments.hold.as_secs_f64());
    let place = Place::start().await?;
    let mut held =
        Held { about: About::here(hold, 1), rate: arguments.rate, hold_seconds: hold, ..Held::default() };
    let plan = json!({
        "scenario": "held", "url": place.postgres().url(), "at_once": 10, "adders": 16, "rate": arguments.rate,
        "seconds": hold, "jobs": 0, "outstanding": 0, "payload_bytes": 128,
        "held": {
            "warm_seconds": WARM_SECONDS, "before_seconds": before, "hold_seconds": hold,
            "after_seconds": AFTER_SECONDS, "slice_seconds": 60.0, "after_slice_seconds": 20.0,
        },
    });
    let limit = LIMIT + Duration::from_secs_f64(WARM_SECONDS + before + hold + AFTER_SECONDS);
    timeout(limit, follow(&program, &plan.to_string(), &mut held)).await.context("it takes too long")??;
    let folder = arguments.output.clone().unwrap_or_else(|| target.join("peers/report"));
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    kept::write(&folder.join("held-snapshot.json"), &held)?;
    println!("\n{}", held_report::markdown(&held));
    Ok(())
}

/// A line of the program.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Line {
    Slice(Slice),
    Settled { lost: u64 },
}

async fn follow(program: &Path, plan: &str, held: &mut Held) -> Result<()> {
    let mut command = Command::new(program);
    command.arg(plan).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| program.display().to_string())?;
    let mut answers = child.stdin.take().context("the program's input")?;
    let mut lines = BufReader::new(child.stdout.take().context("the program's output")?).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line).with_context(|| line.clone())? {
            Line::Slice(slice) => {
                println!("{}", held_report::line(&slice));
                held.slices.push(slice);
            }
            Line::Settled { lost } => held.left = lost,
        }
        answers.write_all(b"go\n").await.context("answer the program")?;
    }
    ensure!(child.wait().await?.success(), "the program failed: its own messages say why");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_unit() {
        let seconds = |text| duration(text).ok().map(|time| time.as_secs());
        assert_eq!((seconds("90s"), seconds("5m"), seconds("1h")), (Some(90), Some(300), Some(3600)));
        for text in ["", "5", "m", "5d", "-5m", "0s", "25h", "5é"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
