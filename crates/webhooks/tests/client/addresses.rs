//! Where requests may go.

use std::sync::Arc;

use anyhow::{Result, ensure};
use starling_webhooks::{Client, Outcome};

use crate::backend::{Backend, Names, client, client_with, deliver, system_tls};

/// What the owner of a webhook is told of a name inside, as of one that does not exist.
const NO_ADDRESS: &str = "the host has no address that requests may go to";
const OK: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Delivers, which must fail, and returns the reason.
async fn failure(client: &Client, url: &str) -> Result<String> {
    match deliver(client, url).await?.outcome {
        Outcome::Failed { reason, .. } => Ok(reason),
        outcome => anyhow::bail!("{url}: {outcome:?}"),
    }
}

#[tokio::test]
async fn nothing_inside_is_reached_by_any_way_to_write_it() -> Result<()> {
    let backend = Backend::answering(OK).await?;
    let port = backend.address.port();
    let names = Arc::new(Names::default());
    names.set("inside.test", &[&["127.0.0.1"]]);
    names.set("mapped.test", &[&["::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::1"]]);
    let client = client_with(&[], Arc::clone(&names) as _, system_tls()?);
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::]",
        "inside.test",
        "mapped.test",
        "INSIDE.test",
    ] {
        for scheme in ["http", "https"] {
            let reason = failure(&client, &format!("{scheme}://{host}:{port}/")).await?;
            ensure!(reason == NO_ADDRESS, "{host}: {reason}");
        }
    }
    ensure!(backend.connections() == 0, "{} connections", backend.connections());
    // Control: with the network allowed, it is reached.
    let client = client_with(&["127.0.0.0/8"], names, system_tls()?);
    for host in ["127.0.0.1", "inside.test", "mapped.test"] {
        ensure!(
            deliver(&client, &format!("http://{host}:{port}/")).await?.outcome == Outcome::Delivered,
            "{host}"
        );
    }
    Ok(())
}

/// The name leads to an allowed address when it is looked up first, and to another one when it is looked up again.
#[tokio::test]
async fn a_name_that_is_bound_to_another_address_leads_nowhere() -> Result<()> {
    let outside =
        Backend::start_at("127.0.0.2:0".parse()?, |stream| crate::backend::answer_all(stream, OK)).await?;
    let port = outside.address.port();
    let inside_at = format!("127.0.0.1:{port}").parse()?;
    let inside = Backend::start_at(inside_at, |stream| crate::backend::answer_all(stream, OK)).await?;
    let (names, url) = (Arc::new(Names::default()), format!("http://rebinding.test:{port}/"));
    let client = client_with(&["127.0.0.2/32"], Arc::clone(&names) as _, system_tls()?);
    names.set("rebinding.test", &[&["127.0.0.2"], &["127.0.0.1"]]);
    // The address that was checked is the one that is used: nothing looks the name up again in between.
    ensure!(deliver(&client, &url).await?.outcome == Outcome::Delivered);
    ensure!((names.lookups(), outside.connections()) == (1, 1));
    let reason = failure(&client, &url).await?;
    ensure!(reason == NO_ADDRESS, "{reason}");
    // Of several addresses, only those that are allowed are used.
    names.set("rebinding.test", &[&["127.0.0.1", "127.0.0.2"]]);
    ensure!(deliver(&client, &url).await?.outcome == Outcome::Delivered);
    ensure!((outside.connections(), inside.connections()) == (2, 0));
    // Control: without the check the same name reaches the other server.
    names.set("rebinding.test", &[&["127.0.0.2"], &["127.0.0.1"]]);
    let careless = client_with(&["127.0.0.0/8"], names, system_tls()?);
    for _ in 0..2 {
        ensure!(deliver(&careless, &url).await?.outcome == Outcome::Delivered);
    }
    ensure!((outside.connections(), inside.connections()) == (3, 1));
    Ok(())
}

#[tokio::test]
async fn nothing_is_sent_to_the_internet_without_tls() -> Result<()> {
    let reason = failure(&client(&[]), "http://1.1.1.1/").await?;
    ensure!(reason.contains("use https://"), "{reason}");
    Ok(())
}

#[tokio::test]
async fn a_name_without_an_address_and_a_port_without_a_server_are_failures() -> Result<()> {
    let names = Arc::new(Names::default());
    names.set("empty.test", &[&[]]);
    names.set("closed.test", &[&["127.0.0.1"]]);
    let backend = Backend::answering(OK).await?;
    let port = backend.address.port();
    drop(backend);
    let client = client_with(&["127.0.0.0/8"], names, system_tls()?);
    for (host, expected) in
        [("unknown.test", NO_ADDRESS), ("empty.test", NO_ADDRESS), ("closed.test", "no connection")]
    {
        let reason = failure(&client, &format!("http://{host}:{port}/")).await?;
        ensure!(reason.starts_with(expected), "{host}: {reason}");
    }
    Ok(())
}
