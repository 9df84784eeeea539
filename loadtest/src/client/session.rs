//! A simulated session: it connects, joins its room, sends what it is told to send, checks what it receives, and resumes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep, timeout};

use super::encoding::{Encoding, Kind, Outgoing};
use super::frames::{self, Frames, Opcode};
use super::marker::Marker;
use super::stream::Stream;
use super::upgrade::{Refused, upgrade};
use crate::run::Thread;
use crate::scenario::RoomKind;

/// Messages of one session that wait for their reply or for a connection. Beyond that a message counts as failed.
const WAITING_MAX: usize = 1000;
/// The longest time for a step of connecting: opening, upgrading, a reply.
const STEP_MAX: Duration = Duration::from_secs(30);
/// Reads of one connection before others get their turn.
const READS_PER_TURN: usize = 16;
/// How often a slow reader reads.
const SLOW_READ: Duration = Duration::from_millis(100);

/// Who a session is and where it belongs.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its number among all sessions of the run.
    pub index: usize,
    /// Its room.
    pub room: usize,
    /// How its frames are written.
    pub encoding: Encoding,
    /// Bytes per second that it reads, if it is slow.
    pub slow: Option<u32>,
}

/// A simulated session. Everything of it runs in one thread.
pub struct Session {
    place: Place,
    room: String,
    thread: Rc<Thread>,
    line: RefCell<Line>,
    order: RefCell<Order>,
    resume: RefCell<Option<Resume>>,
    wish: Cell<Wish>,
    own: Weak<Session>,
}

/// The side of the connection that other code than the session's task may touch.
#[derive(Default)]
struct Line {
    attached: bool,
    out: Vec<u8>,
    waker: Option<Waker>,
    next_id: u64,
    /// Messages without a reply, in the order in which they were sent.
    waiting: VecDeque<Waiting>,
    /// The id of a command that the task waits for, and its reply.
    awaited: Option<u64>,
    reply: Option<Value>,
}

/// A message without a reply.
struct Waiting {
    id: u64,
    number: u64,
    due_us: u64,
}

/// What the session has received of its room.
#[derive(Default)]
struct Order {
    /// The number of the newest message, if the session has a position.
    position: Option<u64>,
    /// Messages that were passed over.
    missing: u64,
    /// The number of the last message that the session sent.
    sent: u64,
    /// The log of the conversation, or the epoch of the topic.
    log: Value,
}

/// What a resume needs.
struct Resume {
    session: Value,
    ticket: Value,
}

/// What the session is to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wish {
    /// Stay.
    Stay,
    /// Close the connection for good.
    End,
    /// Lose the connection, and resume after this time.
    Break(Duration),
    /// Move to another node.
    Move,
}

/// Why a connection ended.
enum Ended {
    AsTold(Wish),
    Unexpectedly(anyhow::Error),
}

/// An open connection.
struct Connection {
    stream: Stream,
    frames: Frames,
    mask: [u8; 4],
    pause: Option<Pin<Box<Sleep>>>,
}

impl Session {
    /// A session that is not connected yet.
    pub fn new(place: Place, thread: Rc<Thread>) -> Rc<Self> {
        let room = thread.rooms().name(place.room);
        Rc::new_cyclic(|own| Self {
            place,
            room,
            thread,
            line: RefCell::default(),
            order: RefCell::default(),
            resume: RefCell::default(),
            wish: Cell::new(Wish::Stay),
            own: own.clone(),
        })
    }

    /// Its number among all sessions of the run.
    pub fn index(&self) -> usize {
        self.place.index
    }

    /// Whether it is connected and in its room.
    pub fn is_attached(&self) -> bool {
        self.line.borrow().attached
    }

    /// Whether it has been in its room.
    pub fn has_joined(&self) -> bool {
        self.order.borrow().position.is_some()
    }

    /// Sends a message that was due at this time. While the session has no connection the message waits.
    pub fn send(&self, due_us: u64) {
        let mut line = self.line.borrow_mut();
        if line.waiting.len() >= WAITING_MAX {
            self.thread.meter().error("too many messages without a reply");
            return;
        }
        let number = {
            let mut order = self.order.borrow_mut();
            order.sent += 1;
            order.sent
        };
        line.waiting.push_back(Waiting { id: 0, number, due_us });
        self.thread.meter().sent();
        if line.attached {
            let last = line.waiting.len() - 1;
            self.write_waiting(&mut line, last);
            line.wake();
        }
    }

    /// Ends the session.
    pub fn end(&self) {
        self.tell(Wish::End);
    }

    /// Breaks the connection without a close, and resumes after this time.
    pub fn break_connection(&self, resume_after: Duration) {
        self.tell(Wish::Break(resume_after));
    }

    /// Messages of the room that were acknowledged and did not arrive here, and whether replies are outstanding.
    pub fn behind(&self) -> (u64, bool) {
        let order = self.order.borrow();
        let head = self.thread.rooms().head(self.place.room);
        let behind = order.position.map_or(0, |position| head.saturating_sub(position));
        (behind, !self.line.borrow().waiting.is_empty())
    }

    /// Whether it reads slowly.
    pub fn is_slow(&self) -> bool {
        self.place.slow.is_some()
    }

    fn tell(&self, wish: Wish) {
        self.wish.set(wish);
        self.line.borrow_mut().wake();
    }

    /// Lives until [`Session::end`]: connects, and resumes whenever the connection ends.
    pub async fn live(self: Rc<Self>) {
        let mut failures = 0;
        let mut broken_at: Option<Instant> = None;
        loop {
            if self.wish.get() == Wish::End {
                return;
            }
            let begun = Instant::now();
            match self.connect(failures).await {
                Ok(mut connection) => {
                    failures = 0;
                    match broken_at.take() {
                        Some(broken_at) => self.thread.meter().resumed(broken_at.elapsed()),
                        None => self.thread.meter().connected(begun.elapsed()),
                    }
                    match self.serve(&mut connection).await {
                        Ended::AsTold(Wish::End) => return self.leave(connection).await,
                        Ended::AsTold(Wish::Break(delay)) => {
                            // A dropped socket with unread bytes is reset, as when a client's network goes away.
                            drop(connection);
                            self.thread.meter().reconnecting();
                            broken_at = Some(Instant::now());
                            self.wait(delay).await;
                        }
                        // The node serves until the client has moved. What it sends meanwhile is replayed.
                        Ended::AsTold(_) => self.thread.meter().moved(),
                        Ended::Unexpectedly(error) => {
                            self.thread.meter().reconnecting();
                            self.thread.meter().note(&format!("{error:#}"));
                            broken_at = Some(Instant::now());
                            self.wait(Duration::from_millis(rand::random_range(0..200))).await;
                        }
                    }
                }
                Err(error) => {
                    failures += 1;
                    self.thread.meter().error(&format!("connect: {error:#}"));
                    self.wait(retry_delay(&error, failures)).await;
                }
            }
        }
    }

    /// Waits, but not beyond the end of the session.
    async fn wait(&self, time: Duration) {
        let until = tokio::time::Instant::now() + time;
        while self.wish.get() != Wish::End && tokio::time::Instant::now() < until {
            let slice = Duration::from_millis(100).min(until - tokio::time::Instant::now());
            sleep(slice).await;
        }
    }

    /// Opens a connection, attaches the session and puts it into its room.
    async fn connect(&self, failures: u32) -> Result<Connection> {
        let target = self.thread.target();
        let address = target.address(self.place.index + failures as usize);
        let mut stream =
            within("open a connection", address.open(self.place.index, target.sources())).await?;
        let rest = within("upgrade", upgrade(&mut stream, address, self.place.encoding)).await?;
        let mut connection =
            Connection { stream, frames: Frames::default(), mask: rand::random(), pause: None };
        {
            let mut line = self.line.borrow_mut();
            let waiting = std::mem::take(&mut line.waiting);
            *line = Line { waiting, ..Line::default() };
        }
        if !rest.is_empty() {
            self.receive(&mut connection.frames, connection.mask, &rest)?;
        }
        let in_room = self.attach(&mut connection).await?;
        if !in_room {
            self.enter(&mut connection).await?;
        }
        self.wish.set(if self.wish.get() == Wish::End { Wish::End } else { Wish::Stay });
        let mut line = self.line.borrow_mut();
        line.attached = true;
        for index in 0..line.waiting.len() {
            self.write_waiting(&mut line, index);
        }
        drop(line);
        Ok(connection)
    }

    /// Sends `connect`. Returns whether an earlier session was resumed, which puts it back into its room.
    async fn attach(&self, connection: &mut Connection) -> Result<bool> {
        let mut command = json!({"op": "connect", "token": self.thread.target().token(self.place.index)});
        if let Some(resume) = &*self.resume.borrow() {
            command["resume"] = self.cursors(resume);
        }
        let ok = self.request(connection, command).await.context("connect")?;
        *self.resume.borrow_mut() =
            Some(Resume { session: ok["session"].clone(), ticket: ok["ticket"].clone() });
        if ok["resumed"] != json!(true) {
            return Ok(false);
        }
        let (list, whole) = match self.thread.room_kind() {
            RoomKind::Conversation => ("conversations", "truncated"),
            RoomKind::Topic => ("topics", "recovered"),
            RoomKind::None => return Ok(true),
        };
        let room = &ok[list][self.room.as_str()];
        if room.is_null() {
            return Ok(false);
        }
        let complete = room[whole] == json!(list == "topics");
        if !complete {
            // What lies between is not replayed: a client would read it page by page.
            self.order.borrow_mut().position = None;
        }
        Ok(true)
    }

    fn cursors(&self, resume: &Resume) -> Value {
        let order = self.order.borrow();
        let mut value = json!({"session": resume.session, "ticket": resume.ticket, "cursors": {}});
        let Some(position) = order.position else { return value };
        match self.thread.room_kind() {
            RoomKind::Conversation => {
                value["cursors"][self.room.as_str()] = json!({"seq": position, "log": order.log});
            }
            RoomKind::Topic => {
                value["topics"] = json!({self.room.as_str(): {"epoch": order.log, "offset": position}});
            }
            RoomKind::None => {}
        }
        value
    }

    /// Creates the conversation if that is this session's part, and joins it, or subscribes to the topic.
    async fn enter(&self, connection: &mut Connection) -> Result<()> {
        let (command, position, log) = match self.thread.room_kind() {
            RoomKind::Conversation => {
                self.create(connection).await?;
                (json!({"op": "join", "conversation": self.room}), "head", "log")
            }
            RoomKind::Topic => (json!({"op": "subscribe", "topic": self.room}), "offset", "epoch"),
            RoomKind::None => return Ok(()),
        };
        let ok = self.request(connection, command).await.context("join")?;
        let mut order = self.order.borrow_mut();
        // Events that came right behind the reply have been counted already.
        let position = ok[position].as_u64().context("the reply has no position")?;
        order.position = Some(order.position.unwrap_or(0).max(position));
        order.log = ok[log].clone();
        Ok(())
    }

    /// The first session of a room creates the conversation, with all as members. The others wait for that.
    async fn create(&self, connection: &mut Connection) -> Result<()> {
        let rooms = self.thread.rooms();
        let members = rooms.members(self.place.room);
        if rooms.exists(self.place.room) {
            return Ok(());
        }
        if members.start == self.place.index {
            let names: Vec<String> = members.map(|member| self.thread.target().user(member)).collect();
            let command = json!({"op": "create", "conversation": self.room, "members": names});
            self.request(connection, command).await.context("create")?;
            rooms.created(self.place.room);
            return Ok(());
        }
        let exists = async {
            while !rooms.exists(self.place.room) {
                let _ = timeout(Duration::from_millis(20), self.drive(connection, |_| None::<()>)).await;
            }
            Ok(())
        };
        within("wait for the conversation to be created", exists).await
    }

    /// Serves the connection until it ends or the session is told to do something else.
    async fn serve(&self, connection: &mut Connection) -> Ended {
        let told = |session: &Self| Some(session.wish.get()).filter(|wish| *wish != Wish::Stay);
        let driven = self.drive(connection, told).await;
        self.line.borrow_mut().attached = false;
        match driven {
            Ok(wish) => Ended::AsTold(wish),
            Err(error) => Ended::Unexpectedly(error),
        }
    }

    /// Closes the connection properly.
    async fn leave(&self, mut connection: Connection) {
        let code = 1000_u16.to_be_bytes();
        frames::write(&mut self.line.borrow_mut().out, Opcode::Close, connection.mask, &code);
        let _ = timeout(Duration::from_secs(5), self.drive(&mut connection, |_| None::<()>)).await;
    }

    /// Sends a command and waits for its reply.
    async fn request(&self, connection: &mut Connection, mut command: Value) -> Result<Value> {
        {
            let mut line = self.line.borrow_mut();
            let id = line.id();
            command["id"] = json!(id);
            line.awaited = Some(id);
            let bytes = self.place.encoding.write(&command)?;
            frames::write(&mut line.out, self.place.encoding.opcode(), connection.mask, &bytes);
        }
        let reply = async { self.drive(connection, |session| session.line.borrow_mut().reply.take()).await };
        let mut reply = within("wait for the reply", reply).await?;
        match reply.get_mut("ok") {
            Some(ok) => Ok(ok.take()),
            None => bail!("{}", error_code(&reply)),
        }
    }

    /// Reads and writes until `done` returns something or the connection ends.
    fn drive<'a, T>(
        &'a self,
        connection: &'a mut Connection,
        mut done: impl FnMut(&Self) -> Option<T> + 'a,
    ) -> impl Future<Output = Result<T>> + 'a {
        poll_fn(move |cx| {
            self.line.borrow_mut().waker = Some(cx.waker().clone());
            if let Err(error) = self.flush(connection, cx) {
                return Poll::Ready(Err(error));
            }
            let read = self.read(connection, cx);
            if let Some(value) = done(self) {
                return Poll::Ready(Ok(value));
            }
            match read {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            }
        })
    }

    fn flush(&self, connection: &mut Connection, cx: &mut TaskContext<'_>) -> Result<()> {
        let mut line = self.line.borrow_mut();
        while !line.out.is_empty() {
            match Pin::new(&mut connection.stream).poll_write(cx, &line.out) {
                Poll::Ready(written) => drop(line.out.drain(..written?)),
                Poll::Pending => return Ok(()),
            }
        }
        // An idle session keeps no buffer.
        line.out = Vec::new();
        let _ = Pin::new(&mut connection.stream).poll_flush(cx)?;
        Ok(())
    }

    fn read(&self, connection: &mut Connection, cx: &mut TaskContext<'_>) -> Result<()> {
        let mut buffer = self.thread.buffer();
        for _ in 0..READS_PER_TURN {
            let most = match self.pause(connection, cx) {
                Some(0) => return Ok(()),
                Some(bytes) => bytes.min(buffer.len()),
                None => buffer.len(),
            };
            let mut into = ReadBuf::new(&mut buffer[..most]);
            match Pin::new(&mut connection.stream).poll_read(cx, &mut into) {
                Poll::Pending => return Ok(()),
                Poll::Ready(read) => read?,
            }
            let read = into.filled().len();
            if read == 0 {
                bail!("the node closed the connection");
            }
            self.receive(&mut connection.frames, connection.mask, &buffer[..read])?;
            if self.place.slow.is_some() {
                connection.pause = Some(Box::pin(sleep(SLOW_READ)));
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// How many bytes a slow reader may read now; nothing for others.
    fn pause(&self, connection: &mut Connection, cx: &mut TaskContext<'_>) -> Option<usize> {
        let rate = self.place.slow?;
        if let Some(pause) = &mut connection.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return Some(0);
            }
            connection.pause = None;
        }
        Some((rate as usize / 10).max(1))
    }

    fn receive(&self, frames: &mut Frames, mask: [u8; 4], bytes: &[u8]) -> Result<()> {
        let now_us = self.thread.now_us();
        frames.feed(bytes, |opcode, payload| {
            match opcode {
                Opcode::Text | Opcode::Binary => self.take(payload, now_us)?,
                Opcode::Ping => frames::write(&mut self.line.borrow_mut().out, Opcode::Pong, mask, payload),
                Opcode::Pong => {}
                Opcode::Close => {
                    let code = payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
                    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
                    return Err(anyhow!("closed with {code} {reason}"));
                }
            }
            Ok(())
        })?;
        let line = self.line.borrow();
        if !line.out.is_empty() {
            line.wake();
        }
        Ok(())
    }

    /// Takes a reply or an event.
    fn take(&self, payload: &[u8], now_us: u64) -> Result<()> {
        let encoding = self.place.encoding;
        match encoding.kind(payload) {
            Kind::Reply(id) => self.take_reply(id, payload, now_us),
            Kind::Event => match Marker::find(payload) {
                Some((at, marker)) => {
                    self.take_message(&payload[..at], marker, now_us);
                    Ok(())
                }
                None => self.take_event(payload),
            },
            Kind::Unknown => bail!("a frame that is neither a reply nor an event"),
        }
    }

    fn take_reply(&self, id: u64, payload: &[u8], now_us: u64) -> Result<()> {
        let encoding = self.place.encoding;
        let mut line = self.line.borrow_mut();
        if line.awaited == Some(id) {
            line.awaited = None;
            line.reply = Some(encoding.read(payload)?);
            return Ok(());
        }
        let Some(index) = line.waiting.iter().position(|waiting| waiting.id == id) else { return Ok(()) };
        let Some(waiting) = line.waiting.remove(index) else { return Ok(()) };
        drop(line);
        if !encoding.is_ok(payload) {
            self.thread.meter().error(&error_code(&encoding.read(payload)?));
            self.thread.finished();
            return Ok(());
        }
        let number = encoding.field(payload, if self.is_topic() { "offset" } else { "seq" });
        self.thread.rooms().reached(self.place.room, number.unwrap_or(0));
        self.thread.meter().acknowledged(now_us.saturating_sub(waiting.due_us));
        Ok(())
    }

    /// Takes a message or publication. `head` is the frame before the text.
    fn take_message(&self, head: &[u8], marker: Marker, now_us: u64) {
        let number = self.place.encoding.field(head, if self.is_topic() { "offset" } else { "seq" });
        let mut meter = self.thread.meter();
        meter.delivered(now_us.saturating_sub(marker.due_us));
        if let Some(number) = number {
            let mut order = self.order.borrow_mut();
            match order.position {
                Some(position) if number <= position => {
                    if order.missing > 0 {
                        order.missing -= 1;
                        meter.late_arrival();
                    } else {
                        meter.doubled();
                    }
                }
                known => {
                    let passed_over = known.map_or(0, |position| number - position - 1);
                    order.missing += passed_over;
                    meter.missing(passed_over);
                    order.position = Some(number);
                }
            }
        }
        drop(meter);
        if marker.sender as usize == self.place.index {
            self.thread.finished();
        }
    }

    fn take_event(&self, payload: &[u8]) -> Result<()> {
        // Rare events only: presence and the like have no marker either, but `draining` is the one that matters.
        if memchr::memmem::find(payload, b"draining").is_none() {
            return Ok(());
        }
        let event = self.place.encoding.read(payload)?;
        if event["ev"] == json!("draining") {
            let after = Duration::from_millis(event["reconnect_after_ms"].as_u64().unwrap_or(0));
            let own = self.own.clone();
            tokio::task::spawn_local(async move {
                sleep(after).await;
                if let Some(session) = own.upgrade().filter(|session| session.wish.get() == Wish::Stay) {
                    session.tell(Wish::Move);
                }
            });
        }
        Ok(())
    }

    fn is_topic(&self) -> bool {
        self.thread.room_kind() == RoomKind::Topic
    }

    /// Puts a waiting message into the queue of bytes, under a new id and the same key.
    fn write_waiting(&self, line: &mut Line, index: usize) {
        let id = line.id();
        let Some(waiting) = line.waiting.get_mut(index) else { return };
        waiting.id = id;
        let key = (!self.is_topic()).then(|| format!("{}-{}", self.place.index, waiting.number));
        let sender = u32::try_from(self.place.index).unwrap_or(u32::MAX);
        let message = Outgoing {
            id,
            room: &self.room,
            key: key.as_deref(),
            marker: Marker { sender, due_us: waiting.due_us },
            bytes: self.thread.payload_bytes(),
        };
        let mut object = Vec::with_capacity(message.bytes + 128);
        self.place.encoding.write_message(&mut object, &message);
        // The mask protects proxies from attackers who choose what a browser sends; this client chooses nothing.
        frames::write(&mut line.out, self.place.encoding.opcode(), [0x5a, 0xc3, 0x3c, 0xa5], &object);
    }
}

impl Line {
    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

/// The code of an error in a reply.
fn error_code(reply: &Value) -> String {
    reply["error"]["code"].as_str().unwrap_or("a reply without `ok`").to_owned()
}

/// How long to wait after a failure: what the node says, else longer each time, with a random part.
fn retry_delay(error: &anyhow::Error, failures: u32) -> Duration {
    if let Some(Refused { retry_after: Some(seconds), .. }) = error.downcast_ref() {
        return Duration::from_secs(*seconds) + Duration::from_millis(rand::random_range(0..1000));
    }
    let longest = 100 * 2_u64.pow(failures.min(6));
    Duration::from_millis(rand::random_range(longest / 2..longest))
}

async fn within<T>(step: &str, future: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(STEP_MAX, future)
        .await
        .map_err(|_| anyhow!("{step}: no answer in {STEP_MAX:?}"))?
        .with_context(|| step.to_owned())
}
