//! Connecting to a backend. This is the only place that opens a socket, and it checks the address that it opens it to. So it does not matter how
//! a request was led to an address: by its URL, by DNS, or by DNS that answers differently each time.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use hyper_util::client::legacy::connect::{Connected, Connection as Connects};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::networks::Permit;
use crate::{Failure, Networks, Resolver};

/// The most addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;

/// Opens connections for hyper's client.
#[derive(Clone)]
pub(crate) struct Connector {
    way: Arc<Way>,
}

/// How connections are opened.
struct Way {
    networks: Networks,
    resolver: Arc<dyn Resolver>,
    tls: TlsConnector,
    /// The time for all of it.
    limit: Duration,
}

impl Connector {
    /// Makes a connector that takes at most `limit` for a connection.
    pub(crate) fn new(
        networks: Networks,
        resolver: Arc<dyn Resolver>,
        mut tls: ClientConfig,
        limit: Duration,
    ) -> Self {
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { way: Arc::new(Way { networks, resolver, tls: Arc::new(tls).into(), limit }) }
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Connection>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let way = Arc::clone(&self.way);
        Box::pin(async move {
            let limit = way.limit;
            timeout(limit, way.connect(&uri)).await.unwrap_or(Err(Failure::Timeout)).map(TokioIo::new)
        })
    }
}

impl Way {
    async fn connect(&self, uri: &Uri) -> Result<Connection, Failure> {
        let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
        // The brackets of an IPv6 address belong to the URL.
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let stream = self.tcp(host, port, is_tls).await?;
        // A request is written at once.
        stream.set_nodelay(true).map_err(|error| Failure::Connect(error.to_string()))?;
        if !is_tls {
            return Ok(Connection::new(stream));
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|error| Failure::Tls(error.to_string()))?;
        let stream = self.tls.connect(name, stream).await.map_err(|error| Failure::Tls(error.to_string()))?;
        Ok(Connection::new(stream))
    }

    /// Connects to the first address that may be used and answers.
    async fn tcp(&self, host: &str, port: u16, is_tls: bool) -> Result<TcpStream, Failure> {
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => {
                let found = self.resolver.resolve(host).await;
                found.map_err(|error| Failure::Resolve(error.to_string()))?
            }
        };
        let mut failure = Failure::Resolve("the name has no addresses".into());
        let mut usable = Vec::new();
        for address in addresses {
            match self.permit(address, is_tls) {
                Ok(()) if usable.len() < ADDRESSES_MAX => usable.push(address),
                Ok(()) => break,
                Err(refused) => failure = refused,
            }
        }
        // An address that does not answer leaves time for the others.
        let limit = self.limit / u32::try_from(usable.len().max(1)).unwrap_or(u32::MAX);
        for address in usable {
            match timeout(limit, TcpStream::connect(SocketAddr::new(address, port))).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failure = Failure::Connect(error.kind().to_string()),
                Err(_) => failure = Failure::Timeout,
            }
        }
        Err(failure)
    }

    /// Checks whether an address may be used. Without TLS, only addresses that the operator allows may: others see and change what is sent on
    /// the Internet.
    fn permit(&self, address: IpAddr, is_tls: bool) -> Result<(), Failure> {
        match self.networks.permit(address) {
            Err(refused) => Err(Failure::Refused(refused)),
            Ok(Permit::Public) if !is_tls => Err(Failure::NotEncrypted),
            Ok(_) => Ok(()),
        }
    }
}

/// A connection to a backend.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    used: Used,
}

/// Whether a connection has carried an answer before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Used(Arc<AtomicBool>);

impl Used {
    /// Notes that the connection has carried an answer.
    pub(crate) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Connection {
    fn new(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), used: Used::default() }
    }
}

impl Connects for Connection {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.used.clone())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
