//! The path of the program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

/// The `starling` program: the one that `STARLING_BIN` names, or the one in the build folder of the running test, which cargo builds if
/// it is missing.
///
/// # Errors
/// When `STARLING_BIN` names no file, or the build fails.
pub fn program() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("STARLING_BIN") {
        let named = std::path::absolute(named).context("STARLING_BIN")?;
        ensure!(named.is_file(), "STARLING_BIN names {}, which is no file", named.display());
        return Ok(named);
    }
    let folder = build_folder()?;
    let program = folder.join("starling");
    // One thread builds, the others find it built.
    static BUILDING: Mutex<()> = Mutex::new(());
    let _alone = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    if !program.is_file() {
        build(&folder)?;
        ensure!(program.is_file(), "cargo has built starling, but not as {}", program.display());
    }
    Ok(program)
}

/// `target/PROFILE`: tests run from `deps` or `examples` in there, other programs from itself.
fn build_folder() -> Result<PathBuf> {
    let own = std::env::current_exe().context("the path of this program")?;
    let folder = own.parent().context("the folder of this program")?;
    let inner = folder.file_name().is_some_and(|name| name == "deps" || name == "examples");
    let folder = if inner { folder.parent().context("the build's folder")? } else { folder };
    Ok(folder.to_owned())
}

fn build(folder: &Path) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", "starling", "--bin", "starling"]);
    command.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"));
    if let Some(target) = folder.parent() {
        command.arg("--target-dir").arg(target);
    }
    if folder.file_name().is_some_and(|name| name == "release") {
        command.arg("--release");
    }
    let output = command.output().context("run cargo")?;
    ensure!(
        output.status.success(),
        "building starling failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
