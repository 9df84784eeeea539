//! A session continues on another node, whatever happened to the first node and to Redis.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding, RecordingClient, without_logs};
use starling_testkit::http::Request;
use starling_testkit::node::{Cluster, Node};
use starling_testkit::token::Token;
use starling_testkit::wait;

use crate::TURN;
use crate::talk::{message, publication, publish, rest, say};

/// Number of messages, and of publications, that Ada has received before the fault.
const SEEN: u64 = 3;
/// Timeout for everything.
const PATIENCE: Duration = Duration::from_secs(30);
/// Number of messages when she returns.
const HEAD: u64 = 8;

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_of_the_node_exactly_what_was_missed_comes_and_then_what_is_new() -> Result<()> {
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(2).unlimited().start().await?;
    let mut pairs = pairs(&cluster).await?;
    for pair in &mut pairs {
        // These are in flight to Ada when the node dies. She does not read them.
        pair.goes_on(SEEN + 1..=SEEN + 2).await?;
    }
    cluster.node(0).kill().await?;
    for pair in &mut pairs {
        pair.goes_on(SEEN + 3..=HEAD).await?;
    }
    for mut pair in pairs {
        let mut ada = pair.comes_back(cluster.node(1)).await?;
        let offset = pair.offset()?;
        let (missed, epoch) = (HEAD - SEEN, &pair.position["epoch"]);
        let topic = json!({"epoch": epoch, "offset": offset + missed, "recovered": true, "replayed": missed});
        pair.expect_topic(&ada, &topic)?;
        pair.goes_on(HEAD + 1..=HEAD + 1).await?;
        pair.expect_messages(&mut ada).await?;
        for n in SEEN + 1..=HEAD + 1 {
            ensure!(publication(&mut ada).await? == (offset + n - SEEN, json!(n)), "publication {n}");
        }
        expect_no_more(&mut ada).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_flushall_the_ticket_and_the_cursors_are_enough() -> Result<()> {
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(2).unlimited().start().await?;
    let mut gone = Vec::new();
    for mut pair in pairs(&cluster).await? {
        pair.ada.take().context("Ada is there")?.cut();
        pair.goes_on(SEEN + 1..=SEEN + 2).await?;
        gone.push(pair);
    }
    cluster.redis()?.flushall().await?;
    for mut pair in gone {
        let published = pair.goes_on(SEEN + 3..=HEAD).await?;
        let mut ada = pair.comes_back(cluster.node(1)).await?;
        // The topic's history was lost with Redis. The client must be told so, and must not get a part as if it were all.
        ensure!(published["epoch"] != pair.position["epoch"], "a wiped numbering went on: {published}");
        let (epoch, offset) = (&published["epoch"], &published["offset"]);
        let topic = json!({"epoch": epoch, "offset": offset, "recovered": false, "replayed": 0});
        pair.expect_topic(&ada, &topic)?;
        pair.goes_on(HEAD + 1..=HEAD + 1).await?;
        pair.expect_messages(&mut ada).await?;
        let next = offset.as_u64().context("an offset")? + 1;
        ensure!(publication(&mut ada).await? == (next, json!(HEAD + 1)), "the live publication");
        expect_no_more(&mut ada).await?;
    }
    Ok(())
}

/// Neither Redis nor her old node knows that she has moved.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_moves_while_redis_hangs_stays_where_it_is_when_redis_is_back() -> Result<()> {
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(2).unlimited().start().await?;
    let urls = cluster.ws_urls();
    let mut ada = RecordingClient::connect(&urls[0], &cluster.token("ada"), Encoding::Json).await?;
    ada.command("create", json!({"conversation": "c"})).await?;
    ada.join("c").await?;
    cluster.redis()?.stop()?;
    // Once a node knows that Redis hangs, it sends no commands that Redis would find when it continues.
    let knows = async || Ok(cluster.node(1).get("/health").await?.json()?["redis"]["status"] == "down");
    wait::until_true(PATIENCE, "the node to know that Redis hangs", knows).await?;
    ada.cut();
    ada.resume_somewhere(&urls[1..], PATIENCE).await?;
    cluster.redis()?.resume()?;
    let deadline = Instant::now() + PATIENCE;
    // Both nodes write their sessions again with the next beats. Her attach began last, so she stays where she is.
    while !is_at(&cluster, &ada, "node-2").await? {
        ensure!(Instant::now() < deadline, "Redis was not told where she is");
        ada.listen(Duration::from_millis(200)).await.context("her only socket ended")?;
    }
    ada.listen(Duration::from_secs(2)).await.context("her only socket ended later")?;
    ada.send("c", "k", "still here").await?;
    ada.listen_until("c", 1, PATIENCE).await?;
    Ok(())
}

/// Whether the session store has this session at this node.
async fn is_at(cluster: &Cluster, client: &RecordingClient, node: &str) -> Result<bool> {
    let admin = Token::of("admin").scope("admin").sign(cluster.node(1).secret());
    let url = format!("{}/v1/sessions?user=ada", cluster.node(1).http_url());
    let answer = Request::new("GET", &url).bearer(&admin).send().await?;
    let sessions = answer.json()?;
    let ours = sessions["sessions"].as_array().into_iter().flatten();
    Ok(ours
        .into_iter()
        .any(|s| s["session"] == client.session() && s["node"] == node && s["attached"] == true))
}

/// Ada on the first node, which she is going to lose, and Bob on the second, who keeps talking.
struct Pair {
    encoding: Encoding,
    /// The name of both the conversation and the topic.
    place: String,
    token: String,
    /// `None` once her connection was cut.
    ada: Option<Client>,
    bob: Client,
    session: Value,
    ticket: Value,
    /// Ada's position in the topic.
    position: Value,
}

/// Creates a pair for each encoding. Ada is in the conversation and the topic, and has received everything up to [`SEEN`].
async fn pairs(cluster: &Cluster) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for encoding in Encoding::ALL {
        let mut pair = Pair::meet(cluster, encoding).await?;
        pair.position = pair.goes_on(1..=SEEN).await?;
        let ada = pair.ada.as_mut().context("Ada is there")?;
        for n in 1..=SEEN {
            ensure!(message(ada).await? == (n, text(n)), "message {n}");
            ensure!(publication(ada).await?.1 == n, "publication {n}");
        }
        pairs.push(pair);
    }
    Ok(pairs)
}

impl Pair {
    async fn meet(cluster: &Cluster, encoding: Encoding) -> Result<Self> {
        let place = format!("place-{encoding:?}");
        let token = cluster.token("ada");
        let mut ada = Client::connect(&cluster.node(0).ws_url(), &token, encoding).await?;
        let bob = Client::connect(&cluster.node(1).ws_url(), &cluster.token("bob"), encoding).await?;
        ada.command("create", json!({"conversation": place, "members": ["bob"]})).await?;
        ada.command("join", json!({"conversation": place})).await?;
        ada.command("subscribe", json!({"topic": place})).await?;
        let (session, ticket) = (ada.welcome()["session"].clone(), ada.welcome()["ticket"].clone());
        Ok(Self { encoding, place, token, ada: Some(ada), bob, session, ticket, position: Value::Null })
    }

    /// Lets Bob send and publish these. Returns the position of the last publication.
    async fn goes_on(&mut self, numbers: RangeInclusive<u64>) -> Result<Value> {
        let mut position = Value::Null;
        for n in numbers {
            ensure!(say(&mut self.bob, &self.place, &text(n)).await? == n, "message {n} has another number");
            position = publish(&mut self.bob, &self.place, n).await?;
        }
        Ok(position)
    }

    /// Lets Ada resume on this node with her cursors, and checks her position in the conversation.
    async fn comes_back(&self, node: &Node) -> Result<Client> {
        let resume = json!({
            "session": self.session, "ticket": self.ticket,
            "cursors": {&self.place: SEEN}, "topics": {&self.place: self.position},
        });
        let ada = Client::resume(&node.ws_url(), &self.token, self.encoding, resume).await?;
        let welcome = ada.welcome();
        ensure!(welcome["resumed"] == true, "not resumed: {welcome}");
        ensure!(welcome["session"] == self.session, "another session: {welcome}");
        ensure!(welcome["node"] == node.name(), "another node: {welcome}");
        let conversations = json!({&self.place: {"head": HEAD, "replayed": HEAD - SEEN, "truncated": false}});
        ensure!(
            without_logs(&welcome["conversations"]) == conversations,
            "in other conversations: {welcome}"
        );
        ensure!(welcome["gone"] == json!([]), "something is gone: {welcome}");
        Ok(ada)
    }

    fn expect_topic(&self, ada: &Client, expected: &Value) -> Result<()> {
        let topics = &ada.welcome()["topics"];
        ensure!(topics == &json!({&self.place: expected}), "in the topics {topics}, not {expected}");
        Ok(())
    }

    /// Checks that the missed messages arrive first, in order, then the live message, once each.
    async fn expect_messages(&self, ada: &mut Client) -> Result<()> {
        for n in SEEN + 1..=HEAD + 1 {
            let came = message(ada).await?;
            ensure!(came == (n, text(n)), "{came:?} came in the place of message {n}");
        }
        Ok(())
    }

    fn offset(&self) -> Result<u64> {
        self.position["offset"].as_u64().context("an offset")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_that_the_database_does_not_let_happen_leaves_the_older_socket_alone() -> Result<()> {
    let _turn = TURN.lock().await;
    let cluster = Cluster::builder(2).unlimited().start().await?;
    let (first, second) = (cluster.node(0).ws_url(), cluster.node(1).ws_url());
    let mut older = Client::connect(&first, &cluster.token("ada"), Encoding::Json).await?;
    let mut bob = Client::connect(&second, &cluster.token("bob"), Encoding::Json).await?;
    older.command("create", json!({"conversation": "c"})).await?;
    older.command("join", json!({"conversation": "c"})).await?;
    older.command("subscribe", json!({"topic": "t"})).await?;
    let resume = json!({
        "session": older.welcome()["session"], "ticket": older.welcome()["ticket"], "cursors": {"c": 0}
    });
    let come = async || Client::resume(&second, &cluster.token("ada"), Encoding::Json, resume.clone()).await;

    cluster.postgres()?.stop().await?;
    for n in 1..=2 {
        let refusal = come().await.expect_err("the second node does not know the conversation");
        ensure!(refusal.code() == Some("unavailable"), "{refusal}");
        // The link over which the first node would have been told to close it.
        publish(&mut bob, "t", n).await?;
        ensure!(publication(&mut older).await?.1 == n, "not what Bob published");
        older.command("ping", json!({})).await?;
    }
    cluster.postgres()?.start_again().await?;
    let mut newer = wait::until(PATIENCE, "the session to be resumed", async || match come().await {
        Ok(client) => Ok(Some(client)),
        Err(refusal) if refusal.code() == Some("unavailable") => Ok(None),
        Err(failure) => Err(failure.into()),
    })
    .await?;
    ensure!(newer.welcome()["resumed"] == true, "{}", newer.welcome());
    // Only now is there a connection to replace the older one.
    let closed = older.closed(PATIENCE).await?;
    ensure!(closed.code == Some(4409), "the older socket is not closed as replaced: {closed:?}");
    publish(&mut bob, "t", 3).await?;
    ensure!(publication(&mut newer).await?.1 == 3, "not what Bob published");
    Ok(())
}

async fn expect_no_more(ada: &mut Client) -> Result<()> {
    let more = rest(ada).await?;
    ensure!(more.is_empty(), "shown again: {more:?}");
    Ok(())
}

fn text(n: u64) -> String {
    format!("text {n}")
}
