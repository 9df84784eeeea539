//! A Docker of its own for a test.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use starling_testkit::{Folder, Launch, Process, programs, wait};

use super::SOON;

const SOCKET: &str = "unix:///run/docker.sock";
/// The longest time for one command.
const LIMIT: Duration = Duration::from_secs(120);

/// A running daemon.
pub struct Docker {
    /// Dropped before the folder that it uses.
    daemon: Process,
    folder: Folder,
}

impl Docker {
    /// Starts the daemon, with everything that it writes below `/run`, which goes with the namespaces of the test.
    pub async fn start() -> Result<Self> {
        let folder = Folder::new("docker")?;
        folder.write("config.json", "{}")?;
        let path = std::env::var("PATH").unwrap_or_default();
        let launch = Launch::new("dockerd", programs::find("dockerd")?, folder.path())
            .args(["--host", SOCKET, "--data-root", "/run/docker-data", "--exec-root", "/run/docker-exec"])
            .args(["--pidfile", "/run/docker.pid"])
            .env("PATH", format!("{path}:/usr/sbin:/sbin"));
        let docker = Self { daemon: Process::start(launch).await?, folder };
        let responds = async || docker.run(&["version"]).await.map(|_| true);
        docker.daemon.ready(SOON, "Docker to respond", responds).await?;
        Ok(docker)
    }

    /// A folder for files, which goes with the daemon.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What the daemon logged.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// Runs `docker` with these arguments, and returns what it prints.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        self.command("docker", arguments).await
    }

    /// Runs a program that may use this Docker, and returns what it prints to standard output.
    pub async fn command(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = tokio::process::Command::new(programs::find(program)?);
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null()).kill_on_drop(true);
        // No settings of this machine's user, but the empty file `config.json`, which buildah reads, too.
        command.env("DOCKER_HOST", SOCKET).env("DOCKER_CONFIG", self.folder.path());
        let output = tokio::time::timeout(LIMIT, command.output());
        let output =
            output.await.with_context(|| format!("{program} {arguments:?} took longer than {LIMIT:?}"))??;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        ensure!(
            output.status.success(),
            "{program} {arguments:?}: {}\n{}\n{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        Ok(text(&output.stdout))
    }

    /// A part of what Docker knows of a container or image, as a Go template says.
    pub async fn inspect(&self, name: &str, template: &str) -> Result<String> {
        self.run(&["inspect", "--format", template, name]).await
    }

    /// Waits until the image's own check has found the container to be healthy.
    pub async fn healthy(&self, container: &str) -> Result<()> {
        let healthy = async || Ok(self.inspect(container, "{{.State.Health.Status}}").await? == "healthy");
        wait::until_true(SOON, &format!("{container} to be healthy"), healthy).await
    }

    /// Removes all containers, and with them their control groups, which belong to the machine.
    pub async fn remove_containers(&self) -> Result<()> {
        if self.run(&["info", "--format", "{{.Swarm.LocalNodeState}}"]).await? == "active" {
            self.run(&["swarm", "leave", "--force"]).await?;
        }
        let removed = async || {
            let containers = self.run(&["ps", "--all", "--quiet"]).await?;
            let containers: Vec<&str> = containers.lines().collect();
            if containers.is_empty() {
                return Ok(true);
            }
            // Swarm removes some itself at the same time.
            self.run(&[&["rm", "--force", "--volumes"][..], &containers].concat()).await.map(|_| false)
        };
        wait::until_true(SOON, "all containers to be removed", removed).await
    }

    /// Prints what may explain a failure: the containers and the ends of their logs.
    pub async fn explain(&self) {
        let list = self.run(&["ps", "--all", "--format", "{{.Names}} {{.Status}}"]).await.unwrap_or_default();
        println!("{list}");
        for name in list.lines().filter_map(|line| line.split(' ').next()) {
            let script = format!("docker logs --tail 15 {name} 2>&1");
            println!("--- {name}\n{}", self.command("sh", &["-c", &script]).await.unwrap_or_default());
        }
    }
}
