//! Builds the targets.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::workspace;

/// What makes the compiler count which edges of the program are taken, for libFuzzer to see; as `cargo fuzz` does without a
/// sanitizer. Checks that a release leaves out are in.
const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "--cfg=fuzzing",
    "-Cdebug-assertions",
    "-Coverflow-checks",
];

/// Builds these targets, and returns the folder that their programs are in.
pub async fn targets(names: &[String]) -> Result<PathBuf> {
    let (host, folder) = (host().await?, folder()?);
    let mut command = Command::new(workspace::cargo());
    command.current_dir(workspace::root().join("fuzz")).kill_on_drop(true);
    command.args(["build", "--release", "--locked"]);
    // With a target named, build scripts and macros are spared the flags.
    command.args(["--target", &host]).arg("--target-dir").arg(&folder);
    for name in names {
        command.args(["--bin", name]);
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"));
    ensure!(command.status().await.context("run cargo")?.success(), "the fuzz targets could not be built");
    Ok(folder.join(host).join("release"))
}

/// Where the targets are built, and where their corpora and findings are.
pub fn folder() -> Result<PathBuf> {
    Ok(workspace::target()?.join("fuzz"))
}

async fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().await.context("run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not say what machine this is")
}
