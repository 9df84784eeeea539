//! What the tests of `deploy`, `helm` and `k8s` share: the files of the repository, the tools that read them, and clients that talk.
//!
//! The tests themselves are one program, `tests/deployment`, with a module for each way of installing Starling.

pub mod chart;
pub mod golden;
pub mod manifests;
pub mod talk;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use starling_testkit::programs;

/// A file or folder of the repository, by its path from the root.
pub fn repository(path: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// Runs a tool in the root of the repository, and returns what it printed.
///
/// # Errors
/// When the tool is not installed, or fails, with all that it printed.
pub fn run<'a>(tool: &str, arguments: impl IntoIterator<Item = &'a str>) -> Result<String> {
    let mut command = Command::new(programs::find(tool)?);
    command.args(arguments).current_dir(repository(""));
    let output = command.output().with_context(|| format!("run {tool}"))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{command:?} failed: {}\n{printed}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(printed)
}
