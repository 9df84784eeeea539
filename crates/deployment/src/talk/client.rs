//! One client: it sends and listens, follows `draining`, reconnects when its connection ends, and records what it saw and when.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use starling_testkit::client::{Encoding, Failure, RecordingClient};

use super::shared::Shared;

/// The longest wait for a reply, after which the client considers its connection dead.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// The longest time between two checks of what the node asks.
const LOOK: Duration = Duration::from_millis(100);
/// The longest time for a send or a reconnect over all tries.
const RETRY_LIMIT: Duration = Duration::from_secs(120);
/// Average time between two sends of a client. A user may write 100 times in a minute.
const PAUSE: Duration = Duration::from_millis(1_000);

/// A client's part in the talk.
#[derive(Clone, Debug)]
pub struct Role {
    /// Its name as a user.
    pub user: String,
    /// The conversations that it joins.
    pub conversations: [String; 2],
    /// Whether it sends, or only listens.
    pub sends: bool,
    /// How its frames are encoded.
    pub encoding: Encoding,
}

/// Everything that a client did and saw.
pub struct History {
    /// Its part.
    pub role: Role,
    /// The client, with the record of what it was shown.
    pub client: RecordingClient,
    /// Messages sent; retries are not counted.
    pub sent: u64,
    /// For each acknowledged message, when it was sent first and how long the acknowledgement took over all tries.
    pub acknowledged: Vec<(Instant, Duration)>,
    /// When nothing could reach it.
    pub interruptions: Vec<Interruption>,
    /// When it moved to another node because its own was draining, or asked it to for balance.
    pub moves: Vec<Instant>,
    /// Sends that were refused with a time to retry.
    pub refused: u64,
    /// Reconnects that began a new session because the old one could not be resumed.
    pub fresh_sessions: u64,
}

/// A time in which nothing could reach a client.
#[derive(Clone, Debug)]
pub struct Interruption {
    /// When it began.
    pub from: Instant,
    /// How long it took.
    pub took: Duration,
    /// How the connection ended.
    pub cause: String,
}

/// A connected client.
pub(super) struct Talker {
    shared: Arc<Shared>,
    history: History,
    /// When the client moves, as `draining` asked.
    leave_at: Option<Instant>,
}

impl Talker {
    /// Connects and joins.
    pub async fn enter(shared: Arc<Shared>, role: Role) -> Result<Self> {
        let began = Instant::now();
        // Spread out: an address may make 100 handshakes in a second, and all clients share one behind an ingress.
        tokio::time::sleep(rand::random_range(Duration::ZERO..Duration::from_secs(2))).await;
        let mut client = loop {
            match RecordingClient::connect(&shared.url, &shared.token(&role.user), role.encoding).await {
                Ok(client) => break client,
                Err(failure) if began.elapsed() > RETRY_LIMIT => return Err(failure.into()),
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        };
        for conversation in &role.conversations {
            client.join(conversation).await?;
        }
        client.client()?.set_patience(ANSWER_LIMIT);
        let history = History {
            role,
            client,
            sent: 0,
            acknowledged: Vec::new(),
            interruptions: Vec::new(),
            moves: Vec::new(),
            refused: 0,
            fresh_sessions: 0,
        };
        Ok(Self { shared, history, leave_at: None })
    }

    /// Talks until the talk is over.
    pub async fn talk(mut self) -> Result<History> {
        while !self.shared.is_over() {
            self.pause().await?;
            if self.history.role.sends && !self.shared.is_over() {
                self.send_next().await?;
            }
        }
        Ok(self.history)
    }

    /// Listens until the listeners are dismissed, then leaves in good order.
    pub async fn listen(mut self) -> Result<History> {
        while !self.shared.is_over() && !self.shared.listeners_may_go() {
            self.pause().await?;
        }
        for conversation in self.history.role.conversations.clone() {
            while let Err(ended) = self.history.client.leave(&conversation).await {
                self.lost(&ended).await?;
            }
        }
        self.history.client.cut();
        Ok(self.history)
    }

    /// Reads until the next send is due.
    async fn pause(&mut self) -> Result<()> {
        let until = Instant::now() + PAUSE.mul_f64(rand::random_range(0.5..1.5));
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.shared.is_over() {
                return Ok(());
            }
            if let Err(ended) = self.history.client.listen(left.min(LOOK)).await {
                self.lost(&ended).await?;
            }
            self.follow_draining().await?;
        }
    }

    /// Sends a message until it is acknowledged.
    async fn send_next(&mut self) -> Result<()> {
        self.history.sent += 1;
        let number = self.history.sent;
        let user = self.history.role.user.clone();
        let conversation = self.history.role.conversations[number as usize % 2].clone();
        let (key, content) = (format!("{user}-{number}"), format!("message {number} of {user}"));
        let begun = Instant::now();
        loop {
            if begun.elapsed() > RETRY_LIMIT {
                bail!("a send of {user} was not acknowledged for {RETRY_LIMIT:?}");
            }
            match self.history.client.send(&conversation, &key, &content).await {
                Ok(_) => {
                    self.history.acknowledged.push((begun, begun.elapsed()));
                    return Ok(());
                }
                Err(Failure::Refused(reply))
                    if matches!(reply.code.as_str(), "unavailable" | "rate_limited") =>
                {
                    self.history.refused += 1;
                    let pause = reply.retry_after_ms.map_or(LOOK, Duration::from_millis).max(LOOK);
                    if let Err(ended) = self.history.client.listen(pause).await {
                        self.lost(&ended).await?;
                    }
                }
                Err(Failure::Refused(reply)) => {
                    bail!("a send was refused for good: {}: {}", reply.code, reply.message)
                }
                Err(ended) => self.lost(&ended).await?,
            }
        }
    }

    /// Reconnects after the connection ended, or a reply did not come.
    async fn lost(&mut self, how: &Failure) -> Result<()> {
        let from = Instant::now();
        let cause = match (how.close_code(), how) {
            (Some(code), _) => format!("closed with {code}"),
            (None, Failure::Closed(_)) => "cut".to_owned(),
            (None, _) => "silent".to_owned(),
        };
        self.history.client.cut();
        let mut pause = LOOK / 2;
        loop {
            match self.history.client.resume(&self.shared.url).await {
                Ok(resumed) => {
                    self.history.fresh_sessions += u64::from(!resumed.resumed);
                    break;
                }
                Err(failure) if from.elapsed() > RETRY_LIMIT => return Err(failure.into()),
                Err(_) => self.history.client.cut(),
            }
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
        self.history.client.client()?.set_patience(ANSWER_LIMIT);
        self.history.interruptions.push(Interruption { from, took: from.elapsed(), cause });
        self.leave_at = None;
        Ok(())
    }

    /// Follows `draining`: opens another connection, then closes this one.
    async fn follow_draining(&mut self) -> Result<()> {
        if let Some(after) = self.history.client.take_draining() {
            self.leave_at = Some(Instant::now() + after);
        }
        if self.leave_at.is_none_or(|at| Instant::now() < at) || !self.history.client.is_connected() {
            return Ok(());
        }
        let from = Instant::now();
        match self.history.client.hand_over(&self.shared.url).await {
            Ok(resumed) => {
                self.leave_at = None;
                self.history.moves.push(from);
                self.history.fresh_sessions += u64::from(!resumed.resumed);
                if !resumed.interrupted.is_zero() {
                    let cause = "closed during the move".to_owned();
                    self.history.interruptions.push(Interruption { from, took: resumed.interrupted, cause });
                }
                self.history.client.client()?.set_patience(ANSWER_LIMIT);
                Ok(())
            }
            Err(_) if self.history.client.is_connected() => Ok(()),
            Err(ended) => self.lost(&ended).await,
        }
    }
}
