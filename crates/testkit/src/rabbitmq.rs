//! RabbitMQ: one broker, beside any number of others.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::tls::Certificates;
use crate::{Folder, Launch, Port, Process, free_port, programs};

/// How long a broker may take to start, on a machine that is busy compiling.
const START_LIMIT: Duration = Duration::from_secs(180);
/// How long its answer may take once it listens.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// The server. What Debian puts into the path changes to a user of its own, and wants the folders of the system.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// How a client begins to speak AMQP 0-9-1.
const GREETING: &[u8] = b"AMQP\x00\x00\x09\x01";

/// A RabbitMQ broker whose durable queues survive its restart. It takes the user `guest` with the password `guest`.
///
/// Each broker has a port mapper of Erlang's (`epmd`) of its own, so that it meets no other broker.
#[derive(Debug)]
pub struct Rabbitmq {
    /// Dropped before the port mapper, the folder and the ports that it uses.
    broker: Process,
    _mapper: Process,
    port: Port,
    tls_port: Option<Port>,
    _ports: [Port; 2],
    _folder: Folder,
}

impl Rabbitmq {
    /// Starts one, and returns when it takes connections.
    ///
    /// # Errors
    /// When it can't be started, with its log.
    pub async fn start() -> Result<Self> {
        Self::launch(None).await
    }

    /// Starts one that also takes connections with TLS.
    ///
    /// # Errors
    /// When it can't be started, with its log.
    pub async fn start_with_tls(certificates: &Certificates) -> Result<Self> {
        Self::launch(Some(certificates)).await
    }

    async fn launch(certificates: Option<&Certificates>) -> Result<Self> {
        ensure!(
            Path::new(SERVER).is_file(),
            "rabbitmq-server is not installed; `cargo xtask test --only install` does it"
        );
        let (port, between, mapped) = (free_port()?, free_port()?, free_port()?);
        let tls_port = certificates.map(|_| free_port()).transpose()?;
        let folder = Folder::new("rabbitmq")?;
        let mut config = format!(
            "listeners.tcp.1 = {}\nlog.console = true\nlog.console.level = info\nlog.file = false\n\
             vm_memory_high_watermark.absolute = 512MB\ndisk_free_limit.absolute = 1MB\n",
            port.address()
        );
        if let (Some(certificates), Some(port)) = (certificates, &tls_port) {
            let file = |name| certificates.folder.join(name).display().to_string();
            config += &format!(
                "listeners.ssl.1 = {}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\nssl_options.keyfile = {}\n",
                port.address(),
                file("ca.crt"),
                file("server.crt"),
                file("server.key")
            );
        }
        folder.write("rabbitmq.conf", &config)?;
        folder.write("plugins", "[].\n")?;
        let mapper = start_mapper(&folder, &mapped).await?;
        let broker = Process::start(broker(&folder, &port, &between, &mapped)).await?;
        let rabbitmq =
            Self { broker, _mapper: mapper, port, tls_port, _ports: [between, mapped], _folder: folder };
        rabbitmq.answers().await?;
        Ok(rabbitmq)
    }

    /// `amqp://guest:guest@127.0.0.1:PORT/%2f`.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.address())
    }

    /// `amqps://guest:guest@127.0.0.1:PORT/%2f`, of a broker that was started with TLS.
    pub fn tls_url(&self) -> Option<String> {
        Some(format!("amqps://guest:guest@{}/%2f", self.tls_port.as_ref()?.address()))
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.broker.pid()
    }

    /// Kills it (SIGKILL). Durable queues keep their persistent messages.
    ///
    /// # Errors
    /// When it does not vanish.
    pub async fn kill(&self) -> Result<()> {
        self.broker.kill().await
    }

    /// Stops it (SIGSTOP): its connections stay open, and nothing answers.
    ///
    /// # Errors
    /// When it has ended.
    pub fn stop(&self) -> Result<()> {
        self.broker.stop()
    }

    /// Resumes it after [`stop`](Self::stop).
    ///
    /// # Errors
    /// When it has ended.
    pub fn resume(&self) -> Result<()> {
        self.broker.resume()
    }

    /// Kills it if it runs, and starts it again with the same data and port.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn restart(&self) -> Result<()> {
        self.broker.kill().await?;
        self.broker.start_again().await?;
        self.answers().await
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        self.broker.log()
    }

    async fn answers(&self) -> Result<()> {
        let address = self.address();
        let greeted = async || Ok(tokio::time::timeout(ANSWER_LIMIT, greet(address)).await??);
        self.broker.ready(START_LIMIT, "a greeting of RabbitMQ", greeted).await
    }
}

fn broker(folder: &Folder, port: &Port, between: &Port, mapped: &Port) -> Launch {
    let path = |name: &str| folder.join(name).into_os_string();
    let mut launch = Launch::new("rabbitmq", SERVER, folder.path());
    // What the caller's environment says of another broker.
    let inherited = std::env::vars_os().map(|(name, _)| name);
    for name in inherited.filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("RABBITMQ_") || name.starts_with("ERL_")
    }) {
        launch = launch.without_env(name);
    }
    launch
        // The script then becomes the broker, so that its process id is the broker's.
        .env("RUNNING_UNDER_SYSTEMD", "true")
        // The secret that brokers of one cluster share is kept there.
        .env("HOME", folder.path())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_PORT", mapped.number().to_string())
        .env("ERL_CRASH_DUMP_BYTES", "0")
        .env("RABBITMQ_NODENAME", "starling@localhost")
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port.number().to_string())
        .env("RABBITMQ_DIST_PORT", between.number().to_string())
        .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
        .env("RABBITMQ_CONF_ENV_FILE", path("none"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins"))
        .env("RABBITMQ_GENERATED_CONFIG_DIR", path("generated"))
        .env("RABBITMQ_MNESIA_BASE", path("data"))
        .env("RABBITMQ_LOG_BASE", folder.path())
        .env("RABBITMQ_PID_FILE", path("pid"))
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false +S 2:2 +sbwt none",
        )
}

/// Starts the port mapper that the broker registers with. Without one, Erlang would start one that nobody ends.
async fn start_mapper(folder: &Folder, port: &Port) -> Result<Process> {
    let launch = Launch::new("epmd", programs::find("epmd")?, folder.path()).args([
        "-address",
        "127.0.0.1",
        "-port",
        &port.number().to_string(),
    ]);
    let mapper = Process::start(launch).await?;
    let address = port.address();
    let listens = async || Ok(TcpStream::connect(address).await.map(|_| true)?);
    mapper.ready(ANSWER_LIMIT, "the port mapper", listens).await?;
    Ok(mapper)
}

/// Whether RabbitMQ answers a greeting with a frame of a method.
async fn greet(address: SocketAddr) -> Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(GREETING).await?;
    let kind = stream.read_u8().await.context("read RabbitMQ's answer")?;
    Ok(kind == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::is_alive;

    #[tokio::test]
    async fn two_brokers_run_beside_one_another_and_are_gone_after_the_drop() {
        let (one, other) = tokio::try_join!(Rabbitmq::start(), Rabbitmq::start()).unwrap();
        assert_ne!(one.address(), other.address());
        let (first, pids) = (one.pid(), [one.pid(), other.pid()]);
        one.restart().await.unwrap();
        assert_ne!(one.pid(), first);
        let again = one.pid();
        drop((one, other));
        assert!(![again, pids[1]].into_iter().any(is_alive));
    }
}
