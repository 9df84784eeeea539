//! Sticky sessions, turned on as the files say.

use anyhow::{Context, Result, ensure};
use starling_testkit::client::Upgrade;
use starling_testkit::http::Request;
use starling_testkit::node::Node;
use starling_testkit::wait::until_true;

use super::SOON;
use super::balancer::{self, Balancer};
use super::file::ConfigFile;
use super::kind::Kind;

/// Requests that would not all reach the same node by chance.
const REQUESTS: usize = 12;

fn sticky(file: &mut ConfigFile) -> Result<()> {
    // The nodes of Traefik are in its second file.
    if file.name() == "traefik.yaml" { Ok(()) } else { file.make_sticky() }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_sticky_sessions_a_client_comes_back_to_its_node_and_to_another_one_when_that_is_gone()
-> Result<()> {
    let (one, two) =
        tokio::try_join!(Node::builder().unlimited().start(), Node::builder().unlimited().start())?;
    let balancers = balancer::all_edited(&Kind::ALL, [&one, &two], &sticky).await?;
    let mut cookies = Vec::new();
    for balancer in &balancers {
        cookies.push(comes_back(balancer, &one).await.context(balancer.name())?);
    }
    one.terminate(SOON).await?;
    for (balancer, cookie) in balancers.iter().zip(&cookies) {
        let moved = async || Ok(ask(balancer, Some(cookie)).await?.0 == two.name());
        until_true(SOON, "the other node", moved).await.context(balancer.name())?;
    }
    Ok(())
}

/// Returns a cookie that leads to this node.
async fn comes_back(balancer: &Balancer, node: &Node) -> Result<String> {
    let mut nodes = std::collections::BTreeMap::new();
    // Without a cookie the requests are spread.
    while nodes.len() < 2 {
        ensure!(nodes.values().map(Vec::len).sum::<usize>() < 20 * REQUESTS, "all on {:?}", nodes.keys());
        let (name, cookie) = ask(balancer, None).await?;
        nodes.entry(name).or_insert_with(Vec::new).push(cookie.context("no cookie was set")?);
    }
    let cookie = nodes[node.name()][0].clone();
    for _ in 0..REQUESTS {
        let (name, _) = ask(balancer, Some(&cookie)).await?;
        ensure!(name == node.name(), "with the cookie {cookie} it came to {name}");
        let mut client = Upgrade::to(&balancer.ws_url()).header("cookie", &cookie).open().await?;
        client.hello(serde_json::json!({"token": node.token("ada")})).await?;
        ensure!(client.welcome()["node"] == node.name(), "a WebSocket came to {}", client.welcome()["node"]);
    }
    Ok(cookie)
}

/// Returns the node's name, and the cookie that was set.
async fn ask(balancer: &Balancer, cookie: Option<&str>) -> Result<(String, Option<String>)> {
    let mut request = Request::new("GET", &format!("{}/health", balancer.http_url()));
    if let Some(cookie) = cookie {
        request = request.header("cookie", cookie);
    }
    let response = request.send().await?;
    let node = response.json()?["node"].as_str().context("no node")?.to_owned();
    let set = response.header("set-cookie").and_then(|cookie| cookie.split(';').next());
    ensure!(set.is_none_or(|cookie| cookie.starts_with("starling_node=")), "another cookie: {set:?}");
    Ok((node, set.map(str::to_owned)))
}
