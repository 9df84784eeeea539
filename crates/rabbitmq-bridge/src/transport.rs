//! The way to RabbitMQ: TCP, with TLS where the address says so.
//!
//! The client lapin would bring a TLS of its own, with a dozen old ciphers for the files that some clients keep their keys in. It is given
//! a connection instead that the rest of the program's rustls has secured.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_rs::Tokio;
use async_rs::traits::{Executor, Reactor, RuntimeKit};
use async_rs::util::Task;
use futures_util::Stream;
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::address::Address;

/// Ends a connection at once, also one on which RabbitMQ says nothing: lapin would wait for ever for the answer to its greeting.
#[derive(Debug, Default)]
pub(crate) struct Cutter {
    is_cut: AtomicBool,
    reader: AtomicWaker,
}

impl Cutter {
    /// Cuts the connection.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::Release);
        self.reader.wake();
    }

    /// Fails if the connection was cut. Wakes the task later if it is cut then.
    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        self.reader.register(cx.waker());
        self.is_whole()
    }

    fn is_whole(&self) -> io::Result<()> {
        if self.is_cut.load(Ordering::Acquire) {
            Err(io::ErrorKind::ConnectionAborted.into())
        } else {
            Ok(())
        }
    }
}

/// A connection to RabbitMQ.
pub(crate) struct Socket {
    stream: Box<dyn Bytes>,
    cutter: Arc<Cutter>,
}

trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

impl Socket {
    /// Connects to RabbitMQ, with TLS if the address asks for it.
    pub async fn connect(address: &Address, cutter: Arc<Cutter>) -> io::Result<Socket> {
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Bytes> = match &address.tls {
            None => Box::new(stream),
            Some((config, name)) => {
                let connector = TlsConnector::from(config.clone());
                Box::new(connector.connect(name.clone(), stream).await?)
            }
        };
        Ok(Socket { stream, cutter })
    }
}

impl futures_util::AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.cutter.check(cx)?;
        let mut buffer = ReadBuf::new(buffer);
        Pin::new(&mut this.stream).poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
    }
}

impl futures_util::AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.cutter.is_whole()?;
        Pin::new(&mut this.stream).poll_write(cx, buffer)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.cutter.is_whole()?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // lapin waits for it in a thread of its own, which must end.
        if this.cutter.is_whole().is_err() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

/// Tokio, as lapin knows it, with [`Socket`]s as connections.
#[derive(Clone, Debug)]
pub(crate) struct Transport(Tokio);

impl Transport {
    /// The runtime that this is called in.
    pub fn current() -> Self {
        Self(Tokio::current())
    }
}

impl RuntimeKit for Transport {}

impl Executor for Transport {
    type Task<T: Send + 'static> = <Tokio as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        self.0.block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        future: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn(future)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        work: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn_blocking(work)
    }
}

impl Reactor for Transport {
    type TcpStream = Socket;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: io::Read + io::Write + Send + 'static>(
        &self,
        _handle: H,
    ) -> io::Result<impl futures_util::AsyncRead + futures_util::AsyncWrite + Send + Unpin + 'static> {
        Err::<Socket, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, time: Duration) -> Self::Sleep {
        self.0.sleep(time)
    }

    fn interval(&self, time: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(time)
    }

    fn tcp_connect_addr(
        &self,
        _address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        // Connections are made by `Socket::connect`.
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }
}
