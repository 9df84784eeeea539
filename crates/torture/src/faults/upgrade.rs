//! `cargo xtask upgrade`: nodes of the previous release are replaced by nodes of this one under load, and the other way round.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use starling_testkit::client::Log;
use starling_testkit::node::Node;

use super::clients::{Clients, catch_up};
use super::fault::{DatabaseKind, Fault, RedisKind, Topology};
use super::injection::drain;
use super::measure::{FaultWindow, measure};
use super::outcome::Outcome;
use super::testbed::{NodeSettings, Testbed};
use super::workload::{RETRY_LIMIT, read_logs};
use super::{stop_signals, table};

/// Duration of a drain.
const DRAIN: Duration = Duration::from_secs(12);
/// The same in a short run.
const DRAIN_SHORT: Duration = Duration::from_secs(4);
/// A run in which nodes serve for at most so many seconds is a short one.
const SHORT: u64 = 3;
/// How long a command of the program may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Replaces nodes of the previous release by nodes of this one under load, goes back, and counts lost, duplicated, reordered and altered
/// messages.
#[derive(clap::Args)]
pub struct Arguments {
    /// The program of the previous release
    #[arg(long, value_name = "PATH")]
    previous: PathBuf,
    /// Runs this program as the present release instead of the one beside this
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// How long old and new nodes serve together after each replacement, and the nodes of one release by themselves
    #[arg(long, value_name = "SECONDS", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How many nodes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=16))]
    nodes: u8,
    /// How many clients
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(50..=5000))]
    clients: u16,
    /// How many messages all clients together send per second
    #[arg(long, value_name = "SENDS", default_value_t = 100, value_parser = clap::value_parser!(u32).range(10..))]
    rate: u32,
    /// Sets an environment variable of every node
    #[arg(long, value_name = "NAME=VALUE", value_parser = super::parse_variable)]
    node_env: Vec<(String, String)>,
}

/// What the database's schema is, and who can use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Schema {
    /// The newest migration.
    version: i32,
    /// The oldest program that can use it. `None` if the database was made by programs that do not tell.
    oldest_program: Option<i32>,
}

/// Runs the upgrade and the way back. Returns whether everything held.
pub async fn run(arguments: &Arguments) -> Result<bool> {
    let stopped = stop_signals()?;
    let outcome = tokio::select! {
        outcome = upgrade(arguments) => outcome?,
        () = stopped => anyhow::bail!("interrupted"),
    };
    // By now all servers have been dropped, which ended them.
    starling_testkit::remove_own()?;
    let sound = outcome.is_sound();
    println!("\n{}", table::table(&[outcome], std::io::stdout().is_terminal()));
    println!("{}", if sound { "passed" } else { "FAILED" });
    Ok(sound)
}

async fn upgrade(arguments: &Arguments) -> Result<Outcome> {
    let begun = Instant::now();
    let previous = std::path::absolute(&arguments.previous).context("the previous program")?;
    let present = crate::program::program(arguments.program.as_ref()).await?;
    let nodes = usize::from(arguments.nodes);
    let drain = if arguments.seconds <= SHORT { DRAIN_SHORT } else { DRAIN };
    let settings = NodeSettings { program: previous.clone(), nodes, drain, env: arguments.node_env.clone() };
    let topology = Topology { redis: RedisKind::Alone, database: DatabaseKind::Alone, clocks: false };
    let mut testbed = Testbed::start(topology, &settings).await?;
    let before = schema(&testbed).await?;
    let (members, rate) = (usize::from(arguments.clients), f64::from(arguments.rate));
    let mut clients = Clients::start("upgrade", testbed.urls(false), rand::random(), members, rate).await?;
    let serve = Duration::from_secs(arguments.seconds);
    pass(&mut clients, serve).await?;
    let mut windows = vec![replace_all(&mut testbed, &mut clients, &present, "upgrade", serve).await?];
    let after = schema(&testbed).await?;
    let refusal = if before == after { None } else { refusal(&testbed, &previous).await? };
    if refusal.is_none() {
        windows.push(replace_all(&mut testbed, &mut clients, &previous, "back", serve).await?);
    }
    let mut outcome = compare(clients, &testbed, windows, begun).await?;
    match way_back(before, after, refusal.as_deref()) {
        Ok(note) => outcome.notes.insert(0, note),
        Err(failure) => outcome.failures.push(failure),
    }
    Ok(outcome)
}

/// Lets the nodes serve for a while.
async fn pass(clients: &mut Clients, lasts: Duration) -> Result<()> {
    tokio::time::sleep(lasts).await;
    clients.check()
}

/// Replaces each node by one of another program: the new one comes, the old one is drained, and both releases serve for a while.
async fn replace_all(
    testbed: &mut Testbed,
    clients: &mut Clients,
    program: &Path,
    label: &str,
    serve: Duration,
) -> Result<FaultWindow> {
    let workload = Arc::clone(&clients.workload);
    let since = || workload.begun.elapsed().as_secs_f64();
    let from = since();
    testbed.set_program(program);
    let names: Vec<String> = testbed.slots.iter().map(|slot| slot.node.name().to_owned()).collect();
    for name in names {
        testbed.add_node().await?;
        pass(clients, serve).await?;
        drain(testbed, &name).await.with_context(|| label.to_owned())?;
        println!("{label}: {name} is replaced after {:.0} s", since());
        pass(clients, serve).await?;
    }
    let window = FaultWindow { label: label.to_owned(), from, to: since(), drains: true };
    workload.wait_for_everybody(RETRY_LIMIT).await?;
    pass(clients, serve).await?;
    Ok(window)
}

/// Stops the clients and compares what they saw with the log.
async fn compare(
    clients: Clients,
    testbed: &Testbed,
    windows: Vec<FaultWindow>,
    begun: Instant,
) -> Result<Outcome> {
    let workload = Arc::clone(&clients.workload);
    let histories = clients.stop().await?;
    let logs = Arc::new(read_logs(&testbed.postgres, &workload).await?);
    let histories = catch_up(&workload, histories, &logs).await?;
    let measures = measure(&workload, &histories, &logs, &windows);
    let mut outcome = Outcome {
        name: "upgrade".to_owned(),
        about: "Nodes of the previous release are replaced by nodes of this one, and back".to_owned(),
        measures,
        single_sender: None,
        windows,
        memory: Vec::new(),
        notes: Vec::new(),
        warnings: Vec::new(),
        failures: Vec::new(),
        took: begun.elapsed(),
    };
    outcome.judge(Fault::RollingDeploy.promise(), logs.iter().map(Log::faults).sum());
    outcome.remark(Fault::RollingDeploy, 0.0);
    Ok(outcome)
}

async fn schema(testbed: &Testbed) -> Result<Schema> {
    // The JSON of a row has the column only where the table has it.
    let sql = "SELECT max(version), max((to_jsonb(history) ->> 'oldest_program')::int) FROM starling_migrations AS history";
    let row = testbed.postgres.psql(sql).await?;
    let (version, oldest) = row.trim().split_once('|').context("two columns")?;
    let oldest_program = if oldest.is_empty() { None } else { Some(oldest.parse().context("a version")?) };
    Ok(Schema { version: version.parse().context("the schema's version")?, oldest_program })
}

/// What this program says against the database as it is now. `None`: it takes it.
async fn refusal(testbed: &Testbed, program: &Path) -> Result<Option<String>> {
    let migrate = Node::builder().program(program).database(&testbed.postgres.url()).arg("migrate");
    let migrate = migrate.without_waiting().start().await?;
    let status = migrate.ended(COMMAND_LIMIT).await?;
    let log = migrate.log();
    let said = log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    Ok((!status.success()).then(|| said.to_owned()))
}

/// Whether the previous release did with the schema that it met what the database says of it. Returns a note for the reader.
///
/// # Errors
/// What it did wrong.
fn way_back(before: Schema, after: Schema, refusal: Option<&str>) -> Result<String, String> {
    if before.version == after.version {
        return Ok("the release has no migration of its own".to_owned());
    }
    let went = format!("the schema went from version {} to {}", before.version, after.version);
    // A program that does not tell which programs can use its schema does not ask either.
    let may_use = before.oldest_program.and(after.oldest_program).map(|oldest| oldest <= before.version);
    match (refusal, may_use) {
        (None, Some(false)) => Err(format!("{went}, and the previous release takes it, which it must not")),
        (Some(refusal), Some(true)) => {
            Err(format!("{went}, which the previous release can use, and it says: {refusal}"))
        }
        (None, _) => Ok(format!("{went}, which the previous release can use")),
        (Some(refusal), _) => {
            Ok(format!("{went}: there is no way back, and the previous release says: {refusal}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(version: i32, oldest_program: Option<i32>) -> Schema {
        Schema { version, oldest_program }
    }

    #[test]
    fn the_way_back_is_as_the_database_says() {
        let before = schema(7, Some(3));
        assert!(way_back(before, before, None).is_ok());
        assert!(way_back(before, schema(8, Some(3)), None).is_ok());
        assert!(way_back(before, schema(8, Some(8)), Some("too old")).unwrap().contains("too old"));
        assert!(way_back(before, schema(8, Some(8)), None).is_err(), "it has to refuse");
        assert!(way_back(before, schema(8, Some(3)), Some("too old")).is_err(), "it has to work");
    }

    #[test]
    fn a_release_from_before_the_rule_may_refuse_every_newer_schema() {
        assert!(way_back(schema(4, None), schema(7, Some(3)), Some("too old")).is_ok());
        assert!(way_back(schema(4, None), schema(7, Some(3)), None).is_ok());
    }
}
