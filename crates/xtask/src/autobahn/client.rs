//! The client that runs the cases: the Python package kosoku, which brings Autobahn's own case files, in an environment of its own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use starling_testkit::install;
use tokio::process::Command;
use tokio::time::timeout;

use crate::workspace;

/// The package that runs the cases.
const PACKAGE: &str = "kosoku==0.1.0";
/// What speaks to it.
const SCRIPT: &str = include_str!("client.py");
/// How long an installation may take.
const INSTALL_LIMIT: Duration = Duration::from_secs(5 * 60);
/// How long all cases together may take. They end by themselves, but a server that hangs keeps each waiting for minutes.
const RUN_LIMIT: Duration = Duration::from_secs(20 * 60);

/// Installs the package below the build's folder, unless it is there. Returns the Python that has it.
pub async fn installed() -> Result<PathBuf> {
    let folder = workspace::target()?.join("autobahn");
    let python = folder.join("bin/python");
    if output(&python, ["-c", "import kosoku"], INSTALL_LIMIT).await.is_ok() {
        return Ok(python);
    }
    let system = install::find("python3").context("python3 is not installed; with apt: python3-venv")?;
    let venv = [OsStr::new("-m"), OsStr::new("venv"), OsStr::new("--clear"), folder.as_os_str()];
    output(&system, venv, INSTALL_LIMIT).await.context("make an environment for Python packages")?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE];
    output(&python, pip, INSTALL_LIMIT).await.with_context(|| format!("install {PACKAGE}"))?;
    Ok(python)
}

/// Runs these cases, or all when none is named, against the server at `address`. Returns a line for each.
pub async fn run(python: &Path, address: &str, cases: &[String]) -> Result<String> {
    let arguments = ["-c", SCRIPT, address].into_iter().chain(cases.iter().map(String::as_str));
    output(python, arguments, RUN_LIMIT).await.context("run the cases")
}

/// Runs a program to its end, and returns what it wrote.
async fn output<S: AsRef<OsStr>>(
    program: &Path,
    arguments: impl IntoIterator<Item = S>,
    limit: Duration,
) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(limit, command.output()).await.context("it ran for too long")??;
    ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
