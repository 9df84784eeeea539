//! The servers under test: nodes behind a load balancer, with proxied links that can fail, Redis and PostgreSQL.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use starling_testkit::Folder;
use starling_testkit::balancer::HaProxy;
use starling_testkit::node::{Node, SECRET};
use starling_testkit::postgres::Postgres;
use starling_testkit::proxy::Link;

use super::disk::SmallDisk;
use super::fault::{DatabaseKind, Topology};
use super::redis::Servers;

/// Number of proxied links between clients and the balancer.
const CLIENT_LINKS: usize = 8;
/// Size of the small disk, enough for some minutes of load.
const DISK_BYTES: u64 = 512 << 20;

/// How nodes are started.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// The program to run.
    pub program: PathBuf,
    /// Number of nodes.
    pub nodes: usize,
    /// Duration of a drain.
    pub drain: Duration,
    /// Further environment variables.
    pub env: Vec<(String, String)>,
}

/// All servers. Nodes are dropped before the servers that they use.
#[derive(Debug)]
pub struct Testbed {
    /// The serving nodes.
    pub slots: Vec<NodeSlot>,
    /// The load balancer before the nodes.
    pub balancer: HaProxy,
    /// Links to the balancer for clients whose connections are cut.
    pub client_links: Vec<Link>,
    /// Redis.
    pub redis: Servers,
    /// The database that the nodes use.
    pub postgres: Postgres,
    /// The standby of the database.
    pub standby: Option<Postgres>,
    /// The disk of the database, dropped after it.
    pub disk: Option<SmallDisk>,
    topology: Topology,
    settings: NodeSettings,
    clocks: Option<Clocks>,
    started: usize,
}

/// A node and its links to Redis and PostgreSQL.
#[derive(Debug)]
pub struct NodeSlot {
    /// The node.
    pub node: Node,
    /// The link to Redis, if that is a single server.
    pub redis: Option<Link>,
    /// The link to PostgreSQL.
    pub database: Link,
}

impl Testbed {
    /// Starts all servers, and returns when the nodes serve.
    pub async fn start(topology: Topology, settings: &NodeSettings) -> Result<Self> {
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
        let clocks = if topology.clocks { Some(Clocks::new()?) } else { None };
        let mut client_links = Vec::new();
        for _ in 0..CLIENT_LINKS {
            client_links.push(Link::to(balancer.address()).await?);
        }
        let settings = settings.clone();
        let mut testbed = Self {
            slots: Vec::new(),
            balancer,
            client_links,
            redis,
            postgres,
            standby,
            disk,
            topology,
            settings,
            clocks,
            started: 0,
        };
        for _ in 0..testbed.settings.nodes {
            testbed.add_node().await?;
        }
        Ok(testbed)
    }

    /// Duration of a drain.
    pub fn drain(&self) -> Duration {
        self.settings.drain
    }

    /// Starts further nodes from this program.
    pub fn set_program(&mut self, program: &Path) {
        program.clone_into(&mut self.settings.program);
    }

    /// The topology that was started.
    pub fn topology(&self) -> Topology {
        self.topology
    }

    /// Starts a node under a new name, and adds it to the balancer.
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
        let drain = self.settings.drain.as_secs().to_string();
        let mut node = Node::builder()
            .program(&self.settings.program)
            .name(&name)
            .secret(SECRET)
            .redis(&redis_url)
            .database(&database.through(&self.postgres.url()))
            .unlimited()
            .env("STARLING_DRAIN_SECONDS", &drain)
            .env("STARLING_DRAIN_NOTICE_SECONDS", "1");
        for (variable, value) in &self.settings.env {
            node = node.env(variable, value);
        }
        // For the program with defects, which checks the torture itself.
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
        self.slots.push(NodeSlot { node, redis, database });
        Ok(())
    }

    /// Removes a node from the testbed and the balancer. It ends when it is dropped, unless it has ended before.
    pub async fn remove_node(&mut self, name: &str) -> Result<NodeSlot> {
        let at = self.slots.iter().position(|slot| slot.node.name() == name);
        let slot = self.slots.remove(at.with_context(|| format!("{name} is not on the stage"))?);
        self.balancer.remove(slot.node.address()).await?;
        Ok(slot)
    }

    /// The node of this name, unless it was removed.
    pub fn slot(&self, name: &str) -> Option<&NodeSlot> {
        self.slots.iter().find(|slot| slot.node.name() == name)
    }

    /// Redirects the links of all nodes to the current database, and cuts their open connections.
    pub fn follow_database(&self) {
        for slot in &self.slots {
            slot.database.retarget(self.postgres.address());
            slot.database.cut();
        }
    }

    /// Moves the clock of a node by this many seconds.
    pub fn move_clock(&self, name: &str, seconds: i64) -> Result<()> {
        self.clocks.as_ref().context("the clocks of these nodes can't be moved")?.show(name, seconds)
    }

    /// The addresses for clients: the balancer, or links to it that can be cut.
    pub fn urls(&self, through_links: bool) -> Vec<String> {
        let url = self.balancer.ws_url();
        if !through_links {
            return vec![url];
        }
        self.client_links.iter().map(|link| link.through(&url)).collect()
    }

    /// The addresses of the nodes, without the balancer.
    pub fn node_urls(&self) -> Vec<String> {
        self.slots.iter().map(|slot| slot.node.ws_url()).collect()
    }

    /// The memory of each node by name, in bytes.
    pub fn memory(&self) -> Vec<(String, u64)> {
        let of = |slot: &NodeSlot| Some((slot.node.name().to_owned(), slot.node.rss_bytes().ok()?));
        self.slots.iter().filter_map(of).collect()
    }

    /// The sum of a counter over all nodes that answer.
    pub async fn counter(&self, name: &str) -> f64 {
        let mut sum = 0.0;
        for slot in &self.slots {
            sum += slot.node.metric(name, "").await.unwrap_or(0.0);
        }
        sum
    }
}

/// Fake clocks of the nodes.
#[derive(Debug)]
struct Clocks {
    library: PathBuf,
    folder: Folder,
}

impl Clocks {
    fn new() -> Result<Self> {
        let folders = std::fs::read_dir("/usr/lib").context("read /usr/lib")?.flatten();
        let library = folders
            .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"))
            .chain([Path::new("/usr/lib/faketime/libfaketimeMT.so.1").to_owned()])
            .find(|path| path.is_file())
            .context("faketime's library is not where Debian puts it")?;
        Ok(Self { library, folder: Folder::new("clocks")? })
    }

    /// The environment of a node with a fake clock. The node reads the file every second; only the time of day changes, not the
    /// monotonic clock.
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
