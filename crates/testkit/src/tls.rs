//! TLS: a certificate authority for tests, and a tunnel that lets clients without TLS speak to a server with it.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use starling_trust::{Authorities, Trust, client_config};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsConnector;

use crate::{Folder, Port, free_port};

/// A certificate authority and its certificate for a server at 127.0.0.1, in PEM.
#[derive(Debug)]
pub struct Certificates {
    /// Has `ca.crt`, `server.crt`, `server.key`, and `server.pem` with the last two.
    pub folder: Folder,
    /// The authority's certificate.
    pub authority: String,
    /// The server's certificate.
    pub certificate: String,
    /// The server's key.
    pub key: String,
}

impl Certificates {
    /// Creates an authority and a certificate.
    ///
    /// # Errors
    /// When openssl fails, with what it printed.
    pub async fn make() -> Result<Self> {
        let folder = Folder::new("certificates")?;
        let path = folder.path().to_owned();
        let make = "set -e; key='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
            openssl req -x509 $key -days 2 -subj /CN=authority -keyout ca.key -out ca.crt
            openssl req $key -subj /CN=server -keyout server.key -out server.csr
            echo subjectAltName=IP:127.0.0.1 > names
            openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt
            cat server.crt server.key > server.pem";
        let run = move || Command::new("sh").args(["-c", make]).current_dir(path).output();
        let output = tokio::task::spawn_blocking(run).await?.context("run openssl")?;
        ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
        let read = |name| std::fs::read_to_string(folder.join(name)).with_context(|| format!("read {name}"));
        let (authority, certificate, key) = (read("ca.crt")?, read("server.crt")?, read("server.key")?);
        Ok(Self { folder, authority, certificate, key })
    }

    /// A TLS client configuration that only trusts this authority.
    ///
    /// # Errors
    /// When the authority's certificate can't be read.
    pub fn client(&self) -> Result<Arc<ClientConfig>> {
        let file = self.folder.join("ca.crt");
        Ok(Arc::new(client_config(Trust::AuthorityAndName(Authorities::File(&file)))?))
    }
}

/// Listens without TLS, and leads each connection to a server with TLS.
#[derive(Debug)]
pub struct Tunnel {
    port: Port,
    listener: JoinHandle<()>,
}

impl Tunnel {
    /// Leads to `server`, whose certificate must satisfy `config`. The server sees connections from the loopback address `source`.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(server: SocketAddr, source: IpAddr, config: Arc<ClientConfig>) -> Result<Self> {
        let port = free_port()?;
        let listener = TcpListener::bind(port.address()).await.context("bind a tunnel")?;
        let listener = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let config = Arc::clone(&config);
                // The client sees an error as the end of its connection.
                connections.spawn(async move { carry(client, server, source, config).await.ok() });
            }
        });
        Ok(Self { port, listener })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// `ws://HOST:PORT/v1/ws`.
    pub fn ws_url(&self) -> String {
        format!("ws://{}/v1/ws", self.address())
    }

    /// `http://HOST:PORT`.
    pub fn http_url(&self) -> String {
        format!("http://{}", self.address())
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn carry(
    mut client: TcpStream,
    server: SocketAddr,
    source: IpAddr,
    config: Arc<ClientConfig>,
) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((source, 0)))?;
    let stream = socket.connect(server).await?;
    stream.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let mut stream = TlsConnector::from(config).connect(ServerName::from(server.ip()), stream).await?;
    tokio::io::copy_bidirectional(&mut client, &mut stream).await?;
    Ok(())
}
