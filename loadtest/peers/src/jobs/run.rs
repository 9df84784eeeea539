//! One run: a driver adds jobs to one system and does them, and the processor time of everything is read at the marks that it prints.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;
use serde_json::json;
use starling_peers_load::processor_ns;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::Programs;
use super::place::{Ground, Place, token};
use super::results::{JobsComparison, JobsRun, Part};
use super::system::{JobsScenario, System};

/// How much longer than its plan a run may take.
const LIMIT: Duration = Duration::from_secs(300);

/// A line of a driver.
#[derive(Debug, Deserialize)]
struct Mark {
    event: Event,
    #[serde(default)]
    jobs: u64,
    #[serde(default)]
    seconds: f64,
    #[serde(default)]
    lost: u64,
    #[serde(default)]
    doubled: u64,
    p50_ms: Option<f64>,
    p90_ms: Option<f64>,
    p99_ms: Option<f64>,
    max_ms: Option<f64>,
}

/// What a line says. Times count from `Adding` to `Added`, and from `Begin` to `End`; `Settled` says what was lost and doubled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Event {
    Adding,
    Added,
    Begin,
    End,
    Settled,
}

/// Processor time, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Clocks {
    driver: u64,
    node: u64,
    postgres: u64,
    redis: u64,
}

/// Keeps this process, and so all that it starts, on some cores.
pub fn pin_own(cores: &str) -> Result<()> {
    let mut command = std::process::Command::new("taskset");
    command.args(["-acp", cores, &std::process::id().to_string()]).stdout(Stdio::null());
    ensure!(command.status().context("run taskset")?.success(), "--cores {cores}: taskset refuses it");
    Ok(())
}

/// Runs a system in a scenario. One that can't be run is a run that does not count.
///
/// # Errors
/// When the servers that all share fail.
pub async fn run(
    place: &mut Place,
    programs: &Programs,
    comparison: &JobsComparison,
    system: System,
    scenario: JobsScenario,
    round: u32,
) -> Result<JobsRun> {
    let ground = place.prepare(system.has_node(), programs).await?;
    let driven = drive(place, &ground, programs, comparison, system, scenario).await;
    place.clear(ground).await?;
    let mut run = JobsRun { system, scenario, round, fault: None, done: Part::default(), added: None };
    match driven {
        Ok(driven) => (run.done, run.added, run.fault) = driven,
        Err(error) => run.fault = Some(format!("{error:#}")),
    }
    Ok(run)
}

async fn drive(
    place: &Place,
    ground: &Ground,
    programs: &Programs,
    comparison: &JobsComparison,
    system: System,
    scenario: JobsScenario,
) -> Result<(Part, Option<Part>, Option<String>)> {
    let (load, seconds) = (&comparison.load, comparison.about.seconds);
    let redis = place.redis().address();
    let url = ground.node.as_ref().map_or(ground.database.clone(), |node| node.http_url());
    let plan = json!({
        "system": system.driver().unwrap_or_default(),
        "scenario": scenario.name(),
        "batch": system.batch(),
        "url": url,
        "redis": {"host": redis.ip().to_string(), "port": redis.port()},
        "token": ground.node.as_ref().map(token),
        "at_once": load.at_once,
        "adders": load.adders,
        "rate": load.rate,
        "seconds": seconds,
        "jobs": load.jobs,
        "outstanding": load.outstanding,
        "payload_bytes": load.payload_bytes,
    });
    let mut command = if system.driver().is_some() {
        let mut command = Command::new(&programs.node);
        command.arg(&programs.drive);
        command
    } else {
        Command::new(&programs.inside)
    };
    command.arg(plan.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("start the driver")?;
    let pid = child.id().context("the driver has ended")?;
    let clocks = || Clocks {
        driver: processor_ns(pid),
        node: ground.node.as_ref().map_or(0, |node| processor_ns(node.pid())),
        postgres: processor_ns(place.postgres().pid()),
        redis: processor_ns(place.redis().pid()),
    };
    let limit = LIMIT + Duration::from_secs_f64(seconds);
    timeout(limit, follow(&mut child, clocks)).await.context("the driver takes too long")?
}

/// Reads the driver's marks, and answers each.
async fn follow(
    child: &mut Child,
    clocks: impl Fn() -> Clocks,
) -> Result<(Part, Option<Part>, Option<String>)> {
    let mut answers = child.stdin.take().context("the driver's input")?;
    let mut lines = BufReader::new(child.stdout.take().context("the driver's output")?).lines();
    let (mut before, mut done, mut added, mut fault) = (Clocks::default(), None, None, None);
    let mut settled = false;
    while let Some(line) = lines.next_line().await? {
        if !line.starts_with('{') {
            continue;
        }
        let mark: Mark = serde_json::from_str(&line).with_context(|| line.clone())?;
        let now = clocks();
        match mark.event {
            Event::Adding | Event::Begin => before = now,
            Event::Added => added = Some(part(&mark, before, now)),
            Event::End => done = Some(part(&mark, before, now)),
            Event::Settled => (settled, fault) = (true, self::fault(&mark)),
        }
        answers.write_all(b"go\n").await.context("answer the driver")?;
    }
    ensure!(child.wait().await?.success(), "the driver failed: its own messages say why");
    ensure!(settled, "the driver did not wait for all jobs");
    Ok((done.ok_or_else(|| anyhow!("the driver printed no outcome"))?, added, fault))
}

fn fault(mark: &Mark) -> Option<String> {
    if mark.doubled > 0 {
        return Some(format!("{} jobs begun twice", mark.doubled));
    }
    (mark.lost > 0).then(|| format!("{} jobs lost", mark.lost))
}

fn part(mark: &Mark, before: Clocks, now: Clocks) -> Part {
    let us = |clock: fn(&Clocks) -> u64| clock(&now).saturating_sub(clock(&before)) as f64 / 1e3;
    Part {
        jobs: mark.jobs,
        seconds: mark.seconds,
        p50_ms: mark.p50_ms.unwrap_or_default(),
        p90_ms: mark.p90_ms.unwrap_or_default(),
        p99_ms: mark.p99_ms.unwrap_or_default(),
        max_ms: mark.max_ms.unwrap_or_default(),
        driver_us: us(|clocks| clocks.driver),
        node_us: us(|clocks| clocks.node),
        postgres_us: us(|clocks| clocks.postgres),
        redis_us: us(|clocks| clocks.redis),
    }
}

/// A run in one line.
pub fn line(run: &JobsRun) -> String {
    let done = &run.done;
    let fault = run.fault.as_ref().map(|fault| format!("  DOES NOT COUNT: {fault}")).unwrap_or_default();
    format!(
        "{:>2} {:<7} {:<32} {:>8.0} jobs/s, begun after p50 {:>7.2} ms p99 {:>8.2} ms, {:>6.0} µs a job, of that the database {:>5.0}{fault}",
        run.round,
        run.scenario.name(),
        run.system.name(),
        done.rate(),
        done.p50_ms,
        done.p99_ms,
        done.us_per_job(),
        done.database_us_per_job(),
    )
}
