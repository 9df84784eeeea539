//! Connections whose bytes the test chooses, from any loopback address.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use starling_testkit::node::Node;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::SOON;

/// First byte of a frame.
pub const FIN: u8 = 0x80;
pub const COMPRESSED: u8 = 0x40;
pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;

/// Connects from 127.0.0.`last`.
pub async fn connect_from(node: &Node, last: u8) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)))?;
    socket.connect(node.address()).await
}

/// Sends a request unchanged and reads the response to its end.
pub async fn exchange(node: &Node, request: impl AsRef<[u8]>) -> String {
    let mut stream = connect_from(node, 1).await.unwrap();
    // A node may refuse a request without reading all of it.
    let _ = timeout(SOON, stream.write_all(request.as_ref())).await.expect("the node reads or hangs up");
    let mut answer = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.expect("the node ends the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Returns the status of a response, which must be a single one.
#[track_caller]
pub fn status(answer: &str) -> u16 {
    let status =
        answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|text| text.parse().ok());
    status.unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

/// WebSocket whose frames the test builds.
pub struct Raw {
    pub stream: TcpStream,
}

impl Raw {
    /// Opens a WebSocket with these additional headers.
    pub async fn open(node: &Node, more: &str) -> Self {
        Self::upgrade(connect_from(node, 1).await.unwrap(), node, more).await
    }

    /// Opens a WebSocket on an existing connection.
    pub async fn upgrade(mut stream: TcpStream, node: &Node, more: &str) -> Self {
        let request = format!(
            "GET /v1/ws HTTP/1.1\r\nhost: {}\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n",
            node.address()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(SOON, stream.read_u8()).await.unwrap().unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Self { stream }
    }

    /// Opens a WebSocket and sends `connect`.
    pub async fn connected(node: &Node, user: &str, more: &str) -> Self {
        let mut raw = Self::open(node, more).await;
        let connect = format!(r#"{{"id":1,"op":"connect","token":"{}"}}"#, node.token(user));
        raw.send(&frame(FIN | TEXT, connect.as_bytes())).await.unwrap();
        raw.next().await.expect("the reply");
        raw
    }

    /// Sends bytes and waits until the kernel has accepted them.
    pub async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        timeout(SOON, self.stream.write_all(bytes)).await?
    }

    /// Sends bytes; returns whether they were accepted within `limit`.
    pub async fn send_within(&mut self, bytes: &[u8], limit: Duration) -> bool {
        matches!(timeout(limit, self.stream.write_all(bytes)).await, Ok(Ok(())))
    }

    /// Returns the code of the close frame; `None` if the connection ends without one.
    pub async fn close_code(&mut self) -> Option<u16> {
        while let Ok((opcode, payload)) = self.next().await {
            if opcode == CLOSE {
                return payload.first_chunk().map(|code| u16::from_be_bytes(*code));
            }
        }
        None
    }

    /// Returns the next frame.
    pub async fn next(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        timeout(SOON, self.read()).await.expect("a frame, or the end")
    }

    async fn read(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        let first = self.stream.read_u8().await?;
        let length = match self.stream.read_u8().await? {
            126 => u64::from(self.stream.read_u16().await?),
            127 => self.stream.read_u64().await?,
            length => u64::from(length),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).await?;
        Ok((first & 0x0f, payload))
    }
}

/// Returns a frame that is masked with zeros, which change nothing.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length @ 126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}
