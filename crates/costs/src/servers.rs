//! What an operation costs the servers behind the nodes: commands to Redis, and statements to PostgreSQL.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::{Cluster, Node};
use starling_testkit::postgres::Postgres;

use crate::budget::Counts;

/// The two amounts of each operation. The difference of their counts is divided by the difference of the amounts.
const AMOUNTS: [u64; 2] = [50, 250];

/// How long the nodes are left alone before each work, to see what they do by themselves. On a busy machine the work takes longer, and they
/// do more of it meanwhile.
const IDLE: Duration = Duration::from_secs(2);

/// Calls to the servers in a span of time.
struct Calls {
    commands: f64,
    statements: f64,
    seconds: f64,
}

impl Calls {
    /// Returns the commands and statements without those that the nodes do by themselves.
    fn without(&self, idle: &Calls) -> (f64, f64) {
        let share = self.seconds / idle.seconds;
        (self.commands - idle.commands * share, self.statements - idle.statements * share)
    }
}

/// A cluster of two nodes whose servers count.
struct Counted {
    cluster: Cluster,
    postgres: Postgres,
}

/// Counts the commands and statements of each operation in a cluster of two nodes, while nothing else happens. Each operation begins
/// when the one before has ended: nothing is batched, so these are the highest costs.
///
/// # Errors
/// When the servers can't be started, or a node refuses something.
pub async fn server_calls() -> Result<Counts> {
    let postgres = Postgres::start_with(&[("shared_preload_libraries", "pg_stat_statements")]).await?;
    postgres.psql("CREATE EXTENSION pg_stat_statements").await?;
    let cluster = Cluster::builder(2).database(&postgres.url()).unlimited().start().await?;
    let counted = Counted { cluster, postgres };
    let mut counts = Counts::new();
    counted.messages(&mut counts).await?;
    counted.publications(&mut counts).await?;
    // Last, since the nodes go on writing down many sessions for a while.
    counted.arrivals(&mut counts).await?;
    Ok(counts)
}

impl Counted {
    async fn client(&self, node: usize, user: &str) -> Result<Client> {
        let node: &Node = self.cluster.node(node);
        Ok(Client::connect(&node.ws_url(), &self.cluster.token(user), Encoding::Json).await?)
    }

    /// Users who connect and join a conversation.
    async fn arrivals(&self, counts: &mut Counts) -> Result<()> {
        let mut host = self.client(0, "host").await?;
        let members: Vec<String> =
            (0..=AMOUNTS.iter().sum::<u64>()).map(|number| format!("guest-{number}")).collect();
        host.command("create", json!({"conversation": "hall", "members": members})).await?;
        let (mut staying, mut arrived) = (Vec::new(), 0);
        let work = async |amount| {
            for _ in 0..amount {
                let mut guest = self.client(0, &format!("guest-{arrived}")).await?;
                guest.command("join", json!({"conversation": "hall"})).await?;
                staying.push(guest);
                arrived += 1;
            }
            Ok(())
        };
        self.count("connect and join", counts, work).await
    }

    /// Messages to a conversation that somebody has joined at the other node.
    async fn messages(&self, counts: &mut Counts) -> Result<()> {
        let (mut writer, mut reader) = (self.client(0, "writer").await?, self.client(1, "reader").await?);
        writer.command("create", json!({"conversation": "talk", "members": ["reader"]})).await?;
        reader.command("join", json!({"conversation": "talk"})).await?;
        let mut key = 0;
        let work = async |amount| {
            for _ in 0..amount {
                key += 1;
                let send = json!({"conversation": "talk", "key": format!("key-{key}"), "content": "hello"});
                writer.command("send", send).await?;
                reader.wait_for_event("message").await?;
            }
            Ok(())
        };
        self.count("send", counts, work).await
    }

    /// Publications to a topic with a subscriber at the other node.
    async fn publications(&self, counts: &mut Counts) -> Result<()> {
        let (mut writer, mut reader) = (self.client(0, "writer").await?, self.client(1, "reader").await?);
        reader.command("subscribe", json!({"topic": "news"})).await?;
        let work = async |amount| {
            for _ in 0..amount {
                writer.command("publish", json!({"topic": "news", "data": "hello"})).await?;
                reader.wait_for_event("publication").await?;
            }
            Ok(())
        };
        self.count("publish", counts, work).await
    }

    async fn count(
        &self,
        name: &str,
        counts: &mut Counts,
        mut work: impl AsyncFnMut(u64) -> Result<()>,
    ) -> Result<()> {
        // What is done once, at the first use, does not count.
        work(1).await.with_context(|| name.to_owned())?;
        let mut calls = [(0.0, 0.0); 2];
        for (calls, amount) in calls.iter_mut().zip(AMOUNTS) {
            let idle = async || {
                tokio::time::sleep(IDLE).await;
                Ok(())
            };
            let idle = self.calls_within(idle).await?;
            let busy =
                self.calls_within(async || work(amount).await.with_context(|| name.to_owned())).await?;
            *calls = busy.without(&idle);
        }
        let units = (AMOUNTS[1] - AMOUNTS[0]) as f64;
        counts.push((format!("{name}: commands to Redis"), (calls[1].0 - calls[0].0) / units));
        counts.push((format!("{name}: statements to PostgreSQL"), (calls[1].1 - calls[0].1) / units));
        Ok(())
    }

    /// Counts the calls of the nodes until this has happened.
    async fn calls_within(&self, happen: impl AsyncFnOnce() -> Result<()>) -> Result<Calls> {
        let began = Instant::now();
        let before = (self.commands().await?, self.statements().await?);
        happen().await?;
        let after = (self.commands().await?, self.statements().await?);
        let seconds = began.elapsed().as_secs_f64();
        Ok(Calls { commands: after.0 - before.0, statements: after.1 - before.1, seconds })
    }

    /// Commands that Redis has run so far.
    async fn commands(&self) -> Result<f64> {
        let info = self.cluster.redis()?.cli(&["INFO", "commandstats"]).await?.text();
        let calls = |line: &str| {
            line.strip_prefix("cmdstat_")?.split_once("calls=")?.1.split_once(',')?.0.parse::<f64>().ok()
        };
        Ok(info.lines().filter_map(calls).sum::<f64>())
    }

    /// Statements of the nodes that PostgreSQL has run so far.
    async fn statements(&self) -> Result<f64> {
        let sum = "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements JOIN pg_roles ON oid = userid \
                   WHERE rolname = 'starling'";
        self.postgres.psql(sum).await?.trim().parse().context("a number of statements")
    }
}
