//! A faulty link: a TCP proxy between a client and a server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{Port, free_port};

/// Size of one read from a socket, in bytes.
const CHUNK: usize = 16 << 10;
/// Chunks in flight in one direction of a slow link. The sender is blocked beyond that.
const CHUNKS_MAX: usize = 64;

/// A TCP proxy to one server. Faults apply to open and to new connections.
#[derive(Debug)]
pub struct Link {
    port: Port,
    faults: watch::Sender<Faults>,
    open: Arc<AtomicUsize>,
    /// Accepts connections; none while the link refuses them.
    listener: JoinHandle<()>,
    /// The server that the link began with, which its URLs name.
    target: SocketAddr,
}

/// The state of a link.
#[derive(Clone, Copy, Debug)]
struct Faults {
    /// Where new connections lead.
    target: SocketAddr,
    /// Connections older than this have been cut.
    generation: u64,
    paused: bool,
    delay: Duration,
    bytes_per_second: Option<u64>,
}

impl Link {
    /// A sound link to a server.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn to(target: SocketAddr) -> Result<Self> {
        let port = free_port()?;
        let faults = watch::Sender::new(Faults::none(target));
        let open = Arc::new(AtomicUsize::new(0));
        let listener = listen(&port, &faults, &open).await?;
        Ok(Self { port, faults, open, listener, target })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// A URL of the server, led through this link.
    pub fn through(&self, url: &str) -> String {
        url.replace(&self.target.to_string(), &self.address().to_string())
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Leads new connections to another server, like an address that moves to a standby. Open connections stay;
    /// [`cut`](Self::cut) ends them.
    pub fn retarget(&self, target: SocketAddr) {
        self.faults.send_modify(|faults| faults.target = target);
    }

    /// Resets every open connection on both sides. New ones are accepted.
    pub fn cut(&self) {
        self.faults.send_modify(|faults| faults.generation += 1);
    }

    /// Stops all data in both directions without closing connections, like a network that drops packets.
    pub fn pause(&self) {
        self.faults.send_modify(|faults| faults.paused = true);
    }

    /// Lets data through again, including what [`pause`](Self::pause) held back.
    pub fn resume(&self) {
        self.faults.send_modify(|faults| faults.paused = false);
    }

    /// Delays everything that is read from now on, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.faults.send_modify(|faults| faults.delay = delay);
    }

    /// Limits each direction of each connection; none for no limit.
    pub fn throttle(&self, bytes_per_second: Option<u64>) {
        self.faults.send_modify(|faults| faults.bytes_per_second = bytes_per_second);
    }

    /// Refuses new connections, like a machine without a listener. Open ones stay.
    pub async fn refuse(&mut self) {
        self.listener.abort();
        // The socket listens until the task has ended.
        let _ = (&mut self.listener).await;
        self.listener = tokio::spawn(std::future::ready(()));
    }

    /// Accepts connections again.
    ///
    /// # Errors
    /// When the port is taken, which its reservation prevents.
    pub async fn accept(&mut self) -> Result<()> {
        self.refuse().await;
        self.listener = listen(&self.port, &self.faults, &self.open).await?;
        Ok(())
    }
}

impl Faults {
    fn none(target: SocketAddr) -> Self {
        Self { target, generation: 0, paused: false, delay: Duration::ZERO, bytes_per_second: None }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.listener.abort();
        self.cut();
    }
}

async fn listen(
    port: &Port,
    faults: &watch::Sender<Faults>,
    open: &Arc<AtomicUsize>,
) -> Result<JoinHandle<()>> {
    let listener = TcpListener::bind(port.address()).await.context("bind a link")?;
    let (faults, open) = (faults.clone(), Arc::clone(open));
    Ok(tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(connection(client, faults.subscribe(), OpenCount::new(&open)));
        }
    }))
}

/// Counts a connection as long as it lives.
struct OpenCount(Arc<AtomicUsize>);

impl OpenCount {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(open))
    }
}

impl Drop for OpenCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn connection(mut client: TcpStream, mut faults: watch::Receiver<Faults>, _count: OpenCount) {
    let Faults { generation, target, .. } = *faults.borrow();
    let Ok(mut server) = TcpStream::connect(target).await else {
        reset(&client);
        return;
    };
    for socket in [&client, &server] {
        // Latency is this link's to add, not the kernel's. A socket that is broken already shows so below.
        let _ = socket.set_nodelay(true);
    }
    let broken = {
        let (client_reads, client_writes) = client.split();
        let (server_reads, server_writes) = server.split();
        let there = direction(client_reads, server_writes, faults.clone());
        let back = direction(server_reads, client_writes, faults.clone());
        tokio::select! {
            both = async { tokio::try_join!(there, back) } => both.is_err(),
            _ = faults.wait_for(|faults| faults.generation != generation) => true,
        }
    };
    if broken {
        reset(&client);
        reset(&server);
    }
}

/// Carries bytes one way, up to the end of the stream, which it hands on.
async fn direction(from: ReadHalf<'_>, to: WriteHalf<'_>, faults: watch::Receiver<Faults>) -> io::Result<()> {
    let (chunks, under_way) = mpsc::channel(CHUNKS_MAX);
    tokio::try_join!(read(from, chunks, faults.clone()), write(under_way, to, faults)).map(drop)
}

/// A piece of the stream, and when it is due at the other end.
type Chunk = (Instant, Vec<u8>);

async fn read(
    mut from: ReadHalf<'_>,
    chunks: mpsc::Sender<Chunk>,
    faults: watch::Receiver<Faults>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = from.read(&mut buffer).await?;
        let due = Instant::now() + faults.borrow().delay;
        if length == 0 || chunks.send((due, buffer[..length].to_vec())).await.is_err() {
            return Ok(());
        }
    }
}

async fn write(
    mut chunks: mpsc::Receiver<Chunk>,
    mut to: WriteHalf<'_>,
    mut faults: watch::Receiver<Faults>,
) -> io::Result<()> {
    while let Some((due, bytes)) = chunks.recv().await {
        sleep_until(due).await;
        let mut left = bytes.as_slice();
        while !left.is_empty() {
            let rate = passage(&mut faults).await?;
            // Some fifty pieces a second make a slow link, not one that stands still and jumps.
            let length = rate
                .map_or(left.len(), |rate| usize::try_from(rate / 50).unwrap_or(CHUNK).clamp(1, left.len()));
            let (piece, rest) = left.split_at(length);
            to.write_all(piece).await?;
            left = rest;
            if let Some(rate) = rate {
                sleep(Duration::from_secs_f64(length as f64 / rate.max(1) as f64)).await;
            }
        }
    }
    passage(&mut faults).await?;
    to.shutdown().await
}

/// Waits until the link is not paused. Returns its rate.
async fn passage(faults: &mut watch::Receiver<Faults>) -> io::Result<Option<u64>> {
    let free = faults.wait_for(|faults| !faults.paused).await;
    free.map(|faults| faults.bytes_per_second).map_err(|_| io::ErrorKind::ConnectionAborted.into())
}

/// Makes the next drop reset the connection.
fn reset(socket: &TcpStream) {
    // An error says that the connection is broken already.
    let _ = socket.set_zero_linger();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait;

    const LIMIT: Duration = Duration::from_secs(10);

    /// A server that gives back what it gets.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = socket.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        address
    }

    async fn exchange(socket: &mut TcpStream, text: &[u8]) -> io::Result<Duration> {
        let begun = Instant::now();
        socket.write_all(text).await?;
        let mut back = vec![0; text.len()];
        socket.read_exact(&mut back).await?;
        assert_eq!(back, text);
        Ok(begun.elapsed())
    }

    #[tokio::test]
    async fn a_sound_link_carries_everything_and_the_end() {
        let link = Link::to(echo().await).await.unwrap();
        let mut socket = TcpStream::connect(link.address()).await.unwrap();
        let text: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let (mut from, mut to) = socket.split();
        let mut back = Vec::new();
        let send = async {
            to.write_all(&text).await?;
            to.shutdown().await
        };
        tokio::try_join!(send, from.read_to_end(&mut back)).unwrap();
        assert!(back == text);
        wait::until_true(LIMIT, "the end", async || Ok(link.connections() == 0)).await.unwrap();
    }

    #[tokio::test]
    async fn a_cut_resets_what_is_open_and_nothing_else() {
        let link = Link::to(echo().await).await.unwrap();
        let mut socket = TcpStream::connect(link.address()).await.unwrap();
        exchange(&mut socket, b"hello").await.unwrap();
        link.cut();
        let error = socket.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let mut next = TcpStream::connect(link.address()).await.unwrap();
        exchange(&mut next, b"again").await.unwrap();
    }

    #[tokio::test]
    async fn a_retargeted_link_leads_new_connections_elsewhere() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let link = Link::to(silent.local_addr().unwrap()).await.unwrap();
        let mut before = TcpStream::connect(link.address()).await.unwrap();
        // The link has led it on before it is turned.
        let _held = silent.accept().await.unwrap();
        link.retarget(echo().await);
        let mut after = TcpStream::connect(link.address()).await.unwrap();
        exchange(&mut after, b"there").await.unwrap();
        before.write_all(b"nobody").await.unwrap();
        let answer = tokio::time::timeout(Duration::from_millis(100), before.read(&mut [0])).await;
        assert!(answer.is_err(), "an open connection stays where it is");
    }

    #[tokio::test]
    async fn a_paused_link_holds_back_until_resumed() {
        let link = Link::to(echo().await).await.unwrap();
        let mut socket = TcpStream::connect(link.address()).await.unwrap();
        link.pause();
        socket.write_all(b"late").await.unwrap();
        let mut back = [0; 4];
        let silence = tokio::time::timeout(Duration::from_millis(100), socket.read_exact(&mut back)).await;
        assert!(silence.is_err());
        link.resume();
        tokio::time::timeout(LIMIT, socket.read_exact(&mut back)).await.unwrap().unwrap();
        assert_eq!(&back, b"late");
    }

    #[tokio::test]
    async fn delay_and_throttle_take_their_time() {
        let link = Link::to(echo().await).await.unwrap();
        let mut socket = TcpStream::connect(link.address()).await.unwrap();
        link.delay(Duration::from_millis(100));
        assert!(exchange(&mut socket, b"slow").await.unwrap() >= Duration::from_millis(200));
        link.delay(Duration::ZERO);
        link.throttle(Some(10_000));
        assert!(exchange(&mut socket, &[7; 3_000]).await.unwrap() >= Duration::from_millis(250));
    }

    #[tokio::test]
    async fn a_refusing_link_keeps_what_is_open() {
        let mut link = Link::to(echo().await).await.unwrap();
        let mut socket = TcpStream::connect(link.address()).await.unwrap();
        exchange(&mut socket, b"in").await.unwrap();
        link.refuse().await;
        let error = TcpStream::connect(link.address()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        exchange(&mut socket, b"still in").await.unwrap();
        link.accept().await.unwrap();
        let mut next = TcpStream::connect(link.address()).await.unwrap();
        exchange(&mut next, b"in again").await.unwrap();
        assert_eq!(
            link.through(&format!("redis://{}/0", link.target)),
            format!("redis://{}/0", link.address())
        );
    }
}
