use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::Versioned;

/// What happens to a key, in any order.
#[derive(Clone, Debug)]
enum Step {
    /// A load or a writer brings a version.
    Insert(u64),
    /// A load that began this many steps ago found nothing.
    Absent(usize),
    /// A change is heard of.
    Invalidate(u64),
    /// A gap is heard of.
    Gap,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..12_u64).prop_map(Step::Insert),
        2 => (0..6_usize).prop_map(Step::Absent),
        3 => (1..12_u64).prop_map(Step::Invalidate),
        1 => Just(Step::Gap),
    ];
    proptest::collection::vec(step, 1..40)
}

fn config() -> CacheConfig {
    CacheConfig { process_ttl: Duration::from_secs(3_600), ..CacheConfig::new("test") }
}

fn entry(version: Option<u64>, as_of: Instant) -> Arc<Entry<u64>> {
    let known = version.map(|version| Versioned { version, value: Arc::new(version) });
    let expires = as_of + Duration::from_secs(3_600);
    Arc::new(Entry { known, as_of, expires, cost: Duration::ZERO, weight: 8 })
}

/// Plays the steps and says what is wrong, if anything: a value came back that is older than what was kept or told before.
fn play(config: &CacheConfig, steps: &[Step]) -> Result<(), String> {
    let process = Process::new(config);
    let (mut kept, mut told) = (0, 0);
    let mut begins = Vec::new();
    for step in steps {
        // The clock of this machine counts nanoseconds, so the time of each step differs.
        let now = Instant::now();
        begins.push(now);
        match step {
            Step::Insert(version) => {
                if process.insert("k", &entry(Some(*version), now)).is_ok() {
                    kept = kept.max(*version);
                }
            }
            Step::Absent(ago) => {
                let begun = begins[begins.len() - 1 - ago.min(&(begins.len() - 1))];
                if process.insert("k", &entry(None, begun)).is_ok() {
                    // From here on nothing is known but what is told.
                    kept = 0;
                }
            }
            Step::Invalidate(version) => {
                process.invalidate("k", *version);
                told = told.max(*version);
                if process.get("k", now).is_some_and(|entry| entry.known.is_none()) {
                    return Err(format!("nothing was still known of the key after version {version}"));
                }
            }
            Step::Gap => {
                process.gap();
                kept = 0;
                if process.get("k", now).is_some() {
                    return Err("something outlived a gap".into());
                }
            }
        }
        let Some(found) = process.get("k", now).and_then(|entry| entry.known.clone()) else { continue };
        if found.version < kept.max(told) {
            return Err(format!("version {} after {}", found.version, kept.max(told)));
        }
    }
    Ok(())
}

/// Plays many cases, and returns what is wrong in the simplest that fails.
fn play_many(config: &CacheConfig) -> Result<(), String> {
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&steps(), |steps| play(config, &steps).map_err(TestCaseError::fail));
    outcome.map_err(|error| error.to_string())
}

#[test]
fn an_older_value_never_replaces_a_newer_one() {
    play_many(&config()).unwrap();
}

#[test]
fn without_versions_an_older_value_is_noticed() {
    let config = CacheConfig { off: Some(Mechanism::Versions), ..config() };
    let noticed = play_many(&config).unwrap_err();
    assert!(noticed.contains("after"), "{noticed}");
}

#[test]
fn a_change_outdates_what_is_still_being_loaded() {
    let process = Process::new(&config());
    let begun = Instant::now();
    process.invalidate("k", 7);
    assert_eq!(process.insert("k", &entry(Some(6), begun)), Err(Outdated));
    assert_eq!(process.insert("k", &entry(None, begun)), Err(Outdated));
    assert!(process.get("k", begun).is_none());
    assert_eq!(process.insert("k", &entry(Some(7), begun)), Ok(()));
}

#[test]
fn what_was_loaded_before_a_gap_is_refused_after_it() {
    let process = Process::new(&config());
    let begun = Instant::now();
    process.gap();
    assert_eq!(process.insert("k", &entry(Some(1), begun)), Err(Outdated));
    assert!(process.get("k", begun).is_none());
}

#[test]
fn the_weight_is_bounded() {
    let process = Process::new(&CacheConfig { weight_max: 10_000, ..config() });
    for key in 0..1_000 {
        let _ = process.insert(&format!("key {key}"), &entry(Some(1), Instant::now()));
    }
    process.settle();
    assert!(process.weight() <= 10_000, "{}", process.weight());
}
