//! Envoy's limits on connections and requests, which by default let 1,024 clients through.

use anyhow::{Result, ensure};
use starling_testkit::client::Upgrade;
use starling_testkit::node::Node;
use tokio::task::JoinSet;

use super::balancer::{Balancer, refused};
use super::file::ConfigFile;
use super::kind::Kind;

/// Clients that come at once.
const CLIENTS: usize = 60;
/// The limit in the control, below that.
const LIMIT: usize = 20;

fn with_low_limits(file: &mut ConfigFile) -> Result<()> {
    for (limit, low) in [("max_connections", LIMIT), ("max_requests", LIMIT), ("max_pending_requests", 1)] {
        file.replace(&format!("{limit}: 100000"), &format!("{limit}: {low}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_counts_each_client_against_its_limits_for_as_long_as_it_is_connected() -> Result<()> {
    let (one, two) =
        tokio::try_join!(Node::builder().unlimited().start(), Node::builder().unlimited().start())?;
    let all = connect(&Balancer::start(Kind::Envoy, [&one, &two]).await?).await?;
    ensure!(all == CLIENTS, "only {all} came in");
    let control = Balancer::start_edited(Kind::Envoy, [&one, &two], &with_low_limits).await?;
    let some = connect(&control).await?;
    ensure!(some < CLIENTS, "with a limit of {LIMIT}, {some} came in");
    Ok(())
}

/// Returns how many clients came in before one was refused.
async fn connect(balancer: &Balancer) -> Result<usize> {
    let mut upgrades = JoinSet::new();
    for _ in 0..CLIENTS {
        let url = balancer.ws_url();
        upgrades.spawn(async move { Upgrade::to(&url).open().await });
    }
    let mut clients = Vec::new();
    while let Some(upgrade) = upgrades.join_next().await {
        match upgrade? {
            Ok(client) => clients.push(client),
            Err(failure) if refused(&failure) == Some(503) => break,
            Err(failure) => return Err(failure.into()),
        }
    }
    Ok(clients.len())
}
