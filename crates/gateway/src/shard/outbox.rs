//! Frames that wait to be written to a socket. They are finished, and shared with all other sockets that get them.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use bytes::Bytes;

use super::chunks::{Chunk, Chunks, Kind};
use super::socket::Socket;

/// Limit on the slices that one system call writes.
const SLICES_MAX: usize = 64;

/// Frames that wait to be written to a socket. An empty outbox owns no memory.
///
/// Pings and pongs go out before all chunks that have not been begun (RFC 6455, section 5.4, lets them come between any two frames): on a
/// slow line they would otherwise wait behind everything else.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    chunks: Chunks,
    /// Pings and pongs. `None` if there are none, as at almost all times.
    #[allow(
        clippy::box_collection,
        reason = "a connection has no room to spare for what it needs for a moment"
    )]
    control: Option<Box<VecDeque<Bytes>>>,
    /// Number of bytes that are written of the first chunk or, where `control_begun`, of the first control frame.
    written: usize,
    control_begun: bool,
    bytes: usize,
    /// Number of chunks that may be dropped. Where there are none, nothing has to look at each of thousands of replies.
    droppable: usize,
    /// Whether the socket was full when it was last written to.
    full: bool,
}

/// The outcome of a flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flushed {
    /// Number of bytes that the socket took.
    pub bytes: u64,
    /// Whether nothing is left.
    pub all: bool,
    /// Whether the socket was full before, so that the peer has read some of what it held.
    pub moved: bool,
}

impl Outbox {
    /// Number of bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.control_is_empty()
    }

    /// Whether something waits because the socket takes no more for now.
    pub fn is_stalled(&self) -> bool {
        self.full && !self.is_empty()
    }

    /// All bytes that wait, in order.
    #[cfg(test)]
    pub fn waiting(&self) -> Vec<u8> {
        self.in_order().flat_map(|bytes| bytes.iter().copied()).skip(self.written).collect()
    }

    /// Appends finished frames.
    pub fn push(&mut self, bytes: Bytes, kind: Kind) {
        self.bytes += bytes.len();
        self.droppable += usize::from(kind != Kind::Reply);
        self.chunks.push(Chunk { bytes, kind });
    }

    /// Adds a ping, unless an earlier one still waits.
    pub fn push_ping(&mut self, ping: Bytes) {
        if !self.control_not_begun().any(|frame| frame.first() == ping.first()) {
            self.push_control(ping);
        }
    }

    /// Adds a pong. Where more than `bytes_max` wait and the last control frame is a pong, too, it replaces that one: of several pings
    /// only the newest has to be answered (RFC 6455, section 5.5.3).
    pub fn push_pong(&mut self, pong: Bytes, bytes_max: usize) {
        if self.bytes > bytes_max
            && self.control_not_begun().next_back().is_some_and(|last| last.first() == pong.first())
            && let Some(last) = self.control.as_mut().and_then(|control| control.back_mut())
        {
            self.bytes = self.bytes - last.len() + pong.len();
            *last = pong;
            return;
        }
        self.push_control(pong);
    }

    fn push_control(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.control.get_or_insert_default().push_back(frame);
    }

    fn control_is_empty(&self) -> bool {
        self.control.as_ref().is_none_or(|control| control.is_empty())
    }

    fn control_frames(&self) -> std::collections::vec_deque::Iter<'_, Bytes> {
        self.control.as_deref().map(VecDeque::iter).unwrap_or_default()
    }

    fn control_not_begun(&self) -> impl DoubleEndedIterator<Item = &Bytes> {
        self.control_frames().skip(usize::from(self.control_begun && self.written > 0))
    }

    /// Separates a subscription's chunks from it, since another subscription may get its slot.
    pub fn disown(&mut self, of: usize) {
        for chunk in self.chunks.iter_mut() {
            if matches!(chunk.kind, Kind::Durable { sub, .. } if sub == of) {
                chunk.kind = Kind::Ephemeral;
            }
        }
    }

    /// Drops the chunks for which `drops` holds, except one that is partly written. Returns the number of bytes that were dropped.
    pub fn drop_chunks(&mut self, mut drops: impl FnMut(Kind) -> bool) -> usize {
        let before = self.bytes;
        let begun = self.chunk_begun();
        let (mut index, mut freed, mut droppable) = (0, 0, 0);
        self.chunks.retain(|chunk| {
            let keep = (index == 0 && begun) || !drops(chunk.kind);
            index += 1;
            if keep {
                droppable += usize::from(chunk.kind != Kind::Reply);
            } else {
                freed += chunk.bytes.len();
            }
            keep
        });
        self.bytes = before - freed;
        self.droppable = droppable;
        freed
    }

    /// Whether any chunk may be dropped, apart from one that is partly written. Costs nothing, unlike [`drop_chunks`](Self::drop_chunks),
    /// so that each ping of a flood may ask.
    pub fn may_drop(&self) -> bool {
        let begun = self.chunk_begun() && self.chunks.front().is_some_and(|chunk| chunk.kind != Kind::Reply);
        self.droppable > usize::from(begun)
    }

    /// Writes as much as the socket takes. Where that is not all, the task of `cx` is woken when it takes more.
    pub fn flush(&mut self, socket: &mut Socket, cx: &mut Context<'_>) -> io::Result<Flushed> {
        let mut flushed = Flushed::default();
        while !self.is_empty() {
            // A delivery is one piece, as a rule, and needs no list of slices.
            let polled = match self.only_chunk() {
                Some(bytes) => socket.poll_write(cx, &[IoSlice::new(bytes)]),
                None => self.poll_write(socket, cx),
            };
            match polled {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => {
                    flushed.moved |= std::mem::take(&mut self.full);
                    flushed.bytes += written as u64;
                    self.wrote(written);
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.full = true;
                    return Ok(flushed);
                }
            }
        }
        flushed.all = match socket.poll_flush(cx) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => false,
        };
        Ok(flushed)
    }

    /// Writes as many slices as one system call takes.
    fn poll_write(&self, socket: &mut Socket, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        for (slice, bytes) in slices.iter_mut().zip(self.in_order()) {
            let from = if count == 0 { self.written } else { 0 };
            *slice = IoSlice::new(&bytes[from..]);
            count += 1;
        }
        socket.poll_write(cx, &slices[..count])
    }

    /// What is left of the only chunk, if there is one and no control frame.
    fn only_chunk(&self) -> Option<&[u8]> {
        match &self.chunks {
            Chunks::One(chunk) if self.control_is_empty() => Some(&chunk.bytes[self.written..]),
            _ => None,
        }
    }

    /// The waiting frames in the order in which they go out. One that is partly written is first.
    fn in_order(&self) -> impl Iterator<Item = &Bytes> {
        let begun = usize::from(self.chunk_begun());
        let chunks = || self.chunks.iter().map(|chunk| &chunk.bytes);
        chunks().take(begun).chain(self.control_frames()).chain(chunks().skip(begun))
    }

    fn chunk_begun(&self) -> bool {
        self.written > 0 && !self.control_begun
    }

    fn wrote(&mut self, mut written: usize) {
        if self.only_chunk().is_some_and(|left| left.len() == written) {
            *self = Outbox { full: self.full, ..Outbox::default() };
            return;
        }
        self.bytes -= written;
        let mut chunk_is_next = self.chunk_begun() || self.control_is_empty();
        written += self.written;
        self.written = 0;
        loop {
            let first = match chunk_is_next {
                true => self.chunks.front().map(|chunk| chunk.bytes.len()),
                false => self.control_frames().next().map(Bytes::len),
            };
            let Some(length) = first else { break };
            if written < length {
                (self.written, self.control_begun) = (written, !chunk_is_next);
                return;
            }
            written -= length;
            if chunk_is_next {
                let chunk = self.chunks.pop_front();
                self.droppable -= usize::from(chunk.is_some_and(|chunk| chunk.kind != Kind::Reply));
            } else if let Some(control) = &mut self.control {
                control.pop_front();
            }
            chunk_is_next = self.control_is_empty();
        }
        // An idle socket owns no buffer.
        (self.chunks, self.control) = (Chunks::None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Outbox {
        let mut outbox = Outbox::default();
        outbox.push(Bytes::from_static(b"reply"), Kind::Reply);
        outbox.push(Bytes::from_static(b"message"), Kind::Durable { sub: 0, first: 7 });
        outbox.push(Bytes::from_static(b"typing"), Kind::Ephemeral);
        outbox
    }

    #[test]
    fn only_what_may_be_dropped_is() {
        let mut outbox = filled();
        assert_eq!(outbox.drop_chunks(|kind| kind == Kind::Ephemeral), 6);
        assert_eq!(outbox.bytes(), 12);
        assert_eq!(outbox.drop_chunks(|kind| kind != Kind::Reply), 7);
        assert_eq!(outbox.bytes(), 5);
    }

    #[test]
    fn where_nothing_may_be_dropped_that_is_known_without_a_look() {
        let mut outbox = filled();
        assert!(outbox.may_drop());
        outbox.wrote(6);
        assert!(outbox.may_drop(), "behind the message that is half written something may be lost");
        outbox.drop_chunks(|kind| kind == Kind::Ephemeral);
        assert!(!outbox.may_drop(), "what is half written has to be finished");
        outbox.push(Bytes::from_static(b"pong"), Kind::Reply);
        assert!(!outbox.may_drop());
        outbox.wrote(6);
        assert!(!outbox.may_drop());
        outbox.push(Bytes::from_static(b"typing"), Kind::Ephemeral);
        assert!(outbox.may_drop());
        outbox.wrote(10);
        assert!(!outbox.may_drop() && outbox.is_empty());
    }

    #[test]
    fn pongs_that_nobody_reads_take_each_others_place() {
        let pong = |byte: u8| Bytes::from(vec![0x8a, 1, byte]);
        let mut outbox = filled();
        for byte in 0..10 {
            outbox.push_pong(pong(byte), 24);
        }
        // 18 bytes waited, so that three were answered before it was too much.
        assert_eq!((outbox.bytes(), outbox.control_frames().len()), (27, 3));
        assert_eq!(outbox.control_frames().next_back(), Some(&pong(9)));
        // One that is half written is finished, and so is the rest of what has been begun.
        outbox.wrote(8);
        outbox.push_pong(pong(10), 0);
        assert_eq!(outbox.waiting(), [&[9][..], &pong(10), b"replymessagetyping"].concat());
    }

    #[test]
    fn pings_and_pongs_go_between_frames_and_before_all_that_waits() {
        let pong = Bytes::from_static(b"pong");
        let mut outbox = filled();
        outbox.push_pong(pong.clone(), 0);
        assert_eq!(outbox.waiting(), b"pongreplymessagetyping");
        outbox.wrote(6);
        outbox.push_pong(pong.clone(), 100);
        assert_eq!(
            outbox.waiting(),
            b"plypongmessagetyping",
            "a frame that has been begun is not cut in two"
        );
        assert!(outbox.may_drop());
        outbox.wrote(5);
        assert_eq!(outbox.drop_chunks(|_| true), 13, "nothing but the pong has been begun");
        assert_eq!((outbox.waiting(), outbox.bytes()), (b"ng".to_vec(), 2));
        outbox.wrote(2);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_ping_that_waits_is_enough() {
        let ping = Bytes::from_static(b"\x89\0");
        let mut outbox = filled();
        outbox.push_ping(ping.clone());
        outbox.push_ping(ping.clone());
        assert_eq!(outbox.bytes(), 20);
        outbox.wrote(1);
        outbox.push_ping(ping);
        assert_eq!(outbox.waiting(), b"\0\x89\0replymessagetyping");
    }

    #[tokio::test]
    async fn who_takes_some_of_what_filled_the_socket_has_moved() {
        let (far, mut near) = tokio::io::duplex(8);
        let mut socket = Socket::Memory(far);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut outbox = filled();
        let flushed = outbox.flush(&mut socket, &mut cx).unwrap();
        assert_eq!(
            flushed,
            Flushed { bytes: 8, all: false, moved: false },
            "that much anybody's kernel takes"
        );
        assert!(outbox.is_stalled());
        assert_eq!(outbox.flush(&mut socket, &mut cx).unwrap(), Flushed::default());
        let mut some = [0; 3];
        tokio::io::AsyncReadExt::read_exact(&mut near, &mut some).await.unwrap();
        let flushed = outbox.flush(&mut socket, &mut cx).unwrap();
        assert_eq!(flushed, Flushed { bytes: 3, all: false, moved: true });
    }

    #[test]
    fn a_chunk_that_is_half_written_stays() {
        let mut outbox = filled();
        outbox.wrote(7);
        assert_eq!(outbox.drop_chunks(|_| true), 6);
        assert_eq!(outbox.bytes(), 5);
        outbox.wrote(5);
        assert!(outbox.is_empty());
        assert_eq!(outbox.bytes(), 0);
    }
}
