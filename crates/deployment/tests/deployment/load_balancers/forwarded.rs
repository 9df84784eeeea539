//! Whom each load balancer and the nodes believe about a client's address and scheme.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, ensure};
use starling_testkit::client::{Client, Failure, Upgrade};
use starling_testkit::node::Node;

use super::balancer::{self, Balancer, TRUSTED_HOP, refused};

/// Connections of one address on one node.
const PER_ADDRESS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_headers_are_believed_from_trusted_hops_only() -> Result<()> {
    let node = || {
        Node::builder()
            .env("STARLING_LIMIT_ADDRESS_CONNECTIONS", &PER_ADDRESS.to_string())
            .env("STARLING_TRUSTED_PROXIES", &format!("127.0.0.1,{TRUSTED_HOP}"))
            .start()
    };
    let (one, two) = tokio::try_join!(node(), node())?;
    // All have the address of a client for themselves, since each client keeps its connections.
    for (balancer, number) in balancer::all([&one, &two]).await?.iter().zip(1..) {
        addresses(balancer, number).await.context(balancer.name())?;
        schemes(balancer).await.context(balancer.name())?;
    }
    Ok(())
}

async fn addresses(balancer: &Balancer, number: u8) -> Result<()> {
    let client = Ipv4Addr::new(127, 0, 1, number);
    let (held, refusal) = connect_as_many(balancer, client, |n| format!("203.0.{number}.{n}")).await?;
    ensure!(
        refusal == Some(429),
        "{held} connections of {client}, then {refusal:?}: forged addresses were believed"
    );
    let other = balancer.from(Ipv4Addr::new(127, 0, 2, number)).await?;
    let forged = Upgrade::to(&other.ws_url()).header("x-forwarded-for", &client.to_string());
    forged.open().await.context("another client")?;

    let (_, refusal) = connect_as_many(balancer, TRUSTED_HOP, |_| format!("198.51.{number}.1")).await?;
    ensure!(refusal == Some(429), "the address that the trusted hop names was not counted: {refusal:?}");
    let hop = balancer.from(TRUSTED_HOP).await?;
    let other = Upgrade::to(&hop.ws_url()).header("x-forwarded-for", &format!("198.51.{number}.2"));
    other.open().await.context("another client behind the hop")?;
    Ok(())
}

/// Opens one connection more than an address may have on both nodes. Each names another address of its own. Returns how many were opened and
/// the status with which one was refused.
async fn connect_as_many(
    balancer: &Balancer,
    from: Ipv4Addr,
    forged: impl Fn(usize) -> String,
) -> Result<(usize, Option<u16>)> {
    let way = balancer.from(from).await?;
    let mut held: Vec<Client> = Vec::new();
    for n in 0..=2 * PER_ADDRESS {
        let named: IpAddr = forged(n).parse()?;
        match Upgrade::to(&way.ws_url()).header("x-forwarded-for", &named.to_string()).open().await {
            Ok(client) => held.push(client),
            Err(failure @ Failure::NotUpgraded { .. }) => return Ok((held.len(), refused(&failure))),
            Err(failure) => return Err(failure.into()),
        }
    }
    Ok((held.len(), None))
}

/// The client uses TLS, whatever it says: a page of the same host without TLS is another origin.
async fn schemes(balancer: &Balancer) -> Result<()> {
    let way = balancer.from(Ipv4Addr::new(127, 0, 3, 1)).await?;
    for (scheme, status) in [("https", None), ("http", Some(403))] {
        let upgrade = Upgrade::to(&way.ws_url()).header("x-forwarded-proto", "http");
        let opened = upgrade.header("origin", &format!("{scheme}://{}", way.address())).open().await;
        let got =
            opened.err().map(|failure| refused(&failure).with_context(|| failure.to_string())).transpose()?;
        ensure!(got == status, "a page with {scheme}: {got:?}");
    }
    Ok(())
}
