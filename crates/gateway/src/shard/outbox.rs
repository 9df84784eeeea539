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

    /// Puts finished frames at the end.
    pub fn push(&mut self, bytes: Bytes, kind: Kind) {
        self.bytes += bytes.len();
        self.chunks.push_back(Chunk { bytes, kind });
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
        let (mut index, mut freed) = (0, 0);
        self.chunks.retain(|chunk| {
            let keep = (index == 0 && begun) || !drops(chunk.kind);
            index += 1;
            if !keep {
                freed += chunk.bytes.len();
            }
            keep
        });
        self.bytes = before - freed;
        freed
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
