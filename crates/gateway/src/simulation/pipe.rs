//! A client's end of a connection: WebSocket frames over a pipe inside the process.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::line::Power;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

/// A client's end of a connection.
pub struct Pipe {
    stream: DuplexStream,
    /// The life of the node. The connection ends when the node dies.
    node: Power,
    incoming: VecDeque<u8>,
    outgoing: VecDeque<u8>,
    /// The code with which the node closed the connection.
    pub close_code: Option<u16>,
}

impl Pipe {
    pub fn new(stream: DuplexStream, node: Power) -> Pipe {
        Pipe { stream, node, incoming: VecDeque::new(), outgoing: VecDeque::new(), close_code: None }
    }

    /// Queues a command. It is sent while [`Pipe::next`] waits.
    pub fn send(&mut self, command: &Value) {
        self.queue(TEXT, command.to_string().as_bytes());
    }

    /// Returns the next object that the node sends, and its length. `None`: the connection is closed. The future may be dropped; the next
    /// call continues.
    pub async fn next(&mut self) -> Option<(usize, Value)> {
        let node = self.node.clone();
        tokio::select! {
            biased;
            () = node.death() => None,
            frame = std::future::poll_fn(|cx| self.poll_next(cx)) => frame,
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(usize, Value)>> {
        loop {
            while let Some((opcode, payload)) = self.take_frame() {
                match opcode {
                    TEXT => {
                        let object = serde_json::from_slice(&payload).ok();
                        return Poll::Ready(object.map(|object| (payload.len(), object)));
                    }
                    PING => self.queue(PONG, &payload),
                    CLOSE => {
                        let code = payload.first_chunk().copied();
                        self.close_code = code.map(u16::from_be_bytes);
                        return Poll::Ready(None);
                    }
                    _ => {}
                }
            }
            while !self.outgoing.is_empty() {
                let (front, _) = self.outgoing.as_slices();
                match Pin::new(&mut self.stream).poll_write(cx, front) {
                    Poll::Ready(Ok(written)) => _ = self.outgoing.drain(..written),
                    Poll::Ready(Err(_)) => return Poll::Ready(None),
                    Poll::Pending => break,
                }
            }
            let mut space = [0; 4_096];
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => self.incoming.extend(buffer.filled()),
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Queues a masked frame, as clients must send it. The mask may be 0.
    fn queue(&mut self, opcode: u8, payload: &[u8]) {
        self.outgoing.push_back(FINAL | opcode);
        match u8::try_from(payload.len()) {
            Ok(length) if length < 126 => self.outgoing.push_back(MASKED | length),
            _ => {
                let length = u16::try_from(payload.len()).expect("simulated commands are short");
                self.outgoing.push_back(MASKED | 126);
                self.outgoing.extend(length.to_be_bytes());
            }
        }
        self.outgoing.extend([0; 4]);
        self.outgoing.extend(payload);
    }

    fn take_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let byte = |at: usize| self.incoming.get(at).copied();
        let (first, second) = (byte(0)?, byte(1)?);
        let extended = match second {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mut length = if extended == 0 { usize::from(second) } else { 0 };
        for at in 2..2 + extended {
            length = length << 8 | usize::from(byte(at)?);
        }
        let start = 2 + extended;
        if self.incoming.len() < start + length {
            return None;
        }
        self.incoming.drain(..start);
        Some((first & 0x0f, self.incoming.drain(..length).collect()))
    }
}
