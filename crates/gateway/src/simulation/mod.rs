//! A simulation of a cluster: real hubs and real shards, under a network, servers and a clock that follow from a seed.
//!
//! Several nodes run on one thread, whose time stands still while anybody works. What lies between them is simulated: a
//! broker that delays, reorders across lanes, loses and repeats; a database and a session store that are slow, away, or answer
//! after they forgot to say so; sockets that are pipes. Nodes die, freeze, drain and come back; clients are cut at any moment and
//! resume elsewhere, as their authors are told to. In the end every client must have been shown every message once and in order,
//! every acknowledged message must stand in the log once, and everybody must be shown as there or gone as they are. Of all sockets that
//! a client opened for its session the last one must be left, and it alone.
//!
//! One seed is one run: `STARLING_SEED=n cargo test -p starling-gateway simulation` plays it again and tells what happens;
//! `STARLING_SEEDS=n` plays so many (from `STARLING_FIRST_SEED`, by default 0), and `STARLING_SCENARIO=Races` of these only those with
//! that scenario.

mod broker;
mod catch_up_tests;
mod chance;
mod client;
mod line;
mod log;
mod log_tests;
mod node;
mod pipe;
mod plan;
mod sabotage;
mod sessions;
mod time;
mod turns_tests;
mod witness;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use plan::{Plan, SCENARIOS};
use sabotage::Sabotage;
use witness::Verdict;

/// Everybody's tenant.
const TENANT: &str = "simulated";
/// How many seeds are played by default: about a minute of one core, with and without optimisation.
const SEEDS: u64 = if cfg!(debug_assertions) { 4_000 } else { 10_000 };

#[test]
fn every_promise_is_kept_whatever_the_seed() {
    if let Some(seed) = number("STARLING_SEED") {
        let plan = Plan::of(seed);
        eprintln!("{plan:#?}");
        let verdict = world::run(&plan, None, true);
        eprintln!("digest {:016x}", verdict.digest);
        assert!(verdict.is_clean(), "{verdict:#?}");
        return;
    }
    let first = number("STARLING_FIRST_SEED").unwrap_or(0);
    let count = number("STARLING_SEEDS").unwrap_or(SEEDS);
    let scenario = std::env::var("STARLING_SCENARIO").ok();
    let is_wanted =
        |plan: &Plan| scenario.as_ref().is_none_or(|name| *name == format!("{:?}", plan.scenario));
    let next = AtomicU64::new(first);
    let (failed, sum) = (Mutex::new(Vec::new()), Mutex::new(Verdict::default()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || failed.lock().len() >= 20 {
                        return;
                    }
                    let plan = Plan::of(seed);
                    if !is_wanted(&plan) {
                        continue;
                    }
                    let verdict = world::run(&plan, None, false);
                    let mut sum = sum.lock();
                    sum.sent += verdict.sent;
                    sum.acknowledged += verdict.acknowledged;
                    sum.delivered += verdict.delivered;
                    sum.resumed += verdict.resumed;
                    sum.expired += verdict.expired;
                    sum.simulated_ms += verdict.simulated_ms;
                    // Whatever the order in which the threads are done.
                    sum.digest ^= verdict.digest.rotate_left((seed % 64) as u32);
                    if !verdict.is_clean() {
                        failed.lock().push((seed, verdict));
                    }
                }
            });
        }
    });
    let (mut failed, sum) = (failed.into_inner(), sum.into_inner());
    failed.sort_by_key(|(seed, _)| *seed);
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
            "seed {seed} ({:?}); to play it again: STARLING_SEED={seed} cargo test -p starling-gateway simulation -- --nocapture\n{:#?}",
            Plan::of(*seed).scenario,
            verdict.described
        );
    }
    assert!(failed.is_empty(), "{} seeds failed; see above", failed.len());
    assert!(
        count < 100 || scenario.is_some() || (sum.resumed > 0 && sum.expired > 0),
        "no resume window was met, or none was missed"
    );
}

/// A seed that failed can be looked at only if it fails again.
#[test]
fn a_seed_is_always_the_same_run() {
    const SEEDS: u64 = 64;
    let play = |seed| world::run(&Plan::of(seed), None, false);
    let differ: Vec<u64> = (0..SEEDS).filter(|seed| play(*seed) != play(*seed)).collect();
    assert!(differ.is_empty(), "not the same run twice: the seeds {differ:?}");
}

/// The checker is checked: what is done wrong on purpose is found, and called by its name.
#[test]
fn every_sabotage_is_found() {
    // What the cluster mends by itself shows in few runs: an attach that breaks just after it took the session from another node, in
    // one of 34.
    const RUNS: u64 = 240;
    // Nothing is learnt from finding one more often.
    const ENOUGH: usize = 3;
    const RACES: u64 = 9;
    const LAST: u64 = SCENARIOS.len() as u64 - 1;
    assert_eq!(SCENARIOS[RACES as usize], plan::Scenario::Races);
    type Count = fn(&Verdict) -> usize;
    let expected: [(Sabotage, Count); 18] = [
        (Sabotage::LosePublications, |verdict| verdict.lost),
        (Sabotage::AlterPublications, |verdict| verdict.altered),
        (Sabotage::NumberTwice, |verdict| verdict.misnumbered),
        (Sabotage::AcknowledgeOnly, |verdict| verdict.lost),
        (Sabotage::LoseEvent, |verdict| verdict.lost),
        (Sabotage::DoubleEvent, |verdict| verdict.doubled),
        (Sabotage::SwapEvents, |verdict| verdict.swapped),
        (Sabotage::AlterEvent, |verdict| verdict.altered),
        (Sabotage::HidePresence, |verdict| verdict.others),
        (Sabotage::SameStamps, |verdict| verdict.others),
        (Sabotage::HoldAll, |verdict| verdict.others),
        (Sabotage::HideEnds, |verdict| verdict.others),
        (Sabotage::KeepLog, |verdict| verdict.lost + verdict.altered + verdict.doubled),
        (Sabotage::ByName("Typing"), |verdict| verdict.others),
        (Sabotage::ByName("Read"), |verdict| verdict.others),
        (Sabotage::ByName("Member"), |verdict| verdict.others),
        (Sabotage::KeepBack, |verdict| verdict.others),
        (Sabotage::CloseForBalance, |verdict| verdict.others),
    ];
    for (sabotage, count) in expected {
        // What concerns conversations that are made again, or sessions that are ended, shows only where some are.
        let seed_of: fn(u64) -> u64 = match sabotage {
            Sabotage::KeepLog | Sabotage::ByName(_) => |run| SCENARIOS.len() as u64 * run + LAST,
            Sabotage::KeepBack | Sabotage::HideEnds => |run| SCENARIOS.len() as u64 * run + RACES,
            _ => |run| run,
        };
        let play = |run| world::run(&Plan::of(seed_of(run)), Some(sabotage), false);
        let caught: Vec<u64> = (0..RUNS).filter(|run| count(&play(*run)) > 0).take(ENOUGH).collect();
        let [.., last] = caught[..] else { panic!("{sabotage:?} was not found in {RUNS} runs") };
        println!("{sabotage:?}: found in {} of {} runs", caught.len(), last + 1);
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}
