//! The order of a connection's commands: when each may begin, and when its answer may leave.
//!
//! The protocol promises (`docs/protocol.md`, "What comes in which order") that commands begin in the order in which they came, and that
//! their answers come in that order. The answers to commands that [may overtake](starling_wire::protocol::Command::may_overtake) can come
//! through the shard's inbox, and then leave as they come. Every other answer, also a refusal and that of a command that was running,
//! leaves when no earlier answer is awaited. Hence the commands of a connection stand, from the oldest to the newest, as
//!
//! 1. those whose answers are *awaited*: the hub has them, and each answer comes through the shard's inbox;
//! 2. at most one that keeps all later ones waiting: it is *running*, or its answer is ready but *held* until no answer is awaited;
//! 3. the *backlog*: read, but not begun.
//!
//! The queue does no I/O and polls nothing. The connection's task asks it what may begin, and tells it how each command is answered.

use std::collections::VecDeque;

use starling_hub::Answer;
use starling_wire::protocol::Request;

/// Limit on the commands of a connection whose answers are awaited.
pub(super) const AWAITED_MAX: u32 = 256;
/// Limit on the commands of a connection that wait to begin. Nothing more is decoded then.
const BACKLOG_MAX: usize = AWAITED_MAX as usize;

/// The commands of a connection that have not been answered. `R` is a command that is running.
pub(super) struct CommandQueue<R> {
    /// Number of answers that come through the inbox.
    awaited: u32,
    /// Boxed, since nothing is running on almost every connection.
    running: Option<Box<R>>,
    /// A command's id and its answer.
    held: Option<Box<(u64, Answer)>>,
    /// Owns no memory while it is empty, as it is on almost every connection.
    backlog: VecDeque<Request>,
}

impl<R> Default for CommandQueue<R> {
    fn default() -> CommandQueue<R> {
        CommandQueue { awaited: 0, running: None, held: None, backlog: VecDeque::new() }
    }
}

impl<R> CommandQueue<R> {
    /// Adds a command that was read.
    pub fn push(&mut self, request: Request) {
        self.backlog.push_back(request);
    }

    /// Whether no further command may be added for now.
    pub fn is_full(&self) -> bool {
        self.backlog.len() >= BACKLOG_MAX
    }

    /// Whether a further command could begin at once, so that it is worth reading.
    pub fn wants_more(&self) -> bool {
        self.backlog.is_empty() && self.held.is_none() && self.awaited < AWAITED_MAX
    }

    /// Takes out the next command, if it may begin now. One of [`answer`](Self::answer), [`run`](Self::run) and
    /// [`wait_for_answer`](Self::wait_for_answer) has to follow.
    pub fn begin(&mut self) -> Option<Request> {
        let overtakes =
            |request: &Request| request.command.as_ref().is_ok_and(|command| command.may_overtake());
        let next = self.backlog.front()?;
        let may_begin = self.awaited == 0 || (self.awaited < AWAITED_MAX && overtakes(next));
        if self.running.is_some() || self.held.is_some() || !may_begin {
            return None;
        }
        let request = self.backlog.pop_front();
        if self.backlog.is_empty() {
            self.backlog = VecDeque::new();
        }
        request
    }

    /// Records the answer to the command that has just begun, or that has [run](Self::finish). Returns it if it may leave now; otherwise holds
    /// it.
    pub fn answer(&mut self, id: u64, answer: Answer) -> Option<Answer> {
        if self.awaited == 0 {
            return Some(answer);
        }
        self.held = Some(Box::new((id, answer)));
        None
    }

    /// Records that the answer to the command that has just begun comes through the inbox.
    pub fn wait_for_answer(&mut self) {
        self.awaited += 1;
    }

    /// Records that the command that has just begun is running: it keeps all later ones waiting until [`finish`](Self::finish).
    pub fn run(&mut self, command: R) {
        self.running = Some(Box::new(command));
    }

    /// The running command.
    pub fn running(&mut self) -> Option<&mut R> {
        self.running.as_deref_mut()
    }

    /// Takes out the command that was running. [`answer`](Self::answer) follows, unless the command began with nothing awaited.
    pub fn finish(&mut self) -> Option<R> {
        self.running.take().map(|running| *running)
    }

    /// Records that an awaited answer has come. Returns whether the connection's task has work now: another answer may leave, or another
    /// command begin.
    pub fn answer_came(&mut self) -> bool {
        self.awaited = self.awaited.saturating_sub(1);
        match self.held {
            Some(_) => self.awaited == 0,
            None => !self.backlog.is_empty() || self.awaited == AWAITED_MAX - 1,
        }
    }

    /// Takes out the held answer (and its command's id), if it may leave now.
    pub fn release(&mut self) -> Option<(u64, Answer)> {
        if self.awaited > 0 {
            return None;
        }
        self.held.take().map(|held| *held)
    }

    /// Drops the backlog and the held answer: nothing more is sent on this connection.
    pub fn abandon(&mut self) {
        (self.backlog, self.held) = (VecDeque::new(), None);
    }

    /// Whether commands wait to begin.
    pub fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Whether each command has begun and none keeps others waiting.
    pub fn has_begun_all(&self) -> bool {
        self.running.is_none() && self.held.is_none() && self.backlog.is_empty()
    }

    /// Whether each command has been answered.
    pub fn has_answered_all(&self) -> bool {
        self.awaited == 0 && self.has_begun_all()
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
