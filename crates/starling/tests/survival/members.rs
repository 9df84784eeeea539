//! A removed member is out on every node, even if the notice is lost.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use starling_testkit::client::{Client, Encoding};
use starling_testkit::http::Request;
use starling_testkit::node::{Node, SECRET};
use starling_testkit::postgres::Postgres;
use starling_testkit::proxy::Link;
use starling_testkit::redis::Redis;
use starling_testkit::wait::until_true;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::TURN;
use crate::talk::say;

/// Generous timeout, for busy machines and for changes that only the comparison once a minute finds.
const SOON: Duration = Duration::from_secs(90);
/// Number of attempts. A statement that waits for a lock times out after some seconds, so an attempt may fail on a slow machine.
const ATTEMPTS: u32 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_is_told_although_its_answer_was_lost_on_the_way_from_the_database() -> Result<()> {
    let _turn = TURN.lock().await;
    let mut stage = Stage::set().await?;
    for _ in 0..ATTEMPTS {
        stage.hold_row().await?;
        let removal = stage.removal("bob");
        let request = tokio::spawn(async move { removal.send().await });
        stage.removal_waits().await?;
        stage.link.pause();
        stage.release_row().await?;
        // Nothing that was held back arrives.
        stage.link.refuse().await;
        stage.link.cut();
        let broken = async || Ok(stage.link.connections() == 0);
        until_true(SOON, "every connection to be broken", broken).await?;
        stage.link.resume();
        stage.link.accept().await?;
        let status = request.await??.status;
        ensure!(status == 503, "whether it was committed is not known: {status}");
        if !stage.is_member("bob").await? {
            return stage.bob_is_out().await;
        }
    }
    anyhow::bail!("the removal was given up each time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_is_told_although_whoever_asked_for_it_has_gone_away() -> Result<()> {
    let _turn = TURN.lock().await;
    let mut stage = Stage::set().await?;
    for _ in 0..ATTEMPTS {
        stage.hold_row().await?;
        let asker = stage.begin_removal("bob").await?;
        stage.removal_waits().await?;
        drop(asker);
        // By then the node has seen that the connection is closed.
        for _ in 0..20 {
            stage.near.get("/health").await?;
        }
        stage.release_row().await?;
        if !stage.is_member("bob").await? {
            return stage.bob_is_out().await;
        }
    }
    anyhow::bail!("the removal was given up each time")
}

/// Changes members without notifying anybody, as if the node had died at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_again_for_what_is_so_already_makes_every_node_look() -> Result<()> {
    let _turn = TURN.lock().await;
    let mut stage = Stage::set().await?;
    stage.silently("starling_set_member(id, 'bob', false)").await?;
    let answer = stage.removal("bob").send().await?;
    ensure!(answer.status == 404, "{}", answer.text());
    stage.bob_is_out().await?;

    stage.silently("starling_delete(id)").await?;
    let url = format!("{}/v1/conversations/c", stage.near.http_url());
    let answer = Request::new("DELETE", &url).bearer(&stage.near.token("ada")).send().await?;
    ensure!(answer.status == 404, "{}", answer.text());
    let told = stage.cy.wait_for(|event| event["ev"] == "member" && event["member"] == false).await?;
    ensure!(told["user"] == "cy" && told["conversation"] == "c", "{told}");
    ensure!(is_refused(&mut stage.cy).await?, "cy goes on sending");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removals_reach_the_other_nodes_while_redis_is_away() -> Result<()> {
    let _turn = TURN.lock().await;
    let mut stage = Stage::set().await?;
    stage.redis.stop()?;
    for user in ["bob", "cy"] {
        let answer = stage.removal(user).send().await?;
        ensure!(answer.status == 204, "{}", answer.text());
    }
    stage.bob_is_out().await?;
    // A member who has not joined gets no event but is refused as well.
    let cy = &mut stage.cy;
    let began = std::time::Instant::now();
    while !is_refused(cy).await? {
        ensure!(began.elapsed() < SOON, "cy goes on sending");
    }
    stage.redis.resume()
}

/// Ada owns the conversation `c` and uses the first node, whose link to the database can be broken. Bob and Cy use the second.
struct Stage {
    postgres: Postgres,
    redis: Redis,
    link: Link,
    near: Node,
    far: Node,
    /// A member who has joined.
    bob: Client,
    /// A member who has not joined.
    cy: Client,
}

impl Stage {
    async fn set() -> Result<Self> {
        let settings = [("max_prepared_transactions", "2")];
        let (postgres, redis) = tokio::try_join!(Postgres::start_with(&settings), Redis::start())?;
        let link = Link::to(postgres.address()).await?;
        let start = async |name: &str, database: &str| {
            let node = Node::builder().name(name).secret(SECRET).unlimited();
            node.redis(&redis.url()).database(database).start().await
        };
        let far = start("far", &postgres.url()).await?;
        let near = start("near", &link.through(&postgres.url())).await?;
        let connect = async |node: &Node, user: &str| {
            Client::connect(&node.ws_url(), &node.token(user), Encoding::Json).await
        };
        let mut ada = connect(&near, "ada").await?;
        ada.command("create", json!({"conversation": "c", "members": ["bob", "cy"]})).await?;
        let (mut bob, mut cy) = (connect(&far, "bob").await?, connect(&far, "cy").await?);
        bob.command("join", json!({"conversation": "c"})).await?;
        say(&mut bob, "c", "bob may").await?;
        say(&mut cy, "c", "cy may").await?;
        for client in [&mut bob, &mut cy] {
            client.set_patience(SOON);
        }
        Ok(Stage { postgres, redis, link, near, far, bob, cy })
    }

    fn removal(&self, user: &str) -> Request {
        let url = format!("{}/v1/conversations/c/members/{user}", self.near.http_url());
        Request::new("DELETE", &url).bearer(&self.near.token("ada"))
    }

    /// Sends the request and does not read the response.
    async fn begin_removal(&self, user: &str) -> Result<TcpStream> {
        let (address, token) = (self.near.address(), self.near.token("ada"));
        let mut stream = TcpStream::connect(address).await?;
        let head = format!(
            "DELETE /v1/conversations/c/members/{user} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        Ok(stream)
    }

    /// Checks that Bob has been notified of his removal and has no access.
    async fn bob_is_out(&mut self) -> Result<()> {
        let is_told = json!({"ev": "member", "conversation": "c", "user": "bob", "member": false});
        let told = self.bob.wait_for(|event| *event == is_told).await;
        told.with_context(|| format!("{}\n{}", self.near.log(), self.far.log()))?;
        ensure!(is_refused(&mut self.bob).await?, "bob goes on sending");
        Ok(())
    }

    async fn is_member(&self, user: &str) -> Result<bool> {
        let count = format!("SELECT count(*) FROM members WHERE user_name = '{user}'");
        Ok(self.postgres.psql(&count).await?.trim() != "0")
    }

    /// Changes the database like a node that dies before it can notify anybody.
    async fn silently(&self, call: &str) -> Result<()> {
        self.postgres.psql(&format!("SELECT {call} FROM conversations WHERE name = 'c'")).await.map(drop)
    }

    /// Holds the conversation's row, so that a removal waits in the database.
    async fn hold_row(&self) -> Result<()> {
        let hold = "BEGIN; SELECT FROM conversations WHERE name = 'c' FOR UPDATE; PREPARE TRANSACTION 'held'";
        self.postgres.psql(hold).await.map(drop)
    }

    async fn removal_waits(&self) -> Result<()> {
        let waits = async || self.removal_is("wait_event_type = 'Lock'").await;
        until_true(SOON, "the removal to wait for the row", waits).await
    }

    /// Releases the row and waits until the removal has been committed or has failed.
    async fn release_row(&self) -> Result<()> {
        self.postgres.psql("ROLLBACK PREPARED 'held'").await?;
        let ended = async || Ok(!self.removal_is("state = 'active'").await?);
        until_true(SOON, "the removal to end", ended).await
    }

    async fn removal_is(&self, so: &str) -> Result<bool> {
        let count = format!(
            "SELECT count(*) FROM pg_stat_activity \
             WHERE pid <> pg_backend_pid() AND query LIKE '%starling_set_member%' AND {so}"
        );
        Ok(self.postgres.psql(&count).await?.trim() != "0")
    }
}

/// Whether a sender gets `not_found` for the conversation.
async fn is_refused(client: &mut Client) -> Result<bool> {
    match say(client, "c", "may I?").await {
        Ok(_) => Ok(false),
        Err(error) if error.to_string().contains("not_found") => Ok(true),
        Err(error) => Err(error),
    }
}
