//! A connection's commands: begun in order, answered in order, and what an answer does to the connection.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use starling_hub::{
    Answer, CommandError, Handling, PreparedConnect, PreparedSubscribe, Reply, TopicAttachment,
};
use starling_telemetry::{TRACE_TARGET, link_to};
use starling_wire::protocol::{CloseReason, Command, Connected, ErrorCode, Request};
use tokio::time::Instant;
use tracing::Instrument;

use super::conn::Phase;
use super::deliver::close_text;
use super::outbox::Kind;
use super::task::{Boxed, ConnTask};
use super::{Service, Table};
use crate::metrics::METRICS;

/// A command that keeps those after it waiting.
pub(super) enum Running {
    Command {
        id: u64,
        began: Instant,
        future: Pin<Box<dyn Future<Output = Answer> + Send>>,
    },
    Connect {
        id: u64,
        connected: Box<Connected>,
        prepared: Vec<Rc<PreparedSubscribe>>,
        future: Boxed<Histories>,
    },
    Subscribe {
        id: u64,
        prepared: Rc<PreparedSubscribe>,
        future: Boxed<Result<TopicAttachment, CommandError>>,
    },
}

type Histories = Vec<Result<TopicAttachment, CommandError>>;

impl ConnTask {
    /// Whether the answer to `connect` is still to come. It comes before everything else.
    pub(super) fn is_connecting(&self) -> bool {
        matches!(self.running, Some(Running::Connect { .. }))
    }

    /// Goes on with the command under way. `true`: it is done.
    pub(super) fn poll_running(&mut self, table: &mut Table, cx: &mut Context<'_>) -> bool {
        match self.running.as_mut() {
            None => false,
            Some(Running::Command { id, began, future }) => {
                let Poll::Ready(answer) = future.as_mut().poll(cx) else { return false };
                METRICS.command_seconds.record(began.elapsed());
                let id = *id;
                self.running = None;
                self.answer(table, id, answer);
                true
            }
            Some(Running::Subscribe { id, prepared, future }) => {
                let Poll::Ready(result) = future.as_mut().poll(cx) else { return false };
                let (id, prepared) = (*id, prepared.clone());
                self.running = None;
                self.subscribed(table, id, &prepared, result);
                true
            }
            Some(Running::Connect { future, .. }) => {
                let Poll::Ready(histories) = future.as_mut().poll(cx) else { return false };
                if let Some(Running::Connect { id, connected, prepared, .. }) = self.running.take() {
                    self.resumed(table, id, connected, &prepared, histories);
                }
                true
            }
        }
    }

    /// Begins what waits in the backlog, as far as nothing keeps it waiting.
    pub(super) fn begin_commands(&mut self, table: &mut Table) -> bool {
        let mut any = false;
        while self.running.is_none() {
            let Some(conn) = table.conns.get_mut(self.key as usize) else { return false };
            if conn.awaited == 0
                && let Some(held) = conn.held.take()
            {
                self.answer(table, held.0, held.1);
                any = true;
                continue;
            }
            if conn.awaited == 0
                && let Some(waiting) = conn.waiting.take()
            {
                self.dispatch(table, waiting.0, waiting.1);
                any = true;
                continue;
            }
            if !conn.may_begin() || conn.outbox.bytes() > self.shard.settings.outbox_bytes_soft {
                return any;
            }
            let Some(request) = conn.backlog.pop_front() else { return any };
            if conn.backlog.is_empty() {
                conn.backlog = std::collections::VecDeque::new();
            }
            self.begin(table, request);
            any = true;
        }
        any
    }

    fn begin(&mut self, table: &mut Table, request: Request) {
        let Some(conn) = table.conns.get_mut(self.key as usize) else { return };
        let Request { id, command, is_connect } = request;
        if let Err(retry_after_ms) = conn.pace.command(self.shard.now_us(), self.shard.settings.pace) {
            METRICS.limited_commands.increment(1);
            let error = CommandError::rate_limited("too many commands on this connection", retry_after_ms);
            self.take_answer(table, id, Answer::Reply(Err(error)));
            return;
        }
        let command = match command {
            Ok(command) => command,
            Err(_) if conn.session.is_none() && !is_connect => {
                self.take_answer(table, id, connect_first());
                return;
            }
            Err(bad) => {
                let error = CommandError::new(bad.code, bad.message);
                self.take_answer(table, id, Answer::Reply(Err(error)));
                return;
            }
        };
        METRICS.command(&command);
        self.dispatch(table, id, command);
    }

    fn dispatch(&mut self, table: &mut Table, id: u64, command: Command) {
        let Service::Hub(hub) = self.shard.service.clone() else { return };
        let Some(conn) = table.conns.get_mut(self.key as usize) else { return };
        // A command that is answered at once or later does not wait for those before it; all others do.
        let waits = !command.may_overtake();
        if waits && conn.awaited > 0 {
            conn.waiting = Some(Box::new((id, command)));
            return;
        }
        let began = Instant::now();
        let span = tracing::info_span!(target: TRACE_TARGET, "command", op = command.op(), id);
        if let Some(handshake) = &conn.handshake {
            link_to(&span, handshake);
        }
        let entered = span.enter();
        let handling = match (&conn.session, command) {
            (Some(session), command) => hub.handle(session, id, command),
            (None, Command::Connect(connect)) => {
                let resumes = connect.resume.as_ref().and_then(|resume| hub.proven_session(resume));
                if let Err(away) = self.shard.settings.admission.session(resumes) {
                    METRICS.limited_sessions.increment(1);
                    let error = CommandError::rate_limited("too many clients come at once", 0);
                    self.take_answer(table, id, Answer::Refused(error.retry_after(away)));
                    return;
                }
                let identity = conn.identity.as_deref().cloned();
                let socket = conn.id(self.shard.index, self.key);
                hub.connect(identity, connect, socket)
            }
            (None, _) => Handling::Now(connect_first()),
        };
        drop(entered);
        match handling {
            Handling::Now(answer) => {
                METRICS.command_seconds.record(began.elapsed());
                self.take_answer(table, id, answer);
            }
            Handling::Later => {
                if let Some(conn) = table.conns.get_mut(self.key as usize) {
                    conn.awaited += 1;
                }
            }
            Handling::Async(future) => {
                let future = if span.is_disabled() { future } else { Box::pin(future.instrument(span)) };
                self.running = Some(Running::Command { id, began, future });
            }
        }
    }

    /// An answer that is ready at once must not overtake those that are awaited.
    fn take_answer(&mut self, table: &mut Table, id: u64, answer: Answer) {
        match table.conns.get_mut(self.key as usize) {
            Some(conn) if conn.awaited > 0 => conn.held = Some(Box::new((id, answer))),
            Some(_) => self.answer(table, id, answer),
            None => {}
        }
    }

    fn answer(&mut self, table: &mut Table, id: u64, answer: Answer) {
        match answer {
            Answer::Reply(reply) => self.reply(table, id, &reply),
            Answer::Refreshed(refreshed, topics) => {
                for topic in topics {
                    table.unsubscribe(self.key, topic);
                }
                self.reply(table, id, &Ok(Reply::Refreshed(refreshed)));
                self.watch_expiry(table);
            }
            Answer::Refused(error) => {
                let (reason, text) = match error.code {
                    ErrorCode::RateLimited => (CloseReason::Overloaded, "over the limit on connections"),
                    _ => (CloseReason::Unauthorized, "connect with a valid token first"),
                };
                self.reply(table, id, &Err(error));
                table.close(self.key, reason, text);
            }
            Answer::Connect(prepared) => self.connect(table, id, *prepared),
            Answer::Close(reason) => table.close(self.key, reason, close_text(reason)),
            Answer::Join(prepared) => match prepared.attach() {
                Ok((joined, attachment)) => {
                    let room = attachment.room;
                    table.subscribe(self.key, room, Some(attachment));
                    self.reply(table, id, &Ok(Reply::Joined(Box::new(joined))));
                }
                Err(error) => self.reply(table, id, &Err(error)),
            },
            Answer::Subscribe(prepared) => {
                prepared.attach();
                table.subscribe(self.key, prepared.room(), None);
                let prepared = Rc::new(prepared);
                let (asked, bytes_max) = (prepared.clone(), self.shard.settings.outbox_bytes_soft);
                let future = Box::pin(async move { asked.history(bytes_max).await });
                self.running = Some(Running::Subscribe { id, prepared, future });
            }
            Answer::Leave(room) => {
                if let Some(room) = room {
                    table.unsubscribe(self.key, room);
                }
                self.reply(table, id, &Ok(Reply::Empty));
            }
        }
    }

    fn connect(&mut self, table: &mut Table, id: u64, prepared: PreparedConnect) {
        let Some(conn) = table.conns.get_mut(self.key as usize) else { return prepared.abandon() };
        if conn.phase != Phase::Open {
            return prepared.abandon();
        }
        let session = prepared.session().clone();
        let (connected, attachments, topics) = match prepared.attach() {
            Ok(attached) => attached,
            Err(reason) => return table.close(self.key, reason, close_text(reason)),
        };
        conn.identity = None;
        conn.session = Some(session);
        for attachment in attachments {
            table.subscribe(self.key, attachment.room, Some(attachment));
        }
        self.watch_expiry(table);
        let connected = Box::new(connected);
        if topics.is_empty() {
            self.reply(table, id, &Ok(Reply::Connected(connected)));
            return;
        }
        if let Some(conn) = table.conns.get_mut(self.key as usize) {
            conn.early = Some(Box::default());
        }
        let prepared: Vec<Rc<PreparedSubscribe>> = topics.into_iter().map(Rc::new).collect();
        for topic in &prepared {
            topic.attach();
            table.subscribe(self.key, topic.room(), None);
        }
        let (asked, mut bytes_max) = (prepared.clone(), self.shard.settings.outbox_bytes_soft);
        let future = Box::pin(async move {
            let mut histories = Vec::with_capacity(asked.len());
            for topic in asked {
                let history = topic.history(bytes_max).await;
                bytes_max -= history.as_ref().map_or(0, |history| history.bytes).min(bytes_max);
                histories.push(history);
            }
            histories
        });
        self.running = Some(Running::Connect { id, connected, prepared, future });
    }

    /// Has the connection closed when its token ends.
    fn watch_expiry(&self, table: &mut Table) {
        let Some(conn) = table.conns.get_mut(self.key as usize) else { return };
        if let Some(session) = &conn.session {
            conn.deadlines.token_ends(session.expires_at_ms());
        }
    }

    /// The histories of a resumed session's topics have come: everything is answered, then replayed.
    fn resumed(
        &mut self,
        table: &mut Table,
        id: u64,
        mut connected: Box<Connected>,
        prepared: &[Rc<PreparedSubscribe>],
        histories: Histories,
    ) {
        let mut replays = Vec::new();
        let mut topics = connected.topics.take().unwrap_or_default();
        for (topic, history) in prepared.iter().zip(histories) {
            match history {
                Ok(attachment) => {
                    topics.insert(topic.name().clone(), attachment.subscribed.clone());
                    replays.push((topic, attachment));
                }
                Err(_) => {
                    // The client finds it missing from the answer, and subscribes again.
                    topic.undo();
                    table.unsubscribe(self.key, topic.room());
                }
            }
        }
        connected.topics = Some(topics);
        self.reply(table, id, &Ok(Reply::Connected(connected)));
        if let Some(conn) = table.conns.get_mut(self.key as usize) {
            conn.tell_early();
        }
        for (topic, attachment) in replays {
            self.replay(table, topic, &attachment);
        }
    }

    fn subscribed(
        &mut self,
        table: &mut Table,
        id: u64,
        prepared: &PreparedSubscribe,
        result: Result<TopicAttachment, CommandError>,
    ) {
        match result {
            Ok(attachment) => {
                self.reply(table, id, &Ok(Reply::Subscribed(attachment.subscribed.clone())));
                self.replay(table, prepared, &attachment);
            }
            Err(error) => {
                prepared.undo();
                table.unsubscribe(self.key, prepared.room());
                self.reply(table, id, &Err(error));
            }
        }
    }

    fn replay(&mut self, table: &mut Table, prepared: &PreparedSubscribe, attachment: &TopicAttachment) {
        if let Some(conn) = table.conns.get_mut(self.key as usize) {
            for (_, event) in &attachment.replay {
                let frame = event.frame(conn.encoding).clone();
                // It has been promised by the answer.
                conn.push(frame, Kind::Reply);
            }
        }
        let at = &attachment.subscribed;
        table.release(self.key, prepared.room(), &at.epoch, at.offset);
    }

    fn reply(&mut self, table: &mut Table, id: u64, reply: &Result<Reply, CommandError>) {
        if let Some(conn) = table.conns.get_mut(self.key as usize) {
            conn.reply(id, reply);
        }
    }
}

/// The answer to what comes before `connect`.
fn connect_first() -> Answer {
    Answer::Refused(CommandError::unauthorized("connect comes first"))
}
