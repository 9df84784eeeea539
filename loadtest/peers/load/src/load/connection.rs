//! One connection of the generator.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Socket, Type};

use crate::dialect::{Client, Dialect, Role};
use crate::poller::Poller;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// TCP connects.
    Opening,
    /// The upgrade was sent.
    Upgrading,
    /// The dialect gets it ready.
    Preparing,
    /// It may send and receive.
    Ready,
    /// It has ended.
    Gone,
}

/// Who a connection is, and where.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The index of its node.
    pub node: usize,
    /// What it does.
    pub role: Role,
    /// Its room.
    pub room: usize,
    /// The number of its user.
    pub user: usize,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    /// How far it is.
    pub state: State,
    /// Who it is.
    pub place: Place,
    /// Steps of the dialect that it has taken.
    pub stage: u8,
    /// Bytes of a frame that is not complete.
    pub unread: Vec<u8>,
    /// The end of a frame in which a marker may begin that the next one completes.
    pub tail: Vec<u8>,
    /// Bytes to send.
    pub out: Vec<u8>,
    waits_to_write: bool,
}

impl Connection {
    /// Begins to connect from one of several addresses of the loopback.
    ///
    /// # Errors
    /// When the node is not on the loopback, or the system has no more ports or files.
    pub fn open(place: Place, node: SocketAddr, source: u8, poller: &Poller, key: usize) -> Result<Self> {
        ensure!(node.ip().is_loopback(), "{node}: only servers on the loopback are measured");
        let socket =
            Socket::new(Domain::IPV4, Type::STREAM.nonblocking().cloexec(), None).context("a socket")?;
        socket.set_tcp_nodelay(true)?;
        if source > 0 {
            let source = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 1 + source), 0));
            socket.bind(&source.into()).with_context(|| format!("connect from {source}"))?;
        }
        match socket.connect(&node.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error).with_context(|| format!("connect to {node}")),
        }
        let socket: TcpStream = socket.into();
        poller.add(&socket, key, true)?;
        Ok(Self {
            socket,
            state: State::Opening,
            place,
            stage: 0,
            unread: Vec::new(),
            tail: Vec::new(),
            out: Vec::new(),
            waits_to_write: true,
        })
    }

    /// It as its dialect sees it.
    pub fn client<'a>(&self, token: &'a str) -> Client<'a> {
        Client { role: self.place.role, room: self.place.room, token, stage: self.stage }
    }

    /// Writes the upgrade.
    pub fn upgrade(&mut self, dialect: Dialect, node: SocketAddr) {
        let path = dialect.path(self.place.role, self.place.room);
        let protocol =
            dialect.subprotocol().map_or(String::new(), |name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {node}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{protocol}\r\n"
        );
        self.out.extend_from_slice(request.as_bytes());
        self.state = State::Upgrading;
    }

    /// Reads into a buffer. Returns nothing when there is nothing, and 0 bytes at the end.
    pub fn read(&self, buffer: &mut [u8]) -> Option<usize> {
        match (&self.socket).read(buffer) {
            Ok(read) => Some(read),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => None,
            Err(_) => Some(0),
        }
    }

    /// Sends what waits, as far as the socket takes it. Returns whether the connection is still there.
    ///
    /// # Errors
    /// When the system refuses to wait for the socket.
    pub fn flush(&mut self, poller: &Poller, key: usize) -> Result<bool> {
        while !self.out.is_empty() {
            match (&self.socket).write(&self.out) {
                Ok(written) => drop(self.out.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Ok(false),
            }
        }
        let waits = !self.out.is_empty();
        if waits != self.waits_to_write {
            poller.change(&self.socket, key, waits)?;
            self.waits_to_write = waits;
        }
        Ok(true)
    }

    /// Ends it.
    pub fn close(&mut self, poller: &Poller) {
        self.state = State::Gone;
        poller.remove(&self.socket);
        // The other side may have ended it already.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}
