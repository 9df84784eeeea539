//! Nodes: the real program, started by tests.

mod cluster;
mod program;

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

pub use cluster::{Cluster, ClusterBuilder};
pub use program::program;

use crate::http::{self, Response};
use crate::process::Signal;
use crate::token::Token;
use crate::{Folder, Launch, Port, Process, free_port};

/// How long a node may take until it says that it is ready.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// The secret of nodes that were given none.
pub const SECRET: &str = "a secret for tests, long enough for HS256";

/// A running node.
#[derive(Debug)]
pub struct Node {
    /// Dropped before the folder and the ports that it uses.
    process: Process,
    name: String,
    secret: String,
    listen: Port,
    metrics: Port,
    folder: Folder,
}

/// Settings of a node to start.
#[derive(Clone, Debug)]
pub struct NodeBuilder {
    program: Option<PathBuf>,
    name: String,
    secret: String,
    args: Vec<String>,
    env: Vec<(OsString, OsString)>,
    files: Vec<(String, String)>,
    wait: bool,
    one_processor: bool,
}

impl Node {
    /// A single node with SQLite and without Redis.
    pub fn builder() -> NodeBuilder {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        NodeBuilder {
            program: None,
            name: format!("node-{}", COUNT.fetch_add(1, Ordering::Relaxed)),
            secret: SECRET.to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            files: Vec::new(),
            wait: true,
            one_processor: false,
        }
    }

    /// Starts a single node with SQLite and without Redis.
    ///
    /// # Errors
    /// When it can't be started or does not become ready, with its log.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Its name, `STARLING_NODE`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.listen.address()
    }

    /// `ws://HOST:PORT/v1/ws`.
    pub fn ws_url(&self) -> String {
        format!("ws://{}/v1/ws", self.address())
    }

    /// `http://HOST:PORT`.
    pub fn http_url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The secret that its tokens are signed with.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// A token of this user that the node accepts.
    pub fn token(&self, user: &str) -> String {
        Token::of(user).sign(&self.secret)
    }

    /// Its working directory.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `GET` on a path of the public port.
    ///
    /// # Errors
    /// When it can't be reached.
    pub async fn get(&self, path: &str) -> Result<Response> {
        http::get(&format!("{}{path}", self.http_url())).await
    }

    /// What `/metrics` says.
    ///
    /// # Errors
    /// When it can't be reached.
    pub async fn metrics(&self) -> Result<String> {
        Ok(http::get(&format!("http://{}/metrics", self.metrics.address())).await?.text())
    }

    /// The sum of all series of one metric whose labels hold `labels`, such as `("starling_messages_total", "")`; 0 when
    /// there is none.
    ///
    /// # Errors
    /// When the node can't be reached.
    pub async fn metric(&self, name: &str, labels: &str) -> Result<f64> {
        Ok(sum_of(&self.metrics().await?, name, labels))
    }

    /// Where `/metrics` is served.
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics.address()
    }

    /// Waits until `/ready` says 200.
    ///
    /// # Errors
    /// When it does not within a minute, with the end of its log.
    pub async fn ready(&self) -> Result<()> {
        let ready = async || Ok(self.get("/ready").await?.status == 200);
        self.process.ready(READY_LIMIT, "/ready", ready).await
    }

    /// Kills it (SIGKILL).
    ///
    /// # Errors
    /// When it does not vanish.
    pub async fn kill(&self) -> Result<()> {
        self.process.kill().await
    }

    /// Asks it to drain (SIGTERM), and returns at once.
    ///
    /// # Errors
    /// When it has ended.
    pub fn begin_termination(&self) -> Result<()> {
        self.process.signal(Signal::TERM)
    }

    /// Asks it to drain (SIGTERM), and waits for its end.
    ///
    /// # Errors
    /// When it has not ended within `limit`.
    pub async fn terminate(&self, limit: Duration) -> Result<ExitStatus> {
        self.begin_termination()?;
        self.ended(limit).await
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it has not ended within `limit`.
    pub async fn ended(&self, limit: Duration) -> Result<ExitStatus> {
        self.process.ended(limit).await
    }

    /// Stops it (SIGSTOP).
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

    /// Starts it again with the same ports, name and folder, after it has ended; waits until it is ready.
    ///
    /// # Errors
    /// When it is running, or does not become ready.
    pub async fn start_again(&self) -> Result<()> {
        self.process.start_again().await?;
        self.ready().await
    }

    /// Whether it is running.
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// What it has written so far, standard output and error.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The file that its standard output and error go to.
    pub fn log_path(&self) -> PathBuf {
        self.process.log_path()
    }

    /// The memory that it occupies (resident set), in bytes.
    ///
    /// # Errors
    /// When it has ended.
    pub fn rss_bytes(&self) -> Result<u64> {
        let status = self.proc_file("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS")?;
        Ok(kibibytes * 1024)
    }

    /// The processor time that it has used, user and system, in seconds.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = self.proc_file("stat")?;
        // After `pid (name)` come the state, field 3, and so on; 14 and 15 are the times in ticks.
        let (_, fields) = stat.rsplit_once(") ").context("an unknown form of stat")?;
        let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// The names of its threads.
    ///
    /// # Errors
    /// When it has ended.
    pub fn threads(&self) -> Result<Vec<String>> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).context("list the threads")?;
        // A thread may end meanwhile.
        let names =
            threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok());
        Ok(names.map(|name| name.trim_end().to_owned()).collect())
    }

    fn proc_file(&self, name: &str) -> Result<String> {
        let path = format!("/proc/{}/{name}", self.pid());
        std::fs::read_to_string(&path).with_context(|| format!("read {path}"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the end of the log of {} ---\n{}\n---", self.name, self.process.log_tail());
        }
    }
}

impl NodeBuilder {
    /// Runs this program instead of [`program`]'s.
    #[must_use]
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// Names the node.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Sets the secret of tokens and tickets; [`SECRET`] otherwise.
    #[must_use]
    pub fn secret(mut self, secret: &str) -> Self {
        secret.clone_into(&mut self.secret);
        self
    }

    /// Sets a variable; an empty value of `STARLING_JWT_SECRET` leaves it unset.
    #[must_use]
    pub fn env(self, name: &str, value: &str) -> Self {
        self.env_os(name.as_ref(), value.as_ref())
    }

    /// Sets a variable of any bytes, as another program may have done.
    #[must_use]
    pub fn env_os(mut self, name: &OsStr, value: &OsStr) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Puts a file into the working directory before the start.
    #[must_use]
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Sets `REDIS_URL`.
    #[must_use]
    pub fn redis(self, url: &str) -> Self {
        self.env("REDIS_URL", url)
    }

    /// Sets `DATABASE_URL`.
    #[must_use]
    pub fn database(self, url: &str) -> Self {
        self.env("DATABASE_URL", url)
    }

    /// Disables the limits per user, connection and address, which a fast test would exceed.
    #[must_use]
    pub fn unlimited(self) -> Self {
        UNLIMITED.iter().fold(self, |node, name| node.env(name, "0"))
    }

    /// Lets it use one processor only, so that one thread serves sockets and everything else.
    #[must_use]
    pub fn on_one_processor(mut self) -> Self {
        self.one_processor = true;
        self
    }

    /// Does not wait until it is ready, for nodes that should not become ready.
    #[must_use]
    pub fn without_waiting(mut self) -> Self {
        self.wait = false;
        self
    }

    /// Starts it, and waits until it is ready.
    ///
    /// # Errors
    /// When it can't be started or does not become ready, with its log.
    pub async fn start(self) -> Result<Node> {
        let program = match self.program {
            Some(program) => program,
            None => tokio::task::spawn_blocking(program).await??,
        };
        let (listen, metrics) = (free_port()?, free_port()?);
        let folder = Folder::new(&self.name)?;
        for (name, text) in &self.files {
            folder.write(name, text)?;
        }
        let mut launch = Launch::new(&self.name, program, folder.path()).args(&self.args);
        if self.one_processor {
            launch = launch.on_one_processor();
        }
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(&name.to_string_lossy())) {
            launch = launch.without_env(name);
        }
        launch = launch
            .env("STARLING_NODE", &self.name)
            .env("STARLING_LISTEN", listen.address().to_string())
            .env("STARLING_METRICS_LISTEN", metrics.address().to_string());
        let secret = ("STARLING_JWT_SECRET".into(), self.secret.clone().into());
        for (name, value) in std::iter::once(&secret).chain(&self.env) {
            launch = if value.is_empty() { launch.without_env(name) } else { launch.env(name, value) };
        }
        let process = Process::start(launch).await?;
        let node = Node { process, name: self.name, secret: self.secret, listen, metrics, folder };
        if self.wait {
            node.ready().await?;
        }
        Ok(node)
    }
}

const UNLIMITED: [&str; 9] = [
    "STARLING_LIMIT_CONNECT_WAIT_SECONDS",
    "STARLING_LIMIT_USER_WRITES_PER_MINUTE",
    "STARLING_LIMIT_CONNECTION_COMMANDS_PER_SECOND",
    "STARLING_LIMIT_CONNECTION_BYTES_PER_SECOND",
    "STARLING_LIMIT_CONNECTION_REQUESTS_PER_SECOND",
    "STARLING_LIMIT_USER_REQUESTS_PER_SECOND",
    "STARLING_LIMIT_USER_READS_PER_SECOND",
    "STARLING_LIMIT_ADDRESS_CONNECTIONS",
    "STARLING_LIMIT_ADDRESS_HANDSHAKES_PER_SECOND",
];

/// Whether a variable would reach a node from the environment of whoever runs the test.
fn is_setting(name: &str) -> bool {
    let prefixes = ["STARLING_", "OTEL_", "REDIS_", "DATABASE_", "RABBITMQ_"];
    name == "RUST_LOG" || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Adds up the samples of a metric in Prometheus' text format.
fn sum_of(text: &str, name: &str, labels: &str) -> f64 {
    let sample = |line: &str| {
        let rest = line.strip_prefix(name)?;
        if !rest.starts_with(['{', ' ']) || !rest.contains(labels) {
            return None;
        }
        rest.rsplit(' ').next()?.parse::<f64>().ok()
    };
    text.lines().filter_map(sample).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_the_series_of_one_metric() {
        let text =
            "# HELP a_total x\na_total{k=\"v\",n=\"1\"} 2\na_total{k=\"w\"} 3.5\na_total_more 100\nb 7\n";
        assert_eq!(sum_of(text, "a_total", ""), 5.5);
        assert_eq!(sum_of(text, "a_total", "k=\"v\""), 2.0);
        assert_eq!(sum_of(text, "b", ""), 7.0);
        assert_eq!(sum_of(text, "none", ""), 0.0);
    }

    /// Stands for the program: answers `/ready` and ends as told.
    const STAND_IN: &str = r#"#!/usr/bin/perl
use strict; use IO::Socket::INET; use Cwd;
my $server = IO::Socket::INET->new(LocalAddr => $ENV{STARLING_LISTEN}, Listen => 16, ReuseAddr => 1) or die;
while (my $client = $server->accept) {
    while (<$client>) { last if /^\r?$/ }
    print $client "HTTP/1.1 200 OK\r\n\r\n$ENV{WORD} " . getcwd();
    close $client;
}
"#;

    #[tokio::test]
    async fn a_node_is_ready_measured_terminated_started_again_and_gone() {
        let place = Folder::new("stand-in").unwrap();
        let program = place.write("program", STAND_IN).unwrap();
        let run = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, run).unwrap();
        let node = Node::builder().program(program).env("WORD", "hello").start().await.unwrap();
        let text = node.get("/").await.unwrap().text();
        assert!(text.starts_with("hello ") && text.ends_with(node.folder().to_str().unwrap()), "{text}");
        assert!(node.rss_bytes().unwrap() > 1 << 20);
        // Its start may take less than the hundredth of a second that the kernel counts in.
        let mut requests = 0;
        while node.cpu_seconds().unwrap() == 0.0 {
            node.get("/").await.unwrap();
            requests += 1;
            assert!(requests < 10_000, "no processor time was counted");
        }
        let status = node.terminate(Duration::from_secs(10)).await.unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15));
        node.start_again().await.unwrap();
        let pid = node.pid();
        drop(node);
        assert!(!crate::process::is_alive(pid));
    }

    #[tokio::test]
    async fn a_node_that_ends_at_once_shows_its_log() {
        let error =
            Node::builder().program("sh").arg("-c").arg("echo bad key; exit 64").start().await.unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("bad key") && text.contains("64"), "{text}");
    }
}
