//! The static program for one kind of processor.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::image;
use super::platform::Platform;
use crate::workspace;

/// The size that a stripped program stays under, and with it the image, which has little else.
const BYTES_MAX: u64 = 25_000_000;

/// Builds the program without any library beside it, and returns its path.
pub fn build(platform: &Platform) -> Result<PathBuf> {
    let gcc = platform.tool("gcc");
    ensure!(
        platform.has_tool("gcc"),
        "{gcc} is missing; on Debian: apt-get install gcc-{0} libc6-dev-{1}-cross",
        platform.tools.trim_end_matches('-').replace('_', "-"),
        platform.name
    );
    ensure!(
        has_standard_library(platform)?,
        "Rust's standard library for {0} is missing: rustup target add {0}",
        platform.target
    );
    let variable = platform.target.replace('-', "_");
    let mut cargo = workspace::cargo();
    cargo
        .args(["build", "--profile", "dist", "--locked", "--package", "starling", "--bin", "starling"])
        // A named target keeps the flags away from build scripts and macros, which are no static programs.
        .args(["--target", platform.target])
        .env(format!("CARGO_TARGET_{}_RUSTFLAGS", variable.to_uppercase()), "-C target-feature=+crt-static")
        .env(format!("CARGO_TARGET_{}_LINKER", variable.to_uppercase()), &gcc)
        .env(format!("CC_{variable}"), &gcc);
    ensure!(
        cargo.status().context("run cargo")?.success(),
        "the program for {} can't be built",
        platform.name
    );
    Ok(workspace::target()?.join(platform.target).join("dist/starling"))
}

/// Whether rustc can build for this platform.
fn has_standard_library(platform: &Platform) -> Result<bool> {
    let print = ["--print", "target-libdir", "--target", platform.target];
    let output = Command::new("rustc").args(print).output().context("run rustc")?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    Ok(output.status.success() && folder.is_dir())
}

/// A copy of the program without symbols, in a folder that an image can be made of.
pub fn stripped(platform: &Platform, program: &Path) -> Result<PathBuf> {
    let folder = image::source(platform);
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let stripped = folder.join("starling");
    let strip = platform.tool("strip");
    let status = Command::new(&strip).arg("-o").arg(&stripped).arg(program).status();
    ensure!(status.with_context(|| format!("run {strip}"))?.success(), "{strip} {}", program.display());
    ensure!(is_static(&stripped)?, "{} needs libraries, and an image has none", program.display());
    let bytes = std::fs::metadata(&stripped).context("the size of the program")?.len();
    ensure!(
        bytes < BYTES_MAX,
        "the program has {:.1} MB, the limit is {} MB",
        bytes as f64 / 1e6,
        BYTES_MAX / 1_000_000
    );
    Ok(stripped)
}

/// Whether a program runs without a dynamic linker: it names none.
fn is_static(program: &Path) -> Result<bool> {
    let output = Command::new("readelf").args(["--program-headers", "--wide"]).arg(program).output();
    let output = output.context("run readelf, of binutils")?;
    ensure!(output.status.success(), "{} is no program", program.display());
    Ok(!String::from_utf8_lossy(&output.stdout).contains("INTERP"))
}
