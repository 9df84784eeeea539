//! More clients at once than the nodes take: each client that a node refuses is told when to come back.

use anyhow::{Context, Result, ensure};
use starling_testkit::client::{Failure, Upgrade};
use starling_testkit::node::Node;
use tokio::task::JoinSet;

use super::balancer::{self, Balancer};
use super::file::ConfigFile;
use super::kind::Kind;

/// Handshakes that come at once. Each node takes one a second.
const AT_ONCE: usize = 30;

/// nginx avoids nodes that have refused a client. Without its second list of nodes, it then has none left.
fn without_any_node(file: &mut ConfigFile) -> Result<()> {
    file.replace("error_page 502 504 = @any_node;", "")
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_too_many_clients_at_once_tell_them_through_each_load_balancer_when_to_come_back()
-> Result<()> {
    let node = || Node::builder().unlimited().env("STARLING_LIMIT_HANDSHAKES_PER_SECOND", "1").start();
    let (one, two) = tokio::try_join!(node(), node())?;
    for balancer in balancer::all([&one, &two]).await? {
        let refusals = upgrade_at_once(&balancer).await.context(balancer.name())?;
        let told = refusals.iter().filter(|(status, retry_after)| *status == 503 && *retry_after).count();
        ensure!(told == refusals.len(), "{}: {refusals:?}", balancer.name());
        ensure!(told > AT_ONCE / 2, "{}: only {told} were refused", balancer.name());
    }
    let control = Balancer::start_edited(Kind::Nginx, [&one, &two], &without_any_node).await?;
    let refusals = upgrade_at_once(&control).await?;
    ensure!(refusals.iter().any(|(status, _)| *status == 502), "the control told everybody: {refusals:?}");
    Ok(())
}

/// Returns the status of each upgrade that was refused, and whether its body said when to come back.
async fn upgrade_at_once(balancer: &Balancer) -> Result<Vec<(u16, bool)>> {
    let mut upgrades = JoinSet::new();
    for _ in 0..AT_ONCE {
        let url = balancer.ws_url();
        upgrades.spawn(async move { Upgrade::to(&url).open().await });
    }
    let mut refusals = Vec::new();
    for upgrade in upgrades.join_all().await {
        match upgrade {
            Ok(_) => {}
            Err(Failure::NotUpgraded { status, body }) => {
                refusals.push((status, body.contains("retry_after_ms")));
            }
            Err(failure) => return Err(failure.into()),
        }
    }
    Ok(refusals)
}
