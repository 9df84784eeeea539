//! Moves bytes between a session and its connection.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep, timeout};

use super::connecting::within;
use super::hearing::error_code;
use super::{Ended, Instruction, Session};
use crate::client::frames::{self, Frames, Opcode};
use crate::client::stream::Stream;

/// Reads of one connection before others get their turn.
const READS_PER_TURN: usize = 16;
/// How often a slow reader reads.
const SLOW_READ: Duration = Duration::from_millis(100);

/// An open connection.
pub(super) struct Connection {
    stream: Stream,
    pub(super) frames: Frames,
    pub(super) mask: [u8; 4],
    pause: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    /// Makes a connection on which no frame has been read.
    pub fn new(stream: Stream) -> Connection {
        Connection { stream, frames: Frames::default(), mask: rand::random(), pause: None }
    }
}

impl Session {
    /// Serves the connection until it ends or the session is told to do something else.
    pub(super) async fn serve(&self, connection: &mut Connection) -> Ended {
        let told = |session: &Self| {
            Some(session.instruction.get()).filter(|instruction| *instruction != Instruction::Stay)
        };
        let driven = self.drive(connection, told).await;
        self.line.borrow_mut().attached = false;
        match driven {
            Ok(instruction) => Ended::AsTold(instruction),
            Err(error) => Ended::Unexpectedly(error),
        }
    }

    /// Closes the connection properly.
    pub(super) async fn leave(&self, mut connection: Connection) {
        let code = 1000_u16.to_be_bytes();
        frames::write(&mut self.line.borrow_mut().out, Opcode::Close, connection.mask, &code);
        let _ = timeout(Duration::from_secs(5), self.drive(&mut connection, |_| None::<()>)).await;
    }

    /// Sends a command and waits for its reply.
    pub(super) async fn request(&self, connection: &mut Connection, mut command: Value) -> Result<Value> {
        {
            let mut line = self.line.borrow_mut();
            let id = line.id();
            command["id"] = json!(id);
            line.awaited = Some(id);
            let bytes = self.place.encoding.write(&command)?;
            frames::write(&mut line.out, self.place.encoding.opcode(), connection.mask, &bytes);
        }
        let reply = async { self.drive(connection, |session| session.line.borrow_mut().reply.take()).await };
        let mut reply = within("wait for the reply", reply).await?;
        match reply.get_mut("ok") {
            Some(ok) => Ok(ok.take()),
            None => bail!("{}", error_code(&reply)),
        }
    }

    /// Reads and writes until `done` returns something or the connection ends.
    pub(super) fn drive<'a, T>(
        &'a self,
        connection: &'a mut Connection,
        mut done: impl FnMut(&Self) -> Option<T> + 'a,
    ) -> impl Future<Output = Result<T>> + 'a {
        poll_fn(move |cx| {
            self.line.borrow_mut().waker = Some(cx.waker().clone());
            if let Err(error) = self.flush(connection, cx) {
                return Poll::Ready(Err(error));
            }
            let read = self.read(connection, cx);
            if let Some(value) = done(self) {
                return Poll::Ready(Ok(value));
            }
            match read {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            }
        })
    }

    fn flush(&self, connection: &mut Connection, cx: &mut TaskContext<'_>) -> Result<()> {
        let mut line = self.line.borrow_mut();
        while !line.out.is_empty() {
            match Pin::new(&mut connection.stream).poll_write(cx, &line.out) {
                Poll::Ready(written) => drop(line.out.drain(..written?)),
                Poll::Pending => return Ok(()),
            }
        }
        // An idle session keeps no buffer.
        line.out = Vec::new();
        let _ = Pin::new(&mut connection.stream).poll_flush(cx)?;
        Ok(())
    }

    fn read(&self, connection: &mut Connection, cx: &mut TaskContext<'_>) -> Result<()> {
        let mut buffer = self.thread.buffer();
        for _ in 0..READS_PER_TURN {
            let most = match self.pause(connection, cx) {
                Some(0) => return Ok(()),
                Some(bytes) => bytes.min(buffer.len()),
                None => buffer.len(),
            };
            let mut into = ReadBuf::new(&mut buffer[..most]);
            match Pin::new(&mut connection.stream).poll_read(cx, &mut into) {
                Poll::Pending => return Ok(()),
                Poll::Ready(read) => read?,
            }
            let read = into.filled().len();
            if read == 0 {
                bail!("the node closed the connection");
            }
            self.receive(connection, &buffer[..read])?;
            if self.place.slow.is_some() {
                connection.pause = Some(Box::pin(sleep(SLOW_READ)));
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// How many bytes a slow reader may read now; nothing for others.
    fn pause(&self, connection: &mut Connection, cx: &mut TaskContext<'_>) -> Option<usize> {
        let rate = self.place.slow?;
        if let Some(pause) = &mut connection.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return Some(0);
            }
            connection.pause = None;
        }
        Some((rate as usize / 10).max(1))
    }
}
