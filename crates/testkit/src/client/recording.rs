//! A user who stays, over many sockets.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use serde_json::{Map, Value, json};

use super::log::Acknowledged;
use super::record::Record;
use super::{Client, Encoding, Failure, Upgrade};

/// How many events other than messages and publications are kept for who does not fetch them.
const OTHERS_MAX: usize = 10_000;
/// How long the older socket is read on for a new one.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(15);
/// Between two tries to be accepted.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// A user who remembers everything that it was shown, and goes on where it was after a cut: on any node, by session,
/// ticket and cursors. It keeps to the protocol as a good client does, so that whatever [`Record::verdict`] finds is the
/// servers' doing.
///
/// Like [`Client`], it reads only when asked to: in [`listen`](Self::listen), and while a command is under way.
#[derive(Debug)]
pub struct RecordingClient {
    token: String,
    encoding: Encoding,
    /// None after a cut.
    client: Option<Client>,
    user: String,
    session: String,
    ticket: String,
    topics: BTreeMap<String, Position>,
    record: Record,
    publications_doubled: u64,
    others: VecDeque<Value>,
    draining: Option<Duration>,
}

/// A position in a topic.
#[derive(Clone, Debug)]
struct Position {
    epoch: Value,
    offset: u64,
}

/// How a resume went.
#[derive(Clone, Debug)]
pub struct Resumed {
    /// Whether the node took the session up again; otherwise the user has joined everything afresh, by its cursors.
    pub resumed: bool,
    /// Messages that were replayed.
    pub replayed: u64,
    /// From the first byte to the last answer.
    pub took: Duration,
    /// From the end of the older socket, or from the last look at it, to the first frame on the new one: nothing was shown in
    /// between.
    pub interrupted: Duration,
}

impl RecordingClient {
    /// Connects to `ws://HOST:PORT/v1/ws`.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect(url: &str, token: &str, encoding: Encoding) -> Result<Self, Failure> {
        let client = Client::connect(url, token, encoding).await?;
        let mut user = Self {
            token: token.to_owned(),
            encoding,
            client: None,
            user: String::new(),
            session: String::new(),
            ticket: String::new(),
            topics: BTreeMap::new(),
            record: Record::default(),
            publications_doubled: 0,
            others: VecDeque::new(),
            draining: None,
        };
        user.adopt(client)?;
        Ok(user)
    }

    /// What it was shown so far.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Publications that came a second time.
    pub fn publications_doubled(&self) -> u64 {
        self.publications_doubled
    }

    /// Whether there is a socket, as far as it knows.
    pub fn is_connected(&self) -> bool {
        self.client.is_some()
    }

    /// The socket, for what this type has no function for. Events that a command leaves there are recorded later.
    ///
    /// # Errors
    /// When there is none.
    pub fn client(&mut self) -> Result<&mut Client, Failure> {
        self.client.as_mut().ok_or_else(|| Failure::Other(anyhow!("not connected")))
    }

    /// The session's id.
    pub fn session(&self) -> &str {
        &self.session
    }

    /// The token for the next connection.
    pub fn set_token(&mut self, token: &str) {
        token.clone_into(&mut self.token);
    }

    /// The events other than messages and publications that have come, oldest first; at most the newest 10,000.
    pub fn take_others(&mut self) -> Vec<Value> {
        self.others.drain(..).collect()
    }

    /// After how long the node asked to come back elsewhere, if it did since the last call.
    pub fn take_draining(&mut self) -> Option<Duration> {
        self.draining.take()
    }

    /// Joins a conversation at its head, and returns that.
    ///
    /// # Errors
    /// As [`Client::command`].
    pub async fn join(&mut self, conversation: &str) -> Result<u64, Failure> {
        let joined = self.command("join", json!({ "conversation": conversation })).await?;
        let head = joined["head"].as_u64().context("a join without a head")?;
        self.record.joined(conversation, head);
        self.absorb()?;
        Ok(head)
    }

    /// Joins a conversation after a number; returns how many messages were replayed.
    ///
    /// # Errors
    /// As [`Client::command`].
    pub async fn join_after(&mut self, conversation: &str, after: u64) -> Result<u64, Failure> {
        let joined = self.command("join", json!({ "conversation": conversation, "after": after })).await?;
        self.record.joined(conversation, after);
        let replayed = self.fill_in(conversation, &joined).await?;
        self.absorb()?;
        Ok(replayed)
    }

    /// Leaves a conversation.
    ///
    /// # Errors
    /// As [`Client::command`].
    pub async fn leave(&mut self, conversation: &str) -> Result<(), Failure> {
        self.command("leave", json!({ "conversation": conversation })).await?;
        self.absorb()?;
        self.record.left(conversation);
        Ok(())
    }

    /// Subscribes to a topic from now on.
    ///
    /// # Errors
    /// As [`Client::command`].
    pub async fn subscribe(&mut self, topic: &str) -> Result<(), Failure> {
        let reply = self.command("subscribe", json!({ "topic": topic })).await?;
        self.position(topic, &reply)?;
        self.absorb()
    }

    /// Sends a message once, and records the answer.
    ///
    /// # Errors
    /// As [`Client::command`]. Where [`Failure::is_unknown`], the message may have been accepted.
    pub async fn send(
        &mut self,
        conversation: &str,
        key: &str,
        content: &str,
    ) -> Result<Acknowledged, Failure> {
        let fields = json!({ "conversation": conversation, "key": key, "content": content });
        let reply = self.command("send", fields).await?;
        let acknowledged = Acknowledged {
            conversation: conversation.to_owned(),
            key: key.to_owned(),
            seq: reply["seq"].as_u64().context("a send without a seq")?,
            id: reply["id"].as_str().context("a send without an id")?.to_owned(),
            duplicate: reply["duplicate"].as_bool().context("a send without duplicate")?,
        };
        self.record.acknowledged(acknowledged.clone());
        self.absorb()?;
        Ok(acknowledged)
    }

    /// Sends a message until a node accepts it: again after `unavailable` and `rate_limited`, and, by the same key, after a
    /// lost answer, on whichever of the nodes `urls` takes the session up.
    ///
    /// # Errors
    /// When a node refuses for good, or none has accepted it within `limit`.
    pub async fn send_surely(
        &mut self,
        urls: &[String],
        conversation: &str,
        key: &str,
        content: &str,
        limit: Duration,
    ) -> Result<Acknowledged, Failure> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if !self.is_connected() {
                self.resume_somewhere(urls, left).await?;
            }
            let failure = match self.send(conversation, key, content).await {
                Err(failure) if Instant::now() < deadline => failure,
                outcome => return outcome,
            };
            let pause = match &failure {
                Failure::Refused(reply) if matches!(reply.code.as_str(), "unavailable" | "rate_limited") => {
                    Duration::from_millis(reply.retry_after_ms.unwrap_or(0)).max(RETRY_PAUSE)
                }
                Failure::Refused(_) => return Err(failure),
                _ => {
                    self.cut();
                    continue;
                }
            };
            // A socket that ends meanwhile is resumed by the next turn.
            let _ = self.listen(pause).await;
        }
    }

    /// Reads and records for `limit`.
    ///
    /// # Errors
    /// When the socket ends before, or the node sends what makes no sense.
    pub async fn listen(&mut self, limit: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + limit;
        loop {
            self.absorb()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let event = match self.client()?.next_event(left).await {
                Ok(event) => event,
                Err(Failure::Other(_)) if Instant::now() >= deadline => return Ok(()),
                Err(failure) => return Err(self.lose(failure)),
            };
            self.note(event, Instant::now())?;
        }
    }

    /// Reads and records until this conversation has come to `seq`.
    ///
    /// # Errors
    /// When it has not within `limit`, or the socket ends.
    pub async fn listen_until(
        &mut self,
        conversation: &str,
        seq: u64,
        limit: Duration,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + limit;
        loop {
            self.absorb()?;
            let cursor = self.record.cursor(conversation).unwrap_or_default();
            if cursor >= seq {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::Other(anyhow!("{conversation} has come to {cursor} and not to {seq}")));
            }
            match self.client()?.next_event(left).await {
                Ok(event) => self.note(event, Instant::now())?,
                Err(Failure::Other(_)) if Instant::now() >= deadline => {}
                Err(failure) => return Err(self.lose(failure)),
            }
        }
    }

    /// Cuts the socket without a word, if there is one.
    pub fn cut(&mut self) {
        if let Some(client) = self.client.take() {
            client.cut();
        }
    }

    /// Opens a socket to this node and resumes there. An older socket, if there still is one, is dropped after the answer,
    /// as on a drain.
    ///
    /// # Errors
    /// As [`Client::connect`]; it may be tried again.
    pub async fn resume(&mut self, url: &str) -> Result<Resumed, Failure> {
        let begun = Instant::now();
        let mut client = Upgrade::to(url).encoding(self.encoding).open().await?;
        // What came on the older socket and was not looked at yet comes again on the new one; from here on it is ignored.
        let older = self.client.take();
        let asked = Instant::now();
        client.hello(json!({ "token": self.token, "resume": self.resume_point() })).await?;
        drop(older);
        self.take_over(client, begun, asked.elapsed()).await
    }

    /// As [`resume`](Self::resume), while the older socket is read on until the new one has answered: what a client does that a
    /// draining node has asked to come back elsewhere. What both show is one message. Where the new one is refused, the older one
    /// goes on.
    ///
    /// # Errors
    /// As [`Client::connect`], and when the older socket ends before the new one stands.
    pub async fn hand_over(&mut self, url: &str) -> Result<Resumed, Failure> {
        let begun = Instant::now();
        let upgrade = Upgrade::to(url).encoding(self.encoding);
        let mut client = tokio::select! {
            client = upgrade.open() => client?,
            ended = self.listen(HAND_OVER_LIMIT) => {
                ended?;
                return Err(Failure::Other(anyhow!("the new socket does not stand after {HAND_OVER_LIMIT:?}")));
            }
        };
        let fields = json!({ "token": self.token, "resume": self.resume_point() });
        let before: Vec<(String, u64)> =
            self.record.cursors().map(|(name, seq)| (name.to_owned(), seq)).collect();
        let mut older_ended = None;
        {
            let mut hello = std::pin::pin!(client.hello(fields));
            loop {
                tokio::select! {
                    biased;
                    answer = &mut hello => break answer.map(drop)?,
                    ended = self.listen(HAND_OVER_LIMIT), if older_ended.is_none() => {
                        older_ended = ended.is_err().then(Instant::now);
                    }
                }
            }
        }
        let interrupted = older_ended.map_or(Duration::ZERO, |at| at.elapsed());
        if client.welcome()["resumed"] == true {
            for (conversation, cursor) in before {
                self.record.comes_again(&conversation, cursor);
            }
        }
        self.take_over(client, begun, interrupted).await
    }

    /// The new socket has answered.
    async fn take_over(
        &mut self,
        client: Client,
        begun: Instant,
        interrupted: Duration,
    ) -> Result<Resumed, Failure> {
        self.adopt(client)?;
        let welcome = self.client()?.welcome().clone();
        let resumed = welcome["resumed"].as_bool().context("a connect without resumed")?;
        let replayed = if resumed { self.take_up(&welcome).await? } else { self.begin_afresh().await? };
        self.absorb()?;
        Ok(Resumed { resumed, replayed, took: begun.elapsed(), interrupted })
    }

    /// Resumes on whichever of the nodes takes it, trying them in turn from a random one on.
    ///
    /// # Errors
    /// When none has within `limit`; the last refusal.
    pub async fn resume_somewhere(&mut self, urls: &[String], limit: Duration) -> Result<Resumed, Failure> {
        let deadline = Instant::now() + limit;
        let first = rand::random_range(0..urls.len().max(1));
        let mut last = Failure::Other(anyhow!("no node to resume on"));
        for url in urls.iter().cycle().skip(first) {
            match self.resume(url).await {
                Ok(resumed) => return Ok(resumed),
                Err(failure) => last = failure,
            }
            self.cut();
            if Instant::now() > deadline {
                break;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        Err(last)
    }

    /// The `resume` that this user would send now.
    pub fn resume_point(&self) -> Value {
        let cursors: Map<String, Value> =
            self.record.cursors().map(|(name, seq)| (name.to_owned(), json!(seq))).collect();
        let position = |at: &Position| json!({ "epoch": at.epoch, "offset": at.offset });
        let topics: Map<String, Value> =
            self.topics.iter().map(|(name, at)| (name.clone(), position(at))).collect();
        json!({ "session": self.session, "ticket": self.ticket, "cursors": cursors, "topics": topics })
    }

    /// Sends any command.
    ///
    /// # Errors
    /// As [`Client::command`].
    pub async fn command(&mut self, op: &str, fields: Value) -> Result<Value, Failure> {
        match self.client()?.command(op, fields).await {
            Err(failure @ Failure::Closed(_)) => Err(self.lose(failure)),
            outcome => outcome,
        }
    }

    fn adopt(&mut self, client: Client) -> Result<(), Failure> {
        let welcome = client.welcome();
        let text = |name: &str| {
            welcome[name].as_str().map(str::to_owned).with_context(|| format!("no {name}: {welcome}"))
        };
        (self.session, self.ticket, self.user) = (text("session")?, text("ticket")?, text("user")?);
        self.client = Some(client);
        self.draining = None;
        Ok(())
    }

    /// After a resume: fetches what was cut off the replays, and forgets what is gone.
    async fn take_up(&mut self, welcome: &Value) -> Result<u64, Failure> {
        let mut replayed = 0;
        for (conversation, state) in welcome["conversations"].as_object().into_iter().flatten() {
            replayed += self.fill_in(conversation, state).await?;
        }
        for (topic, state) in welcome["topics"].as_object().into_iter().flatten() {
            self.position_after_resume(topic, state)?;
        }
        for gone in welcome["gone"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            self.record.left(gone);
        }
        Ok(replayed)
    }

    /// After a resume that was not granted: joins by the cursors.
    async fn begin_afresh(&mut self) -> Result<u64, Failure> {
        let cursors: Vec<(String, u64)> =
            self.record.cursors().map(|(name, seq)| (name.to_owned(), seq)).collect();
        let mut replayed = 0;
        for (conversation, after) in cursors {
            replayed += self.join_after(&conversation, after).await?;
        }
        for (topic, at) in self.topics.clone() {
            let since = json!({ "epoch": at.epoch, "offset": at.offset });
            let reply = self.command("subscribe", json!({ "topic": topic, "since": since })).await?;
            self.position_after_resume(&topic, &reply)?;
        }
        Ok(replayed)
    }

    /// When a replay holds only the newest messages, fetches those before them. Returns how many were replayed. The replay
    /// itself waits among the client's events meanwhile.
    async fn fill_in(&mut self, conversation: &str, state: &Value) -> Result<u64, Failure> {
        let number = |name: &str| state[name].as_u64().with_context(|| format!("no {name}: {state}"));
        let (head, replayed) = (number("head")?, number("replayed")?);
        if state["truncated"] != true {
            return Ok(replayed);
        }
        let last = head - replayed;
        while let Some(cursor) = self.record.cursor(conversation).filter(|cursor| *cursor < last) {
            let page = json!({ "conversation": conversation, "after": cursor, "limit": 200 });
            let page = self.command("history", page).await?;
            for message in page["messages"].as_array().into_iter().flatten() {
                if message["seq"].as_u64().is_some_and(|seq| seq <= last) {
                    let mut message = message.clone();
                    message["conversation"] = json!(conversation);
                    self.record.message(&message)?;
                }
            }
            if self.record.cursor(conversation) == Some(cursor) {
                return Err(Failure::Other(anyhow!(
                    "history after {cursor} of {conversation} is empty before {last}"
                )));
            }
        }
        Ok(replayed)
    }

    /// Records everything that the client has kept.
    fn absorb(&mut self) -> Result<(), Failure> {
        while let Some((at, event)) = self.client.as_mut().and_then(|client| client.events.pop_front()) {
            self.note(event, at)?;
        }
        Ok(())
    }

    fn note(&mut self, event: Value, at: Instant) -> Result<(), Failure> {
        match event["ev"].as_str() {
            Some("message") => self.record.message_at(&event, at)?,
            Some("publication") => self.publication(&event)?,
            Some(other) => {
                if other == "draining" {
                    let after = event["reconnect_after_ms"].as_u64().context("draining without a time")?;
                    self.draining = Some(Duration::from_millis(after));
                } else if other == "member" && event["member"] == false && event["user"] == self.user.as_str()
                {
                    self.record.left(event["conversation"].as_str().unwrap_or_default());
                }
                if self.others.len() == OTHERS_MAX {
                    self.others.pop_front();
                }
                self.others.push_back(event);
            }
            None => return Err(Failure::Other(anyhow!("an event without a name: {event}"))),
        }
        Ok(())
    }

    fn publication(&mut self, event: &Value) -> Result<(), Failure> {
        let offset = event["offset"].as_u64().context("a publication without an offset")?;
        if let Some(at) = event["topic"].as_str().and_then(|topic| self.topics.get_mut(topic)) {
            self.publications_doubled += u64::from(offset <= at.offset);
            at.offset = at.offset.max(offset);
        }
        Ok(())
    }

    fn position(&mut self, topic: &str, state: &Value) -> Result<(), Failure> {
        let offset = state["offset"].as_u64().with_context(|| format!("no offset: {state}"))?;
        self.topics.insert(topic.to_owned(), Position { epoch: state["epoch"].clone(), offset });
        Ok(())
    }

    /// What was recovered comes as publications after the known position; otherwise the topic begins anew where it is.
    fn position_after_resume(&mut self, topic: &str, state: &Value) -> Result<(), Failure> {
        if state["recovered"] == true { Ok(()) } else { self.position(topic, state) }
    }

    /// The socket has ended: what came before its end still counts.
    fn lose(&mut self, failure: Failure) -> Failure {
        let absorbed = self.absorb();
        self.client = None;
        absorbed.err().unwrap_or(failure)
    }
}
