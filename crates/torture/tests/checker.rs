//! The torture and the race find each defect that is put in on purpose, by what stands for it, and do not pass when they can't run.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use starling_testkit::process::Signal;
use starling_testkit::{Folder, Launch, Process};

/// The longest time that a run may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);
/// The counts of the torture that must be 0.
const COUNTS: [&str; 7] = ["lost", "doubled", "out_of_order", "altered", "strays", "unkept", "repeated"];

/// What the race says of a round in which more than one connection stays.
const STILL_OPEN: &str = "sockets are still open";

/// The program with defects.
const PROGRAM: &str = env!("CARGO_BIN_EXE_starling-sabotaged");

#[tokio::test]
async fn nodes_without_a_defect_pass() -> Result<()> {
    found("", "network-cut", &[]).await
}

#[tokio::test]
async fn lost_messages_are_found() -> Result<()> {
    found("lose", "network-cut", &["lost"]).await
}

#[tokio::test]
async fn duplicated_messages_are_found() -> Result<()> {
    found("double", "network-cut", &["doubled"]).await
}

#[tokio::test]
async fn swapped_messages_are_found() -> Result<()> {
    found("swap", "network-cut", &["out_of_order"]).await
}

#[tokio::test]
async fn acknowledgements_before_the_commit_are_found() -> Result<()> {
    // They show when a node dies, and in a log that is read before they are written.
    found("early-ok", "kill-node", &["unkept"]).await
}

#[tokio::test]
async fn retries_that_become_second_messages_are_found() -> Result<()> {
    found("retry-twice", "network-cut", &["repeated"]).await
}

#[tokio::test]
async fn messages_shown_in_another_conversation_are_found() -> Result<()> {
    found("leak", "network-cut", &["strays", "altered", "doubled"]).await
}

#[tokio::test]
async fn a_race_of_nodes_without_a_defect_passes() -> Result<()> {
    let race = race("", "60").await?;
    ensure!(race.passed && !race.log.contains(STILL_OPEN), "{}", race.log);
    Ok(())
}

#[tokio::test]
async fn a_race_finds_replaced_connections_that_stay_open() -> Result<()> {
    let race = race("keep-older", "12").await?;
    ensure!(!race.passed && race.log.contains(STILL_OPEN), "{}", race.log);
    Ok(())
}

#[tokio::test]
async fn a_case_whose_servers_do_not_start_fails_alone_and_is_in_the_report() -> Result<()> {
    let folder = Folder::new("no-servers")?;
    let (report, page) = (folder.path().join("report.json"), folder.path().join("report.html"));
    let launch = Launch::new("torture", env!("CARGO_BIN_EXE_torture"), folder.path())
        // No node of this program ever serves, and the second case needs other servers than the first.
        .args(["faults", "--short", "--fault", "none", "--fault", "disk-full", "--program", "/bin/false"])
        .args(["--json".as_ref(), report.as_os_str(), "--html".as_ref(), page.as_os_str()])
        .end_by(Signal::INT);
    let torture = Process::start(launch).await?;
    let status = torture.ended(LIMIT).await?;
    ensure!(status.code() == Some(1), "{status}: {}", torture.log());
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&report)?)?;
    for (at, name) in ["none", "disk-full"].into_iter().enumerate() {
        let case = &report["faults"][at];
        ensure!(case["fault"] == name && case["failures"][0].is_string(), "{case}");
    }
    ensure!(report["cases"] == 2 && report["sound"] == false, "{report}");
    ensure!(std::fs::read_to_string(&page)?.contains("It broke"), "the page says something else");
    Ok(())
}

/// A race that has ended.
struct Ended {
    passed: bool,
    log: String,
}

/// Runs this many rounds of the race through two nodes with this defect, while nothing else fails.
async fn race(sabotage: &str, rounds: &str) -> Result<Ended> {
    let folder = Folder::new("race")?;
    let launch = Launch::new("torture", env!("CARGO_BIN_EXE_torture"), folder.path())
        .args(["race", "--nodes", "2", "--faults", "0", "--rounds", rounds, "--program", PROGRAM])
        .args(["--node-env".to_owned(), format!("STARLING_SABOTAGE={sabotage}")])
        .end_by(Signal::INT);
    let race = Process::start(launch).await?;
    let passed = race.ended(LIMIT).await?.success();
    Ok(Ended { passed, log: race.log() })
}

/// Runs one fault against nodes with this defect, and fails unless one of these counts shows it. No counts: nothing may show.
async fn found(sabotage: &str, fault: &str, expected: &[&str]) -> Result<()> {
    let folder = Folder::new("sabotage")?;
    let report = folder.path().join("report.json");
    let launch = Launch::new("torture", env!("CARGO_BIN_EXE_torture"), folder.path())
        .args(["faults", "--fault", fault, "--short", "--clients", "50", "--rate", "100"])
        .args(["--program", PROGRAM])
        .args(["--json".as_ref(), report.as_os_str()])
        .args(["--node-env".to_owned(), format!("STARLING_SABOTAGE={sabotage}")])
        .end_by(Signal::INT);
    let torture = Process::start(launch).await?;
    let status = torture.ended(LIMIT).await?;
    let text = std::fs::read_to_string(&report).with_context(|| torture.log())?;
    let report: Value = serde_json::from_str(&text)?;
    let counts = &report["faults"][0];
    let found: Vec<&str> =
        COUNTS.into_iter().filter(|name| counts[name].as_u64().is_some_and(|count| count > 0)).collect();
    println!("{sabotage:>8}: {}", found.join(", "));
    let sent = counts["acknowledged"].as_u64().context("acknowledged")?;
    ensure!(sent > 100, "too few messages to show anything: {counts}");
    if expected.is_empty() {
        ensure!(
            status.success() && found.is_empty(),
            "a program without a defect failed with {found:?}: {text}"
        );
    } else {
        ensure!(status.code() == Some(1), "{sabotage} was not found: {text}");
        ensure!(
            found.iter().any(|name| expected.contains(name)),
            "{sabotage} was taken for {found:?}: {text}"
        );
    }
    Ok(())
}
