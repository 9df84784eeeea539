//! A connection's commands: begun in their order, and handed to the hub.

use std::task::{Context, Poll};

use starling_hub::{Answer, CommandError, Handling, Hub};
use starling_telemetry::{TRACE_TARGET, link_to};
use starling_wire::protocol::{Command, Request};
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::running::Running;
use super::settings::Service;
use super::step::Step;
use crate::admission::Arrival;
use crate::metrics::METRICS;

impl Step<'_> {
    /// Polls the running command. Returns whether it is done.
    pub(super) fn poll_running(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(conn) = self.conn() else { return false };
        let Some(running) = conn.queue.running() else { return false };
        let Poll::Ready((id, done)) = running.poll(cx) else { return false };
        conn.queue.finish();
        self.done(id, done);
        true
    }

    /// Begins, polls and answers the commands of the queue as far as their order allows. Returns whether anything was done.
    pub(super) fn begin_commands(&mut self) -> bool {
        let outbox_bytes_max = self.env.settings.outbox_bytes_soft();
        let mut any = false;
        loop {
            let Some(conn) = self.conn().filter(|conn| conn.is_open()) else { return any };
            if let Some((id, answer)) = conn.queue.release() {
                self.answer(id, answer);
            } else if conn.outbox.bytes() <= outbox_bytes_max
                && let Some(request) = conn.queue.begin()
            {
                self.begin(request);
            } else {
                return any;
            }
            any = true;
        }
    }

    fn begin(&mut self, request: Request) {
        let (now_us, limits) = (self.env.now_us(), self.env.settings.pace);
        let Some(conn) = self.conn() else { return };
        let Request { id, command, is_connect } = request;
        if let Err(retry_after_ms) = conn.pace.command(now_us, limits) {
            METRICS.limited_commands.increment(1);
            let error = CommandError::rate_limited("too many commands on this connection", retry_after_ms);
            return self.answer_now(id, Err(error).into());
        }
        match command {
            Ok(command) => {
                METRICS.command(&command);
                self.dispatch(id, command);
            }
            Err(_) if conn.client.session().is_none() && !is_connect => self.answer_now(id, connect_first()),
            Err(bad) => self.answer_now(id, Err(CommandError::new(bad.code, bad.message)).into()),
        }
    }

    /// Hands a command to the hub.
    fn dispatch(&mut self, id: u64, command: Command) {
        let Service::Hub(hub) = &self.env.service else { return };
        let began = Instant::now();
        let span = tracing::info_span!(target: TRACE_TARGET, "command", op = command.op(), id);
        let handling = {
            let _entered = span.enter();
            self.handle(hub, &span, id, command)
        };
        let Some(conn) = self.conn() else { return };
        match handling {
            Handling::Now(answer) => {
                METRICS.command_seconds.record(began.elapsed());
                self.answer_now(id, answer);
            }
            Handling::Later => conn.queue.wait_for_answer(),
            Handling::Async(future) => {
                let future = if span.is_disabled() { future } else { Box::pin(future.instrument(span)) };
                conn.queue.run(Running::command(id, began, future));
            }
        }
    }

    fn handle(&mut self, hub: &std::sync::Arc<Hub>, span: &Span, id: u64, command: Command) -> Handling {
        let (shard, key, admission) = (self.env.index, self.key, &self.env.settings.admission);
        let Some(conn) = self.table.get_mut(key) else { return Handling::Now(connect_first()) };
        if let Some(handshake) = conn.client.traceparent() {
            link_to(span, handshake);
        }
        let connect = match (conn.client.session(), command) {
            (Some(session), command) => return hub.handle(session, id, command),
            (None, Command::Connect(connect)) => connect,
            (None, _) => return Handling::Now(connect_first()),
        };
        let resumes = connect.resume.as_ref().and_then(|resume| hub.proven_session(resume));
        let arrival = match admission.session(resumes) {
            Ok(arrival) => arrival,
            Err(away) => {
                METRICS.limited_sessions.increment(1);
                let error = CommandError::rate_limited("too many clients come at once", 0);
                return Handling::Now(Answer::Refused(error.retry_after(away)));
            }
        };
        counted(arrival, hub.connect(conn.client.identity().cloned(), connect, conn.id(shard, key)))
    }

    /// Gives the answer to a command that is not awaited: now, or when no earlier answer is awaited any more.
    pub(super) fn answer_now(&mut self, id: u64, answer: Answer) {
        if let Some(conn) = self.conn()
            && let Some(answer) = conn.queue.answer(id, answer)
        {
            self.answer(id, answer);
        }
    }
}

/// Counts a `connect` as load of the node until it is answered.
fn counted(arrival: Arrival, connecting: Handling) -> Handling {
    let Handling::Async(future) = connecting else { return connecting };
    Handling::Async(Box::pin(async move {
        let answer = future.await;
        if matches!(answer, Answer::Connect(_)) {
            arrival.served();
        }
        answer
    }))
}

/// The answer to a command that comes before `connect`.
fn connect_first() -> Answer {
    Answer::Refused(CommandError::unauthorized("connect comes first"))
}
