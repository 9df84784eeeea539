//! The checker checks itself: nodes that break a promise on purpose are caught, each by the count that stands for it, and what can't be
//! done at all does not pass.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use starling_testkit::process::Signal;
use starling_testkit::{Folder, Launch, Process};
use tokio::process::Command;

/// How long a run may take on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(300);
/// What torture counts.
const COUNTS: [&str; 7] = ["lost", "doubled", "out_of_order", "altered", "strays", "unkept", "repeated"];

#[tokio::test]
async fn nodes_that_lose_double_swap_leak_or_lie_are_caught_and_nodes_that_do_not_are_not() -> Result<()> {
    let program = sabotaged().await?;
    let cases: [(&str, &str, &[&str]); 7] = [
        ("", "network-cut", &[]),
        ("lose", "network-cut", &["lost"]),
        ("double", "network-cut", &["doubled"]),
        ("swap", "network-cut", &["out_of_order"]),
        // Only where a node dies it shows that it had promised too early.
        ("early-ok", "kill-node", &["unkept"]),
        ("retry-twice", "network-cut", &["repeated"]),
        ("leak", "network-cut", &["strays", "altered", "doubled"]),
    ];
    // Most of the time is spent in waiting for what does not come.
    for together in cases.chunks(4) {
        let caught = together.iter().map(|(name, fault, by)| caught(&program, name, fault, by));
        futures_util::future::try_join_all(caught).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_case_whose_stage_does_not_stand_fails_alone_and_the_report_tells() -> Result<()> {
    let folder = Folder::new("no-stage")?;
    let (report, page) = (folder.path().join("report.json"), folder.path().join("report.html"));
    let launch = Launch::new("xtask", env!("CARGO_BIN_EXE_xtask"), folder.path())
        // No node of this program ever serves; and the second case needs other servers than the first.
        .args(["torture", "--short", "--fault", "none", "--fault", "disk-full", "--program", "/bin/false"])
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

async fn caught(program: &Path, sabotage: &str, fault: &str, caught_by: &[&str]) -> Result<()> {
    let folder = Folder::new("sabotage")?;
    let report = folder.path().join("report.json");
    let launch = Launch::new("xtask", env!("CARGO_BIN_EXE_xtask"), folder.path())
        .args(["torture", "--fault", fault, "--short", "--clients", "50", "--rate", "100", "--program"])
        .args([program])
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
    ensure!(sent > 100, "too little was said to show anything: {counts}");
    if caught_by.is_empty() {
        ensure!(status.success() && found.is_empty(), "a sound program was accused of {found:?}: {text}");
    } else {
        ensure!(status.code() == Some(1), "{sabotage} was let through: {text}");
        ensure!(
            found.iter().any(|name| caught_by.contains(name)),
            "{sabotage} was taken for {found:?}: {text}"
        );
    }
    Ok(())
}

/// Builds the program with faults, and answers where it is.
async fn sabotaged() -> Result<PathBuf> {
    let name = "starling-sabotaged";
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--package", "starling", "--features", "sabotage", "--bin", name]);
    build.kill_on_drop(true);
    ensure!(build.status().await?.success(), "{name} could not be built");
    let own = PathBuf::from(env!("CARGO_BIN_EXE_xtask"));
    Ok(own.with_file_name(name))
}
