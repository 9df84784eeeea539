//! `cargo xtask upgrade`: a cluster of the previous release becomes one of this release under load, and goes back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// The state that counts as the previous release as long as no release is tagged: before there were ways of installing it.
const BEFORE_RELEASES: &str = "6fa4003c748fed2d9893568c745566a1ac5091a3";

/// Replaces nodes of the previous release by nodes of this one under load, and goes back where the previous release can use the database.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Arguments {
    /// The commit of the previous release. The newest tag `v…` before this commit by default
    #[arg(long, value_name = "REVISION")]
    previous: Option<String>,
    /// Takes this commit for the previous release, and for the present one this commit with one more migration, which `adds` or `breaks`
    #[arg(long, value_name = "KIND", value_parser = ["adds", "breaks"], conflicts_with = "previous")]
    next: Option<String>,
    /// Arguments of the run; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Builds both programs and runs the upgrade. Returns whether everything held.
pub fn run(arguments: &Arguments) -> Result<bool> {
    workspace::build_debug()?;
    let mut torture = workspace::debug_command("torture")?;
    torture.arg("upgrade");
    if let Some(kind) = &arguments.next {
        torture.arg("--previous").arg(workspace::debug_program("starling")?);
        torture.arg("--program").arg(workspace::debug_program("starling-next")?);
        torture.arg("--node-env").arg(format!("STARLING_NEXT={kind}"));
    } else if !arguments.arguments.iter().any(|argument| argument == "--help") {
        let revision = arguments.previous.clone().unwrap_or_else(newest_release);
        println!("building the previous release, {revision}");
        torture.arg("--previous").arg(build(&revision)?);
    }
    Ok(torture.args(&arguments.arguments).status().context("run torture")?.success())
}

/// The newest tag of a release before this commit.
fn newest_release() -> String {
    let mut git = git();
    git.args(["describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD^"]).stderr(Stdio::null());
    let tag = git.output().ok().filter(|output| output.status.success());
    let tag = tag.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    tag.filter(|tag| !tag.is_empty()).unwrap_or_else(|| BEFORE_RELEASES.to_owned())
}

/// Builds the program of a commit without optimisation, in a folder of its own in the build folder. Returns its path.
fn build(revision: &str) -> Result<PathBuf> {
    let folder = workspace::target()?.join("previous");
    let (source, built) = (folder.join("source"), folder.join("build"));
    if source.exists() {
        fs::remove_dir_all(&source).with_context(|| format!("remove {}", source.display()))?;
    }
    fs::create_dir_all(&source).with_context(|| format!("make {}", source.display()))?;
    unpack(revision, &source)?;
    let mut cargo = workspace::cargo();
    cargo.current_dir(&source).env("CARGO_TARGET_DIR", &built);
    cargo.args(["build", "--locked", "--package", "starling", "--bin", "starling"]);
    let status = cargo.status().context("run cargo")?;
    ensure!(status.success(), "building {revision}: {status}");
    Ok(built.join("debug/starling"))
}

/// Writes the files of a commit into a folder. They get the commit's time, so that cargo builds only once.
fn unpack(revision: &str, folder: &Path) -> Result<()> {
    let mut archive = git();
    archive.args(["archive", "--format=tar", revision]).stdout(Stdio::piped());
    let mut archive = archive.spawn().context("run git")?;
    let files = archive.stdout.take().context("the output of git")?;
    let unpacked = Command::new("tar").arg("-x").arg("-C").arg(folder).stdin(files).status();
    let archived = archive.wait().context("wait for git")?;
    ensure!(
        archived.success(),
        "git archive {revision}: {archived}; a clone without history has no earlier commits"
    );
    ensure!(unpacked.context("run tar")?.success(), "tar could not unpack {revision}");
    Ok(())
}

fn git() -> Command {
    let mut git = Command::new("git");
    git.current_dir(workspace::root());
    git
}
