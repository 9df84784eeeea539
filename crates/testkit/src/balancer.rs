//! Load balancers: nginx for a fixed set of nodes, HAProxy for a changing one.

mod haproxy;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpStream;

pub use haproxy::HaProxy;

use crate::programs;
use crate::{Folder, Launch, Port, Process, free_port};

/// nginx that passes WebSockets on to the node with the fewest connections, and tries another node if one is down.
#[derive(Debug)]
pub struct Balancer {
    process: Process,
    port: Port,
    _folder: Folder,
}

impl Balancer {
    /// Starts one before these nodes, and returns when it takes connections.
    ///
    /// # Errors
    /// When it can't be started, with its log.
    pub async fn start(nodes: &[SocketAddr]) -> Result<Self> {
        let program = programs::find("nginx")?;
        let (port, folder) = (free_port()?, Folder::new("nginx")?);
        let file = folder.write("nginx.conf", &config(port.address(), nodes))?;
        let launch = Launch::new("nginx", program, folder.path()).args(["-e", "stderr", "-p"]).args([
            folder.path(),
            "-c".as_ref(),
            &file,
        ]);
        let process = Process::start(launch).await?;
        let listens = async || {
            TcpStream::connect(port.address()).await.context("connect")?;
            Ok(true)
        };
        process.ready(Duration::from_secs(30), "nginx to listen", listens).await?;
        Ok(Self { process, port, _folder: folder })
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
}

/// One process without a master, so that ending it ends all of it. Everything stays in its own folder.
fn config(listen: SocketAddr, nodes: &[SocketAddr]) -> String {
    let servers: String =
        nodes.iter().map(|node| format!("    server {node} max_fails=1 fail_timeout=1s;\n")).collect();
    format!(
        "daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
worker_rlimit_nofile 65536;
events {{ worker_connections 30000; }}
http {{
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
  upstream nodes {{
    least_conn;
{servers}  }}
  server {{
    listen {listen};
    location / {{
      proxy_pass http://nodes;
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_connect_timeout 1s;
      proxy_read_timeout 1h;
      proxy_send_timeout 1h;
      proxy_buffering off;
      # Writes are tried again too: a send bears a key, and a repeat of anything else is harmless.
      proxy_next_upstream error timeout http_503 non_idempotent;
    }}
  }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::http;
    use crate::process::is_alive;

    /// A server that says its name to whoever asks.
    async fn named(name: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let _ = socket.read(&mut [0; 4096]).await;
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn requests_are_spread_and_go_past_a_dead_node() {
        // A reserved port where nobody listens.
        let dead = free_port().unwrap();
        let nodes = [named("one").await, dead.address(), named("two").await];
        let balancer = Balancer::start(&nodes).await.unwrap();
        let mut names = std::collections::BTreeSet::new();
        for _ in 0..12 {
            let answer = http::get(&balancer.http_url()).await.unwrap();
            assert_eq!(answer.status, 200);
            names.insert(answer.text());
        }
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["one", "two"]);
        let pid = balancer.pid();
        drop(balancer);
        assert!(!is_alive(pid));
    }
}
