//! PostgreSQL behind PgBouncer.

use anyhow::Result;
use starling_testkit::node::Cluster;
use starling_testkit::postgres::{PgBouncer, Postgres};
use starling_testkit::wait;

use crate::meeting::everything_works;
use crate::talk::{Manner, Talk};
use crate::{SOON, TURN, two_nodes};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_transaction_pooling_everything_works_also_after_restarts_under_load() -> Result<()> {
    let _turn = TURN.lock().await;
    let postgres = Postgres::shared().await?;
    postgres.create_database("pooled").await?;
    let bouncer = PgBouncer::start(postgres).await?;
    let cluster = two_nodes().database(&bouncer.url_of("pooled")).start().await?;
    everything_works(&cluster, "pooled").await?;
    let talk = Talk::begin(&cluster, "talk", Manner::UntilAccepted).await?;
    talk.goes_on().await?;
    for n in 1..=2 {
        let failed = failed_calls(&cluster).await?;
        bouncer.kill().await?;
        let noticed = async || Ok(failed_calls(&cluster).await? > failed);
        wait::until_true(SOON, "a call that finds no PgBouncer", noticed).await?;
        bouncer.start_again().await?;
        talk.goes_on().await?;
        everything_works(&cluster, &format!("restarted-{n}")).await?;
    }
    talk.end(&cluster).await
}

/// How many calls of the nodes have found no database so far.
async fn failed_calls(cluster: &Cluster) -> Result<f64> {
    let mut sum = 0.0;
    for node in cluster.nodes() {
        sum += node.metric("starling_store_errors_total", "kind=\"unavailable\"").await?;
    }
    Ok(sum)
}
