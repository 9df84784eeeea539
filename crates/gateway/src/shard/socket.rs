//! A socket, plain or under TLS, without a buffer of its own.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A socket.
pub(crate) enum Socket {
    /// Plain TCP.
    Plain(TcpStream),
    /// TCP under TLS, which takes some 8 KB more.
    Tls(Box<TlsStream<TcpStream>>),
    /// A pipe inside the process, for simulations.
    #[cfg(test)]
    Memory(tokio::io::DuplexStream),
}

impl Socket {
    /// The TCP connection below.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Socket::Plain(stream) => Some(stream),
            Socket::Tls(stream) => Some(stream.get_ref().0),
            #[cfg(test)]
            Socket::Memory(_) => None,
        }
    }

    /// Reads into a buffer that all sockets of the shard share. Returns 0 at the end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(scratch);
        ready!(match self {
            Socket::Plain(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
            Socket::Tls(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
            #[cfg(test)]
            Socket::Memory(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
        })?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Writes as much as the socket takes. `Pending` registers the task to be woken when it takes more.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Socket::Plain(stream) => match slices {
                // `send` does less in the kernel than `writev`, and this is what almost all deliveries are.
                [one] => Pin::new(stream).poll_write(cx, one),
                _ => Pin::new(stream).poll_write_vectored(cx, slices),
            },
            #[cfg(test)]
            Socket::Memory(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Socket::Tls(stream) => {
                // rustls takes one slice at a time and keeps what the socket did not take.
                let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
                let written = ready!(Pin::new(&mut *stream).poll_write(cx, first))?;
                match Pin::new(stream).poll_flush(cx) {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    _ => Poll::Ready(Ok(written)),
                }
            }
        }
    }

    /// Writes what TLS still holds. A plain socket has nothing to do.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Plain(_) => Poll::Ready(Ok(())),
            #[cfg(test)]
            Socket::Memory(_) => Poll::Ready(Ok(())),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Shuts down the sending side.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(test)]
            Socket::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Socket::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            #[cfg(test)]
            Socket::Memory(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Socket::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            #[cfg(test)]
            Socket::Memory(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Socket::poll_flush(self.get_mut(), cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Socket::poll_shutdown(self.get_mut(), cx)
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Socket::poll_write(self.get_mut(), cx, slices)
    }
    fn is_write_vectored(&self) -> bool {
        matches!(self, Socket::Plain(_))
    }
}
