//! Servers for one run: nodes on one core, and Redis, PostgreSQL and the generator on another. All are new for each run, so that none
//! inherits anything from the one before.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use starling_peers_load::{Dialect, Outcome, Pace, Plan, Shape, Watched};
use starling_testkit::http::get;
use starling_testkit::postgres::Postgres;
use starling_testkit::token::Token;
use starling_testkit::{Folder, Launch, Port, Process, free_port, programs};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::install::Programs;
use crate::peer::{Peer, Ports};

/// How long a server may take to become ready.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How much longer than its plan a generator may take.
const GENERATOR_LIMIT: Duration = Duration::from_secs(150);
/// The secret of Starling's tokens. The nodes listen on the loopback for some seconds.
const SECRET: &str = "peers-secret-of-nodes-that-live-for-seconds";
/// What limits clients of Starling. No other peer has such limits, so they are off.
const LIMITS: [&str; 9] = [
    "STARLING_LIMIT_USER_WRITES_PER_MINUTE",
    "STARLING_LIMIT_CONNECTION_COMMANDS_PER_SECOND",
    "STARLING_LIMIT_CONNECTION_BYTES_PER_SECOND",
    "STARLING_LIMIT_CONNECTION_REQUESTS_PER_SECOND",
    "STARLING_LIMIT_USER_REQUESTS_PER_SECOND",
    "STARLING_LIMIT_USER_READS_PER_SECOND",
    "STARLING_LIMIT_ADDRESS_CONNECTIONS",
    "STARLING_LIMIT_ADDRESS_HANDSHAKES_PER_SECOND",
    "STARLING_LIMIT_HANDSHAKES_PER_SECOND",
];

/// What all runs share.
pub struct Setup {
    /// The programs.
    pub programs: Programs,
    /// The core of the nodes.
    pub server_core: usize,
    /// The core of everything else.
    pub load_core: usize,
    /// Seconds that count in each run.
    pub seconds: f64,
}

/// One run.
#[derive(Clone, Copy)]
pub struct Task {
    /// Whose nodes.
    pub peer: Peer,
    /// How many nodes.
    pub nodes: usize,
    /// What they speak.
    pub dialect: Dialect,
    /// Who connects.
    pub shape: Shape,
    /// What is sent.
    pub pace: Pace,
    /// Whether each node gets a generator of its own, which connects the whole shape to it. More connections than one process may have
    /// need several.
    pub generator_per_node: bool,
    /// Whether PostgreSQL counts statements, which costs it some time.
    pub counts_statements: bool,
}

/// The servers of a run. They end when this is dropped: first the nodes.
struct Servers {
    nodes: Vec<Process>,
    ports: Vec<Ports>,
    redis: Option<(Process, Port)>,
    postgres: Option<Postgres>,
    /// Whether PostgreSQL counts statements.
    counts_statements: bool,
    folder: Folder,
}

impl Setup {
    /// Runs a task. Returns the outcome of each generator.
    ///
    /// # Errors
    /// When a server or a generator can't be started or does not finish.
    pub async fn run(&self, task: Task) -> Result<Vec<Outcome>> {
        let servers =
            Box::pin(self.start(task)).await.with_context(|| format!("start {}", task.peer.name()))?;
        let mut plans = Vec::new();
        if task.generator_per_node {
            for (node, process) in servers.ports.iter().zip(&servers.nodes) {
                plans.push(self.plan(task, vec![node.clients.address()], vec![process.pid()], &servers)?);
            }
        } else {
            let nodes = servers.ports.iter().map(|ports| ports.clients.address()).collect();
            plans.push(self.plan(task, nodes, servers.nodes.iter().map(Process::pid).collect(), &servers)?);
        }
        let mut runs = Vec::new();
        for (number, plan) in plans.iter().enumerate() {
            runs.push(self.generate(plan, number, &servers));
        }
        let mut outcomes = Vec::new();
        for outcome in join_all(runs).await {
            outcomes.push(outcome?);
        }
        Ok(outcomes)
    }

    fn plan(&self, task: Task, nodes: Vec<SocketAddr>, pids: Vec<u32>, servers: &Servers) -> Result<Plan> {
        let tokens = if task.peer == Peer::Starling {
            let users = 0..=task.shape.connections(nodes.len());
            let lines: Vec<String> = users.map(|user| Token::of(&format!("u{user}")).sign(SECRET)).collect();
            Some(servers.folder.write("tokens", &lines.join("\n"))?)
        } else {
            None
        };
        Ok(Plan {
            nodes,
            dialect: task.dialect,
            shape: task.shape,
            pace: task.pace,
            warm_seconds: if task.pace == Pace::Silent { 0.0 } else { 1.0 },
            seconds: self.seconds,
            payload_bytes: 128,
            sources: 4,
            tokens,
            watched: Watched {
                nodes: pids,
                redis: servers.redis.as_ref().map(|(process, _)| process.pid()),
                redis_address: servers.redis.as_ref().map(|(_, port)| port.address()),
                postgres: servers.postgres.as_ref().map(Postgres::pid),
            },
        })
    }

    async fn generate(&self, plan: &Plan, number: usize, servers: &Servers) -> Result<Outcome> {
        let file = servers.folder.write(&format!("plan-{number}.json"), &serde_json::to_string(plan)?)?;
        let mut command = Command::new("taskset");
        command.args(["-c", &self.load_core.to_string()]).arg(&self.programs.load).arg(file);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("the generator's output")?).lines();
        let mut statements = Vec::new();
        let read = async {
            while let Some(line) = lines.next_line().await? {
                if line.starts_with('{') {
                    return Ok(serde_json::from_str::<Outcome>(&line)?);
                }
                if servers.counts_statements
                    && let Some(postgres) = &servers.postgres
                {
                    statements.push(count_statements(postgres).await);
                }
            }
            Err(anyhow!("the generator printed no outcome: its own messages say why"))
        };
        let limit = GENERATOR_LIMIT + Duration::from_secs_f64(plan.seconds + plan.warm_seconds);
        let mut outcome: Outcome = timeout(limit, read).await.context("the generator takes too long")??;
        ensure!(child.wait().await?.success(), "the generator failed");
        if let [Some(before), Some(after)] = statements[..] {
            outcome.statements = Some(after.saturating_sub(before));
        }
        Ok(outcome)
    }

    async fn start(&self, task: Task) -> Result<Servers> {
        let folder = Folder::new("peers")?;
        let redis = if task.peer.needs_redis() { Some(self.redis(&folder).await?) } else { None };
        let postgres = if task.peer == Peer::Starling {
            Some(self.postgres(task.counts_statements).await?)
        } else {
            None
        };
        let ports: Vec<Ports> = (0..task.nodes).map(|_| Ports::free()).collect::<Result<_>>()?;
        let counts_statements = task.counts_statements;
        let mut servers = Servers { nodes: Vec::new(), ports, redis, postgres, counts_statements, folder };
        if task.peer == Peer::Starling {
            self.migrate(&servers).await?;
        }
        for index in 0..task.nodes {
            let node = self.node(task.peer, index, &servers).await?;
            servers.nodes.push(node);
        }
        for (node, ports) in servers.nodes.iter().zip(&servers.ports) {
            let address = ports.clients.address();
            let listens = async || {
                if task.peer == Peer::Starling {
                    return Ok(get(&format!("http://{address}/ready")).await?.status == 200);
                }
                Ok(TcpStream::connect(address).await.is_ok())
            };
            node.ready(START_LIMIT, "a connection", listens).await?;
        }
        // Nodes that know one another only by what they hear need a moment.
        sleep(Duration::from_millis(if task.peer == Peer::Nats { 1_500 } else { 500 })).await;
        Ok(servers)
    }

    async fn node(&self, peer: Peer, index: usize, servers: &Servers) -> Result<Process> {
        let redis = servers.redis.as_ref().map(|(_, port)| port.address());
        let start = peer.start(index, &servers.ports, redis, &self.programs, &servers.folder)?;
        let name = format!("node-{index}");
        let mut launch = Launch::new(&name, "taskset", servers.folder.path())
            .args(["-c", &self.server_core.to_string()])
            .args([start.program])
            .args(start.arguments);
        for (name, value) in start.environment {
            launch = launch.env(name, value);
        }
        if peer == Peer::Starling {
            for (name, value) in environment(servers, index)? {
                launch = launch.env(name, value);
            }
        }
        Process::start(launch).await
    }

    async fn redis(&self, folder: &Folder) -> Result<(Process, Port)> {
        let port = free_port()?;
        let launch = Launch::new("redis", "taskset", folder.path())
            .args(["-c", &self.load_core.to_string()])
            .args([programs::find("redis-server")?])
            .args([
                "--port",
                &port.number().to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            // A node that is behind for a moment must not be cut off in the middle of a measurement.
            .args(["--client-output-buffer-limit", "pubsub 0 0 0"]);
        let process = Process::start(launch).await?;
        let address = port.address();
        process.ready(START_LIMIT, "Redis", async || Ok(TcpStream::connect(address).await.is_ok())).await?;
        Ok((process, port))
    }

    /// PostgreSQL as it is shipped, commits on the disk, on the generator's core.
    async fn postgres(&self, counts_statements: bool) -> Result<Postgres> {
        let mut settings = vec![("shared_buffers", "256MB")];
        if counts_statements {
            settings.push(("shared_preload_libraries", "pg_stat_statements"));
        }
        let postgres = Postgres::start_with(&settings).await?;
        if counts_statements {
            postgres.psql("CREATE EXTENSION pg_stat_statements").await?;
        }
        // The first process comes first: those that it starts from then on are pinned like itself.
        let pid = postgres.pid();
        ensure!(self.pin(&pid.to_string()).await?, "taskset can't pin PostgreSQL");
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        for child in children.split_whitespace() {
            // It may have ended meanwhile.
            let is_pinned = self.pin(child).await?;
            ensure!(
                is_pinned || !std::path::Path::new("/proc").join(child).exists(),
                "taskset can't pin a process of PostgreSQL"
            );
        }
        Ok(postgres)
    }

    /// Moves a process to the generator's core. Returns whether that worked.
    async fn pin(&self, pid: &str) -> Result<bool> {
        let mut command = Command::new("taskset");
        command.args(["-cp", &self.load_core.to_string(), pid]).stdout(Stdio::null());
        Ok(command.status().await?.success())
    }

    async fn migrate(&self, servers: &Servers) -> Result<()> {
        let mut command = Command::new(&self.programs.starling);
        command.arg("migrate").envs(environment(servers, 0)?).kill_on_drop(true);
        let output = timeout(START_LIMIT, command.output()).await.context("migrate takes too long")??;
        ensure!(output.status.success(), "migrate: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

/// The environment of a node of Starling.
fn environment(servers: &Servers, index: usize) -> Result<Vec<(String, String)>> {
    let ports = &servers.ports[index];
    let (_, redis) = servers.redis.as_ref().context("Starling needs Redis here")?;
    let postgres = servers.postgres.as_ref().context("Starling needs PostgreSQL here")?;
    let own = [
        ("REDIS_URL", format!("redis://{}", redis.address())),
        ("DATABASE_URL", postgres.url()),
        ("STARLING_JWT_SECRET", SECRET.to_owned()),
        ("STARLING_LISTEN", ports.clients.address().to_string()),
        ("STARLING_METRICS_LISTEN", ports.other.address().to_string()),
        ("STARLING_NODE", format!("peers-{index}")),
        ("STARLING_DRAIN_SECONDS", "1".to_owned()),
    ];
    let limits = LIMITS.iter().map(|name| ((*name).to_owned(), "0".to_owned()));
    Ok(own.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(limits).collect())
}

/// Statements of the nodes that PostgreSQL has run; nothing if it does not count them.
async fn count_statements(postgres: &Postgres) -> Option<u64> {
    let sum = "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements JOIN pg_roles ON oid = userid WHERE rolname = 'starling'";
    postgres.psql(sum).await.ok()?.trim().parse().ok()
}

/// Waits for all, whatever becomes of the others.
async fn join_all<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}
