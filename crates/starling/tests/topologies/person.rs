//! User on a node who remembers what it received.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding, without_logs};
use starling_testkit::node::{Cluster, Node};

/// User with one session in one place, which is the name of a conversation and of a topic.
pub struct Person {
    user: &'static str,
    token: String,
    place: String,
    encoding: Encoding,
    /// `None` while the connection is cut.
    client: Option<Client>,
    session: Value,
    ticket: Value,
    /// Number of the newest message received.
    seen: u64,
    /// `epoch` and `offset` of the newest publication received.
    position: Value,
}

impl Person {
    /// Connects to a node.
    pub async fn connect(
        cluster: &Cluster,
        node: usize,
        user: &'static str,
        place: &str,
        encoding: Encoding,
    ) -> Result<Self> {
        let token = cluster.token(user);
        let client = Client::connect(&cluster.node(node).ws_url(), &token, encoding).await?;
        let (session, ticket) = (client.welcome()["session"].clone(), client.welcome()["ticket"].clone());
        let (place, client) = (place.to_owned(), Some(client));
        Ok(Self { user, token, place, encoding, client, session, ticket, seen: 0, position: Value::Null })
    }

    /// The name.
    pub fn user(&self) -> &'static str {
        self.user
    }

    /// Returns the number of the newest message received.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The socket.
    pub fn client(&mut self) -> Result<&mut Client> {
        self.client.as_mut().with_context(|| format!("{} has no socket", self.user))
    }

    /// Joins the conversation and subscribes to the topic. Returns the reply to `join`.
    pub async fn enter(&mut self) -> Result<Value> {
        let place = self.place.clone();
        let joined = self.client()?.command("join", json!({"conversation": place})).await?;
        self.seen = joined["head"].as_u64().context("a join without a head")?;
        let at = self.client()?.command("subscribe", json!({"topic": place})).await?;
        self.position = json!({"epoch": at["epoch"], "offset": at["offset"]});
        Ok(joined)
    }

    /// Sends a new message to the conversation.
    pub async fn say(&mut self, content: &str) -> Result<()> {
        let key = format!("{:032x}", rand::random::<u128>());
        let fields = json!({"conversation": self.place, "key": key, "content": content});
        let sent = self.client()?.command("send", fields).await.with_context(|| content.to_owned())?;
        ensure!(sent["duplicate"] == false, "{content} is a duplicate: {sent}");
        Ok(())
    }

    /// Publishes to the topic.
    pub async fn publish(&mut self, data: &str) -> Result<()> {
        let fields = json!({"topic": self.place, "data": data});
        self.client()?.command("publish", fields).await.with_context(|| data.to_owned()).map(drop)
    }

    /// Checks that the next message is this one and has the next number.
    pub async fn hears(&mut self, sender: &str, content: &str) -> Result<()> {
        let event = self.client()?.wait_for_event("message").await.with_context(|| content.to_owned())?;
        self.seen += 1;
        let expected =
            json!({"seq": self.seen, "sender": sender, "content": content, "conversation": self.place});
        for (field, value) in expected.as_object().into_iter().flatten() {
            ensure!(event[field] == *value, "{} waits for {expected}, and is shown {event}", self.user);
        }
        Ok(())
    }

    /// Checks that the next publication is this one and has the next offset.
    pub async fn is_told(&mut self, data: &str) -> Result<()> {
        let event = self.client()?.wait_for_event("publication").await.with_context(|| data.to_owned())?;
        let offset = self.position["offset"].as_u64().context("an offset")? + 1;
        let as_expected = event["offset"] == offset && event["data"] == data && event["topic"] == *self.place;
        ensure!(as_expected, "{} waits for {data:?} at {offset}, and is shown {event}", self.user);
        self.position["offset"] = offset.into();
        Ok(())
    }

    /// Waits for an event of this name about another user, with this value in the field of the same name.
    pub async fn sees(
        &mut self,
        event: &str,
        other: &str,
        field: &str,
        value: impl Into<Value>,
    ) -> Result<()> {
        let (place, value) = (self.place.clone(), value.into());
        let wanted = |came: &Value| {
            came["ev"] == event
                && came["conversation"] == *place
                && came["user"] == other
                && came[field] == value
        };
        let what = format!("{} waits for {event} of {other}", self.user);
        self.client()?.wait_for(wanted).await.context(what).map(drop)
    }

    /// Drops the connection without a close frame.
    pub fn cut(&mut self) {
        if let Some(client) = self.client.take() {
            client.cut();
        }
    }

    /// Resumes the session on a node, after `missed` messages and as many publications.
    pub async fn resumes(&mut self, node: &Node, missed: u64) -> Result<()> {
        let resume = json!({
            "session": self.session, "ticket": self.ticket,
            "cursors": {&self.place: self.seen}, "topics": {&self.place: self.position},
        });
        let client = Client::resume(&node.ws_url(), &self.token, self.encoding, resume).await?;
        let welcome = client.welcome().clone();
        ensure!(welcome["resumed"] == true && welcome["session"] == self.session, "not resumed: {welcome}");
        ensure!(welcome["node"] == node.name(), "at another node: {welcome}");
        let conversations =
            json!({&self.place: {"head": self.seen + missed, "replayed": missed, "truncated": false}});
        ensure!(without_logs(&welcome["conversations"]) == conversations, "not {conversations}: {welcome}");
        let topic = &welcome["topics"][&self.place];
        ensure!(topic["recovered"] == true && topic["replayed"] == missed, "not all was kept: {welcome}");
        self.ticket = welcome["ticket"].clone();
        self.client = Some(client);
        Ok(())
    }
}
