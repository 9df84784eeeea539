//! A simulation of a cluster: real hubs and real shards, with a network, servers and a clock that are derived from a seed.
//!
//! Several nodes run on one thread. Time stands still while any of them works. The parts between them are simulated. The broker delays
//! publications, reorders them across streams, loses and repeats them. The database and the session store are slow or down, or carry out a
//! call and give no answer. Connections are pipes. Nodes die, freeze, drain and come back. Clients are cut off at any moment and resume
//! elsewhere, as the docs tell their authors.
//!
//! At the end every client must have been shown every message once and in order. Every acknowledged message must be in the log once.
//! Presence must be right on every node, and every client's session must be listed as attached. Of all connections that a client opened for
//! its session only the last one may remain.
//!
//! A seed always gives the same run. `STARLING_SEED=n cargo test --workspace --lib simulation` replays one and prints what happens.
//! `STARLING_SEEDS=n` runs this many (from `STARLING_FIRST_SEED`, by default 0), and `STARLING_SCENARIO=Races` only those of this scenario.
//!
//! [`plan`] says what a seed means, [`run`] carries it out, and [`settling`] and [`witness`] check it. [`client`] is a client;
//! [`node`] is a node with its lines to [`broker`], [`log`] and [`sessions`]. [`sabotage`] lists the faults that the checks must find.

mod broker;
mod catch_up_tests;
mod chance;
mod client;
mod client_state;
mod faults;
mod line;
mod log;
mod log_tests;
mod names;
mod node;
mod pipe;
mod plan;
mod run;
mod sabotage;
mod servers;
mod sessions;
mod settling;
mod time;
mod turns_tests;
mod witness;
mod world;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use plan::{Plan, SCENARIOS};
use sabotage::Sabotage;
use witness::Verdict;

/// The number of seeds that run by default. They take half a minute of one core without optimization, and a minute with it.
const SEEDS: u64 = if cfg!(debug_assertions) { 1_500 } else { 10_000 };
/// The number of failed seeds after which no more are run.
const FAILED_MAX: usize = 20;

#[test]
fn every_promise_is_kept_whatever_the_seed() {
    if let Some(seed) = number("STARLING_SEED") {
        return trace(seed);
    }
    let first = number("STARLING_FIRST_SEED").unwrap_or(0);
    let count = number("STARLING_SEEDS").unwrap_or(SEEDS);
    let scenario = std::env::var("STARLING_SCENARIO").ok();
    let (failed, sum) = play(first..first + count, scenario.as_deref());
    println!(
        "{count} seeds from {first}: {} sent, {} acknowledged, {} delivered, {} resumed, {} expired, {} s simulated, digest {:016x}, {} seeds failed",
        sum.sent,
        sum.acknowledged,
        sum.delivered,
        sum.resumed,
        sum.expired,
        sum.simulated_ms / 1_000,
        sum.digest,
        failed.len()
    );
    for (seed, verdict) in &failed {
        println!(
            "seed {seed} ({:?}); to replay it: STARLING_SEED={seed} cargo test --workspace --lib simulation -- --nocapture\n{:#?}",
            Plan::of(*seed).scenario,
            verdict.described
        );
    }
    assert!(failed.is_empty(), "{} seeds failed; see above", failed.len());
    assert!(
        count < 100 || scenario.is_some() || (sum.resumed > 0 && sum.expired > 0),
        "no session was resumed, or none expired"
    );
}

/// Replays a seed and prints what happens.
fn trace(seed: u64) {
    let plan = Plan::of(seed);
    eprintln!("{plan:#?}");
    let verdict = run::run(&plan, None, true);
    eprintln!("digest {:016x}", verdict.digest);
    assert!(verdict.is_clean(), "{verdict:#?}");
}

/// Runs seeds, or only those of a scenario, on all processors. Returns the failed ones in order, and the sum of all verdicts. Stops after
/// [`FAILED_MAX`] failures.
fn play(seeds: Range<u64>, scenario: Option<&str>) -> (Vec<(u64, Verdict)>, Verdict) {
    let next = AtomicU64::new(seeds.start);
    let (failed, sum) = (Mutex::new(Vec::new()), Mutex::new(Verdict::default()));
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= seeds.end || failed.lock().len() >= FAILED_MAX {
            return;
        }
        let plan = Plan::of(seed);
        if scenario.is_some_and(|name| *name != format!("{:?}", plan.scenario)) {
            continue;
        }
        let verdict = run::run(&plan, None, false);
        sum.lock().add(seed, &verdict);
        if !verdict.is_clean() {
            failed.lock().push((seed, verdict));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let mut failed = failed.into_inner();
    failed.sort_by_key(|(seed, _)| *seed);
    (failed, sum.into_inner())
}

/// Only a run that can be repeated can be debugged.
#[test]
fn a_seed_is_always_the_same_run() {
    const SEEDS: u64 = 64;
    let replay = |seed| run::run(&Plan::of(seed), None, false);
    let differ: Vec<u64> = (0..SEEDS).filter(|seed| replay(*seed) != replay(*seed)).collect();
    assert!(differ.is_empty(), "these seeds gave two different runs: {differ:?}");
}

/// The control of the checks: each sabotage is found, and counted as the kind of fault that it is.
#[test]
fn every_sabotage_is_found() {
    // The cluster repairs some faults by itself, so they show in few runs. An attach that breaks just after it took the session from another
    // node shows in one of 34.
    const RUNS: u64 = 240;
    const RACES: u64 = 9;
    const LAST: u64 = SCENARIOS.len() as u64 - 1;
    assert_eq!(SCENARIOS[RACES as usize], plan::Scenario::Races);
    type Count = fn(&Verdict) -> usize;
    let expected: [(Sabotage, Count); 21] = [
        (Sabotage::LosePublications, |verdict| verdict.lost),
        (Sabotage::AlterPublications, |verdict| verdict.altered),
        (Sabotage::HideInterest, |verdict| verdict.lost),
        (Sabotage::NumberTwice, |verdict| verdict.misnumbered),
        (Sabotage::AcknowledgeOnly, |verdict| verdict.lost),
        (Sabotage::LoseEvent, |verdict| verdict.lost),
        (Sabotage::DoubleEvent, |verdict| verdict.doubled),
        (Sabotage::SwapEvents, |verdict| verdict.swapped),
        (Sabotage::AlterEvent, |verdict| verdict.altered),
        (Sabotage::HidePresence, |verdict| verdict.others),
        (Sabotage::SameStamps, |verdict| verdict.others),
        (Sabotage::CoarseStamps, |verdict| verdict.others),
        (Sabotage::HoldAll, |verdict| verdict.others),
        (Sabotage::HideEnds, |verdict| verdict.others),
        (Sabotage::KeepLog, |verdict| verdict.lost + verdict.altered + verdict.doubled),
        (Sabotage::ByName("Presence"), |verdict| verdict.others),
        (Sabotage::ByName("Typing"), |verdict| verdict.others),
        (Sabotage::ByName("Read"), |verdict| verdict.others),
        (Sabotage::ByName("Member"), |verdict| verdict.others),
        (Sabotage::KeepBack, |verdict| verdict.others),
        (Sabotage::CloseForBalance, |verdict| verdict.others),
    ];
    for (sabotage, count) in expected {
        // These show only if conversations are created again, or sessions are ended.
        let seed_of: fn(u64) -> u64 = match sabotage {
            Sabotage::KeepLog | Sabotage::ByName(_) => |run| SCENARIOS.len() as u64 * run + LAST,
            Sabotage::KeepBack | Sabotage::HideEnds | Sabotage::CoarseStamps => {
                |run| SCENARIOS.len() as u64 * run + RACES
            }
            _ => |run| run,
        };
        let play = |run| run::run(&Plan::of(seed_of(run)), Some(sabotage), false);
        let Some(run) = (0..RUNS).find(|run| count(&play(*run)) > 0) else {
            panic!("{sabotage:?} was not found in {RUNS} runs")
        };
        println!("{sabotage:?}: found in run {}", run + 1);
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}
