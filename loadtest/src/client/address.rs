//! Where the nodes are, and from which addresses the generator connects.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls_pki_types::ServerName;
use starling_trust::{Authorities, Trust, client_config};
use tokio::net::{TcpSocket, lookup_host};
use tokio_rustls::TlsConnector;
use url::Url;

use super::stream::Stream;

/// A node or load balancer.
#[derive(Clone)]
pub struct Address {
    host: String,
    port: u16,
    path: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// Looked up once, at the start.
    resolved: Vec<SocketAddr>,
}

/// The addresses of this machine that connections come from. One address has about 28,000 ports.
#[derive(Clone, Debug, Default)]
pub struct Sources(Vec<IpAddr>);

impl Sources {
    /// Takes turns between these addresses.
    pub fn new(addresses: Vec<IpAddr>) -> Self {
        Self(addresses)
    }

    fn of(&self, session: usize) -> Option<IpAddr> {
        (!self.0.is_empty()).then(|| self.0[session % self.0.len()])
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.authority())
    }
}

impl Address {
    /// Reads `ws://HOST:PORT`, `wss://HOST`, or the same with `http`, and looks the host up. The path is `/v1/ws` unless the address
    /// has one.
    ///
    /// # Errors
    /// When it is no such address, or the host is unknown.
    pub async fn resolve(text: &str) -> Result<Self> {
        let url = Url::parse(text)
            .with_context(|| format!("--url {text}: not an address; write ws://HOST:PORT"))?;
        let secure = match url.scheme() {
            "ws" | "http" => false,
            "wss" | "https" => true,
            other => bail!("--url {text}: {other}:// is not supported; write ws:// or wss://"),
        };
        let host = url.host_str().with_context(|| format!("--url {text}: the host is missing"))?.to_owned();
        let port =
            url.port_or_known_default().with_context(|| format!("--url {text}: the port is missing"))?;
        let bare = host.trim_matches(['[', ']']);
        let resolved: Vec<_> = lookup_host((bare, port))
            .await
            .with_context(|| format!("--url {text}: look up {bare}"))?
            .collect();
        let tls = if secure {
            let name = ServerName::try_from(bare.to_owned()).with_context(|| format!("--url {text}"))?;
            Some((connector()?, name))
        } else {
            None
        };
        let path = if url.path() == "/" { "/v1/ws".to_owned() } else { url.path().to_owned() };
        Ok(Self { host, port, path, tls, resolved })
    }

    /// The header `Host`.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The path of the WebSocket.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Opens a connection for a session.
    ///
    /// # Errors
    /// When no address of the host accepts it.
    pub async fn open(&self, session: usize, sources: &Sources) -> Result<Stream> {
        let source = sources.of(session);
        let fitting =
            |address: &&SocketAddr| source.is_none_or(|source| source.is_ipv4() == address.is_ipv4());
        let address = self.resolved.iter().find(fitting).context("no address of the host fits --source")?;
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = source {
            socket.bind(SocketAddr::new(source, 0)).with_context(|| format!("bind to {source}"))?;
        }
        let stream = socket.connect(*address).await?;
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            Some((connector, name)) => {
                Stream::Tls(Box::new(connector.connect(name.clone(), stream).await.context("TLS")?))
            }
            None => Stream::Plain(stream),
        })
    }
}

fn connector() -> Result<TlsConnector> {
    let config = client_config(Trust::AuthorityAndName(Authorities::System))?;
    Ok(TlsConnector::from(Arc::new(config)))
}
