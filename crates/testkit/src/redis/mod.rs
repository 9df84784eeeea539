//! Redis: one server, a cluster, and a pair behind Sentinel.

mod cluster;
mod sentinel;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::sync::OnceCell;

pub use cluster::RedisCluster;
pub use sentinel::RedisSentinel;

use crate::programs;
use crate::resp::{self, Reply};
use crate::{Folder, Launch, Port, Process, free_port};

/// How long a server may take to answer, on a machine that is busy compiling.
const START_LIMIT: Duration = Duration::from_secs(30);

const REDIS: &str = "redis-server";

/// One Redis server without persistence.
#[derive(Debug)]
pub struct Redis {
    /// Dropped before the folder and the port that it uses.
    process: Process,
    port: Port,
    _folder: Folder,
}

impl Redis {
    /// Starts one, and returns when it answers.
    ///
    /// # Errors
    /// When it can't be started, with its log.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// Starts one with more words on its command line, such as `["--maxmemory", "10mb"]`.
    ///
    /// # Errors
    /// When it can't be started, with its log.
    pub async fn start_with(options: &[&str]) -> Result<Self> {
        Self::start_program(REDIS, options).await
    }

    /// Like [`start_with`](Self::start_with), of another program that takes the same options: `valkey-server`.
    ///
    /// # Errors
    /// When it is not installed or can't be started, with its log.
    pub async fn start_program(program: &str, options: &[&str]) -> Result<Self> {
        Self::launch(program, free_port()?, options).await
    }

    /// A server that all tests of this process share, started on the first call. Each test uses keys of its own, and does not clear the
    /// server.
    ///
    /// # Errors
    /// When it can't be started, with its log.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Redis> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    async fn launch(program: &str, port: Port, options: &[&str]) -> Result<Self> {
        let program = programs::find(program)?;
        let folder = Folder::new("redis")?;
        let launch = Launch::new("redis-server", program, folder.path())
            .args(["--port", &port.number().to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .args(options.iter().copied());
        let process = Process::start(launch).await?;
        let redis = Self { process, port, _folder: folder };
        redis.answers().await?;
        Ok(redis)
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether it is running.
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Kills it (SIGKILL). All data is lost.
    ///
    /// # Errors
    /// When it does not vanish.
    pub async fn kill(&self) -> Result<()> {
        self.process.kill().await
    }

    /// Stops it (SIGSTOP): its connections stay open, and nothing answers.
    ///
    /// # Errors
    /// When it has ended.
    pub fn stop(&self) -> Result<()> {
        self.process.stop()
    }

    /// Resumes it after [`stop`](Self::stop).
    ///
    /// # Errors
    /// When it has ended.
    pub fn resume(&self) -> Result<()> {
        self.process.resume()
    }

    /// Kills it if it runs, and starts it on the same port, empty.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn restart(&self) -> Result<()> {
        self.process.kill().await?;
        self.process.start_again().await?;
        self.answers().await
    }

    /// Removes all keys.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn flushall(&self) -> Result<()> {
        self.cli(&["FLUSHALL"]).await.map(drop)
    }

    /// Runs a command.
    ///
    /// # Errors
    /// When it does not answer, or answers with an error.
    pub async fn cli(&self, command: &[&str]) -> Result<Reply> {
        resp::call(self.address(), command).await
    }

    /// One line of `INFO`, such as `role` or `connected_clients`; empty when there is none of that name.
    pub(crate) async fn info(&self, name: &str) -> Result<String> {
        let info = self.cli(&["INFO"]).await?.text();
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(line.unwrap_or_default().to_owned())
    }

    async fn answers(&self) -> Result<()> {
        let pong = async || Ok(self.cli(&["PING"]).await?.text() == "PONG");
        self.process.ready(START_LIMIT, "a PONG", pong).await?;
        // Another process may have taken the port.
        let pid = self.info("process_id").await?;
        ensure!(pid == self.pid().to_string(), "another Redis listens on port {}", self.port());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::is_alive;
    use crate::wait;

    #[tokio::test]
    async fn a_server_answers_and_is_gone_after_the_drop() {
        let redis = Redis::start().await.unwrap();
        redis.cli(&["SET", "key", "value with\r\nlines"]).await.unwrap();
        assert_eq!(redis.cli(&["GET", "key"]).await.unwrap(), Reply::Text("value with\r\nlines".to_owned()));
        assert_eq!(redis.cli(&["INCR", "count"]).await.unwrap(), Reply::Integer(1));
        redis.flushall().await.unwrap();
        assert_eq!(redis.cli(&["GET", "key"]).await.unwrap(), Reply::Nil);
        let error = redis.cli(&["NONSENSE"]).await.unwrap_err();
        assert!(format!("{error:#}").contains("unknown command"), "{error:#}");
        let pid = redis.pid();
        drop(redis);
        assert!(!is_alive(pid));
    }

    #[tokio::test]
    async fn a_restarted_server_is_empty_and_on_the_same_port() {
        let redis = Redis::start().await.unwrap();
        redis.cli(&["SET", "key", "value"]).await.unwrap();
        let (port, pid) = (redis.port(), redis.pid());
        redis.kill().await.unwrap();
        assert!(redis.cli(&["PING"]).await.is_err());
        redis.restart().await.unwrap();
        assert_eq!(redis.port(), port);
        assert_ne!(redis.pid(), pid);
        assert_eq!(redis.cli(&["GET", "key"]).await.unwrap(), Reply::Nil);
    }

    #[tokio::test]
    async fn a_stopped_server_is_silent_until_resumed() {
        let redis = Redis::start().await.unwrap();
        redis.stop().unwrap();
        let silent = tokio::time::timeout(Duration::from_millis(200), redis.cli(&["PING"])).await;
        assert!(silent.is_err());
        redis.resume().unwrap();
        wait::until_true(START_LIMIT, "a PONG", async || Ok(redis.cli(&["PING"]).await.is_ok()))
            .await
            .unwrap();
    }
}
