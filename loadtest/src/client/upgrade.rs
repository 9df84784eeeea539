//! The HTTP requests of a client: the upgrade to WebSocket, and the removal of a conversation at the end.

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::encoding::Encoding;
use super::stream::Stream;
use super::{Address, Sources};

/// The longest head of a response.
const HEAD_MAX: usize = 16 * 1024;

/// A handshake that the node refused.
#[derive(Debug)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// The seconds of `Retry-After`, if the response has them.
    pub retry_after: Option<u64>,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "the handshake was refused with HTTP {}", self.status)
    }
}

impl std::error::Error for Refused {}

/// Upgrades a connection. Returns what the node sent behind the response.
///
/// # Errors
/// [`Refused`] when the answer is not 101, another error when the connection breaks.
pub async fn upgrade(stream: &mut Stream, address: &Address, encoding: Encoding) -> Result<Vec<u8>> {
    let key = STANDARD.encode(rand::random::<[u8; 16]>());
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {}\r\n\r\n",
        address.path(),
        address.authority(),
        encoding.subprotocol()
    );
    stream.write_all(request.as_bytes()).await.context("send the handshake")?;
    let (head, rest) = response(stream).await?;
    if head.status != 101 {
        return Err(head.into());
    }
    Ok(rest)
}

/// Deletes a conversation.
///
/// # Errors
/// When the node does not answer, or with another status than 204.
pub async fn delete(
    address: &Address,
    session: usize,
    sources: &Sources,
    token: &str,
    room: &str,
) -> Result<()> {
    let mut stream = address.open(session, sources).await?;
    let request = format!(
        "DELETE /v1/conversations/{room} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\
         Connection: close\r\nContent-Length: 0\r\n\r\n",
        address.authority()
    );
    stream.write_all(request.as_bytes()).await?;
    let (head, _) = response(&mut stream).await?;
    ensure!(head.status == 204, "DELETE /v1/conversations/{room}: HTTP {}", head.status);
    Ok(())
}

/// Reads the head of a response. Returns what follows it as well.
async fn response(stream: &mut Stream) -> Result<(Refused, Vec<u8>)> {
    let mut bytes = Vec::with_capacity(512);
    loop {
        if let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((head(&String::from_utf8_lossy(&bytes))?, rest));
        }
        ensure!(bytes.len() < HEAD_MAX, "the response has no end");
        if stream.read_buf(&mut bytes).await.context("read the response")? == 0 {
            bail!("the connection ended before the response");
        }
    }
}

fn head(text: &str) -> Result<Refused> {
    let mut lines = text.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let status = status.context("the response is not HTTP")?;
    let retry_after = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("retry-after"))
        .and_then(|(_, value)| value.trim().parse().ok());
    Ok(Refused { status, retry_after })
}
