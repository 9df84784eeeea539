//! Whether a pooler such as PgBouncer stands between this program and PostgreSQL.
//!
//! A pooler in transaction mode gives each transaction another connection to the server. So nothing may be left on a connection for the next
//! transaction: neither a setting nor a named statement. PostgreSQL tells each new connection the process that serves it, so that the client
//! can cancel a statement. A pooler tells a number of its own instead, since it serves the client by changing processes.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio_postgres::Client;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// Room for a request for TLS and a request to cancel.
const REQUESTS_BYTES: usize = 64;
/// The bytes of a request to cancel: its length, its code, the process, and a secret.
const CANCEL_BYTES: usize = 16;

/// Returns the number of the process that is said to serve this connection. `None` if it was not told.
pub(super) async fn announced_process(client: &Client) -> Option<i32> {
    // The client shows the number nowhere but in its request to cancel, which here goes to memory.
    let (near, mut far) = duplex(REQUESTS_BYTES);
    // The answer to a request for TLS.
    far.write_all(b"S").await.ok()?;
    client.cancel_token().cancel_query_raw(near, InMemory).await.ok()?;
    let mut requests = Vec::new();
    far.read_to_end(&mut requests).await.ok()?;
    process_in(&requests)
}

/// Returns the process that a request to cancel names. It comes last.
fn process_in(requests: &[u8]) -> Option<i32> {
    let cancel = requests.last_chunk::<CANCEL_BYTES>()?;
    let process = i32::from_be_bytes([cancel[8], cancel[9], cancel[10], cancel[11]]);
    (process != 0).then_some(process)
}

/// Stands in for TLS where the bytes stay in memory.
struct InMemory;

impl TlsConnect<DuplexStream> for InMemory {
    type Stream = Unencrypted;
    type Error = Infallible;
    type Future = Ready<Result<Unencrypted, Infallible>>;

    fn connect(self, stream: DuplexStream) -> Self::Future {
        ready(Ok(Unencrypted(stream)))
    }
}

/// A stream in memory.
struct Unencrypted(DuplexStream);

impl TlsStream for Unencrypted {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Unencrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Unencrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_read_from_the_last_request() {
        let tls = [0, 0, 0, 8, 4, 210, 22, 47];
        let cancel = [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 1, 2, 9, 9, 9, 9];
        assert_eq!(process_in(&cancel), Some(258));
        assert_eq!(process_in(&[&tls[..], &cancel].concat()), Some(258));
        assert_eq!(process_in(&tls), None);
        assert_eq!(process_in(&[0; CANCEL_BYTES]), None, "no process has this number");
    }
}
