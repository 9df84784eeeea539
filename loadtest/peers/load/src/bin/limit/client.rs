//! A client of the limit program.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use starling_peers_load::poller::Poller;

/// What a server adds to a client's key before it hashes it (RFC 6455, 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes that may wait for a client.
const WAITING_MAX: usize = 1 << 20;

/// A client. While it is idle it owns no buffer.
pub struct Client {
    socket: TcpStream,
    /// Whether the upgrade is done.
    pub is_open: bool,
    /// The rooms that it is in.
    pub rooms: Vec<usize>,
    /// Bytes that wait for the socket.
    pub out: Vec<u8>,
    unread: Vec<u8>,
    waits_to_write: bool,
}

impl Client {
    pub fn new(socket: TcpStream, poller: &Poller, key: usize) -> Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        poller.add(&socket, key, false)?;
        let (out, unread) = (Vec::new(), Vec::new());
        Ok(Self { socket, is_open: false, rooms: Vec::new(), out, unread, waits_to_write: false })
    }

    /// Reads into a buffer, behind what was kept. Returns how many bytes there are: none when nothing has come, 0 at the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let kept = self.unread.len();
        if kept >= buffer.len() {
            return Some(0);
        }
        match (&self.socket).read(&mut buffer[kept..]) {
            Ok(0) => Some(0),
            Ok(read) => {
                buffer[..kept].copy_from_slice(&self.unread);
                self.unread = Vec::new();
                Some(kept + read)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => None,
            Err(_) => Some(0),
        }
    }

    /// Keeps the beginning of something until the rest comes.
    pub fn keep(&mut self, bytes: &[u8]) {
        self.unread = bytes.to_vec();
    }

    /// Answers an upgrade. Returns whether it was one.
    pub fn upgrade(&mut self, request: &[u8]) -> bool {
        let text = String::from_utf8_lossy(request);
        let key = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
        });
        let Some(key) = key else { return false };
        let accept = STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        self.out.extend_from_slice(answer.as_bytes());
        self.is_open = true;
        true
    }

    /// Writes bytes behind those that wait. Returns whether the client stays.
    pub fn write(&mut self, bytes: &[u8], poller: &Poller, key: usize) -> Result<bool> {
        if !self.out.is_empty() {
            self.out.extend_from_slice(bytes);
            return Ok(self.out.len() <= WAITING_MAX);
        }
        match (&self.socket).write(bytes) {
            Ok(written) if written == bytes.len() => return Ok(true),
            Ok(written) => self.out.extend_from_slice(&bytes[written..]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.out.extend_from_slice(bytes),
            Err(_) => return Ok(false),
        }
        self.flush(poller, key)
    }

    /// Writes what waits, as far as the socket takes it. Returns whether the client is still there.
    pub fn flush(&mut self, poller: &Poller, key: usize) -> Result<bool> {
        while !self.out.is_empty() {
            match (&self.socket).write(&self.out) {
                Ok(written) => drop(self.out.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Ok(false),
            }
        }
        if self.out.is_empty() {
            self.out = Vec::new();
        }
        let waits = !self.out.is_empty();
        if waits != self.waits_to_write {
            poller.change(&self.socket, key, waits)?;
            self.waits_to_write = waits;
        }
        Ok(true)
    }
}
