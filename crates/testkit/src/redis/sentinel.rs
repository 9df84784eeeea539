//! Redis behind Sentinel.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Redis, START_LIMIT};
use crate::programs;
use crate::resp::{self, Reply};
use crate::{Folder, Launch, Port, Process, free_port, wait};

/// The name that the sentinels know the pair by.
const SERVICE: &str = "starling";
/// What stands for the master's address in the settings of a sentinel.
const PLACEHOLDER: &str = "redis-1 6379";
/// How many sentinels there are, of which two must agree that the master is down.
const SENTINELS: usize = 3;
const AGREE_LIMIT: Duration = Duration::from_secs(60);

/// A master, a replica, and three sentinels that watch over them.
#[derive(Debug)]
pub struct RedisSentinel {
    sentinels: Vec<Sentinel>,
    servers: [Redis; 2],
}

#[derive(Debug)]
struct Sentinel {
    process: Process,
    port: Port,
    _folder: Folder,
}

impl RedisSentinel {
    /// Starts all five, and returns when the sentinels know one another and the replica.
    ///
    /// # Errors
    /// When they can't be started or do not agree.
    pub async fn start() -> Result<Self> {
        let options = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"];
        let sentinel = format!(
            "sentinel monitor {SERVICE} {PLACEHOLDER} 2\n\
             sentinel down-after-milliseconds {SERVICE} 1000\n\
             sentinel failover-timeout {SERVICE} 6000\n",
        );
        Self::launch(&options, &sentinel).await
    }

    /// Starts all five with the settings in these files: of the servers, and of the sentinels, whose master `starling` is `redis-1 6379`.
    ///
    /// # Errors
    /// When a file can't be read, they can't be started, or do not agree.
    pub async fn start_from(server: &Path, sentinel: &Path) -> Result<Self> {
        let settings = fs::read_to_string(sentinel).with_context(|| sentinel.display().to_string())?;
        ensure!(settings.contains(PLACEHOLDER), "{} does not name {PLACEHOLDER}", sentinel.display());
        Self::launch(&["--include", server.to_str().context("a path in UTF-8")?], &settings).await
    }

    async fn launch(options: &[&str], sentinel: &str) -> Result<Self> {
        let master = Redis::start_with(options).await?;
        let replica = Redis::start_with(options).await?;
        replica.cli(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]).await?;
        let linked = async || Ok(replica.info("master_link_status").await? == "up");
        wait::until_true(AGREE_LIMIT, "the replica's link to its master", linked).await?;
        let mut sentinels = Vec::new();
        for _ in 0..SENTINELS {
            sentinels.push(Sentinel::start(sentinel, master.port()).await?);
        }
        let pair = Self { sentinels, servers: [master, replica] };
        pair.agreed(pair.servers[0].port()).await?;
        Ok(pair)
    }

    /// `redis-sentinel://HOST:PORT?node=HOST:PORT&…&sentinelServiceName=…` with every sentinel.
    pub fn url(&self) -> String {
        let mut addresses = self.sentinels.iter().map(|sentinel| sentinel.port.address());
        let first = addresses.next().map(|address| address.to_string()).unwrap_or_default();
        let others: String = addresses.map(|address| format!("node={address}&")).collect();
        format!("redis-sentinel://{first}?{others}sentinelServiceName={SERVICE}")
    }

    /// The two servers, in no particular order.
    pub fn servers(&self) -> &[Redis; 2] {
        &self.servers
    }

    /// The server that the sentinels call the master.
    ///
    /// # Errors
    /// When no sentinel answers, or names a server that is none of the two.
    pub async fn master(&self) -> Result<&Redis> {
        let port = self.sentinels[0].master_port().await?;
        self.servers
            .iter()
            .find(|server| server.port() == port)
            .context("the sentinels name a strange master")
    }

    /// Swaps master and replica, and returns when all servers agree.
    ///
    /// # Errors
    /// When the sentinels refuse, or do not agree in time.
    pub async fn failover(&self) -> Result<()> {
        let next = self.other(self.master().await?);
        // Right after another failover a sentinel still refuses for a moment.
        let accepted =
            async || Ok(self.sentinels[0].call(&["SENTINEL", "FAILOVER", SERVICE]).await.map(Some)?);
        wait::until(AGREE_LIMIT, "a sentinel to begin the failover", accepted).await?;
        self.agreed(next.port()).await
    }

    /// Kills the master, and returns when the sentinels have made the replica the master. Until
    /// [`revive`](Self::revive) there is no replica.
    ///
    /// # Errors
    /// When the replica is not promoted in time.
    pub async fn kill_master(&self) -> Result<()> {
        let master = self.master().await?;
        master.kill().await?;
        let next = self.other(master).port();
        for sentinel in &self.sentinels {
            sentinel.names_master(next).await?;
        }
        let promoted = async || Ok(self.other(master).info("role").await? == "master");
        wait::until_true(AGREE_LIMIT, "the promotion of the replica", promoted).await
    }

    /// Starts the server that [`kill_master`](Self::kill_master) ended, as a replica of the other.
    ///
    /// # Errors
    /// When it does not come back, or does not follow in time.
    pub async fn revive(&self) -> Result<()> {
        let master = self.master().await?;
        let dead = self.other(master);
        dead.restart().await?;
        dead.cli(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]).await?;
        self.agreed(master.port()).await
    }

    fn other(&self, server: &Redis) -> &Redis {
        &self.servers[usize::from(self.servers[0].port() == server.port())]
    }

    /// Waits until every sentinel knows this master, one replica that follows it, and the other sentinels.
    async fn agreed(&self, master: u16) -> Result<()> {
        for sentinel in &self.sentinels {
            sentinel.names_master(master).await?;
            sentinel.knows_everyone().await?;
        }
        let [first, second] = &self.servers;
        let replica = if first.port() == master { second } else { first };
        let follows = async || {
            Ok(replica.info("role").await? == "slave"
                && replica.info("master_port").await? == master.to_string()
                && replica.info("master_link_status").await? == "up")
        };
        wait::until_true(AGREE_LIMIT, "the replica to follow the master", follows).await
    }
}

impl Sentinel {
    async fn start(settings: &str, master: u16) -> Result<Self> {
        let program = programs::find("redis-server")?;
        let (port, folder) = (free_port()?, Folder::new("sentinel")?);
        let config = format!(
            "port {}\nbind 127.0.0.1\ndir {}\n{}",
            port.number(),
            folder.path().display(),
            settings.replace(PLACEHOLDER, &format!("127.0.0.1 {master}")),
        );
        let file = folder.write("sentinel.conf", &config)?;
        let launch = Launch::new("redis-sentinel", program, folder.path())
            .args([file.as_os_str(), "--sentinel".as_ref()]);
        let sentinel = Self { process: Process::start(launch).await?, port, _folder: folder };
        let pong = async || Ok(sentinel.call(&["PING"]).await?.text() == "PONG");
        sentinel.process.ready(START_LIMIT, "a PONG", pong).await?;
        Ok(sentinel)
    }

    async fn call(&self, command: &[&str]) -> Result<Reply> {
        resp::call(self.port.address(), command).await
    }

    async fn master_port(&self) -> Result<u16> {
        let address = self.call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]).await?.texts();
        address.get(1).and_then(|port| port.parse().ok()).context("the sentinel names no master")
    }

    async fn names_master(&self, port: u16) -> Result<()> {
        let named = async || Ok(self.master_port().await? == port);
        wait::until_true(AGREE_LIMIT, "a sentinel to name the new master", named).await
    }

    async fn knows_everyone(&self) -> Result<()> {
        let knows = async || {
            let facts = self.call(&["SENTINEL", "MASTER", SERVICE]).await?.texts();
            let fact = |name: &str| {
                facts.chunks(2).find(|pair| pair[0] == name).and_then(|pair| pair.get(1)).cloned()
            };
            Ok(fact("num-slaves").as_deref() == Some("1")
                && fact("num-other-sentinels").as_deref() == Some("2"))
        };
        wait::until_true(AGREE_LIMIT, "a sentinel to know the others", knows).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::is_alive;

    #[tokio::test]
    async fn the_replica_takes_over_from_a_dead_master_and_all_are_gone_after_the_drop() {
        let pair = RedisSentinel::start().await.unwrap();
        let first = pair.master().await.unwrap().port();
        pair.kill_master().await.unwrap();
        let second = pair.master().await.unwrap();
        assert_ne!(second.port(), first);
        second.cli(&["SET", "key", "value"]).await.unwrap();
        pair.revive().await.unwrap();
        pair.failover().await.unwrap();
        let third = pair.master().await.unwrap();
        assert_eq!(third.port(), first);
        assert_eq!(third.cli(&["GET", "key"]).await.unwrap().text(), "value");

        let mut pids: Vec<u32> = pair.servers().iter().map(Redis::pid).collect();
        pids.extend(pair.sentinels.iter().map(|sentinel| sentinel.process.pid()));
        drop(pair);
        assert!(pids.into_iter().all(|pid| !is_alive(pid)));
    }
}
