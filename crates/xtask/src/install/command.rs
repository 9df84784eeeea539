//! Programs that install something.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Runs a program, which must succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("run {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
