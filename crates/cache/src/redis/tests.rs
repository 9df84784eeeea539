use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRng, TestRunner};
use starling_testkit::redis::Redis;
use tokio::runtime::Runtime;

use super::*;

/// What happens to a key, in any order. `back` is how many versions ago.
#[derive(Clone, Debug)]
enum Step {
    /// The source gets a new version.
    Commit,
    /// The source has nothing any more.
    Delete,
    /// A node asks for the lease. If it gets it, its load sees what the source has now.
    Lease(usize),
    /// A node writes what its load saw.
    Fill(usize),
    /// The lease runs out, so that another node may load.
    Lapse,
    /// A writer that was held up writes its own value.
    Put { back: u64 },
    /// A change is told.
    Tell { back: u64 },
}

const NODES: usize = 3;
const CASES: u32 = 96;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Commit),
        1 => Just(Step::Delete),
        4 => (0..NODES).prop_map(Step::Lease),
        4 => (0..NODES).prop_map(Step::Fill),
        1 => Just(Step::Lapse),
        3 => (0..4_u64).prop_map(|back| Step::Put { back }),
        2 => (0..4_u64).prop_map(|back| Step::Tell { back }),
    ];
    proptest::collection::vec(step, 1..30)
}

/// A load under a lease.
#[derive(Clone, Debug)]
struct Load {
    token: String,
    /// The version of the source when it began, and whether there was a value.
    saw: (u64, bool),
}

/// Plays the steps on a key of its own, and says what is wrong, if anything: an entry that is older than what Redis was told or held.
async fn play(redis: &Redis, level: &RedisLevel, steps: &[Step]) -> anyhow::Result<()> {
    let key = level.key("races", &format!("{:016x}", rand::random::<u64>()));
    let (mut source, mut known) = ((1_u64, true), 0_u64);
    let mut loads: Vec<Option<Load>> = vec![None; NODES];
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Commit => source = (source.0 + 1, true),
            Step::Delete => source = (source.0 + 1, false),
            Step::Lease(node) => {
                let token = format!("{number}");
                let ask =
                    Ask { key: &key, token: &token, loaded_since: None, earliness: 0.0, must_load: true };
                if level.read(ask).await?.is_leased {
                    loads[*node] = Some(Load { token, saw: source });
                }
            }
            Step::Fill(node) => {
                let Some(Load { token, saw }) = loads[*node].take() else { continue };
                let filled = level.fill(entry(&key, &token, saw)).await?;
                if filled == Filled::Written && saw.1 {
                    known = known.max(saw.0);
                }
                let is_outdated = saw.0 < known;
                anyhow::ensure!(
                    filled != Filled::Written || !is_outdated,
                    "{saw:?} was written after {known} was known"
                );
            }
            Step::Lapse => {
                if redis.cli(&["HEXISTS", &key, "lease"]).await?.text() == "1" {
                    redis.cli(&["HSET", &key, "lease", "0"]).await?;
                }
            }
            Step::Put { back } => {
                let version = source.0.saturating_sub(*back).max(1);
                level.invalidate(&[(key.clone(), version)]).await?;
                level.put(entry(&key, &format!("{number}"), (version, true))).await?;
                known = known.max(version);
            }
            Step::Tell { back } => {
                let version = source.0.saturating_sub(*back).max(1);
                level.invalidate(&[(key.clone(), version)]).await?;
                known = known.max(version);
            }
        }
        let held = redis.cli(&["HMGET", &key, "state", "version"]).await?.texts();
        if held.first().is_some_and(|state| state == "1") {
            let version: u64 = held[1].parse()?;
            anyhow::ensure!(version >= known, "{version} is held, {known} is known");
        }
    }
    Ok(())
}

fn entry<'a>(key: &'a str, token: &'a str, saw: (u64, bool)) -> Fill<'a> {
    let found = saw.1.then_some((saw.0, &b"value"[..]));
    Fill { key, token, found, ttl: Duration::from_secs(600), cost: Duration::ZERO }
}

/// Plays many cases with this text of the script that fills.
fn play_many(script: &str) -> Result<(), String> {
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    play_cases(TestRunner::new(config), script)
}

/// Plays cases that are the same in each run, more of them, until one shows what is wrong with this text of the script.
fn play_until_noticed(script: &str) -> String {
    let config = Config { cases: 20 * CASES, failure_persistence: None, ..Config::default() };
    let always_the_same = TestRng::deterministic_rng(config.rng_algorithm);
    play_cases(TestRunner::new_with_rng(config, always_the_same), script).unwrap_err()
}

fn play_cases(mut runner: TestRunner, script: &str) -> Result<(), String> {
    let runtime = Runtime::new().map_err(|error| error.to_string())?;
    let (redis, level) = runtime
        .block_on(async {
            let redis = Redis::start().await?;
            let config = RedisConfig {
                command_timeout: Duration::from_secs(20),
                lease: Duration::from_secs(600),
                ..RedisConfig::new(redis.url().parse()?)
            };
            let level = RedisLevel::open_with(config, script)?;
            anyhow::Ok((redis, level))
        })
        .map_err(|error| error.to_string())?;
    let outcome = runner.run(&steps(), |steps| {
        let played = runtime.block_on(play(&redis, &level, &steps));
        played.map_err(|error| TestCaseError::fail(format!("{error:#}")))
    });
    outcome.map_err(|error| error.to_string())
}

#[test]
fn an_older_value_never_replaces_a_newer_one_in_redis() {
    play_many(FILL).unwrap();
}

#[test]
fn without_the_comparison_of_versions_an_older_value_is_noticed() {
    let blind = FILL.replace("(ARGV[2] < version or ARGV[2] < floor)", "false");
    assert_ne!(blind, FILL);
    let noticed = play_until_noticed(&blind);
    assert!(noticed.contains("is held"), "{noticed}");
}

#[test]
fn without_the_fence_an_older_absence_is_noticed() {
    let blind = FILL.replace("elseif not holds then", "elseif false then");
    let blind = blind.replace("'loaded', entry[4]", "'loaded', entry[4] or '0'");
    assert_ne!(blind, FILL);
    let noticed = play_until_noticed(&blind);
    assert!(noticed.contains("was written after"), "{noticed}");
}

#[test]
fn versions_of_any_size_compare_as_texts() {
    let versions = [0, 1, 9, 10, 1 << 53, (1 << 53) + 1, u64::MAX];
    assert!(versions.map(written).is_sorted());
    assert_eq!(written(u64::MAX).parse(), Ok(u64::MAX));
}

#[test]
fn an_answer_that_no_script_gives_is_refused() {
    let sent = Instant::now();
    let answer = |state: i64, version: &str| {
        [
            Value::Integer(state),
            Value::Integer(0),
            Value::Integer(-1),
            Value::Integer(5),
            Value::Integer(i64::MIN),
            Value::Integer(0),
            Value::from(version),
            Value::from("bytes"),
        ]
    };
    assert!(seen(sent, &answer(1, "00000000000000000007")).is_some());
    assert!(seen(sent, &answer(1, "seven")).is_none());
    assert!(seen(sent, &answer(3, "7")).is_none());
    assert!(seen(sent, &answer(1, "7")[1..]).is_none());
    assert!(seen(sent, &[]).is_none());
}
