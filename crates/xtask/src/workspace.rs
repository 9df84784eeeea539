//! Where things are, and how the programs of the workspace are built.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The version of all parts.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The root of the workspace.
pub fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own).to_owned()
}

/// The build folder: this program runs from `TARGET/PROFILE/xtask`.
pub fn target() -> Result<PathBuf> {
    let own = std::env::current_exe().context("the path of this program")?;
    let target = own.parent().and_then(Path::parent).context("the build folder")?;
    Ok(target.to_owned())
}

/// The cargo that runs this program, in the root of the workspace.
pub fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.current_dir(root());
    command
}

/// Builds all programs and examples without optimisation, with the features that they have in the tests, so that they are not built
/// twice.
pub fn build_debug() -> Result<()> {
    // Without the tests, the libraries would have other features, and would all be compiled a second time beside those of the tests.
    build(&["--workspace", "--all-targets"])
}

/// Builds the program Starling, and returns its path. The release build has the features that `cargo run --release` uses.
pub fn build_program(release: bool) -> Result<PathBuf> {
    if release {
        build(&["--release", "--package", "starling", "--bin", "starling"])?;
    } else {
        build_debug()?;
    }
    Ok(target()?.join(if release { "release" } else { "debug" }).join("starling"))
}

/// Builds the load generator of the comparison and its limit program, which must be fast.
pub fn build_load() -> Result<()> {
    build(&["--release", "--package", "starling-peers-load", "--bins"])
}

/// Builds the program that adds and does jobs inside one process as a release, and returns its path.
pub fn build_inside() -> Result<PathBuf> {
    build(&["--release", "--package", "starling-peers-inside", "--bins"])?;
    Ok(target()?.join("release/peers-jobs"))
}

/// Builds a tool of the workspace as a release, and returns its path.
pub fn release_program(name: &str) -> Result<PathBuf> {
    build(&["--release", "--package", &format!("starling-{name}"), "--bin", name])?;
    Ok(target()?.join("release").join(name))
}

/// The path of a program from the debug build.
pub fn debug_program(name: &str) -> Result<PathBuf> {
    Ok(target()?.join("debug").join(name))
}

/// A command that runs a program of the debug build in the root of the workspace.
pub fn debug_command(name: &str) -> Result<Command> {
    Ok(command(&debug_program(name)?))
}

/// A command that runs a program in the root of the workspace.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

fn build(arguments: &[&str]) -> Result<()> {
    let status = cargo().arg("build").args(arguments).status().context("run cargo")?;
    ensure!(status.success(), "cargo build {}: {status}", arguments.join(" "));
    Ok(())
}
