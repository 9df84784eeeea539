//! Where things are, and how cargo is called.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// The root of the workspace.
pub fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own).to_owned()
}

/// The cargo that runs this program.
pub fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Builds the program, and returns where it is.
pub async fn build_program(release: bool) -> Result<PathBuf> {
    let mut command = Command::new(cargo());
    command.current_dir(root()).args(["build", "--package", "starling", "--bin", "starling"]);
    if release {
        command.arg("--release");
    }
    command.kill_on_drop(true);
    ensure!(command.status().await.context("run cargo")?.success(), "starling could not be built");
    Ok(target()?.join(if release { "release" } else { "debug" }).join("starling"))
}

/// The manifest of the package of this name.
pub fn package(name: &str) -> Option<PathBuf> {
    let folders = std::fs::read_dir(root().join("crates")).ok()?.flatten().map(|entry| entry.path());
    let manifests = folders.chain([root().join("loadtest")]).map(|folder| folder.join("Cargo.toml"));
    let line = format!("name = \"{name}\"");
    let named = |manifest: &PathBuf| {
        std::fs::read_to_string(manifest).is_ok_and(|text| text.lines().any(|l| l == line))
    };
    { manifests }.find(named)
}

/// The build's folder: this program runs from `TARGET/PROFILE/xtask`.
pub fn target() -> Result<PathBuf> {
    let own = std::env::current_exe().context("the path of this program")?;
    let target = own.parent().and_then(Path::parent).context("the build's folder")?;
    Ok(target.to_owned())
}
