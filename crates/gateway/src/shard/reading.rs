//! From a socket's bytes to commands.

use std::collections::VecDeque;
use std::future::Future;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use starling_wire::protocol::{self, CloseReason, Encoding};
use starling_wire::websocket::{self, Incoming};

use super::conn::{AWAITED_MAX, Conn, Phase};
use super::deliver::bound;
use super::outbox::Kind;
use super::task::{ConnTask, Goodbye};
use super::{Service, Table};
use crate::metrics::METRICS;

/// How many commands of a connection wait to be begun at most; nothing more is decoded then.
const BACKLOG_MAX: usize = AWAITED_MAX as usize;
/// How many bytes of messages one go decodes, and the message more with which that is exceeded. What is not compressed is hardly ever
/// more than this, since it comes by the scratch buffer.
const BACKLOG_BYTES_MAX: usize = super::SCRATCH_BYTES;

/// How many bytes of a connection are read and thrown away once its close frame is queued. So much may have been on its way when the
/// client could not know yet; what follows is left to the kernel, whose buffers fill up and stop the client.
const DISCARD_BYTES_MAX: usize = 64 * 1024;

/// What has become of what came.
struct Decoded {
    /// How many bytes are done with.
    taken: usize,
    /// How many bytes came out of what of them was compressed.
    inflated: usize,
    /// Why to close, if that is so.
    close: Option<(CloseReason, String)>,
}

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
        // A client that asks faster than it is answered, or does not read its answers, waits. One that has said goodbye says no more.
        let waits = open && (!conn.backlog.is_empty() || !conn.may_begin() || self.goodbye.is_some());
        let discards = DISCARD_BYTES_MAX.saturating_sub(conn.discarded);
        if waits || conn.phase == Phase::Broken || (!open && discards == 0) {
            return false;
        }
        if !self.unread.is_empty() {
            let mut unread = std::mem::take(&mut self.unread);
            let taken = self.take_input(table, &mut unread, 0);
            unread.advance(taken);
            if !unread.is_empty() {
                self.unread = unread;
            }
            return true;
        }
        let space = if open { scratch.len() } else { scratch.len().min(discards) };
        let length = match conn.socket.poll_read(cx, &mut scratch[..space]) {
            Poll::Pending => return false,
            Poll::Ready(Ok(0) | Err(_)) => {
                conn.break_off();
                return false;
            }
            Poll::Ready(Ok(length)) => length,
        };
        METRICS.bytes_received.increment(length as u64);
        if !open {
            conn.discarded += length;
        }
        if matches!(conn.phase, Phase::Closed | Phase::Ending) {
            return true;
        }
        conn.heard_at = tick;
        let taken = self.take_input(table, &mut scratch[..length], length);
        if taken < length {
            self.unread = scratch[taken..length].into();
        }
        true
    }

    /// Takes the frames of what came, of which `new` bytes have just been read, and charges the connection for them. Answers how much of
    /// it is done with; the rest is for later.
    fn take_input(&mut self, table: &mut Table, input: &mut [u8], new: usize) -> usize {
        let Some(conn) = table.conns.get_mut(self.key as usize) else { return input.len() };
        let before = conn.phase;
        let Decoded { taken, inflated, close } = self.decode(conn, input);
        if conn.phase != before {
            // It can't be understood any more: nothing of it is begun, and it has no longer than one that this node closes.
            conn.deadlines.end_soon(table.tick);
            (conn.backlog, conn.waiting) = (VecDeque::new(), None);
        }
        // What is compressed costs what it is unpacked.
        let charged = new + inflated.saturating_sub(taken);
        if charged > 0 {
            let wait_us = conn.pace.bytes(self.shard.now_us(), charged, self.shard.settings.pace);
            if wait_us > 0 {
                METRICS.limited_bytes.increment(1);
                self.paused = Some(Box::pin(tokio::time::sleep(Duration::from_micros(wait_us))));
            }
        }
        if let Some((reason, text)) = close {
            table.close(self.key, reason, &text);
        }
        taken
    }

    /// Acts on the client's close frame once nothing that came before it waits to be begun: whether a message is sent must not depend on
    /// how the network cuts what a client writes. `true`: so it was.
    pub(super) fn take_goodbye(&mut self, table: &mut Table) -> bool {
        let Some(Goodbye(code)) = self.goodbye else { return false };
        let Some(conn) = table.conns.get_mut(self.key as usize) else { return false };
        match conn.phase {
            Phase::Open => {
                let begun = self.running.is_none()
                    && conn.backlog.is_empty()
                    && conn.waiting.is_none()
                    && conn.held.is_none();
                if !begun {
                    return false;
                }
                METRICS.closed(code.unwrap_or(1005));
                conn.outbox.push(websocket::close_reply(code), Kind::Reply);
            }
            // This node has said it meanwhile, so that now both have.
            Phase::Closing => {}
            Phase::Closed | Phase::Ending | Phase::Broken => return false,
        }
        self.goodbye = None;
        conn.phase = Phase::Closed;
        true
    }

    /// Takes frames until the backlog is full or nothing is left.
    fn decode(&mut self, conn: &mut Conn, bytes: &mut [u8]) -> Decoded {
        let length = bytes.len();
        // The decoder lends what it gives, so that the connection's other parts are taken apart from it.
        let mut decoder = std::mem::replace(&mut conn.decoder, idle_decoder());
        let mut feed = decoder.feed(bytes);
        let mut close = None;
        let mut message_bytes = 0;
        while conn.backlog.len() < BACKLOG_MAX
            && message_bytes < BACKLOG_BYTES_MAX
            && let Some(incoming) = feed.next()
        {
            let incoming = match incoming {
                Ok(incoming) => incoming,
                Err(error) => {
                    let (reason, text) = (error.close_reason(), error.to_string());
                    if close.is_some() {
                        // An earlier fault in the same bytes is the reason that the client is told.
                        break;
                    }
                    if conn.phase == Phase::Open {
                        METRICS.closed(reason.code());
                        conn.outbox.push(websocket::close_frame(reason.code(), &text), Kind::Reply);
                    }
                    // What follows can't be understood, so the client's own close frame is not waited for.
                    conn.phase = Phase::Closed;
                    break;
                }
            };
            METRICS.frames_received.increment(1);
            message_bytes += match incoming {
                Incoming::Text(text) => text.len(),
                Incoming::Binary(bytes) => bytes.len(),
                _ => 0,
            };
            let ignored = conn.phase != Phase::Open || close.is_some();
            if ignored && !matches!(incoming, Incoming::Close(..)) {
                continue;
            }
            if let Err(reason) = self.take_frame(conn, incoming) {
                close = Some(reason);
            }
        }
        let inflated = feed.inflated();
        let mut taken = feed.stop();
        if decoder.is_ended() {
            taken = length;
        }
        conn.decoder = decoder;
        Decoded { taken, inflated, close }
    }

    fn take_frame(&mut self, conn: &mut Conn, incoming: Incoming<'_>) -> Result<(), (CloseReason, String)> {
        match incoming {
            Incoming::Ping(payload) => {
                let pong = websocket::pong_frame(payload);
                conn.outbox.push_pong(pong, self.shard.settings.outbox_bytes_soft);
            }
            Incoming::Pong(_) => {}
            Incoming::Close(code, _) => self.goodbye = Some(Goodbye(code)),
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

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use starling_wire::protocol;
    use starling_wire::websocket::deflate::{DeflateConfig, Deflater, negotiate};
    use starling_wire::websocket::payload_of;

    use super::super::fixture;
    use super::*;

    const MESSAGE_BYTES: usize = 64 * 1024;

    /// Masked by zeros, so that the payload stands as it is.
    fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).expect("a short payload").to_be_bytes();
        [&[first, 0xfe][..], &length, &[0; 4], payload].concat()
    }

    #[tokio::test]
    async fn of_a_read_that_unpacks_to_much_a_part_is_taken_and_the_rest_waits() {
        let (params, _) =
            negotiate("permessage-deflate", DeflateConfig::default()).expect("what is offered is taken");
        let shard = fixture::shard_with(|settings| {
            settings.message_bytes_max = 2 * MESSAGE_BYTES as u32;
            settings.pace.bytes_per_second = 1_000;
        });
        let (key, _near) = fixture::connect_with(&shard, Some(params));
        let mut task = ConnTask::new(shard.clone(), key, Bytes::new());
        let message = protocol::frame(Encoding::Json, &vec![b'a'; MESSAGE_BYTES]);
        let packed = Deflater::new(params, 9).compress(&message);
        let one = client_frame(0xc1, payload_of(&packed));
        let mut input: BytesMut = one.repeat(400).as_slice().into();
        assert!(input.len() < super::super::SCRATCH_BYTES, "{} bytes are one read", input.len());

        let mut table = shard.table.borrow_mut();
        let conn = &mut table.conns[key as usize];
        let Decoded { taken, inflated, close } = task.decode(conn, &mut input);
        assert_eq!((taken, inflated, close), (one.len(), MESSAGE_BYTES, None));
        input.advance(taken);
        let mut parts = 1;
        while !input.is_empty() {
            let taken = task.take_input(&mut table, &mut input, 0);
            input.advance(taken);
            parts += 1;
            assert!(task.paused.is_some(), "what was unpacked is counted, however little was read");
        }
        assert_eq!(parts, 400);
        assert_eq!(table.conns[key as usize].phase, Phase::Open);
    }
}
