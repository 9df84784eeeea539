//! The way from HTTP to a WebSocket.

use std::time::Duration;

use anyhow::{Context, anyhow};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self};

use super::{Client, Encoding, Failure};
use crate::http;

/// How long a handshake may take.
const LIMIT: Duration = Duration::from_secs(15);

/// A handshake to be made.
#[derive(Clone, Debug)]
pub struct Upgrade {
    url: String,
    encoding: Encoding,
    /// The sub-protocols to offer; by default the one of the encoding.
    offer: Option<String>,
    headers: Vec<(String, String)>,
}

impl Upgrade {
    /// To `ws://HOST:PORT/v1/ws`.
    pub fn to(url: &str) -> Self {
        Self { url: url.to_owned(), encoding: Encoding::Json, offer: None, headers: Vec::new() }
    }

    /// Sets the encoding, and offers its sub-protocol.
    #[must_use]
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// Offers other sub-protocols than that of the encoding: names with commas between, or none when empty.
    #[must_use]
    pub fn offer(mut self, subprotocols: &str) -> Self {
        self.offer = Some(subprotocols.to_owned());
        self
    }

    /// Adds a header, such as `origin`.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds `Authorization: Bearer TOKEN`.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Makes the handshake. `connect` has not been sent yet.
    ///
    /// # Errors
    /// [`Failure::NotUpgraded`] with the HTTP status when the node refuses, [`Failure::Other`] when it can't be reached.
    pub async fn open(&self) -> Result<Client, Failure> {
        let request = self.request()?;
        let (host, _) = http::split(&self.url, "ws")?;
        let handshake = async {
            let stream = TcpStream::connect(host).await.with_context(|| format!("connect to {host}"))?;
            stream.set_nodelay(true).context("set TCP_NODELAY")?;
            let mut config = WebSocketConfig::default();
            // Thousands of clients in one process: tungstenite's 128 KiB for each would be a gigabyte.
            config.read_buffer_size = 8 << 10;
            config.write_buffer_size = 0;
            Ok::<_, Failure>(client_async_with_config(request, stream, Some(config)).await)
        };
        match timeout(LIMIT, handshake).await.context("no handshake in time")?? {
            Ok((socket, _response)) => Ok(Client::over(socket, self.encoding)),
            Err(tungstenite::Error::Http(response)) => {
                let body = response.body().as_deref().unwrap_or_default();
                let body = String::from_utf8_lossy(body).into_owned();
                Err(Failure::NotUpgraded { status: response.status().as_u16(), body })
            }
            Err(error) => {
                Err(Failure::Other(anyhow!(error).context(format!("the handshake with {}", self.url))))
            }
        }
    }

    fn request(&self) -> Result<tungstenite::handshake::client::Request, Failure> {
        let mut request = self.url.as_str().into_client_request().context("a WebSocket URL")?;
        let headers = request.headers_mut();
        let offer = self.offer.as_deref().unwrap_or(self.encoding.subprotocol());
        if !offer.is_empty() {
            headers.insert("sec-websocket-protocol", HeaderValue::from_str(offer).context("a sub-protocol")?);
        }
        for (name, value) in &self.headers {
            let name: HeaderName = name.parse().context("a header's name")?;
            headers.append(name, HeaderValue::from_str(value).context("a header's value")?);
        }
        Ok(request)
    }
}

impl Client {
    /// Opens a socket to `ws://HOST:PORT/v1/ws` and sends `connect` with the token.
    ///
    /// # Errors
    /// When the node can't be reached, or refuses.
    pub async fn connect(url: &str, token: &str, encoding: Encoding) -> Result<Self, Failure> {
        let mut client = Upgrade::to(url).encoding(encoding).open().await?;
        client.hello(json!({ "token": token })).await?;
        Ok(client)
    }

    /// Opens a socket and sends `connect` with the token and a `resume`.
    ///
    /// # Errors
    /// When the node can't be reached, or refuses.
    pub async fn resume(url: &str, token: &str, encoding: Encoding, resume: Value) -> Result<Self, Failure> {
        let mut client = Upgrade::to(url).encoding(encoding).open().await?;
        client.hello(json!({ "token": token, "resume": resume })).await?;
        Ok(client)
    }
}
