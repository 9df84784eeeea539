//! A client of the protocol, written against its page and not against Starling's code.
//!
//! [`Client`] is one socket: it sends commands, and keeps the events that come between. It reads only when asked to, so a
//! test that stops asking is a reader that stops reading. [`RecordingClient`] is a user who stays over many sockets and
//! remembers everything that it was shown.

mod encoding;
mod error;
mod log;
mod record;
mod recording;
mod upgrade;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
pub use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

pub use encoding::Encoding;
pub use error::{Closed, ErrorReply, Failure};
pub use log::{Acknowledged, Log, content_digest};
pub use record::{Record, Verdict};
pub use recording::{RecordingClient, Resumed};
pub use upgrade::Upgrade;

/// How long a reply may take, unless [`Client::set_patience`] says otherwise.
const PATIENCE: Duration = Duration::from_secs(15);
/// How many events are kept for who does not fetch them.
const EVENTS_MAX: usize = 1_000_000;
/// How many replies are kept that nobody asked for yet.
const REPLIES_MAX: usize = 100_000;

/// One socket to a node.
#[derive(Debug)]
pub struct Client {
    socket: WebSocketStream<TcpStream>,
    encoding: Encoding,
    next_id: u64,
    /// Events that came while something else was awaited, oldest first, and when they came.
    events: VecDeque<(Instant, Value)>,
    /// Replies to commands that were submitted and not yet awaited.
    replies: VecDeque<Value>,
    patience: Duration,
    /// The answer to `connect`; null before.
    welcome: Value,
    closed: Option<Closed>,
}

/// What the reply to a resume says of conversations, without their logs' ids, which are different each time. Each has to have one, and
/// none may be a reset; else `null` stands in its place.
pub fn without_logs(conversations: &Value) -> Value {
    let without_log = |resumed: &Value| {
        let mut fields = resumed.as_object()?.clone();
        let log = fields.remove("log")?;
        let has_log = log.as_str().is_some_and(|log| (1..=32).contains(&log.len()));
        (has_log && fields.remove("reset")? == false).then_some(Value::Object(fields))
    };
    let resumed = conversations.as_object().into_iter().flatten();
    resumed.map(|(name, resumed)| (name.clone(), without_log(resumed).into())).collect::<Map<_, _>>().into()
}

impl Client {
    /// Sends `connect` with these fields, and remembers the answer.
    ///
    /// # Errors
    /// When the node refuses or the socket ends.
    pub async fn hello(&mut self, fields: Value) -> Result<&Value, Failure> {
        self.welcome = self.command("connect", fields).await?;
        Ok(&self.welcome)
    }

    /// Remembers the answer to a `connect` that was [submitted](Self::submit).
    pub fn welcomed(&mut self, welcome: Value) {
        self.welcome = welcome;
    }

    /// What the node answered to `connect`: `session`, `ticket`, `node`, `resumed` …; null before.
    pub fn welcome(&self) -> &Value {
        &self.welcome
    }

    /// Sends a command and waits for its reply. Events that come before are kept for [`next_event`](Self::next_event).
    ///
    /// # Errors
    /// [`Failure::Refused`] with the node's error, [`Failure::Closed`] when the socket ended before, and
    /// [`Failure::Other`] when no reply came in time.
    pub async fn command(&mut self, op: &str, fields: Value) -> Result<Value, Failure> {
        let id = self.submit(op, fields).await?;
        self.reply(id).await
    }

    /// Sends a command, and returns its id without waiting for the reply.
    ///
    /// # Errors
    /// When the socket has ended.
    pub async fn submit(&mut self, op: &str, fields: Value) -> Result<u64, Failure> {
        let id = self.next_id;
        self.next_id += 1;
        let mut frame = Map::from_iter([("id".to_owned(), json!(id)), ("op".to_owned(), json!(op))]);
        match fields {
            Value::Object(fields) => frame.extend(fields),
            Value::Null => {}
            other => {
                return Err(Failure::Other(anyhow!("the fields of a command are an object, not {other}")));
            }
        }
        self.send_value(&Value::Object(frame)).await?;
        Ok(id)
    }

    /// Waits for the reply to a submitted command.
    ///
    /// # Errors
    /// As [`command`](Self::command).
    pub async fn reply(&mut self, id: u64) -> Result<Value, Failure> {
        let is_it = |reply: &Value| reply["id"].as_u64() == Some(id);
        if let Some(at) = self.replies.iter().position(is_it) {
            return verdict(self.replies.remove(at).unwrap_or_default());
        }
        let deadline = Instant::now() + self.patience;
        loop {
            let frame = self.next_value(deadline).await?;
            if is_it(&frame) {
                return verdict(frame);
            }
            self.keep(frame)?;
        }
    }

    /// The next event, oldest first.
    ///
    /// # Errors
    /// When none comes within `limit`, or the socket ends.
    pub async fn next_event(&mut self, limit: Duration) -> Result<Value, Failure> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some((_, event)) = self.events.pop_front() {
                return Ok(event);
            }
            let frame = self.next_value(deadline).await?;
            self.keep(frame)?;
        }
    }

    /// Waits for the first event that `wanted` accepts, and removes it. Those before and after it stay for later.
    ///
    /// # Errors
    /// When none comes within fifteen seconds (or the set patience), or the socket ends; the message shows what came.
    pub async fn wait_for(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value, Failure> {
        let deadline = Instant::now() + self.patience;
        let mut looked = 0;
        loop {
            if let Some(at) = self.events.iter().skip(looked).position(|(_, event)| wanted(event)) {
                return Ok(self.events.remove(looked + at).map(|(_, event)| event).unwrap_or_default());
            }
            looked = self.events.len();
            let frame = match self.next_value(deadline).await {
                Err(Failure::Other(error)) => {
                    let newest: Vec<String> =
                        self.events.iter().rev().take(5).map(|(_, event)| event.to_string()).collect();
                    let came = format!(
                        "the event did not come; {looked} others did, the last: {}",
                        newest.join(" ")
                    );
                    return Err(Failure::Other(error.context(came)));
                }
                frame => frame?,
            };
            self.keep(frame)?;
        }
    }

    /// Waits for the first event of this name, such as `message`, and removes it.
    ///
    /// # Errors
    /// As [`wait_for`](Self::wait_for).
    pub async fn wait_for_event(&mut self, name: &str) -> Result<Value, Failure> {
        self.wait_for(|event| event["ev"] == name).await
    }

    /// Removes and returns the events that have come so far, reading what is there for up to `limit` of silence.
    ///
    /// # Errors
    /// When more is kept than may be.
    pub async fn drain_events(&mut self, limit: Duration) -> Result<Vec<Value>, Failure> {
        while self.closed.is_none() {
            match self.next_value(Instant::now() + limit).await {
                Ok(frame) => self.keep(frame)?,
                Err(_silent_or_closed) => break,
            }
        }
        Ok(self.events.drain(..).map(|(_, event)| event).collect())
    }

    /// Sends any object as one frame, in the encoding of this socket.
    ///
    /// # Errors
    /// When the socket has ended.
    pub async fn send_value(&mut self, value: &Value) -> Result<(), Failure> {
        let message = self.encoding.encode(value)?;
        self.send_raw(message).await
    }

    /// Sends any WebSocket message, however wrong.
    ///
    /// # Errors
    /// When the socket has ended.
    pub async fn send_raw(&mut self, message: Message) -> Result<(), Failure> {
        match timeout(self.patience, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            // The node may have said why before it hung up.
            Ok(Err(error)) => match self.closed(Duration::from_millis(500)).await {
                Ok(closed) => Err(Failure::Closed(closed)),
                Err(_) => Err(Failure::Other(anyhow::Error::new(error).context("send a frame"))),
            },
            Err(_elapsed) => {
                Err(Failure::Other(anyhow!("the node did not take a frame within {:?}", self.patience)))
            }
        }
    }

    /// The next WebSocket message as it came, pings among them. It goes past the kept events.
    ///
    /// # Errors
    /// When none comes within `limit`, or the socket ends.
    pub async fn next_raw(&mut self, limit: Duration) -> Result<Message, Failure> {
        self.read(Instant::now() + limit).await
    }

    /// Waits until the node has read all that was sent so far: a ping goes after it, and the pong comes back. What comes before the pong is
    /// kept.
    ///
    /// # Errors
    /// When no pong comes in time, or the socket ends.
    pub async fn has_been_read(&mut self) -> Result<(), Failure> {
        self.send_raw(Message::Ping("read".into())).await?;
        let deadline = Instant::now() + self.patience;
        loop {
            let message = self.read(deadline).await?;
            if matches!(message, Message::Pong(_)) {
                return Ok(());
            }
            if let Some(value) = self.encoding.decode(&message)? {
                self.keep(value)?;
            }
        }
    }

    /// Waits for the end of the socket, and says how it came. Events that come before are kept.
    ///
    /// # Errors
    /// When it has not ended within `limit`.
    pub async fn closed(&mut self, limit: Duration) -> anyhow::Result<Closed> {
        let deadline = Instant::now() + limit;
        loop {
            match self.next_value(deadline).await {
                Ok(frame) => self.keep(frame).map_err(anyhow::Error::from)?,
                Err(Failure::Closed(closed)) => return Ok(closed),
                Err(error) => bail!("the socket is still open: {error}"),
            }
        }
    }

    /// Closes the socket in good order, with code 1000.
    ///
    /// # Errors
    /// When it had ended already.
    pub async fn close(mut self) -> Result<(), Failure> {
        self.send_raw(Message::Close(Some(CloseFrame { code: 1000.into(), reason: "".into() }))).await
    }

    /// Cuts the connection: no close frame, a reset on the wire, as when a cable is pulled and the peer notices.
    pub fn cut(self) {
        // Where this fails the drop below closes the connection without a reset, which is nearly as rude.
        let _ = self.socket.get_ref().set_zero_linger();
    }

    /// Sets how long replies and [`wait_for`](Self::wait_for) may take.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// The encoding of this socket.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    fn over(socket: WebSocketStream<TcpStream>, encoding: Encoding) -> Self {
        Self {
            socket,
            encoding,
            next_id: 1,
            events: VecDeque::new(),
            replies: VecDeque::new(),
            patience: PATIENCE,
            welcome: Value::Null,
            closed: None,
        }
    }

    fn keep(&mut self, frame: Value) -> Result<(), Failure> {
        let full = |most| Err(Failure::Other(anyhow!("more than {most} frames that nobody fetched")));
        if frame.get("ev").is_some() {
            if self.events.len() == EVENTS_MAX {
                return full(EVENTS_MAX);
            }
            self.events.push_back((Instant::now(), frame));
        } else {
            if self.replies.len() == REPLIES_MAX {
                return full(REPLIES_MAX);
            }
            self.replies.push_back(frame);
        }
        Ok(())
    }

    /// The next object, with pings and pongs passed over.
    async fn next_value(&mut self, deadline: Instant) -> Result<Value, Failure> {
        loop {
            let message = self.read(deadline).await?;
            if let Some(value) = self.encoding.decode(&message)? {
                return Ok(value);
            }
        }
    }

    async fn read(&mut self, deadline: Instant) -> Result<Message, Failure> {
        if let Some(closed) = &self.closed {
            return Err(Failure::Closed(closed.clone()));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let next = timeout(left, self.socket.next()).await.context("nothing came in time")?;
        let closed = match next {
            Some(Ok(Message::Close(frame))) => {
                // Answer the close, as the protocol of WebSockets asks; the node may be gone before that.
                let _ = timeout(Duration::from_secs(1), self.socket.flush()).await;
                Closed::by_frame(frame)
            }
            Some(Ok(message)) => return Ok(message),
            Some(Err(error)) => Closed::by_cut(&error.to_string()),
            None => Closed::by_cut("end of the stream"),
        };
        self.closed = Some(closed.clone());
        Err(Failure::Closed(closed))
    }
}

fn verdict(mut reply: Value) -> Result<Value, Failure> {
    match reply.get_mut("error") {
        Some(error) => Err(Failure::Refused(ErrorReply::from_wire(&error.take())?)),
        None => match reply.get_mut("ok") {
            Some(ok) => Ok(ok.take()),
            None => Err(Failure::Other(anyhow!("a reply with neither ok nor error: {reply}"))),
        },
    }
}
