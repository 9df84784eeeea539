//! One case: clients talk, a fault is done again and again, and what they saw is held against the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::crowd::{self, Crowd, PATIENCE};
use super::draw::draw;
use super::fault::{Case, Fault, Promise};
use super::measure::{self, Moment};
use super::outcome::{Memory, Outcome};
use super::pulse::Pulse;
use super::quiet::{Hearing, Quiet};
use super::stage::Stage;
use super::strike::{self, Strike};

/// How much slower than before the faults still is full speed, and what is full speed whatever it was before: on a machine that has
/// more to do, everything takes longer for a while.
const FULL_SPEED: (u32, Duration) = (2, Duration::from_secs(1));
/// How long a round may take before the faults.
const USUAL_LIMIT: Duration = Duration::from_secs(30);

/// How long and how hard.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long faults are done for.
    pub lasts: Duration,
    /// Before the first one, and after each.
    pub calm: Duration,
    /// How long each lasts at least, and at most.
    pub hold: (Duration, Duration),
    /// How many clients.
    pub members: usize,
    /// How many messages all of them together send in a second.
    pub sends_per_second: f64,
    /// What is drawn is drawn from this.
    pub seed: u64,
}

/// Runs it. An error is one of the case's own making: whatever the nodes did wrong is in the outcome.
pub async fn run(case: Case, stage: &mut Stage, pace: &Pace, number: usize) -> Result<Outcome> {
    let begun = Instant::now();
    let name = case.name();
    let mut dice = StdRng::seed_from_u64(pace.seed ^ hash(&name));
    let before = stage.memory();
    let catch_ups = stage.counter("starling_catch_ups_total").await;
    let through_links = matches!(case.fault, Fault::Storm | Fault::NetworkCut | Fault::Combination);
    let urls = stage.urls(through_links);
    let mut crowd =
        Crowd::start(&format!("case{number}"), urls, pace.seed, pace.members, pace.sends_per_second).await?;
    let quiet = match case.fault.is_of_redis() {
        true => Some(Quiet::start(&crowd.scene.name, stage.node_urls()).await?),
        false => None,
    };
    let done = do_faults(case, stage, &mut crowd, pace, &mut dice).await?;
    let scene = Arc::clone(&crowd.scene);
    let witnesses = crowd.stop().await?;
    let silence = match quiet {
        Some(quiet) => Some(quiet.stop().await?),
        None => None,
    };
    let logs = Arc::new(crowd::read_logs(&stage.postgres, &scene).await?);
    let witnesses = crowd::finish(&scene, witnesses, &logs).await?;
    let hearing: Option<Hearing> = match silence {
        Some(silence) => Some(silence.listen(&logs[0]).await?),
        None => None,
    };
    let measures = measure::measure(&scene, &witnesses, &logs, &done.moments);
    let log_faults = logs.iter().map(starling_testkit::client::Log::faults).sum();
    let mut outcome = Outcome {
        name,
        about: case.fault.about(),
        notes: Vec::new(),
        warnings: Vec::new(),
        failures: done.never,
        memory: memory(&before, &stage.memory()),
        moments: done.moments,
        measures,
        hearing,
        took: begun.elapsed(),
    };
    outcome.judge(case.fault.promise(), log_faults);
    outcome.remark(case.fault, stage.counter("starling_catch_ups_total").await - catch_ups);
    Ok(outcome)
}

/// What was done.
#[derive(Default)]
struct Done {
    moments: Vec<Moment>,
    /// What should have come in its time, and has not come at all.
    never: Vec<String>,
}

async fn do_faults(
    case: Case,
    stage: &mut Stage,
    crowd: &mut Crowd,
    pace: &Pace,
    dice: &mut StdRng,
) -> Result<Done> {
    let promise = case.fault.promise();
    let scene = Arc::clone(&crowd.scene);
    let since = |at: Instant| at.duration_since(scene.begun).as_secs_f64();
    let mut done = Done::default();
    tokio::time::sleep(pace.calm).await;
    let until = Instant::now() + pace.lasts.saturating_sub(pace.calm * 2);
    if case.fault == Fault::None {
        tokio::time::sleep(until.saturating_duration_since(Instant::now()) + pace.calm).await;
        crowd.check()?;
        return Ok(done);
    }
    let usual = usual(&scene.pulse).await?;
    while done.moments.is_empty() || Instant::now() < until {
        let drawn = match case.fault {
            Fault::Combination => draw(case.topology, dice),
            fault => vec![fault],
        };
        let label = drawn.iter().map(|fault| fault.name()).collect::<Vec<_>>().join(" + ");
        let hold = dice.random_range(pace.hold.0..=pace.hold.1);
        let from = Instant::now();
        let mut strikes: Vec<Strike> = Vec::new();
        for fault in &drawn {
            strikes.push(strike::strike(*fault, stage, &scene, dice).await.with_context(|| fault.name())?);
        }
        if drawn.iter().any(|fault| fault.lasts()) {
            let least = drawn.iter().map(|fault| fault.lasts_at_least()).max().unwrap_or_default();
            strike::hold(&mut strikes, stage, dice, hold.max(least)).await?;
            if let Some(within) = promise.shown_within {
                let limit = Promise::limit(within);
                if scene.pulse.round(limit).await.is_none() {
                    done.never
                        .push(format!("{label}: after {limit:?} not everybody was shown what was said"));
                }
            }
        }
        // What only makes ready for the next one comes when everything else works again.
        let (later, now): (Vec<Strike>, Vec<Strike>) = strikes.into_iter().partition(Strike::is_for_later);
        for strike in now {
            strike.heal(stage, &scene).await.with_context(|| label.clone())?;
        }
        let drains = drawn.iter().any(|fault| fault.drains());
        done.moments.push(Moment {
            label: label.clone(),
            from: since(from),
            to: since(Instant::now()),
            drains,
        });
        for strike in later {
            strike.heal(stage, &scene).await.with_context(|| label.clone())?;
        }
        scene.wait_for_everybody(PATIENCE).await.with_context(|| label.clone())?;
        let (limit, (times, fast)) = (Promise::limit(promise.recovered_within), FULL_SPEED);
        if !scene.pulse.reaches((usual * times).max(fast), limit).await {
            done.never.push(format!("{label}: {limit:?} after it, it was not as fast as before"));
        }
        tokio::time::sleep(pace.calm).await;
        crowd.check()?;
    }
    Ok(done)
}

/// How long a round takes while nothing is broken.
async fn usual(pulse: &Pulse) -> Result<Duration> {
    let mut usual = Duration::ZERO;
    for _ in 0..2 {
        let round = pulse.round(USUAL_LIMIT).await;
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

/// FNV-1a: the same for the same name on every machine and in every build.
fn hash(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
