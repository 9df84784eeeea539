//! One case: clients send messages while a fault is injected again and again, and what they saw is compared with the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::clients::{self, Clients};
use super::combination::draw;
use super::fault::{Case, Fault, Promise};
use super::injection::{self, Injection};
use super::measure::{self, FaultWindow};
use super::outcome::{Memory, Outcome};
use super::progress::Progress;
use super::single_sender::{SingleSenderReport, SingleSenders};
use super::testbed::Testbed;
use super::workload::{self, RETRY_LIMIT};

/// A round is at full speed if it takes at most this many times as long as before the fault, or less than this time: a busy machine
/// is slower for a while.
const FULL_SPEED: (u32, Duration) = (2, Duration::from_secs(1));
/// The longest time that a round may take before the first fault.
const USUAL_LIMIT: Duration = Duration::from_secs(30);

/// Duration and load of a case.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Duration of the whole case, in which faults are repeated.
    pub lasts: Duration,
    /// Time without a fault, before the first one and after each.
    pub settle: Duration,
    /// Shortest and longest duration of one fault.
    pub hold: (Duration, Duration),
    /// Number of clients.
    pub members: usize,
    /// Messages per second that all clients send together.
    pub sends_per_second: f64,
    /// Seed of all random choices.
    pub seed: u64,
}

/// Runs the case. An error means that it could not be carried out; what the nodes did wrong is in the outcome.
pub async fn run(case: Case, testbed: &mut Testbed, schedule: &Schedule, number: usize) -> Result<Outcome> {
    let begun = Instant::now();
    let name = case.name();
    let mut rng = StdRng::seed_from_u64(schedule.seed ^ hash(&name));
    let before = testbed.memory();
    let catch_ups = testbed.counter("starling_catch_ups_total").await;
    let through_links = matches!(case.fault, Fault::Storm | Fault::NetworkCut | Fault::Combination);
    let urls = testbed.urls(through_links);
    let mut clients = Clients::start(
        &format!("case{number}"),
        urls,
        schedule.seed,
        schedule.members,
        schedule.sends_per_second,
    )
    .await?;
    let single_senders = match case.fault.is_redis_fault() {
        true => Some(SingleSenders::start(&clients.workload.name, testbed.node_urls()).await?),
        false => None,
    };
    let done = do_faults(case, testbed, &mut clients, schedule, &mut rng).await?;
    let workload = Arc::clone(&clients.workload);
    let histories = clients.stop().await?;
    let finished_senders = match single_senders {
        Some(single_senders) => Some(single_senders.stop().await?),
        None => None,
    };
    let logs = Arc::new(workload::read_logs(&testbed.postgres, &workload).await?);
    let histories = clients::catch_up(&workload, histories, &logs).await?;
    let single_sender: Option<SingleSenderReport> = match finished_senders {
        Some(finished_senders) => Some(finished_senders.listen(&logs[0]).await?),
        None => None,
    };
    let measures = measure::measure(&workload, &histories, &logs, &done.windows);
    let log_faults = logs.iter().map(starling_testkit::client::Log::faults).sum();
    let mut outcome = Outcome {
        name,
        about: case.fault.about(),
        notes: Vec::new(),
        warnings: Vec::new(),
        failures: done.never,
        memory: memory(&before, &testbed.memory()),
        windows: done.windows,
        measures,
        single_sender,
        took: begun.elapsed(),
    };
    outcome.judge(case.fault.promise(), log_faults);
    outcome.remark(case.fault, testbed.counter("starling_catch_ups_total").await - catch_ups);
    Ok(outcome)
}

/// The faults that were injected.
#[derive(Default)]
struct Done {
    windows: Vec<FaultWindow>,
    /// Promises that were not kept within any time.
    never: Vec<String>,
}

async fn do_faults(
    case: Case,
    testbed: &mut Testbed,
    clients: &mut Clients,
    schedule: &Schedule,
    rng: &mut StdRng,
) -> Result<Done> {
    let promise = case.fault.promise();
    let workload = Arc::clone(&clients.workload);
    let since = |at: Instant| at.duration_since(workload.begun).as_secs_f64();
    let mut done = Done::default();
    tokio::time::sleep(schedule.settle).await;
    let until = Instant::now() + schedule.lasts.saturating_sub(schedule.settle * 2);
    if case.fault == Fault::None {
        tokio::time::sleep(until.saturating_duration_since(Instant::now()) + schedule.settle).await;
        clients.check()?;
        return Ok(done);
    }
    let usual = usual(&workload.progress).await?;
    while done.windows.is_empty() || Instant::now() < until {
        let drawn = match case.fault {
            Fault::Combination => draw(case.topology, rng),
            fault => vec![fault],
        };
        let label = drawn.iter().map(|fault| fault.name()).collect::<Vec<_>>().join(" + ");
        let hold = rng.random_range(schedule.hold.0..=schedule.hold.1);
        let from = Instant::now();
        let mut injections: Vec<Injection> = Vec::new();
        for fault in &drawn {
            injections.push(
                injection::injection(*fault, testbed, &workload, rng).await.with_context(|| fault.name())?,
            );
        }
        if drawn.iter().any(|fault| fault.lasts()) {
            let least = drawn.iter().map(|fault| fault.lasts_at_least()).max().unwrap_or_default();
            injection::hold(&mut injections, testbed, rng, hold.max(least)).await?;
            if let Some(within) = promise.shown_within {
                let limit = Promise::limit(within);
                if workload.progress.round(limit).await.is_none() {
                    done.never
                        .push(format!("{label}: after {limit:?} not everybody was shown what was said"));
                }
            }
        }
        // Replacements for what was destroyed come when everything else works again.
        let (later, now): (Vec<Injection>, Vec<Injection>) =
            injections.into_iter().partition(Injection::needs_recovery);
        for injection in now {
            injection.heal(testbed, &workload).await.with_context(|| label.clone())?;
        }
        let drains = drawn.iter().any(|fault| fault.drains());
        done.windows.push(FaultWindow {
            label: label.clone(),
            from: since(from),
            to: since(Instant::now()),
            drains,
        });
        for injection in later {
            injection.heal(testbed, &workload).await.with_context(|| label.clone())?;
        }
        workload.wait_for_everybody(RETRY_LIMIT).await.with_context(|| label.clone())?;
        let (limit, (times, fast)) = (Promise::limit(promise.recovered_within), FULL_SPEED);
        if !workload.progress.reaches((usual * times).max(fast), limit).await {
            done.never.push(format!("{label}: {limit:?} after it, it was not as fast as before"));
        }
        tokio::time::sleep(schedule.settle).await;
        clients.check()?;
    }
    Ok(done)
}

/// Duration of a round without a fault.
async fn usual(progress: &Progress) -> Result<Duration> {
    let mut usual = Duration::ZERO;
    for _ in 0..2 {
        let round = progress.round(USUAL_LIMIT).await;
        usual =
            usual.max(round.context("before anything was broken, not everybody was shown what was said")?);
    }
    Ok(usual)
}

fn memory(before: &[(String, u64)], after: &[(String, u64)]) -> Vec<Memory> {
    let find = |list: &[(String, u64)], name: &str| {
        list.iter().find(|(known, _)| known == name).map(|(_, bytes)| *bytes)
    };
    let gone = before.iter().map(|(node, bytes)| Memory {
        node: node.clone(),
        before: Some(*bytes),
        after: find(after, node),
    });
    let new = after.iter().filter(|(node, _)| find(before, node).is_none());
    let new = new.map(|(node, bytes)| Memory { node: node.clone(), before: None, after: Some(*bytes) });
    gone.chain(new).collect()
}

/// FNV-1a, which gives the same value on every machine and in every build.
fn hash(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
