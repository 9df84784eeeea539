//! A connection's task: reads, begins commands, serves from the log, writes what the socket did not take at once.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use starling_conversation_store::Page;
use starling_hub::{
    Answer, CommandError, Handling, Hub, PreparedConnect, PreparedSubscribe, Reply, Room, TopicAttachment,
    from_log,
};
use starling_telemetry::TRACE_TARGET;
use starling_wire::protocol::{self, CloseReason, Command, Connected, Encoding, ErrorCode, Request};
use starling_wire::websocket::{self, Incoming};
use tracing::Instrument;

use super::conn::{Phase, SubState};
use super::deliver::bound;
use super::outbox::Kind;
use super::{Service, Shard, Table};
use crate::metrics::METRICS;

/// How many reads one poll makes before other connections get their turn.
const READS_PER_POLL: usize = 4;
/// How many messages one read of the log takes.
const LOG_PAGE: u32 = 100;

/// A connection's task.
pub(crate) struct ConnTask {
    shard: Rc<Shard>,
    key: u32,
    /// The command that is under way, if it keeps others waiting.
    running: Option<Running>,
    /// The log that is being read for one of the subscriptions.
    reading: Option<Reading>,
    /// Until when not to read, to keep the connection's rate of bytes.
    paused: Option<Pin<Box<tokio::time::Sleep>>>,
    /// What came with the handshake, not yet decoded.
    early: Bytes,
}

type Boxed<T> = Pin<Box<dyn Future<Output = T>>>;

enum Running {
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

struct Reading {
    sub: usize,
    room: Arc<Room>,
    cursor: u64,
    future: Boxed<Result<Page, CommandError>>,
}

impl ConnTask {
    /// A task for a connection that its shard holds under `key`; `early` is what came with the handshake.
    pub fn new(shard: Rc<Shard>, key: u32, early: Bytes) -> ConnTask {
        ConnTask { shard, key, running: None, reading: None, paused: None, early }
    }
}

impl Future for ConnTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let shard = this.shard.clone();
        let mut table = shard.table.borrow_mut();
        if this.step(&mut table, cx) {
            return Poll::Pending;
        }
        let conn = table.remove(this.key);
        drop(table);
        if let (Service::Hub(hub), Some(conn)) = (&shard.service, conn) {
            if conn.phase == Phase::Broken {
                METRICS.closed(1006);
            }
            hub.gauges().connections.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            METRICS.connections.decrement(1.0);
            if let Some(session) = &conn.session {
                hub.dropped(session);
            }
        }
        Poll::Ready(())
    }
}

impl ConnTask {
    /// Does all that can be done now. `false`: the connection is over.
    fn step(&mut self, table: &mut Table, cx: &mut Context<'_>) -> bool {
        {
            let Some(conn) = table.conns.get_mut(self.key as usize) else { return false };
            if conn.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
                conn.waker = Some(cx.waker().clone());
            }
        }
        let mut reads = 0;
        loop {
            let mut more = self.poll_running(table, cx);
            more |= self.begin_commands(table);
            more |= self.serve_from_log(table, cx);
            let read = self.read(table, cx);
            reads += usize::from(read);
            more |= read;
            let Some(conn) = table.conns.get_mut(self.key as usize) else { return false };
            if conn.phase != Phase::Broken {
                match conn.outbox.poll_flush(&mut conn.socket, cx) {
                    Poll::Ready(Ok(bytes)) => {
                        METRICS.bytes_sent.increment(bytes);
                        // There is room again for what waited for it.
                        more |= bytes > 0 && (conn.behind > 0 || !conn.backlog.is_empty());
                    }
                    Poll::Ready(Err(_)) => conn.phase = Phase::Broken,
                    Poll::Pending => {}
                }
            }
            match conn.phase {
                Phase::Broken => return false,
                Phase::Closed if conn.outbox.is_empty() => match conn.socket.poll_shutdown(cx) {
                    Poll::Pending => return true,
                    Poll::Ready(Err(_)) => return false,
                    Poll::Ready(Ok(())) => {
                        conn.phase = Phase::Ending;
                        table.linger(self.key);
                    }
                },
                _ if !more => return true,
                _ if reads >= READS_PER_POLL => {
                    // The socket may hold more, and it wakes only those whom it had nothing for.
                    cx.waker().wake_by_ref();
                    return true;
                }
                _ => {}
            }
        }
    }

    /// Goes on with the command under way. `true`: it is done.
    fn poll_running(&mut self, table: &mut Table, cx: &mut Context<'_>) -> bool {
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
    fn begin_commands(&mut self, table: &mut Table) -> bool {
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
        let Request { id, command } = request;
        if let Err(retry_after_ms) = conn.pace.command(self.shard.now_us(), self.shard.settings.pace) {
            METRICS.limited_commands.increment(1);
            let error = CommandError::rate_limited("too many commands on this connection", retry_after_ms);
            self.take_answer(table, id, Answer::Reply(Err(error)));
            return;
        }
        let command = match command {
            Ok(command) => command,
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
        let span = tracing::info_span!(target: TRACE_TARGET, "command", op = command.op(), id);
        let entered = span.enter();
        let handling = match (&conn.session, command) {
            (Some(session), command) => {
                // A command that is answered at once or later does not wait for those before it; all others do.
                let waits = !matches!(command, Command::Send(_) | Command::Publish { .. } | Command::Ping);
                if waits && conn.awaited > 0 {
                    conn.waiting = Some(Box::new((id, command)));
                    return;
                }
                hub.handle(session, id, command)
            }
            (None, Command::Connect(connect)) => {
                let identity = conn.identity.as_deref().cloned();
                let socket = conn.id(self.shard.index, self.key);
                hub.connect(identity, connect, socket)
            }
            (None, _) => Handling::Now(Answer::Refused(CommandError::unauthorized("connect comes first"))),
        };
        drop(entered);
        match handling {
            Handling::Now(answer) => self.take_answer(table, id, answer),
            Handling::Later => {
                if let Some(conn) = table.conns.get_mut(self.key as usize) {
                    conn.awaited += 1;
                }
            }
            Handling::Async(future) => {
                let future = if span.is_disabled() { future } else { Box::pin(future.instrument(span)) };
                self.running = Some(Running::Command { id, began: Instant::now(), future });
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
            Answer::Reply(reply) => {
                self.reply(table, id, &reply);
                if let Ok(Reply::Refreshed(_)) = reply {
                    self.watch_expiry(table);
                }
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
        conn.identity = None;
        conn.session = Some(session);
        let (connected, attachments, topics) = prepared.attach();
        for attachment in attachments {
            table.subscribe(self.key, attachment.room, Some(attachment));
        }
        self.watch_expiry(table);
        let connected = Box::new(connected);
        if topics.is_empty() {
            self.reply(table, id, &Ok(Reply::Connected(connected)));
            return;
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
        let Some(conn) = table.conns.get(self.key as usize) else { return };
        let Some(session) = &conn.session else { return };
        let (at_ms, generation) = (session.expires_at_ms(), conn.generation);
        table.expires(at_ms, self.key, generation);
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
        table.release(self.key, prepared.room(), attachment.subscribed.offset);
    }

    fn reply(&mut self, table: &mut Table, id: u64, reply: &Result<Reply, CommandError>) {
        if let Some(conn) = table.conns.get_mut(self.key as usize) {
            conn.reply(id, reply);
        }
    }

    /// Serves subscriptions that are behind from the log, a page at a time, as fast as the socket takes it.
    fn serve_from_log(&mut self, table: &mut Table, cx: &mut Context<'_>) -> bool {
        if matches!(self.running, Some(Running::Connect { .. })) {
            // The answer to `connect` comes first.
            return false;
        }
        let Service::Hub(hub) = self.shard.service.clone() else { return false };
        let mut any = false;
        loop {
            if let Some(reading) = &mut self.reading {
                let Poll::Ready(page) = reading.future.as_mut().poll(cx) else { return any };
                if let Some(reading) = self.reading.take() {
                    self.take_page(table, &reading, page);
                }
                any = true;
            }
            let Some(conn) = table.conns.get_mut(self.key as usize) else { return any };
            if conn.behind == 0 || conn.phase != Phase::Open {
                return any;
            }
            if conn.outbox.bytes() > self.shard.settings.outbox_bytes_soft / 4 {
                return any;
            }
            let behind: Vec<usize> = conn
                .subs
                .iter()
                .filter(|(_, sub)| matches!(sub.state, SubState::Behind))
                .map(|(sub, _)| sub)
                .collect();
            let Some(sub) = behind.into_iter().find(|sub| !table.catch_up(self.key, *sub)) else {
                return any;
            };
            self.reading = start_reading(table, self.key, sub, &hub);
            if self.reading.is_none() {
                return any;
            }
        }
    }

    fn take_page(&mut self, table: &mut Table, reading: &Reading, page: Result<Page, CommandError>) {
        let Some(conn) = table.conns.get_mut(self.key as usize) else { return };
        let Some(sub) = conn.subs.get_mut(reading.sub) else { return };
        let is_same = sub.log.as_ref().is_some_and(|log| Arc::ptr_eq(log, &reading.room));
        if !is_same || sub.cursor != reading.cursor || !matches!(sub.state, SubState::Behind) {
            // Left, or joined afresh, meanwhile.
            return;
        }
        match page {
            Ok(page) => {
                METRICS.catch_up_pages.increment(1);
                let name = reading.room.key.name.clone();
                let delivered = page.messages.len() as u64;
                METRICS.deliveries.increment(delivered);
                if let Some(gauges) = self.shard.gauges() {
                    gauges.deliveries.fetch_add(delivered, Ordering::Relaxed);
                }
                let empty = page.messages.is_empty();
                for message in page.messages {
                    let seq = message.seq;
                    let frame = from_log(&name, message).frame(conn.encoding).clone();
                    conn.push(frame, Kind::Durable { sub: reading.sub, first: seq });
                    if let Some(sub) = conn.subs.get_mut(reading.sub) {
                        sub.cursor = seq;
                    }
                }
                let delivered = table.rooms.get(&reading.room.id).map_or(0, |room| room.delivered);
                if let Some(sub) =
                    table.conns.get_mut(self.key as usize).and_then(|c| c.subs.get_mut(reading.sub))
                    && empty
                {
                    // The log is shorter than what was handed out: the conversation is gone. Nothing more will come.
                    sub.cursor = sub.cursor.max(delivered);
                }
            }
            // The client has been promised these messages: on another connection it gets them.
            Err(_) => {
                table.close(
                    self.key,
                    CloseReason::Restart,
                    "the log is not available; reconnect with resume",
                );
            }
        }
    }

    /// Reads once. `true`: something was read, and there may be more.
    fn read(&mut self, table: &mut Table, cx: &mut Context<'_>) -> bool {
        if let Some(paused) = &mut self.paused {
            if paused.as_mut().poll(cx).is_pending() {
                return false;
            }
            self.paused = None;
        }
        let tick = table.tick;
        let mut scratch = std::mem::take(&mut table.scratch);
        let read = self.read_into(table, &mut scratch, tick, cx);
        table.scratch = scratch;
        read
    }

    fn read_into(&mut self, table: &mut Table, scratch: &mut [u8], tick: u32, cx: &mut Context<'_>) -> bool {
        let Some(conn) = table.conns.get_mut(self.key as usize) else { return false };
        let open = conn.phase == Phase::Open;
        // A client that asks faster than it is answered, or does not read its answers, waits.
        let waits = open && (!conn.backlog.is_empty() || !conn.may_begin());
        if waits || conn.phase == Phase::Broken {
            return false;
        }
        if !self.early.is_empty() {
            let mut early = Vec::from(std::mem::take(&mut self.early));
            if let Some((reason, text)) = self.decode(conn, &mut early) {
                table.close(self.key, reason, &text);
            }
            return true;
        }
        let length = match conn.socket.poll_read(cx, scratch) {
            Poll::Pending => return false,
            Poll::Ready(Ok(0) | Err(_)) => {
                conn.phase = Phase::Broken;
                return false;
            }
            Poll::Ready(Ok(length)) => length,
        };
        if matches!(conn.phase, Phase::Closed | Phase::Ending) {
            return true;
        }
        conn.heard_at = tick;
        METRICS.bytes_received.increment(length as u64);
        let wait_us = conn.pace.bytes(self.shard.now_us(), length, self.shard.settings.pace);
        if wait_us > 0 {
            METRICS.limited_bytes.increment(1);
            self.paused = Some(Box::pin(tokio::time::sleep(std::time::Duration::from_micros(wait_us))));
        }
        let close = self.decode(conn, &mut scratch[..length]);
        if let Some((reason, text)) = close {
            table.close(self.key, reason, &text);
        }
        true
    }

    /// Takes the frames of what was read. Answers why to close, if that is so.
    fn decode(&self, conn: &mut super::Conn, bytes: &mut [u8]) -> Option<(CloseReason, String)> {
        // The decoder lends what it gives, so that the connection's other parts are taken apart from it.
        let mut decoder = std::mem::replace(&mut conn.decoder, idle_decoder());
        let mut feed = decoder.feed(bytes);
        let mut close = None;
        while let Some(incoming) = feed.next() {
            let incoming = match incoming {
                Ok(incoming) => incoming,
                Err(error) => {
                    let (reason, text) = (error.close_reason(), error.to_string());
                    if conn.phase == Phase::Open && close.is_none() {
                        METRICS.closed(reason.code());
                        conn.outbox.push(websocket::close_frame(reason.code(), &text), Kind::Reply);
                    }
                    // What follows can't be understood, so the client's own close frame is not waited for.
                    conn.phase = Phase::Closed;
                    break;
                }
            };
            METRICS.frames_received.increment(1);
            let ignored = conn.phase != Phase::Open || close.is_some();
            if ignored && !matches!(incoming, Incoming::Close(..)) {
                continue;
            }
            if let Err(reason) = self.take_frame(conn, incoming) {
                close = Some(reason);
            }
        }
        drop(feed);
        conn.decoder = decoder;
        close
    }

    fn take_frame(
        &self,
        conn: &mut super::Conn,
        incoming: Incoming<'_>,
    ) -> Result<(), (CloseReason, String)> {
        match incoming {
            Incoming::Ping(payload) => conn.outbox.push(websocket::pong_frame(payload), Kind::Reply),
            Incoming::Pong(_) => {}
            Incoming::Close(code, _) => {
                if conn.phase == Phase::Open {
                    METRICS.closed(code.unwrap_or(1005));
                    conn.outbox.push(websocket::close_reply(code), Kind::Reply);
                }
                conn.phase = Phase::Closed;
            }
            Incoming::Text(text) => match (&self.shard.service, conn.encoding) {
                (Service::Echo, _) => conn.push(crate::echo::text(text), Kind::Reply),
                (Service::Hub(_), Encoding::Json) => return take_request(conn, text.as_bytes()),
                (Service::Hub(_), Encoding::MsgPack) => {
                    return Err(unsupported("text where MessagePack was agreed"));
                }
            },
            Incoming::Binary(bytes) => match (&self.shard.service, conn.encoding) {
                (Service::Echo, _) => conn.push(crate::echo::binary(bytes), Kind::Reply),
                (Service::Hub(_), Encoding::MsgPack) => return take_request(conn, bytes),
                (Service::Hub(_), Encoding::Json) => return Err(unsupported("binary where JSON was agreed")),
            },
        }
        bound(conn, &self.shard.settings, conn.heard_at);
        Ok(())
    }
}

fn take_request(conn: &mut super::Conn, frame: &[u8]) -> Result<(), (CloseReason, String)> {
    let request = protocol::decode(conn.encoding, frame)
        .map_err(|error| (CloseReason::NotAFrame, error.to_string()))?;
    conn.backlog.push_back(request);
    Ok(())
}

fn unsupported(text: &str) -> (CloseReason, String) {
    (CloseReason::Unsupported, text.to_owned())
}

fn idle_decoder() -> websocket::Decoder {
    websocket::Decoder::new(websocket::DecoderConfig {
        frame_bytes_max: 0,
        message_bytes_max: 0,
        deflate: None,
    })
}

fn start_reading(table: &Table, key: u32, sub: usize, hub: &Arc<Hub>) -> Option<Reading> {
    let subscription = table.conns.get(key as usize)?.subs.get(sub)?;
    let (room, cursor) = (subscription.log.clone()?, subscription.cursor);
    let (hub, log) = (hub.clone(), room.clone());
    let future = Box::pin(async move { hub.read_log(&log, cursor, LOG_PAGE).await });
    Some(Reading { sub, room, cursor, future })
}
