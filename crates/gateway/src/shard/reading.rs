//! From a socket's bytes to commands.

use std::future::Future;
use std::task::{Context, Poll};

use starling_wire::protocol::{self, CloseReason, Encoding};
use starling_wire::websocket::{self, Incoming};

use super::conn::{Conn, Phase};
use super::deliver::bound;
use super::outbox::Kind;
use super::task::ConnTask;
use super::{Service, Table};
use crate::metrics::METRICS;

impl ConnTask {
    /// Reads once. `true`: something was read, and there may be more.
    pub(super) fn read(&mut self, table: &mut Table, cx: &mut Context<'_>) -> bool {
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
                conn.break_off();
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
    fn decode(&self, conn: &mut Conn, bytes: &mut [u8]) -> Option<(CloseReason, String)> {
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

    fn take_frame(&self, conn: &mut Conn, incoming: Incoming<'_>) -> Result<(), (CloseReason, String)> {
        match incoming {
            Incoming::Ping(payload) => {
                let pong = websocket::pong_frame(payload);
                conn.outbox.push_pong(pong, self.shard.settings.outbox_bytes_soft);
            }
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

fn take_request(conn: &mut Conn, frame: &[u8]) -> Result<(), (CloseReason, String)> {
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
