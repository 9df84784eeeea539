//! The load generator against real nodes: what works passes, and what is broken fails with a count.

use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use starling_testkit::Folder;
use starling_testkit::node::Node;
use tokio::process::Command;
use tokio::time::timeout;

/// No run of these takes longer, however busy the machine is.
const LIMIT: Duration = Duration::from_secs(120);
/// Stages for a test: a second to connect, three with messages.
const SHORT: [&str; 6] = [
    "stages.0.seconds=1",
    "stages.0.sessions=20",
    "stages.1.seconds=3",
    "stages.1.sessions=20",
    "stages.1.messages_per_second=40",
    "pass.delivery_p95_ms=60000",
];

/// Runs a scenario, and returns the exit status and the result.
async fn run(scenario: &str, node: &Node, changes: &[&str]) -> Result<(i32, Value)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_starling-loadtest"));
    command.args(["run", scenario, "--json", "--url", &node.ws_url(), "--secret", node.secret()]);
    command.args(changes.iter().flat_map(|change| ["--set", change])).kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await.context("the run takes too long")??;
    let status = output.status.code().context("the generator was killed")?;
    let result = serde_json::from_slice(&output.stdout).with_context(|| printed(&output))?;
    Ok((status, result))
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

#[tokio::test]
async fn every_message_of_both_encodings_is_counted_once_per_receiver() -> Result<()> {
    let node = Node::builder().unlimited().start().await?;
    for room in ["conversation", "topic"] {
        let kind = format!("sessions.room={room}");
        let changes = [&SHORT[..], &[&kind, "sessions.encoding=mixed", "sessions.per_room=4"]].concat();
        let (status, result) = run("baseline", &node, &changes).await?;
        ensure!(status == 0 && result["passed"] == true, "{room}: {result:#}");
        let counts = &result["measured"]["counts"];
        let (sent, delivered) = (counts["sent"].as_u64(), counts["delivered"].as_u64());
        // The messages that cross the end of the ramp belong to both stages, so sums are of whole messages only.
        ensure!(sent.is_some_and(|sent| sent >= 60), "{room}: {counts}");
        ensure!(
            delivered.zip(sent).is_some_and(|(delivered, sent)| delivered.abs_diff(sent * 4) <= 40),
            "{counts}"
        );
        ensure!(counts["lost"] == 0 && counts["doubled"] == 0, "{counts}");
    }
    Ok(())
}

#[tokio::test]
async fn sessions_whose_connections_break_resume_and_lose_nothing() -> Result<()> {
    let node = Node::builder().unlimited().start().await?;
    let storm = ["storm.at_seconds=2", "stages.1.seconds=6", "pass.resume_p99_ms=60000"];
    let changes = [&SHORT[..5], &storm].concat();
    let (status, result) = run("storm", &node, &changes).await?;
    ensure!(status == 0, "{result:#}");
    let counts = &result["measured"]["counts"];
    ensure!(counts["reconnects"] == 20 && counts["resumed"] == 20, "{counts}");
    Ok(())
}

#[tokio::test]
async fn refusals_are_counted_and_the_run_fails() -> Result<()> {
    // Each user may write five times a minute, and tries more often.
    let node = Node::builder().unlimited().env("STARLING_LIMIT_USER_WRITES_PER_MINUTE", "5").start().await?;
    let (status, result) =
        run("baseline", &node, &[&SHORT[..], &["stages.1.messages_per_second=200"]].concat()).await?;
    let counts = &result["measured"]["counts"];
    ensure!(status == 1 && counts["errors"]["rate_limited"].as_u64() > Some(100), "{status}: {counts}");
    Ok(())
}

#[tokio::test]
async fn a_node_that_dies_for_good_fails_the_run() -> Result<()> {
    let node = Node::builder().unlimited().start().await?;
    let changes = [&SHORT[..], &["stages.1.seconds=8"]].concat();
    let killed = async {
        // Once messages flow, the node goes and stays away.
        while node.metric("starling_messages_committed_total", "").await? < 5.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        node.kill().await
    };
    let (ran, killed) = tokio::join!(run("baseline", &node, &changes), killed);
    killed?;
    let (status, result) = ran?;
    let counts = &result["measured"]["counts"];
    ensure!(status == 1 && counts["reconnects"].as_u64() >= Some(20), "{status}: {counts}");
    Ok(())
}

/// Stages of jobs for a test.
const JOBS: [&str; 5] = [
    "stages.0.seconds=1",
    "stages.1.seconds=3",
    "stages.1.jobs_per_second=40",
    "jobs.workers=4",
    "pass.start_p99_ms=100000",
];

#[tokio::test]
async fn every_job_is_begun_and_finished_once_and_the_report_says_so() -> Result<()> {
    let node = Node::builder().unlimited().start().await?;
    for take_max in ["jobs.take_max=1", "jobs.take_max=5"] {
        let (status, result) = run("jobs", &node, &[&JOBS[..], &[take_max]].concat()).await?;
        ensure!(status == 0 && result["passed"] == true, "{result:#}");
        let (measured, counts) = (&result["measured"], &result["measured"]["counts"]);
        // The stage sends 120. On a busy machine, many of the stage before are done in it.
        for name in ["sent", "added", "begun", "finished"] {
            ensure!(counts[name].as_u64().is_some_and(|count| count > 0), "{name}: {counts}");
        }
        ensure!(counts["lost"] == 0 && counts["doubled"] == 0, "{counts}");
        ensure!(counts["errors"].as_object().is_some_and(|errors| errors.is_empty()), "{counts}");
        for time in ["add", "start", "finish"] {
            for figure in ["p50_ms", "p90_ms", "p99_ms", "max_ms"] {
                ensure!(measured[time][figure].as_f64() > Some(0.0), "{time}.{figure}: {measured}");
            }
        }
        ensure!(result["finished_per_second"].as_f64() > Some(0.0), "{result:#}");
    }
    ensure!(
        node.metric("starling_job_attempts_total", "outcome=\"done\"").await? >= 240.0,
        "the node did the jobs"
    );
    Ok(())
}

#[tokio::test]
async fn a_closed_loop_of_jobs_goes_on_as_jobs_are_finished() -> Result<()> {
    let node = Node::builder().unlimited().start().await?;
    let changes = [&JOBS[..], &["jobs.outstanding=8", "stages.1.jobs_per_second=0"]].concat();
    let (status, result) = run("jobs", &node, &changes).await?;
    let counts = &result["measured"]["counts"];
    ensure!(status == 0 && counts["lost"] == 0 && counts["doubled"] == 0, "{result:#}");
    ensure!(counts["finished"].as_u64() > Some(8), "no job was added after the first ones: {counts}");
    Ok(())
}

#[tokio::test]
async fn jobs_that_are_refused_are_counted_and_the_run_fails() -> Result<()> {
    let node =
        Node::builder().unlimited().env("STARLING_LIMIT_USER_REQUESTS_PER_SECOND", "1").start().await?;
    let changes = [&JOBS[..], &["jobs.adders=1", "stages.1.jobs_per_second=100"]].concat();
    let (status, result) = run("jobs", &node, &changes).await?;
    let counts = &result["measured"]["counts"];
    ensure!(status == 1 && counts["errors"]["rate_limited"].as_u64() > Some(10), "{status}: {counts}");
    ensure!(counts["lost"] == 0 && counts["doubled"] == 0, "{counts}");
    Ok(())
}

#[tokio::test]
async fn the_page_of_a_run_of_jobs_shows_its_figures() -> Result<()> {
    let node = Node::builder().unlimited().start().await?;
    let folder = Folder::new("report")?;
    let path = folder.path().to_str().context("a folder's name")?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_starling-loadtest"));
    command.args(["run", "jobs", "--url", &node.http_url(), "--secret", node.secret(), "--report", path]);
    command.args(JOBS.iter().flat_map(|change| ["--set", change])).kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await.context("the run takes too long")??;
    ensure!(output.status.success(), "{}", printed(&output));
    for figure in ["finished", "lost", "start", "p90"] {
        ensure!(printed(&output).contains(figure), "{figure}: {}", printed(&output));
    }
    let page = std::fs::read_to_string(folder.join("report.html"))?;
    for figure in ["jobs finished a second", "start, p99", "lost · doubled", "<svg", "From due to begun"] {
        ensure!(page.contains(figure), "{figure}");
    }
    Ok(())
}

#[tokio::test]
async fn mistakes_end_the_start_with_a_message_that_names_them() -> Result<()> {
    let secret = ["--secret", "0123456789abcdef0123456789abcdef"];
    let cases: [(&[&str], &str); 6] = [
        (&["run", "nothing", "--url", "ws://127.0.0.1:1"], "hot-room"),
        (&["run", "baseline", "--url", "ftp://127.0.0.1:1"], "ftp"),
        (&["run", "baseline", "--url", "ws://127.0.0.1:1", "--set", "sessions.per_rom=1"], "per_rom"),
        (&["run", "jobs", "--url", "ws://127.0.0.1:1", "--set", "jobs.wrokers=1"], "wrokers"),
        (&["run", "baseline", "--url", "ws://127.0.0.1:1", "--process", "node=0"], "--process node=0"),
        (&["run", "baseline", "--url", "ws://127.0.0.1:1", "--tokens", "/nowhere"], "/nowhere"),
    ];
    for (arguments, named) in cases {
        let mut command = Command::new(env!("CARGO_BIN_EXE_starling-loadtest"));
        command.args(arguments).env_remove("STARLING_JWT_SECRET");
        if !arguments.contains(&"--tokens") {
            command.args(secret);
        }
        let output = command.output().await?;
        // A wrong address or scenario is found before anything is sent.
        ensure!(output.status.code() == Some(2), "{arguments:?}: {}", printed(&output));
        ensure!(printed(&output).contains(named), "{arguments:?}: {}", printed(&output));
    }
    Ok(())
}
