//! HAProxy before a changing set of nodes: it checks the readiness of each, and nodes can be added and removed while it runs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::programs;
use crate::{Folder, Launch, Port, Process, free_port};

/// The largest number of nodes.
const SEATS: usize = 32;
/// The nodes stand in two lists: those that are ready, and all.
const BACKENDS: [&str; 2] = ["ready", "any"];
/// How long it may take to answer an order.
const LIMIT: Duration = Duration::from_secs(10);

/// HAProxy that passes a new connection on to the node with the fewest, among those whose `/ready` says 200; it asks for that
/// several times a second. A node that refuses is passed over. When none is ready, as without Redis, all are tried.
#[derive(Debug)]
pub struct HaProxy {
    process: Process,
    port: Port,
    socket: PathBuf,
    /// The node in each slot of the configuration.
    seats: Mutex<[Option<SocketAddr>; SEATS]>,
    _folder: Folder,
}

impl HaProxy {
    /// Starts one without any node, and returns when it takes connections.
    ///
    /// # Errors
    /// When it can't be started, with its log.
    pub async fn start() -> Result<Self> {
        let program = programs::find("haproxy")?;
        let (port, folder) = (free_port()?, Folder::new("haproxy")?);
        let socket = folder.join("orders");
        let file = folder.write("haproxy.cfg", &config(port.address(), &socket.display().to_string()))?;
        let launch = Launch::new("haproxy", program, folder.path()).args([
            "-db".as_ref(),
            "-f".as_ref(),
            file.as_os_str(),
        ]);
        let process = Process::start(launch).await?;
        let balancer = Self { process, port, socket, seats: Mutex::new([None; SEATS]), _folder: folder };
        let listens = async || {
            TcpStream::connect(balancer.address()).await.context("connect")?;
            Ok(balancer.order("show info").await?.contains("Version"))
        };
        balancer.process.ready(Duration::from_secs(30), "haproxy to listen", listens).await?;
        Ok(balancer)
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

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Adds a ready node. It gets connections as long as it is ready.
    ///
    /// # Errors
    /// When all slots are taken, or HAProxy does not answer.
    pub async fn add(&self, node: SocketAddr) -> Result<()> {
        let seat = {
            let mut seats = self.seats.lock();
            let free = seats.iter().position(Option::is_none).context("HAProxy has no seat left")?;
            seats[free] = Some(node);
            free + 1
        };
        let (ip, port) = (node.ip(), node.port());
        for backend in BACKENDS {
            self.order(&format!("set server {backend}/node{seat} addr {ip} port {port}")).await?;
            self.order(&format!("set server {backend}/node{seat} state ready")).await?;
        }
        Ok(())
    }

    /// Removes a node. Its open connections stay.
    ///
    /// # Errors
    /// When there is no such node, or HAProxy does not answer.
    pub async fn remove(&self, node: SocketAddr) -> Result<()> {
        let seat = {
            let mut seats = self.seats.lock();
            let taken = seats.iter().position(|seat| *seat == Some(node));
            let taken = taken.with_context(|| format!("{node} is not one of the nodes"))?;
            seats[taken] = None;
            taken + 1
        };
        for backend in BACKENDS {
            self.order(&format!("set server {backend}/node{seat} state maint")).await?;
        }
        Ok(())
    }

    /// How many of the nodes it passes connections on to.
    ///
    /// # Errors
    /// When HAProxy does not answer.
    pub async fn ready(&self) -> Result<usize> {
        let table = self.order("show stat ready 4 -1").await?;
        // The 18th column is the state.
        Ok(table.lines().filter(|line| line.split(',').nth(17).is_some_and(|state| state == "UP")).count())
    }

    async fn order(&self, order: &str) -> Result<String> {
        let exchange = async {
            let mut socket = UnixStream::connect(&self.socket).await.context("reach HAProxy")?;
            socket.write_all(format!("{order}\n").as_bytes()).await?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await?;
            anyhow::Ok(answer)
        };
        let answer = timeout(LIMIT, exchange).await.with_context(|| format!("HAProxy, at: {order}"))??;
        // A change is answered by an empty line, or by what changed.
        let refused = ["Unknown", "No such", "Require", "Invalid", "Permission"];
        ensure!(!refused.iter().any(|word| answer.starts_with(word)), "HAProxy, at {order}: {answer}");
        Ok(answer)
    }
}

fn config(listen: SocketAddr, socket: &str) -> String {
    format!(
        "global
  stats socket {socket} mode 600 level admin
  # A reader that stops is to be felt by the node, not hidden by megabytes of buffers on the way.
  tune.rcvbuf.server 65536
  tune.sndbuf.client 65536
defaults
  mode http
  timeout connect 1s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
  timeout check 1s
  retries 3
  option redispatch 1
  retry-on conn-failure empty-response 503
frontend all
  bind {listen}
  use_backend any if {{ nbsrv(ready) eq 0 }}
  default_backend ready
backend ready
  balance leastconn
  option httpchk GET /ready
  http-check expect status 200
  default-server inter 200ms fastinter 100ms downinter 100ms fall 1 rise 1
  server-template node 1-{SEATS} 127.0.0.1:1 check disabled
backend any
  balance leastconn
  server-template node 1-{SEATS} 127.0.0.1:1 disabled
"
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::net::TcpListener;

    use super::*;
    use crate::process::is_alive;
    use crate::{http, wait};

    /// A server that says its name, and whether it is ready.
    async fn named(name: &'static str) -> (SocketAddr, Arc<AtomicBool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, ready) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(true)));
        let told = Arc::clone(&ready);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = [0; 4096];
                let length = socket.read(&mut head).await.unwrap_or(0);
                let asked = head[..length].starts_with(b"GET /ready");
                let status = if asked && !told.load(Ordering::SeqCst) { "503 No" } else { "200 OK" };
                let answer = format!(
                    "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{name}",
                    name.len()
                );
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        (address, ready)
    }

    async fn answered_by(balancer: &HaProxy) -> Result<String> {
        Ok(http::get(&balancer.http_url()).await?.text())
    }

    #[tokio::test]
    async fn nodes_are_used_while_they_are_there_and_ready() {
        let balancer = HaProxy::start().await.unwrap();
        assert_eq!(balancer.ready().await.unwrap(), 0);
        let ((one, one_ready), (two, two_ready)) = (named("one").await, named("two").await);
        balancer.add(one).await.unwrap();
        let ready = async |count| {
            wait::until_true(LIMIT, "the nodes to be ready", async || Ok(balancer.ready().await? == count))
                .await
                .unwrap();
        };
        ready(1).await;
        assert_eq!(answered_by(&balancer).await.unwrap(), "one");
        balancer.add(two).await.unwrap();
        ready(2).await;
        one_ready.store(false, Ordering::SeqCst);
        ready(1).await;
        for _ in 0..4 {
            assert_eq!(answered_by(&balancer).await.unwrap(), "two");
        }
        two_ready.store(false, Ordering::SeqCst);
        ready(0).await;
        answered_by(&balancer).await.unwrap();
        one_ready.store(true, Ordering::SeqCst);
        two_ready.store(true, Ordering::SeqCst);
        ready(2).await;
        balancer.remove(two).await.unwrap();
        for _ in 0..4 {
            assert_eq!(answered_by(&balancer).await.unwrap(), "one");
        }
        let pid = balancer.pid();
        drop(balancer);
        assert!(!is_alive(pid));
    }
}
