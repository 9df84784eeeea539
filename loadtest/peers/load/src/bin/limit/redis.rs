//! A connection to Redis that writes commands and reads messages, and nothing else.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail};
use starling_peers_load::poller::Poller;

/// A connection to Redis.
pub struct Redis {
    socket: TcpStream,
    out: Vec<u8>,
    unread: Vec<u8>,
    waits_to_write: bool,
}

impl Redis {
    pub fn connect(address: SocketAddr, poller: &Poller, key: usize) -> Result<Self> {
        let socket = TcpStream::connect(address).context("connect to Redis")?;
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        poller.add(&socket, key, false)?;
        Ok(Self { socket, out: Vec::new(), unread: Vec::new(), waits_to_write: false })
    }

    /// Adds a command to the next write.
    pub fn command(&mut self, words: &[&[u8]]) {
        // Writing to a vector can't fail.
        let _ = write!(self.out, "*{}\r\n", words.len());
        for word in words {
            let _ = write!(self.out, "${}\r\n", word.len());
            self.out.extend_from_slice(word);
            self.out.extend_from_slice(b"\r\n");
        }
    }

    /// Writes the commands.
    pub fn flush(&mut self, poller: &Poller, key: usize) -> Result<()> {
        while !self.out.is_empty() {
            match (&self.socket).write(&self.out) {
                Ok(written) => drop(self.out.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("write to Redis"),
            }
        }
        let waits = !self.out.is_empty();
        if waits != self.waits_to_write {
            poller.change(&self.socket, key, waits)?;
            self.waits_to_write = waits;
        }
        Ok(())
    }

    /// Reads replies that say nothing new.
    pub fn skip(&mut self, buffer: &mut [u8]) -> Result<()> {
        match (&self.socket).read(buffer) {
            Ok(0) => bail!("Redis has gone"),
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error).context("read from Redis"),
            _ => Ok(()),
        }
    }

    /// Calls `each` with the channel and the payload of every message that has come.
    pub fn messages(&mut self, buffer: &mut [u8], mut each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        match (&self.socket).read(buffer) {
            Ok(0) => bail!("Redis has gone"),
            Ok(read) => self.unread.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("read from Redis"),
        }
        let mut used = 0;
        while let Some((length, [kind, name, payload])) = push(&self.unread[used..]) {
            let words = &self.unread[used..];
            if &words[kind.0..kind.1] == b"message" {
                each(&words[name.0..name.1], &words[payload.0..payload.1]);
            }
            used += length;
        }
        self.unread.drain(..used);
        Ok(())
    }
}

/// Where a word begins and ends.
type Word = (usize, usize);

/// The length of the first push, and its three words; the third of a `subscribe` is a number, which counts as an empty word.
fn push(bytes: &[u8]) -> Option<(usize, [Word; 3])> {
    let mut at = memchr::memchr(b'\n', bytes)? + 1;
    let mut words = [(0, 0); 3];
    for word in &mut words {
        let end = at + memchr::memchr(b'\n', &bytes[at..])?;
        let head = bytes.get(at..end.checked_sub(1)?)?;
        at = end + 1;
        if let Some(digits) = head.strip_prefix(b"$") {
            let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
            *word = (at, at + length);
            at += length + 2;
            if bytes.len() < at {
                return None;
            }
        }
    }
    Some((at, words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_is_read_only_when_it_is_complete() {
        let subscribed = b"*3\r\n$9\r\nsubscribe\r\n$2\r\nr1\r\n:1\r\n";
        let message = b"*3\r\n$7\r\nmessage\r\n$2\r\nr1\r\n$4\r\na\r\nb\r\n";
        assert_eq!(push(subscribed).unwrap().0, subscribed.len());
        let (length, [kind, name, payload]) = push(message).unwrap();
        assert_eq!(length, message.len());
        let word = |(begin, end): Word| &message[begin..end];
        assert_eq!((word(kind), word(name), word(payload)), (&b"message"[..], &b"r1"[..], &b"a\r\nb"[..]));
        for cut in 0..message.len() {
            assert!(push(&message[..cut]).is_none(), "{cut}");
        }
    }
}
