//! All connections of a run in one epoll loop.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::connection::{Connection, Place, State};
use super::messages::Messages;
use crate::dialect::{Dialect, FIRST_ID, Role, Step};
use crate::frames::{self, CLOSE, PING, PONG};
use crate::marker::{MARKER_BYTES, Marker, scan};
use crate::poller::{Poller, Ready};
use crate::{Pace, Plan};

/// Bytes that are read at once; no frame of a server is longer.
const BUFFER_BYTES: usize = 1 << 18;
/// Connections that get ready at the same time.
const OPENING_MAX: usize = 64;
/// How often a waiting loop looks at the time.
const LOOK: Duration = Duration::from_millis(5);
/// Conversations that are made at the same time.
const MAKING_MAX: u64 = 32;

/// All connections, and what they have done.
pub struct Engine {
    poller: Poller,
    dialect: Dialect,
    nodes: Vec<std::net::SocketAddr>,
    sources: u8,
    payload_bytes: usize,
    tokens: Vec<String>,
    receivers: Vec<u32>,
    connections: Vec<Connection>,
    waiting: VecDeque<Place>,
    opening: usize,
    /// Connections that are ready.
    pub ready: u64,
    /// Connections that were refused or ended.
    pub dropped: u64,
    /// Why the first of them was.
    pub refusal: Option<String>,
    /// The messages.
    pub messages: Messages,
    /// Answers that were errors.
    pub errors: u64,
    /// The first of them.
    pub error: Option<String>,
    made: u64,
    senders: Vec<usize>,
    next_sender: u64,
    started: Instant,
    /// When what is being read was received.
    received_ns: u64,
    buffer: Vec<u8>,
    payload: Vec<u8>,
    events: Vec<Ready>,
}

impl Engine {
    /// Nobody is connected yet.
    pub fn new(plan: &Plan, tokens: Vec<String>) -> Result<Self> {
        ensure!(plan.payload_bytes >= MARKER_BYTES, "a payload has at least {MARKER_BYTES} bytes");
        Ok(Self {
            poller: Poller::new()?,
            dialect: plan.dialect,
            nodes: plan.nodes.clone(),
            sources: plan.sources.max(1),
            payload_bytes: plan.payload_bytes,
            tokens,
            receivers: vec![0; plan.shape.rooms()],
            connections: Vec::new(),
            waiting: VecDeque::new(),
            opening: 0,
            ready: 0,
            dropped: 0,
            refusal: None,
            messages: Messages::new(),
            errors: 0,
            error: None,
            made: 0,
            senders: Vec::new(),
            next_sender: 0x9e37_79b9_7f4a_7c15,
            started: Instant::now(),
            received_ns: 0,
            buffer: vec![0; BUFFER_BYTES],
            payload: Vec::new(),
            events: Vec::new(),
        })
    }

    /// Nanoseconds since the engine was made.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Begins to connect these.
    pub fn connect(&mut self, places: &[Place]) -> Result<()> {
        self.waiting.extend(places);
        self.open_more()
    }

    /// Waits until `done`, at most this long. Returns whether it was.
    pub fn until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> Result<bool> {
        let begun = Instant::now();
        while !done(self) {
            if begun.elapsed() > limit {
                return Ok(false);
            }
            self.turn(LOOK)?;
        }
        Ok(true)
    }

    /// Handles what arrives for this long.
    pub fn pause(&mut self, time: Duration) -> Result<()> {
        let begun = Instant::now();
        while let Some(rest) = time.checked_sub(begun.elapsed()) {
            self.turn(rest.min(LOOK))?;
        }
        Ok(())
    }

    /// Makes a conversation for each list of users, on the first connection, and closes it.
    pub fn make(&mut self, users: &[Vec<usize>], limit: Duration) -> Result<()> {
        for (room, users) in users.iter().enumerate() {
            let answered = self.until(limit, |engine| engine.made + MAKING_MAX > room as u64)?;
            ensure!(answered, "no answer to the creation of conversation {room}");
            let maker = &mut self.connections[0];
            self.dialect.create(&mut maker.out, FIRST_ID + room as u64, room, users);
            self.flush(0)?;
        }
        self.until(limit, |engine| engine.made >= users.len() as u64)?;
        ensure!(self.errors == 0, "a conversation can't be made: {:?}", self.error);
        ensure!(self.made == users.len() as u64, "not all conversations were made in time");
        self.connections[0].close(&self.poller);
        self.ready -= 1;
        Ok(())
    }

    /// Sends at this pace for this long. Ends early in a closed loop in which nothing arrives for the time `stall`.
    pub fn send(&mut self, pace: Pace, time: Duration, stall: Duration) -> Result<()> {
        let begun = self.now_ns();
        let end = begun + u64::try_from(time.as_nanos())?;
        match pace {
            Pace::Silent => self.pause(time),
            Pace::Outstanding(outstanding) => self.send_closed(outstanding, end, stall),
            Pace::PerSecond(rate) => {
                ensure!(rate > 0.0, "a rate must be positive");
                self.send_open(begun, 1e9 / rate, end)
            }
        }
    }

    fn send_closed(&mut self, outstanding: usize, end: u64, stall: Duration) -> Result<()> {
        let mut progress = (self.messages.counted.delivered, Instant::now());
        loop {
            let now = self.now_ns();
            if now >= end || progress.1.elapsed() > stall {
                return Ok(());
            }
            while self.messages.outstanding < outstanding {
                let due = self.now_ns();
                if due >= end || !self.send_one(due)? {
                    return Ok(());
                }
            }
            self.turn(LOOK)?;
            if self.messages.counted.delivered != progress.0 {
                progress = (self.messages.counted.delivered, Instant::now());
            }
        }
    }

    fn send_open(&mut self, begun: u64, gap_ns: f64, end: u64) -> Result<()> {
        let mut number = 0_u64;
        loop {
            let now = self.now_ns();
            let due = begun + (number as f64 * gap_ns) as u64;
            if due >= end {
                // The last gap belongs to this stretch of time, too.
                return self.pause(Duration::from_nanos(end.saturating_sub(now)));
            }
            if due <= now {
                if !self.send_one(due)? {
                    return Ok(());
                }
                number += 1;
            } else {
                self.turn(Duration::from_nanos(due - now))?;
            }
        }
    }

    /// Lets a connection send. Returns whether one could.
    fn send_one(&mut self, due_ns: u64) -> Result<bool> {
        let Some(key) = self.sender() else { return Ok(false) };
        let room = self.connections[key].place.room;
        let receivers = self.receivers[room];
        let number = self.messages.send(due_ns, self.now_ns(), receivers, self.dialect.acknowledges());
        Marker { due_ns, number }.write(&mut self.payload, self.payload_bytes);
        let out = &mut self.connections[key].out;
        self.dialect.publish(out, FIRST_ID + u64::from(number), room, &self.payload);
        self.flush(key)?;
        Ok(true)
    }

    /// Publishers take turns; among many members chance decides.
    fn sender(&mut self) -> Option<usize> {
        for _ in 0..1000 {
            let index = if self.senders.len() <= 8 {
                self.next_sender = self.next_sender.wrapping_add(1);
                self.next_sender
            } else {
                self.next_sender ^= self.next_sender << 13;
                self.next_sender ^= self.next_sender >> 7;
                self.next_sender ^= self.next_sender << 17;
                self.next_sender
            };
            let key = *self.senders.get(index.checked_rem(self.senders.len() as u64)? as usize)?;
            if self.connections[key].state == State::Ready {
                return Some(key);
            }
        }
        None
    }

    fn open_more(&mut self) -> Result<()> {
        while self.opening < OPENING_MAX
            && let Some(place) = self.waiting.pop_front()
        {
            let key = self.connections.len();
            let (node, source) = (self.nodes[place.node], (key % usize::from(self.sources)) as u8);
            self.connections.push(Connection::open(place, node, source, &self.poller, key)?);
            self.opening += 1;
        }
        Ok(())
    }

    /// Waits once, and handles what happened.
    fn turn(&mut self, longest: Duration) -> Result<()> {
        let mut events = std::mem::take(&mut self.events);
        self.poller.wait(Some(longest), &mut events)?;
        for event in &events {
            let connection = &mut self.connections[event.key];
            if connection.state == State::Opening && event.writable {
                connection.upgrade(self.dialect, self.nodes[connection.place.node]);
            }
            if event.writable && connection.state != State::Gone {
                self.flush(event.key)?;
            }
            if event.readable && self.connections[event.key].state != State::Gone {
                self.read(event.key)?;
            }
        }
        self.events = events;
        self.open_more()
    }

    fn flush(&mut self, key: usize) -> Result<()> {
        if !self.connections[key].flush(&self.poller, key)? {
            self.end(key, "the server closed the connection");
        }
        Ok(())
    }

    fn end(&mut self, key: usize, reason: &str) {
        let connection = &mut self.connections[key];
        match connection.state {
            State::Gone => return,
            State::Ready => self.ready -= 1,
            _ => self.opening -= 1,
        }
        connection.close(&self.poller);
        self.dropped += 1;
        self.refusal.get_or_insert_with(|| reason.to_owned());
    }

    fn read(&mut self, key: usize) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            let connection = &mut self.connections[key];
            let kept = connection.unread.len();
            ensure!(kept < buffer.len(), "a frame of a server is longer than {BUFFER_BYTES} bytes");
            let Some(read) = connection.read(&mut buffer[kept..]) else { break };
            if read == 0 {
                self.end(key, "the server closed the connection");
                break;
            }
            buffer[..kept].copy_from_slice(&connection.unread);
            connection.unread.clear();
            let all = kept + read;
            self.received_ns = self.now_ns();
            let used = self.handle(key, &buffer[..all])?;
            let connection = &mut self.connections[key];
            if connection.state == State::Gone {
                break;
            }
            connection.unread.extend_from_slice(&buffer[used..all]);
            if all < buffer.len() {
                break;
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Handles what was received. Returns how many bytes belong to complete frames.
    fn handle(&mut self, key: usize, bytes: &[u8]) -> Result<usize> {
        let mut used = 0;
        if self.connections[key].state == State::Upgrading {
            let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(0) };
            if !bytes.starts_with(b"HTTP/1.1 101") {
                let answer = String::from_utf8_lossy(&bytes[..end.min(200)]).into_owned();
                self.end(key, &answer);
                return Ok(bytes.len());
            }
            used = end + 4;
            let connection = &mut self.connections[key];
            connection.state = State::Preparing;
            let token = self.tokens.get(connection.place.user).map_or("", String::as_str);
            let client = connection.client(token);
            let step = self.dialect.begin(&client, &mut connection.out);
            self.apply(key, step)?;
        }
        while let Some(frame) = frames::first(&bytes[used..]) {
            self.frame(key, frame.kind, &bytes[used + frame.begin..used + frame.end])?;
            used += frame.end;
            if self.connections[key].state == State::Gone {
                break;
            }
        }
        Ok(used)
    }

    fn frame(&mut self, key: usize, kind: u8, payload: &[u8]) -> Result<()> {
        match kind {
            CLOSE => {
                let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
                self.end(key, &format!("the server closes the connection: {reason}"));
                return Ok(());
            }
            PING => {
                frames::write_client(&mut self.connections[key].out, PONG, &[payload]);
                return self.flush(key);
            }
            PONG => return Ok(()),
            _ => {}
        }
        if self.connections[key].state == State::Preparing {
            let connection = &mut self.connections[key];
            let token = self.tokens.get(connection.place.user).map_or("", String::as_str);
            let client = connection.client(token);
            let step = self.dialect.step(&client, payload, &mut connection.out);
            return self.apply(key, step);
        }
        if let Some((kind, answer)) = self.dialect.keep_alive(payload) {
            frames::write_client(&mut self.connections[key].out, kind, &[answer]);
            return self.flush(key);
        }
        self.deliveries(key, payload);
        self.replies(key, payload);
        Ok(())
    }

    fn deliveries(&mut self, key: usize, payload: &[u8]) {
        let (messages, now) = (&mut self.messages, self.received_ns);
        let mut each = |marker| messages.deliver(marker, now);
        if !self.dialect.is_stream() {
            scan(payload, each);
            return;
        }
        let tail = &mut self.connections[key].tail;
        let kept = if tail.is_empty() {
            scan(payload, &mut each)
        } else {
            tail.extend_from_slice(payload);
            scan(tail, &mut each)
        };
        let all = if tail.is_empty() { payload } else { tail.as_slice() };
        let rest = all[all.len() - kept.min(MARKER_BYTES - 1)..].to_vec();
        *tail = rest;
    }

    fn replies(&mut self, key: usize, payload: &[u8]) {
        let is_maker = self.connections[key].place.role == Role::Maker;
        let (messages, now) = (&mut self.messages, self.received_ns);
        let (errors, error, made) = (&mut self.errors, &mut self.error, &mut self.made);
        self.dialect.replies(payload, |reply| {
            let number = reply.id.wrapping_sub(FIRST_ID) as u32;
            let refused = reply.error.is_some();
            if let Some(text) = reply.error {
                *errors += 1;
                error.get_or_insert(text);
            }
            match (is_maker, refused) {
                (true, _) => *made += 1,
                (false, true) => messages.refuse(number),
                (false, false) => messages.acknowledge(number, now),
            }
        });
    }

    fn apply(&mut self, key: usize, step: Step) -> Result<()> {
        match step {
            Step::Wait => {}
            Step::Next => self.connections[key].stage += 1,
            Step::Ready => {
                let connection = &mut self.connections[key];
                connection.state = State::Ready;
                let Place { role, room, .. } = connection.place;
                self.opening -= 1;
                self.ready += 1;
                if role.receives() {
                    self.receivers[room] += 1;
                }
                if matches!(role, Role::Publisher | Role::Member) {
                    self.senders.push(key);
                }
            }
            Step::Refused(reason) => {
                self.end(key, &reason);
                return Ok(());
            }
        }
        self.flush(key).context("send")
    }
}
