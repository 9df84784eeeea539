//! What waits to be written to a socket: finished frames, shared with all other sockets that get them.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use bytes::Bytes;

use super::socket::Socket;

/// How many slices one system call takes.
const SLICES_MAX: usize = 64;

/// Why a chunk is there, and so what may become of it when the socket is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A reply or a control frame: never dropped.
    Reply,
    /// Messages of a conversation from this number on: the log has them.
    Durable {
        /// The place among the connection's subscriptions.
        sub: usize,
        /// The first number.
        first: u64,
    },
    /// May be lost.
    Ephemeral,
}

#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    kind: Kind,
}

/// What waits to be written to a socket. Owns nothing when it is empty.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    chunks: VecDeque<Chunk>,
    /// How much of the first chunk is written.
    written: usize,
    bytes: usize,
    /// How many chunks may be dropped. Where there are none, nobody has to look at each of thousands of replies.
    droppable: usize,
}

impl Outbox {
    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// All bytes that wait, in order.
    #[cfg(test)]
    pub fn waiting(&self) -> Vec<u8> {
        self.chunks.iter().flat_map(|chunk| chunk.bytes.iter().copied()).skip(self.written).collect()
    }

    /// Puts finished frames at the end.
    pub fn push(&mut self, bytes: Bytes, kind: Kind) {
        self.bytes += bytes.len();
        self.droppable += usize::from(kind != Kind::Reply);
        self.chunks.push_back(Chunk { bytes, kind });
    }

    /// Puts the answer to a ping at the end. Where more waits than `bytes_max` and the last chunk is such an answer, too, it takes
    /// that one's place: of several pings only the newest has to be answered (RFC 6455, section 5.5.3).
    pub fn push_pong(&mut self, pong: Bytes, bytes_max: usize) {
        if self.bytes > bytes_max
            && (self.chunks.len() > 1 || self.written == 0)
            && let Some(last) = self.chunks.back_mut()
            && last.kind == Kind::Reply
            && last.bytes.first() == pong.first()
        {
            self.bytes = self.bytes - last.bytes.len() + pong.len();
            last.bytes = pong;
            return;
        }
        self.push(pong, Kind::Reply);
    }

    /// Lets go of a subscription's chunks, since its place may be another's from now on.
    pub fn disown(&mut self, of: usize) {
        for chunk in &mut self.chunks {
            if matches!(chunk.kind, Kind::Durable { sub, .. } if sub == of) {
                chunk.kind = Kind::Ephemeral;
            }
        }
    }

    /// Takes out what `drops` names, but for a chunk of which a part is written. Answers how many bytes went.
    pub fn drop_chunks(&mut self, mut drops: impl FnMut(Kind) -> bool) -> usize {
        let before = self.bytes;
        let begun = self.written > 0;
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

    /// Whether something waits that is no reply, apart from a chunk of which a part is written. Costs nothing, unlike
    /// [`drop_chunks`](Self::drop_chunks), which a flood of pings must not cause for each of them.
    pub fn may_drop(&self) -> bool {
        let begun = self.chunks.front().is_some_and(|chunk| self.written > 0 && chunk.kind != Kind::Reply);
        self.droppable > usize::from(begun)
    }

    /// Writes what the socket takes. `Ready`: all of it. `Pending`: the socket is full, and the task of `cx` is woken when it takes more.
    pub fn poll_flush(&mut self, socket: &mut Socket, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let mut total = 0;
        while !self.chunks.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let mut count = 0;
            for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
                let from = if count == 0 { self.written } else { 0 };
                *slice = IoSlice::new(&chunk.bytes[from..]);
                count += 1;
            }
            match socket.poll_write(cx, &slices[..count]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    total += written as u64;
                    self.wrote(written);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        match socket.poll_flush(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(total)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn wrote(&mut self, mut written: usize) {
        self.bytes -= written;
        written += self.written;
        self.written = 0;
        while let Some(chunk) = self.chunks.front() {
            if written < chunk.bytes.len() {
                self.written = written;
                return;
            }
            written -= chunk.bytes.len();
            self.droppable -= usize::from(chunk.kind != Kind::Reply);
            self.chunks.pop_front();
        }
        // An idle socket owns no buffer.
        self.chunks = VecDeque::new();
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
        // 18 bytes waited, so that two were answered before it was too much.
        assert_eq!((outbox.bytes(), outbox.chunks.len()), (27, 6));
        assert_eq!(outbox.chunks.back().map(|chunk| chunk.bytes.clone()), Some(pong(9)));
        // Behind something else there is a new one, and one that is half written is finished.
        outbox.push(Bytes::from_static(b"reply"), Kind::Reply);
        outbox.push_pong(pong(10), 24);
        outbox.wrote(33);
        outbox.push_pong(pong(11), 0);
        assert_eq!((outbox.bytes(), outbox.chunks.len()), (5, 2));
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
