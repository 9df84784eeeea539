//! The servers that are compared, and how a node of each is started.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use starling_peers_load::Dialect;
use starling_testkit::{Folder, Port, free_port};

use crate::install::Programs;

/// A server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// The program that does the least that a node can do
    Limit,
    /// Starling
    Starling,
    /// Centrifugo 6 with its Redis engine
    Centrifugo,
    /// The same with a history of 100 publications for each channel
    CentrifugoHistory,
    /// Socket.IO 4 with its Redis adapter
    Socketio,
    /// Socketioxide with its Redis adapter
    Socketioxide,
    /// Nchan, a module of nginx, with Redis
    Nchan,
    /// NATS with routes of its own instead of Redis
    Nats,
}

/// A node as it is started.
pub struct Start {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its environment.
    pub environment: Vec<(String, String)>,
}

/// The ports of one node. They stay reserved while it runs.
pub struct Ports {
    /// For clients.
    pub clients: Port,
    /// For metrics, or for clients of another protocol.
    pub other: Port,
    /// For other nodes.
    pub cluster: Port,
}

impl Ports {
    /// Free ones.
    pub fn free() -> Result<Self> {
        Ok(Self { clients: free_port()?, other: free_port()?, cluster: free_port()? })
    }
}

impl Peer {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Starling => "Starling",
            Self::Centrifugo => "Centrifugo",
            Self::CentrifugoHistory => "Centrifugo, history",
            Self::Socketio => "Socket.IO",
            Self::Socketioxide => "socketioxide",
            Self::Nchan => "Nchan",
            Self::Nats => "NATS",
        }
    }

    /// The protocol of its topics.
    pub fn dialect(self) -> Dialect {
        match self {
            Self::Limit => Dialect::Raw,
            Self::Starling => Dialect::StarlingTopic,
            Self::Centrifugo | Self::CentrifugoHistory => Dialect::Centrifugo,
            Self::Socketio | Self::Socketioxide => Dialect::Socketio,
            Self::Nchan => Dialect::Nchan,
            Self::Nats => Dialect::Nats,
        }
    }

    /// Whether its nodes need Redis.
    pub fn needs_redis(self) -> bool {
        self != Self::Nats
    }

    /// How node `index` is started. Its files go into `folder`. Starling's own environment comes from [`crate::servers`].
    pub fn start(
        self,
        index: usize,
        ports: &[Ports],
        redis: Option<SocketAddr>,
        programs: &Programs,
        folder: &Folder,
    ) -> Result<Start> {
        let own = &ports[index];
        let port = own.clients.number().to_string();
        let redis = redis.map(|address| address.to_string()).unwrap_or_default();
        let redis_port = redis.rsplit(':').next().unwrap_or_default().to_owned();
        let text = |path: &Path| path.display().to_string();
        let production = vec![("NODE_ENV".to_owned(), "production".to_owned())];
        let (program, arguments, environment) = match self {
            Self::Limit => (programs.limit.clone(), vec![port, redis], Vec::new()),
            Self::Starling => (programs.starling.clone(), vec!["serve".to_owned()], Vec::new()),
            Self::Centrifugo | Self::CentrifugoHistory => {
                let config = centrifugo(&port, &redis, self == Self::CentrifugoHistory);
                let file = folder.write(&format!("centrifugo-{index}.json"), &config.to_string())?;
                (programs.centrifugo.clone(), vec!["--config".to_owned(), text(&file)], Vec::new())
            }
            Self::Socketio => {
                (programs.node.clone(), vec![text(&programs.socketio), port, redis_port], production)
            }
            Self::Socketioxide => (programs.socketioxide.clone(), vec![port, redis_port], Vec::new()),
            Self::Nchan => {
                let place = folder.join(&format!("nchan-{index}"));
                std::fs::create_dir_all(&place)?;
                let config = include_str!("../nchan/nginx.conf")
                    .replace("@PORT@", &port)
                    .replace("@REDIS@", &redis)
                    .replace("@FOLDER@", &text(&place));
                let file = folder.write(&format!("nchan-{index}.conf"), &config)?;
                let log = place.join("error.log");
                let words = [
                    "-p".to_owned(),
                    text(&place),
                    "-c".to_owned(),
                    text(&file),
                    "-e".to_owned(),
                    text(&log),
                ];
                (programs.nginx.clone(), words.to_vec(), Vec::new())
            }
            Self::Nats => {
                let file = folder.write(&format!("nats-{index}.conf"), &nats(index, ports))?;
                (programs.nats.clone(), vec!["-c".to_owned(), text(&file)], Vec::new())
            }
        };
        Ok(Start { program, arguments, environment })
    }
}

/// Centrifugo without tokens, since no other peer checks any; only Starling does.
fn centrifugo(port: &str, redis: &str, history: bool) -> serde_json::Value {
    let namespace = if history {
        serde_json::json!({"history_size": 100, "history_ttl": "60s"})
    } else {
        serde_json::json!({})
    };
    serde_json::json!({
        "http_server": {"address": "127.0.0.1", "port": port.parse::<u16>().unwrap_or(0)},
        "log": {"level": "error"},
        "client": {"insecure": true, "allowed_origins": ["*"], "channel_limit": 128},
        "channel": {"without_namespace": namespace},
        "engine": {"type": "redis", "redis": {"address": format!("redis://{redis}")}},
    })
}

fn nats(index: usize, ports: &[Ports]) -> String {
    let own = &ports[index];
    let routes: Vec<String> =
        ports.iter().map(|ports| format!("nats://{}", ports.cluster.address())).collect();
    let cluster = if ports.len() > 1 {
        let listen = own.cluster.address();
        format!(
            "cluster {{ name: peers, listen: \"{listen}\", no_advertise: true, routes: [{}] }}\n",
            routes.join(", ")
        )
    } else {
        String::new()
    };
    format!(
        "listen: \"{}\"\nserver_name: node{index}\nmax_connections: 64K\nping_interval: \"10m\"\n\
         websocket {{ listen: \"{}\", no_tls: true, compression: false }}\n{cluster}",
        own.other.address(),
        own.clients.address(),
    )
}
