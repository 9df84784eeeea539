//! From a socket's bytes to commands.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use starling_wire::protocol::{self, CloseReason, Encoding};
use starling_wire::websocket::deflate::Params;
use starling_wire::websocket::{self, Decoder, DecoderConfig, Incoming};
use tokio::time::Sleep;

use super::chunks::Kind;
use super::conn::{Conn, Phase};
use super::settings::{Env, Service, ShardSettings};
use super::step::Step;
use super::table::SCRATCH_BYTES;
use crate::echo;
use crate::metrics::METRICS;

/// Limit on the bytes of messages that are decoded in one go; the message that exceeds it still counts. What is not compressed is hardly
/// ever more than this, since it comes through the scratch buffer.
const DECODED_BYTES_MAX: usize = SCRATCH_BYTES;

/// Limit on the bytes of a connection that are read and thrown away once its close frame is queued. So much may have been on its way when
/// the client could not know yet. What follows is left to the kernel, whose buffers fill up and stop the client.
const DISCARD_BYTES_MAX: usize = 64 * 1024;

/// The incoming side of a connection, which only the connection's task uses.
pub(super) struct Reader {
    decoder: Decoder,
    /// Input that is not decoded yet: sent together with the handshake, or left over when the command queue filled up. Never empty.
    /// Boxed, since few connections have any.
    undecoded: Option<Box<BytesMut>>,
    /// Nothing is read before this timer ends, so that the connection keeps its limit on bytes per second.
    paused: Option<Pin<Box<Sleep>>>,
    /// The client's close frame. It is handled once every command that came before it has begun.
    close_frame: Option<CloseFrame>,
    /// Bytes that were read and thrown away after this node's close frame was queued.
    discarded: usize,
}

/// What the client's close frame said: its code, if it gave one.
#[derive(Clone, Copy, Debug)]
struct CloseFrame(Option<u16>);

/// Why a connection is closed: the reason, and a text for the developer of the client.
type Close = (CloseReason, String);

/// The result of decoding a piece of input.
struct Decoded {
    /// Bytes consumed.
    taken: usize,
    /// Bytes after decompression.
    inflated: usize,
    /// The reason to close, if there is one.
    close: Option<Close>,
}

impl Reader {
    /// Creates the reader of a connection that agreed on `deflate`. `early` is what came with the handshake.
    pub fn new(settings: &ShardSettings, deflate: Option<Params>, early: Bytes) -> Reader {
        let limits = DecoderConfig {
            frame_bytes_max: settings.message_bytes_max(),
            message_bytes_max: settings.message_bytes_max(),
            deflate,
        };
        Reader {
            decoder: Decoder::new(limits),
            undecoded: (!early.is_empty()).then(|| Box::new(early.into())),
            paused: None,
            close_frame: None,
            discarded: 0,
        }
    }

    /// Reads once. Returns whether something was read, so that there may be more.
    pub fn read(&mut self, step: &mut Step<'_>, cx: &mut Context<'_>) -> bool {
        if let Some(paused) = &mut self.paused {
            if paused.as_mut().poll(cx).is_pending() {
                return false;
            }
            self.paused = None;
        }
        let mut scratch = std::mem::take(&mut step.table.scratch);
        let read = self.read_into(step, &mut scratch, cx);
        step.table.scratch = scratch;
        read
    }

    /// Handles the client's close frame once every command that came before it has begun: whether a message is sent must not depend on
    /// how the network cuts what a client writes. Returns whether it did.
    pub fn take_close_frame(&mut self, step: &mut Step<'_>) -> bool {
        let Some(CloseFrame(code)) = self.close_frame else { return false };
        let Some(conn) = step.conn() else { return false };
        if conn.is_open() && !conn.queue.has_begun_all() {
            return false;
        }
        let taken = conn.take_close_frame(code);
        if taken {
            self.close_frame = None;
        }
        taken
    }

    fn read_into(&mut self, step: &mut Step<'_>, scratch: &mut [u8], cx: &mut Context<'_>) -> bool {
        let tick = step.table.tick;
        let Some(conn) = step.conn() else { return false };
        let space = self.space(conn).min(scratch.len());
        if space == 0 {
            return false;
        }
        if let Some(undecoded) = self.undecoded.take() {
            self.take_undecoded(step, undecoded);
            return true;
        }
        let length = match conn.socket.poll_read(cx, &mut scratch[..space]) {
            Poll::Pending => return false,
            Poll::Ready(Ok(0) | Err(_)) => {
                conn.break_off();
                return false;
            }
            Poll::Ready(Ok(length)) => length,
        };
        METRICS.bytes_received.increment(length as u64);
        if !conn.is_open() {
            self.discarded += length;
        }
        if matches!(conn.phase(), Phase::Closed | Phase::Ending) {
            return true;
        }
        conn.deadlines.hear(tick);
        let taken = self.take_input(step, &mut scratch[..length], length);
        if taken < length {
            self.undecoded = Some(Box::new(scratch[taken..length].into()));
        }
        true
    }

    /// The number of bytes that may be read now. A client that asks faster than it is answered, or does not read its answers, waits; one
    /// that has sent its close frame sends no more.
    fn space(&self, conn: &Conn) -> usize {
        match conn.phase() {
            Phase::Open if conn.queue.wants_more() && self.close_frame.is_none() => usize::MAX,
            Phase::Open | Phase::Broken => 0,
            Phase::Closing | Phase::Closed | Phase::Ending => {
                DISCARD_BYTES_MAX.saturating_sub(self.discarded)
            }
        }
    }

    fn take_undecoded(&mut self, step: &mut Step<'_>, mut undecoded: Box<BytesMut>) {
        let taken = self.take_input(step, &mut undecoded, 0);
        undecoded.advance(taken);
        if !undecoded.is_empty() {
            self.undecoded = Some(undecoded);
        }
    }

    /// Decodes frames from `input` and charges the connection for the `new` bytes that were just read. Returns the number of bytes
    /// consumed.
    fn take_input(&mut self, step: &mut Step<'_>, input: &mut [u8], new: usize) -> usize {
        let (env, tick) = (step.env, step.table.tick);
        let Some(conn) = step.conn() else { return input.len() };
        let Decoded { taken, inflated, close } = self.decode(conn, env, tick, input);
        // Compressed input is charged by its decompressed size.
        let charged = new + inflated.saturating_sub(taken);
        if charged > 0 {
            let wait_us = conn.pace.bytes(env.now_us(), charged, env.settings.pace);
            if wait_us > 0 {
                METRICS.limited_bytes.increment(1);
                self.paused = Some(Box::pin(tokio::time::sleep(Duration::from_micros(wait_us))));
            }
        }
        if let Some((reason, text)) = close {
            step.table.close(step.key, reason, &text);
        }
        taken
    }

    /// Decodes frames until the command queue is full or no complete frame is left.
    fn decode(&mut self, conn: &mut Conn, env: &Env, tick: u32, bytes: &mut [u8]) -> Decoded {
        let length = bytes.len();
        let mut feed = self.decoder.feed(bytes);
        let (mut close, mut message_bytes) = (None, 0);
        while !conn.queue.is_full()
            && message_bytes < DECODED_BYTES_MAX
            && let Some(incoming) = feed.next()
        {
            let incoming = match incoming {
                Ok(incoming) => incoming,
                Err(error) => {
                    // An earlier fault in the same bytes is the reason that the client is told.
                    if close.is_none() {
                        conn.fail(error.close_reason(), &error.to_string(), tick);
                    }
                    break;
                }
            };
            METRICS.frames_received.increment(1);
            message_bytes += match incoming {
                Incoming::Text(text) => text.len(),
                Incoming::Binary(bytes) => bytes.len(),
                _ => 0,
            };
            let ignored = !conn.is_open() || close.is_some();
            match incoming {
                Incoming::Close(code, _) => self.close_frame = Some(CloseFrame(code)),
                _ if ignored => {}
                incoming => close = take_frame(conn, env, tick, incoming).err(),
            }
        }
        let inflated = feed.inflated();
        let mut taken = feed.stop();
        if self.decoder.is_ended() {
            taken = length;
        }
        Decoded { taken, inflated, close }
    }
}

fn take_frame(conn: &mut Conn, env: &Env, tick: u32, incoming: Incoming<'_>) -> Result<(), Close> {
    match incoming {
        Incoming::Ping(payload) => {
            let pong = websocket::pong_frame(payload);
            conn.outbox.push_pong(pong, env.settings.outbox_bytes_soft());
        }
        Incoming::Pong(_) | Incoming::Close(..) => {}
        Incoming::Text(text) => match (&env.service, conn.framing.encoding()) {
            (Service::Echo, _) => conn.push(echo::text(text), Kind::Reply),
            (Service::Hub(_), Encoding::Json) => return take_request(conn, text.as_bytes()),
            (Service::Hub(_), Encoding::MsgPack) => {
                return Err(unsupported("text where MessagePack was agreed"));
            }
        },
        Incoming::Binary(bytes) => match (&env.service, conn.framing.encoding()) {
            (Service::Echo, _) => conn.push(echo::binary(bytes), Kind::Reply),
            (Service::Hub(_), Encoding::MsgPack) => return take_request(conn, bytes),
            (Service::Hub(_), Encoding::Json) => return Err(unsupported("binary where JSON was agreed")),
        },
    }
    conn.bound(&env.settings, tick);
    Ok(())
}

fn take_request(conn: &mut Conn, frame: &[u8]) -> Result<(), Close> {
    let request = protocol::decode(conn.framing.encoding(), frame)
        .map_err(|error| (CloseReason::NotAFrame, error.to_string()))?;
    conn.queue.push(request);
    Ok(())
}

fn unsupported(text: &str) -> Close {
    (CloseReason::Unsupported, text.to_owned())
}

#[cfg(test)]
mod tests {
    use starling_wire::websocket::deflate::{DeflateConfig, Deflater, negotiate};
    use starling_wire::websocket::payload_of;

    use super::super::fixture;
    use super::*;

    const MESSAGE_BYTES: usize = 64 * 1024;

    /// Masked by zeros, which leave the payload as it is.
    fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).expect("a short payload").to_be_bytes();
        [&[first, 0xfe][..], &length, &[0; 4], payload].concat()
    }

    #[tokio::test]
    async fn of_a_read_that_unpacks_to_much_a_part_is_taken_and_the_rest_waits() {
        let (params, _) =
            negotiate("permessage-deflate", DeflateConfig::default()).expect("what is offered is taken");
        let shard = fixture::shard_with(|config| {
            config.message_bytes_max = 2 * MESSAGE_BYTES as u32;
            config.bytes_per_second = 1_000;
        });
        let (key, mut reader, _near) = fixture::connect_with(&shard, Some(params));
        let message = protocol::frame(Encoding::Json, &vec![b'a'; MESSAGE_BYTES]);
        let packed = Deflater::new(params, 9).compress(&message);
        let one = client_frame(0xc1, payload_of(&packed));
        let mut input: BytesMut = one.repeat(400).as_slice().into();
        assert!(input.len() < SCRATCH_BYTES, "{} bytes are one read", input.len());

        let mut table = shard.table.borrow_mut();
        let conn = &mut table.conns[key as usize];
        let Decoded { taken, inflated, close } = reader.decode(conn, &shard.env, 0, &mut input);
        assert_eq!((taken, inflated, close), (one.len(), MESSAGE_BYTES, None));
        input.advance(taken);
        let mut parts = 1;
        let mut step = Step { env: &shard.env, table: &mut table, key };
        while !input.is_empty() {
            let taken = reader.take_input(&mut step, &mut input, 0);
            input.advance(taken);
            parts += 1;
            assert!(reader.paused.is_some(), "what was unpacked is counted, however little was read");
        }
        assert_eq!(parts, 400);
        assert!(table.conns[key as usize].is_open());
    }
}
