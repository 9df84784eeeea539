//! A connection to a node, with or without TLS.

use std::io;
use std::sync::Arc;

use anyhow::Context;
use rustls::pki_types::ServerName;
use starling_trust::{Trust, client_config};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::address::NodeAddress;

/// A connection to a node, with or without TLS.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to a node; TLS has to follow where it speaks TLS.
pub async fn connect(address: &NodeAddress) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Begins TLS where the node speaks it.
pub async fn secure(
    stream: TcpStream,
    address: &NodeAddress,
    trust: Trust<'_>,
) -> anyhow::Result<Box<dyn Stream>> {
    if !address.tls {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(address.host.clone()).context("a certificate can't name this host")?;
    let connector = TlsConnector::from(Arc::new(client_config(trust)?));
    Ok(Box::new(connector.connect(name, stream).await?))
}
