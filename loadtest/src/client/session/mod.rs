//! A simulated session: it connects, joins its room, sends what it is told to send, checks what it receives, and resumes.

mod connecting;
mod driving;
mod hearing;
mod line;
mod received;

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use line::{Line, Waiting};
use received::Received;
use serde_json::Value;
use tokio::time::sleep;

use super::encoding::{Encoding, Outgoing};
use super::frames;
use super::marker::Marker;
use super::upgrade::Refused;
use crate::run::Thread;
use crate::scenario::RoomKind;

/// Messages of one session that wait for their reply or for a connection. Beyond that a message counts as failed.
const WAITING_MAX: usize = 1000;

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
    received: RefCell<Received>,
    resume: RefCell<Option<Resume>>,
    instruction: Cell<Instruction>,
    own: Weak<Session>,
}

/// What a resume needs.
struct Resume {
    session: Value,
    ticket: Value,
}

/// What the session is to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Instruction {
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
    AsTold(Instruction),
    Unexpectedly(anyhow::Error),
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
            received: RefCell::default(),
            resume: RefCell::default(),
            instruction: Cell::new(Instruction::Stay),
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
        self.received.borrow().position.is_some()
    }

    /// Sends a message that was due at this time. While the session has no connection the message waits.
    pub fn send(&self, due_us: u64) {
        let mut line = self.line.borrow_mut();
        if line.waiting.len() >= WAITING_MAX {
            self.thread.meter().error("too many messages without a reply");
            return;
        }
        let number = {
            let mut received = self.received.borrow_mut();
            received.sent += 1;
            received.sent
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
        self.tell(Instruction::End);
    }

    /// Breaks the connection without a close, and resumes after this time.
    pub fn break_connection(&self, resume_after: Duration) {
        self.tell(Instruction::Break(resume_after));
    }

    /// Messages of the room that were acknowledged and did not arrive here, and whether replies are outstanding.
    pub fn behind(&self) -> (u64, bool) {
        let received = self.received.borrow();
        let head = self.thread.rooms().head(self.place.room);
        let behind = received.position.map_or(0, |position| head.saturating_sub(position));
        (behind, !self.line.borrow().waiting.is_empty())
    }

    /// Whether it reads slowly.
    pub fn is_slow(&self) -> bool {
        self.place.slow.is_some()
    }

    /// Lives until [`Session::end`]: connects, and resumes whenever the connection ends.
    pub async fn live(self: Rc<Self>) {
        let mut failures = 0;
        let mut broken_at: Option<Instant> = None;
        loop {
            if self.instruction.get() == Instruction::End {
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
                        Ended::AsTold(Instruction::End) => return self.leave(connection).await,
                        Ended::AsTold(Instruction::Break(delay)) => {
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

    fn tell(&self, instruction: Instruction) {
        self.instruction.set(instruction);
        self.line.borrow_mut().wake();
    }

    /// Waits, but not beyond the end of the session.
    async fn wait(&self, time: Duration) {
        let until = tokio::time::Instant::now() + time;
        while self.instruction.get() != Instruction::End && tokio::time::Instant::now() < until {
            let slice = Duration::from_millis(100).min(until - tokio::time::Instant::now());
            sleep(slice).await;
        }
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

/// How long to wait after a failure: what the node says, else longer each time, with a random part.
fn retry_delay(error: &anyhow::Error, failures: u32) -> Duration {
    if let Some(Refused { retry_after: Some(seconds), .. }) = error.downcast_ref() {
        return Duration::from_secs(*seconds) + Duration::from_millis(rand::random_range(0..1000));
    }
    let longest = 100 * 2_u64.pow(failures.min(6));
    Duration::from_millis(rand::random_range(longest / 2..longest))
}
