//! The side of a connection that other code than the session's task may touch, and the messages that wait for replies.

use std::collections::VecDeque;
use std::task::Waker;

use serde_json::Value;

/// The side of the connection that other code than the session's task may touch.
#[derive(Default)]
pub(super) struct Line {
    pub attached: bool,
    pub out: Vec<u8>,
    pub waker: Option<Waker>,
    pub next_id: u64,
    /// Messages without a reply, in the order in which they were sent.
    pub waiting: VecDeque<Waiting>,
    /// The id of a command that the task waits for, and its reply.
    pub awaited: Option<u64>,
    pub reply: Option<Value>,
}

/// A message without a reply.
pub(super) struct Waiting {
    pub id: u64,
    pub number: u64,
    pub due_us: u64,
}

impl Line {
    /// Returns the id of the next command.
    pub fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Wakes the session's task.
    pub fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}
