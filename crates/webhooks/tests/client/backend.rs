//! Backends that do what a test says, clients, and a resolver of the test's own.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use rustls::ClientConfig;
use starling_trust::{Authorities, Trust, client_config};
use starling_webhooks::{
    Client, ClientConfiguration, Delivered, Delivery, Endpoint, Networks, Resolver, Secret, SystemResolver,
};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The time of an attempt, unless a test needs it to be over.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The secret of all deliveries.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A backend on the loopback.
pub struct Backend {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Backend {
    /// Listens at a free port of 127.0.0.1, and runs `serve` for each connection.
    pub async fn start<F, S>(serve: S) -> Result<Self>
    where
        F: Future<Output = Result<()>> + Send + 'static,
        S: Fn(TcpStream) -> F + Send + 'static,
    {
        Self::start_at("127.0.0.1:0".parse()?, serve).await
    }

    /// Does that at this address.
    pub async fn start_at<F, S>(address: SocketAddr, serve: S) -> Result<Self>
    where
        F: Future<Output = Result<()>> + Send + 'static,
        S: Fn(TcpStream) -> F + Send + 'static,
    {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                // The client tells what it saw of a connection that broke.
                tokio::spawn(serve(stream));
            }
        });
        Ok(Self { address, connections, task })
    }

    /// Answers each request with this.
    pub async fn answering(answer: &'static str) -> Result<Self> {
        Self::start(move |stream| answer_all(stream, answer)).await
    }

    /// The number of connections that were opened.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn url(&self) -> String {
        format!("http://{}/hooks?a=b", self.address)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers each request of a connection.
pub async fn answer_all(stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) -> Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        read_request(&mut stream).await?;
        stream.write_all(answer.as_bytes()).await?;
        stream.flush().await?;
    }
}

/// A request as a backend sees it.
#[derive(Clone, Debug, Default)]
pub struct Received {
    pub line: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

pub async fn read_request(stream: &mut (impl AsyncBufReadExt + Unpin)) -> Result<Received> {
    let mut received = Received::default();
    stream.read_line(&mut received.line).await?;
    anyhow::ensure!(!received.line.is_empty(), "the client closed the connection");
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        received.headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = received.headers.get("content-length").context("a length")?.parse()?;
    received.body = vec![0; length];
    stream.read_exact(&mut received.body).await?;
    Ok(received)
}

/// A resolver with answers of the test's. Each name has a list of them, of which the last one stays.
#[derive(Default)]
pub struct Names {
    answers: Mutex<HashMap<&'static str, VecDeque<Vec<IpAddr>>>>,
    lookups: AtomicUsize,
}

impl Names {
    pub fn set(&self, name: &'static str, answers: &[&[&str]]) {
        let addresses =
            |answer: &&[&str]| answer.iter().map(|address| address.parse().expect("an address")).collect();
        self.answers.lock().insert(name, answers.iter().map(addresses).collect());
    }

    pub fn lookups(&self) -> usize {
        self.lookups.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Resolver for Names {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.lookups.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock();
        let answers = answers.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        Ok(answer.unwrap_or_default())
    }
}

/// A configuration that trusts the authorities of the system and of browsers.
pub fn system_tls() -> Result<ClientConfig> {
    Ok(client_config(Trust::AuthorityAndName(Authorities::System))?)
}

/// A client that may use these networks besides the Internet.
pub fn client(allowed: &[&str]) -> Client {
    client_with(allowed, Arc::new(SystemResolver::default()), system_tls().expect("authorities"))
}

pub fn client_with(allowed: &[&str], resolver: Arc<dyn Resolver>, tls: ClientConfig) -> Client {
    let networks = Networks::new(allowed.iter().map(|network| network.parse().expect("a network")).collect());
    Client::new(ClientConfiguration { networks, resolver, tls, connect_timeout: PATIENCE })
}

/// A client that may use the loopback.
pub fn local_client() -> Client {
    client(&["127.0.0.0/8"])
}

/// Delivers an event.
pub async fn deliver(client: &Client, url: &str) -> Result<Delivered> {
    deliver_within(client, url, PATIENCE).await
}

pub async fn deliver_within(client: &Client, url: &str, limit: Duration) -> Result<Delivered> {
    let (endpoint, secrets) = (Endpoint::parse(url)?, [Secret::parse(SECRET)?]);
    let body = Bytes::from_static(br#"{"type":"message.created"}"#);
    let delivery = Delivery { endpoint: &endpoint, id: "event", secrets: &secrets, body: &body };
    Ok(client.deliver(delivery, limit).await)
}
