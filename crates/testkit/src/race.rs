//! Several connections that attach one session at about the same time, through several nodes. Only the one that began last must remain.
//! Some of them break during the attach, and Redis may be wiped, frozen or killed meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rand::Rng;
use serde_json::{Value, json};

use crate::client::{Client, Encoding, Failure, Upgrade};
use crate::http::Request;
use crate::node::Cluster;
use crate::token::Token;
use crate::wait;

/// Time between two `connect` commands whose order must be certain. The error of the nodes' estimates of Redis' clock is smaller, even
/// on a busy machine.
const APART: Duration = Duration::from_millis(25);
/// The longest time for a round, including an outage of Redis.
const PATIENCE: Duration = Duration::from_secs(60);
/// Conversations of each racer, which the nodes have to load.
const CONVERSATIONS: usize = 12;
/// Conversations that do not exist and that each attach names.
const INVENTED: usize = 60;

/// A user with one session, and another user who sends messages to it.
pub struct Racer {
    user: String,
    token: String,
    admin: String,
    urls: Vec<String>,
    http_url: String,
    session: Value,
    ticket: Value,
    cursors: serde_json::Map<String, Value>,
    /// The connection that remained from the last round.
    left: Option<Contender>,
    /// The user who sends a message in each round.
    friend: Client,
    friend_token: String,
    sent: u64,
}

/// Counts of rounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rounds {
    /// Number of rounds.
    pub run: u64,
    /// Rounds in which one connection was certainly the last, and remained.
    pub last_one_left: u64,
    /// Rounds in which a connection was cut during its attach.
    pub cut: u64,
}

impl Rounds {
    /// Adds the counts of other rounds.
    pub fn add(&mut self, other: &Rounds) {
        self.run += other.run;
        self.last_one_left += other.last_one_left;
        self.cut += other.cut;
    }
}

struct Contender {
    client: Client,
    /// The command `connect`, while it has no answer.
    connect: Option<u64>,
    /// Its place among those of which it is sure that each began after the one before; those that are not sure share one.
    place: u32,
    node: usize,
    is_open: bool,
    /// A node refused it, as one does that can't reach its servers.
    was_refused: bool,
}

impl Racer {
    /// Begins a session on some node of a cluster.
    ///
    /// # Errors
    /// When a node refuses.
    pub async fn enter(cluster: &Cluster, user: &str) -> Result<Self> {
        let urls = cluster.ws_urls();
        let token = cluster.token(user);
        let admin = Token::of("admin").scope("admin").sign(cluster.node(0).secret());
        let node = rand::rng().random_range(0..urls.len());
        let friend_token = cluster.token(&format!("friend-of-{user}"));
        let friend = Client::connect(&urls[node], &friend_token, Encoding::Json).await?;
        let mut client = Client::connect(&urls[node], &token, Encoding::Json).await?;
        let mut cursors = serde_json::Map::new();
        for number in 0..CONVERSATIONS {
            let conversation = format!("{user}-{number}");
            let create = json!({"conversation": conversation, "members": [format!("friend-of-{user}")]});
            client.command("create", create).await?;
            client.command("join", json!({"conversation": conversation})).await?;
            cursors.insert(conversation, json!(0));
        }
        for number in 0..INVENTED {
            cursors.insert(format!("invented-{user}-{number}"), json!(0));
        }
        let (session, ticket) = (client.welcome()["session"].clone(), client.welcome()["ticket"].clone());
        let left =
            Some(Contender { client, connect: None, place: 0, node, is_open: true, was_refused: false });
        Ok(Self {
            user: user.to_owned(),
            token,
            admin,
            http_url: cluster.node(0).http_url(),
            urls,
            session,
            ticket,
            cursors,
            left,
            friend,
            friend_token,
            sent: 0,
        })
    }

    /// Lets some connections attach the session at about the same time, and waits until one of them remains and is served.
    ///
    /// # Errors
    /// When more than one is left for good, or the wrong one, or none although none was cut; or when the one that is left is not served, or
    /// not listed as it is.
    pub async fn round(&mut self) -> Result<Rounds> {
        let mut rounds = Rounds { run: 1, ..Rounds::default() };
        let mut contenders: Vec<Contender> = self.left.take().into_iter().collect();
        contenders.iter_mut().for_each(|contender| contender.place = 0);
        if rand::rng().random_bool(0.3) {
            // Its socket dropped before.
            contenders.drain(..).for_each(|contender| contender.client.cut());
        }
        let mut place = 1;
        for _ in 0..rand::rng().random_range(2..=3) {
            // A node may be too busy to take it; the others race all the same.
            match self.contend(place).await {
                Ok(contender) => contenders.push(contender),
                Err(failure) => ensure!(failure.close_code() != Some(4409), "closed before it connected"),
            }
            match rand::rng().random_range(0..4) {
                0 => {}
                1 => tokio::time::sleep(Duration::from_micros(rand::rng().random_range(0..4_000))).await,
                _ => {
                    for contender in &mut contenders {
                        // One that is closed has been read as well.
                        let _ = contender.client.has_been_read().await;
                    }
                    tokio::time::sleep(APART).await;
                    place += 1;
                }
            }
        }
        let cut = (contenders.len() > 1 && rand::rng().random_bool(0.2)).then(|| {
            let cut = contenders.remove(rand::rng().random_range(1..contenders.len()));
            let place = cut.place;
            cut.client.cut();
            place
        });
        rounds.cut += u64::from(cut.is_some());
        self.settle(&mut contenders).await?;
        contenders.retain(|contender| !contender.was_refused);
        let last = contenders.iter().map(|contender| contender.place).max();
        let of_last = contenders.iter().filter(|contender| Some(contender.place) == last).count();
        let mut left: Vec<Contender> = contenders.into_iter().filter(|contender| contender.is_open).collect();
        match (left.pop(), last) {
            // All were refused.
            (None, None) => {}
            (Some(winner), Some(last)) => {
                // One that was cut after it had replaced the others gives its place back to an older socket of its node.
                ensure!(
                    winner.place == last || cut.is_some_and(|cut| cut >= last),
                    "the socket that is left is number {} of {last}, and number {cut:?} was cut",
                    winner.place
                );
                rounds.last_one_left += u64::from(of_last == 1 && cut.is_none());
                self.left = Some(winner);
            }
            // The one that was cut may have been attached before.
            (None, Some(last)) => {
                ensure!(
                    cut.is_some_and(|cut| cut >= last),
                    "no socket is left, and none was cut that began last"
                );
            }
            (Some(_), None) => bail!("a socket is left that never was"),
        }
        if self.left.is_none() {
            self.come_back().await?;
        }
        if let Err(error) = self.is_served().await {
            // A node may have attached the one that was cut, before it noticed, after the others had been looked at.
            let replaced = match &mut self.left {
                Some(left) => {
                    left.look(&self.session).await?;
                    !left.is_open && cut.is_some_and(|cut| cut >= left.place)
                }
                None => false,
            };
            ensure!(replaced, "{error:#}");
            self.come_back().await?;
            self.is_served().await?;
        }
        Ok(rounds)
    }

    async fn contend(&self, place: u32) -> Result<Contender, Failure> {
        let node = rand::rng().random_range(0..self.urls.len());
        let mut client = Upgrade::to(&self.urls[node]).encoding(Encoding::Json).open().await?;
        let resume = json!({"session": self.session, "ticket": self.ticket, "cursors": self.cursors});
        let connect = client.submit("connect", json!({"token": self.token, "resume": resume})).await?;
        Ok(Contender { client, connect: Some(connect), place, node, is_open: true, was_refused: false })
    }

    /// Waits until all connections except for one are closed.
    async fn settle(&mut self, contenders: &mut [Contender]) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for contender in contenders.iter_mut().filter(|contender| contender.is_open) {
                contender.look(&self.session).await?;
            }
            let open: Vec<usize> = contenders
                .iter()
                .filter(|contender| contender.is_open)
                .map(|contender| contender.node)
                .collect();
            if open.len() <= 1 {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{} sockets are still open, on the nodes {open:?}",
                open.len()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn come_back(&mut self) -> Result<()> {
        let contender = wait::until(PATIENCE, "the session to be resumed", async || {
            let Ok(mut contender) = self.contend(0).await else { return Ok(None) };
            contender.look(&self.session).await?;
            Ok(contender.is_open.then_some(contender))
        });
        self.left = Some(contender.await?);
        Ok(())
    }

    /// The socket that is left is shown a new message, and the list has the session there.
    async fn is_served(&mut self) -> Result<()> {
        let conversation = format!("{}-0", self.user);
        self.sent += 1;
        let fields =
            json!({"conversation": conversation, "key": format!("k{}", self.sent), "content": "hello"});
        let deadline = Instant::now() + PATIENCE;
        let seq = loop {
            match self.friend.command("send", fields.clone()).await {
                Ok(sent) => break sent["seq"].clone(),
                Err(Failure::Refused(reply)) if reply.code == "unavailable" => {}
                Err(Failure::Refused(reply)) => bail!("the friend's message: {}", reply.message),
                Err(_) => {
                    let urls = &self.urls;
                    let url = &urls[rand::rng().random_range(0..urls.len())];
                    if let Ok(friend) = Client::connect(url, &self.friend_token, Encoding::Json).await {
                        self.friend = friend;
                    }
                }
            }
            ensure!(Instant::now() < deadline, "the friend can't send");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let left = self.left.as_mut().context("a socket is left")?;
        left.client.set_patience(PATIENCE);
        let is_it = |event: &Value| {
            event["ev"] == "message" && event["conversation"] == *conversation && event["seq"] == seq
        };
        left.client.wait_for(is_it).await.context("the socket that is left is not shown a message")?;
        self.ticket = left.client.welcome()["ticket"].clone();
        self.cursors.insert(conversation, seq);
        let node = format!("node-{}", left.node + 1);
        let url = format!("{}/v1/sessions?user={}", self.http_url, self.user);
        wait::until_true(PATIENCE, "the list to have the session where it is", async || {
            let answer = Request::new("GET", &url).bearer(&self.admin).send().await?;
            if answer.status != 200 {
                return Ok(false);
            }
            let answer = answer.json()?;
            let sessions = answer["sessions"].as_array().context("sessions")?;
            Ok(matches!(&sessions[..], [only] if only["session"] == self.session
                && only["attached"] == true && only["node"] == *node))
        })
        .await
    }
}

impl Contender {
    /// Checks whether it is open and served.
    async fn look(&mut self, session: &Value) -> Result<()> {
        let answer = match self.connect {
            Some(connect) => self.client.reply(connect).await.map(|welcome| {
                self.client.welcomed(welcome);
            }),
            None => self.client.command("ping", json!({})).await.map(drop),
        };
        match answer {
            Ok(()) => {
                self.connect = None;
                let welcome = self.client.welcome();
                ensure!(welcome["session"] == *session, "another session: {welcome}");
            }
            // A ping to a socket that the node has just closed may break it before the code is read.
            Err(Failure::Closed(closed)) if matches!(closed.code, Some(4409) | None) => self.is_open = false,
            // It may try again, which is another round.
            Err(Failure::Refused(reply)) if reply.code == "unavailable" => {
                (self.is_open, self.was_refused) = (false, true);
            }
            Err(failure) => bail!("a socket on node {}: {failure}", self.node + 1),
        }
        Ok(())
    }
}
