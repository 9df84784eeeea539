//! What the faults happen to: nodes behind a load balancer, with links that can be made faulty, Redis, and PostgreSQL.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use starling_testkit::Folder;
use starling_testkit::balancer::HaProxy;
use starling_testkit::install::{self, Tool};
use starling_testkit::node::{Node, SECRET};
use starling_testkit::postgres::Postgres;
use starling_testkit::proxy::Link;

use super::disk::SmallDisk;
use super::fault::{DatabaseKind, Topology};
use super::redis::Servers;

/// How many links clients are spread over, where they go through links.
const FRONTS: usize = 8;
/// How large the small disk is: room for some minutes of load.
const DISK_BYTES: u64 = 512 << 20;

/// How nodes are to be started.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// The program.
    pub program: PathBuf,
    /// How many of them.
    pub nodes: usize,
    /// How long a drain may take.
    pub drain: Duration,
    /// Further variables.
    pub env: Vec<(String, String)>,
}

/// Everything that stands. Nodes are dropped before what they use.
#[derive(Debug)]
pub struct Stage {
    /// The nodes that serve.
    pub seats: Vec<Seat>,
    /// Before the nodes.
    pub balancer: HaProxy,
    /// Before the balancer, for clients whose connections are to be cut.
    pub fronts: Vec<Link>,
    /// Redis.
    pub redis: Servers,
    /// The database that the nodes use.
    pub postgres: Postgres,
    /// What follows it.
    pub standby: Option<Postgres>,
    /// What its data are on; dropped after it.
    pub disk: Option<SmallDisk>,
    topology: Topology,
    fleet: Fleet,
    clocks: Option<Clocks>,
    started: usize,
}

/// A node with its links.
#[derive(Debug)]
pub struct Seat {
    /// The node.
    pub node: Node,
    /// To Redis, where that is a server alone.
    pub redis: Option<Link>,
    /// To PostgreSQL.
    pub database: Link,
}

impl Stage {
    /// Starts everything, and returns when all nodes serve.
    pub async fn start(topology: Topology, fleet: &Fleet) -> Result<Self> {
        let disk = match topology.database {
            DatabaseKind::SmallDisk => Some(SmallDisk::mount(DISK_BYTES)?),
            _ => None,
        };
        let postgres = async {
            match &disk {
                Some(disk) => Postgres::start_in(&disk.folder()).await,
                None => Postgres::start().await,
            }
        };
        let (redis, postgres, balancer) =
            tokio::try_join!(Servers::start(topology.redis), postgres, HaProxy::start())?;
        let standby = match topology.database {
            DatabaseKind::Pair => Some(Postgres::standby_of(&postgres).await?),
            _ => None,
        };
        let clocks = if topology.clocks { Some(Clocks::new().await?) } else { None };
        let mut fronts = Vec::new();
        for _ in 0..FRONTS {
            fronts.push(Link::to(balancer.address()).await?);
        }
        let fleet = fleet.clone();
        let mut stage = Self {
            seats: Vec::new(),
            balancer,
            fronts,
            redis,
            postgres,
            standby,
            disk,
            topology,
            fleet,
            clocks,
            started: 0,
        };
        for _ in 0..stage.fleet.nodes {
            stage.add_node().await?;
        }
        Ok(stage)
    }

    /// How long a drain may take.
    pub fn drain(&self) -> Duration {
        self.fleet.drain
    }

    /// What it was started as.
    pub fn topology(&self) -> Topology {
        self.topology
    }

    /// Starts a node under a new name, and lets it serve.
    pub async fn add_node(&mut self) -> Result<()> {
        self.started += 1;
        let name = format!("node-{}", self.started);
        let redis = match self.redis.alone() {
            Some(address) => Some(Link::to(address).await?),
            None => None,
        };
        let database = Link::to(self.postgres.address()).await?;
        let url = self.redis.url();
        let redis_url = redis.as_ref().map_or(url.clone(), |link| link.through(&url));
        let drain = self.fleet.drain.as_secs().to_string();
        let mut node = Node::builder()
            .program(&self.fleet.program)
            .name(&name)
            .secret(SECRET)
            .redis(&redis_url)
            .database(&database.through(&self.postgres.url()))
            .unlimited()
            .env("STARLING_DRAIN_SECONDS", &drain)
            .env("STARLING_DRAIN_NOTICE_SECONDS", "1");
        for (variable, value) in &self.fleet.env {
            node = node.env(variable, value);
        }
        // A program that was built to break its promises: the checker is to see it.
        if let Ok(sabotage) = std::env::var("STARLING_SABOTAGE") {
            node = node.env("STARLING_SABOTAGE", &sabotage);
        }
        if let Some(clocks) = &self.clocks {
            for (variable, value) in clocks.of(&name)? {
                node = node.env(variable, &value);
            }
        }
        let node = node.start().await?;
        self.balancer.add(node.address()).await?;
        self.seats.push(Seat { node, redis, database });
        Ok(())
    }

    /// Takes a node out of the hands of the balancer and of this; it ends when it is dropped, if it has not before.
    pub async fn remove_node(&mut self, name: &str) -> Result<Seat> {
        let at = self.seats.iter().position(|seat| seat.node.name() == name);
        let seat = self.seats.remove(at.with_context(|| format!("{name} is not on the stage"))?);
        self.balancer.remove(seat.node.address()).await?;
        Ok(seat)
    }

    /// The node of this name, if it still serves.
    pub fn seat(&self, name: &str) -> Option<&Seat> {
        self.seats.iter().find(|seat| seat.node.name() == name)
    }

    /// Leads all nodes to the database where it is now, and cuts what they have open.
    pub fn follow_database(&self) {
        for seat in &self.seats {
            seat.database.retarget(self.postgres.address());
            seat.database.cut();
        }
    }

    /// Shows a node's clock moved by so many seconds.
    pub fn move_clock(&self, name: &str, seconds: i64) -> Result<()> {
        self.clocks.as_ref().context("the clocks of these nodes can't be moved")?.show(name, seconds)
    }

    /// Where clients go: straight to the balancer, or through links that can be cut.
    pub fn urls(&self, through_links: bool) -> Vec<String> {
        let url = self.balancer.ws_url();
        if !through_links {
            return vec![url];
        }
        self.fronts.iter().map(|front| front.through(&url)).collect()
    }

    /// Where clients go that want a node and not any of them.
    pub fn node_urls(&self) -> Vec<String> {
        self.seats.iter().map(|seat| seat.node.ws_url()).collect()
    }

    /// The memory of each node, by name, bytes.
    pub fn memory(&self) -> Vec<(String, u64)> {
        let of = |seat: &Seat| Some((seat.node.name().to_owned(), seat.node.rss_bytes().ok()?));
        self.seats.iter().filter_map(of).collect()
    }

    /// The sum of a counter over the nodes that can be asked.
    pub async fn counter(&self, name: &str) -> f64 {
        let mut sum = 0.0;
        for seat in &self.seats {
            sum += seat.node.metric(name, "").await.unwrap_or(0.0);
        }
        sum
    }
}

/// Times that nodes see instead of the true one.
#[derive(Debug)]
struct Clocks {
    library: PathBuf,
    folder: Folder,
}

impl Clocks {
    async fn new() -> Result<Self> {
        tokio::task::spawn_blocking(|| install::ensure_installed(&[Tool::Faketime])).await??;
        let folders = std::fs::read_dir("/usr/lib").context("read /usr/lib")?.flatten();
        let library = folders
            .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"))
            .chain([Path::new("/usr/lib/faketime/libfaketimeMT.so.1").to_owned()])
            .find(|path| path.is_file())
            .context("faketime's library is not where Debian puts it")?;
        Ok(Self { library, folder: Folder::new("clocks")? })
    }

    /// The environment of a node that sees this clock: it reads the file anew every second, and only the time of day moves.
    fn of(&self, name: &str) -> Result<[(&'static str, String); 4]> {
        let file = self.folder.write(name, "+0\n")?;
        Ok([
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
        ])
    }

    fn show(&self, name: &str, seconds: i64) -> Result<()> {
        self.folder.write(name, &format!("{seconds:+}\n")).map(drop)
    }
}
