//! Connection with handwritten bytes, for frames that no client library would send.

use std::time::Duration;

use starling_testkit::node::Node;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(20);
const MASK: [u8; 4] = [0x5a, 0x13, 0xc7, 0x2e];

/// First byte of a frame.
pub const FIN: u8 = 0x80;
pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xa;

pub struct Raw {
    stream: TcpStream,
}

impl Raw {
    /// A WebSocket after its handshake.
    pub async fn open(node: &Node, subprotocol: &str) -> Self {
        let mut stream = TcpStream::connect(node.address()).await.unwrap();
        let request = format!(
            "GET /v1/ws HTTP/1.1\r\nhost: {}\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-protocol: {subprotocol}\r\n\r\n",
            node.address()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(LIMIT, stream.read_u8()).await.unwrap().unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        // The example of RFC 6455, section 1.3.
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        Self { stream }
    }

    /// Sends a masked frame with this first byte.
    pub async fn frame(&mut self, first: u8, payload: &[u8]) {
        let mut bytes = head(first, payload.len(), 0x80);
        bytes.extend(MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.bytes(&bytes).await;
    }

    /// Sends a frame that is not masked.
    pub async fn unmasked(&mut self, first: u8, payload: &[u8]) {
        let mut bytes = head(first, payload.len(), 0);
        bytes.extend(payload);
        self.bytes(&bytes).await;
    }

    /// Sends any bytes. Ignores errors: the node may have closed, and only what it sent before matters.
    pub async fn bytes(&mut self, bytes: &[u8]) {
        let _ = timeout(LIMIT, self.stream.write_all(bytes)).await.unwrap();
    }

    /// Returns the opcode and payload of the node's next frame.
    pub async fn next(&mut self) -> (u8, Vec<u8>) {
        timeout(LIMIT, self.read()).await.expect("no frame in time").expect("a frame")
    }

    /// Returns the code of the close frame and skips the frames before it.
    pub async fn close_code(&mut self) -> u16 {
        loop {
            if let (CLOSE, payload) = self.next().await {
                return u16::from_be_bytes([payload[0], payload[1]]);
            }
        }
    }

    /// Waits until the node has closed the connection.
    pub async fn hung_up(&mut self) {
        while timeout(LIMIT, self.read()).await.expect("the node did not hang up").is_ok() {}
    }

    async fn read(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        let first = self.stream.read_u8().await?;
        assert_eq!(first & 0x70, 0, "reserved bits of a frame are set");
        let length = match self.stream.read_u8().await? {
            126 => u64::from(self.stream.read_u16().await?),
            127 => self.stream.read_u64().await?,
            masked @ 128.. => panic!("a node masks its frames: {masked}"),
            length => u64::from(length),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).await?;
        Ok((first & 0x0f, payload))
    }
}

fn head(first: u8, length: usize, mask_bit: u8) -> Vec<u8> {
    let mut head = vec![first];
    match length {
        0..126 => head.push(mask_bit | length as u8),
        126..65_536 => {
            head.push(mask_bit | 126);
            head.extend((length as u16).to_be_bytes());
        }
        _ => {
            head.push(mask_bit | 127);
            head.extend((length as u64).to_be_bytes());
        }
    }
    head
}
