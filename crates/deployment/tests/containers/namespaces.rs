//! Namespaces of its own for each test: network, mounts and processes.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use starling_testkit::{Folder, Launch, Process};

use super::docker::Docker;

/// The variable that is set inside: the file to write once the test has passed.
const PASSED: &str = "STARLING_TEST_PASSED";
/// The longest time for a test, on a busy machine.
const LIMIT: Duration = Duration::from_secs(480);
/// The namespaces. With the process that `unshare` starts, all others in them end.
const NAMESPACES: [&str; 6] = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
/// What is done inside before the test program starts: Docker gets folders that go with the namespace, and the loopback is brought up.
const PREPARE: &str = "mount -t tmpfs tmpfs /run && mkdir -p /run/lock /etc/docker && mount -t tmpfs tmpfs /etc/docker \
                       && busybox ip link set lo up && exec \"$@\"";

/// Runs the test of this name with a Docker, in namespaces of its own. For that, it starts the test program once more.
pub fn run<T>(name: &str, test: T) -> Result<()>
where
    T: AsyncFnOnce(&Docker) -> Result<()>,
{
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    match std::env::var_os(PASSED) {
        Some(passed) => runtime.block_on(inside(Path::new(&passed), test)),
        None => runtime.block_on(outside(name)),
    }
}

async fn inside<T>(passed: &Path, test: T) -> Result<()>
where
    T: AsyncFnOnce(&Docker) -> Result<()>,
{
    let docker = Docker::start().await?;
    let outcome = test(&docker).await;
    if outcome.is_err() {
        docker.explain().await;
    }
    let removed = docker.remove_containers().await;
    outcome?;
    removed?;
    fs::write(passed, "").context("note that the test passed")
}

async fn outside(name: &str) -> Result<()> {
    if let Some(reason) = forbidden()? {
        // Not captured by the test program, as `println` is.
        writeln!(std::io::stdout(), "NOT RUN: {name}: this machine allows no namespaces: {reason}")?;
        return Ok(());
    }
    let folder = Folder::new("containers")?;
    let passed = folder.join("passed");
    let arguments = NAMESPACES.into_iter().chain(["--", "sh", "-c", PREPARE, "sh"]).map(OsString::from);
    let again = [std::env::current_exe().context("this program")?.into_os_string()];
    let only = [name, "--exact", "--include-ignored", "--nocapture"].map(OsString::from);
    let launch = Launch::new("inside", "unshare", folder.path())
        .args(arguments.chain(again).chain(only))
        .env(PASSED, &passed);
    let process = Process::start(launch).await?;
    let status = process.ended(LIMIT).await.with_context(|| process.log_tail())?;
    print!("{}", process.log());
    ensure!(status.success(), "{name} failed inside the namespaces: {status}");
    ensure!(passed.exists(), "no test is called {name}");
    Ok(())
}

/// Why this machine allows no such namespaces, if it does not.
fn forbidden() -> Result<Option<String>> {
    let mut unshare = Command::new("unshare");
    unshare.args(NAMESPACES).args(["--", "sh", "-c", "mount -t tmpfs tmpfs /run"]);
    let output = unshare.output().context("run unshare, of util-linux")?;
    Ok((!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
