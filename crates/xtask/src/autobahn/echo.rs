//! The server under test.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::workspace;

/// How long it may take to open its port.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long its build may take.
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);

/// The gateway's example `echo` on a port of its own, ended when this is dropped.
pub struct Echo {
    address: String,
    _child: Child,
}

impl Echo {
    /// Builds and starts it.
    pub async fn start(release: bool) -> Result<Echo> {
        let mut build = Command::new(workspace::cargo());
        // For the whole workspace, so that dependencies are built with the features that they have everywhere else.
        build.current_dir(workspace::root()).args(["build", "--workspace", "--example", "echo"]);
        if release {
            build.arg("--release");
        }
        build.kill_on_drop(true);
        let built = timeout(BUILD_LIMIT, build.status()).await.context("the echo's build takes too long")?;
        ensure!(built.context("run cargo")?.success(), "the echo could not be built");
        let folder = workspace::target()?.join(if release { "release" } else { "debug" });
        let mut command = Command::new(folder.join("examples/echo"));
        command.arg("127.0.0.1:0").stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("start the echo")?;
        let mut lines = BufReader::new(child.stdout.take().context("the echo's output")?).lines();
        let line = timeout(START_LIMIT, lines.next_line()).await.context("the echo does not start")??;
        let line = line.context("the echo ended at once")?;
        let address = line.strip_prefix("echo on ").with_context(|| format!("the echo says {line}"))?;
        Ok(Echo { address: address.to_owned(), _child: child })
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }
}
