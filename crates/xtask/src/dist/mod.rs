//! `cargo xtask dist`: everything that a release consists of, in one folder.

mod archive;
mod chart;
mod checks;
mod image;
mod platform;
mod program;
mod sbom;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::workspace::{self, VERSION};
use platform::Platform;

/// Makes everything that a release consists of, in one folder.
#[derive(clap::Args)]
pub struct Arguments {
    /// The folder, which must not exist yet; `dist/VERSION` in the build folder by default
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Only for these processors: amd64, arm64. Both by default
    #[arg(long = "platform", value_name = "NAME")]
    platforms: Vec<String>,
    /// Takes the static program for this computer's processor from this file instead of building it
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Leaves the images out, which need buildah
    #[arg(long)]
    without_images: bool,
    /// Makes a trial: from a work tree with changes, and without a section for the version in CHANGELOG.md
    #[arg(long)]
    trial: bool,
}

/// Makes the release. Returns whether all parts could be made.
pub fn run(arguments: &Arguments) -> Result<bool> {
    let revision = revision()?;
    if !arguments.trial {
        check_tree()?;
        check_changelog()?;
    }
    let platforms = Platform::named(&arguments.platforms)?;
    let folder = match &arguments.folder {
        Some(folder) => std::path::absolute(folder).context("the folder")?,
        None => workspace::target()?.join("dist").join(VERSION),
    };
    ensure!(!folder.exists(), "{} exists; remove it first", folder.display());
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let mut missing = Vec::new();
    let components = sbom::components()?;
    for platform in &platforms {
        println!("\n=== {} ===", platform.name);
        if let Err(error) = make(platform, arguments, &folder, &components, &revision) {
            println!("{}: {error:#}", platform.name);
            missing.push(platform.name);
        }
    }
    println!("\n=== chart ===");
    chart::package(&folder)?;
    fs::write(folder.join("CHECKS.md"), checks::page()).context("write the list of checks")?;
    archive::write_checksums(&folder)?;
    show(&folder, &missing)?;
    Ok(missing.is_empty())
}

/// Makes what one kind of processor needs.
fn make(
    platform: &Platform,
    arguments: &Arguments,
    folder: &Path,
    components: &sbom::Components,
    revision: &str,
) -> Result<()> {
    let given = arguments.program.as_ref().filter(|_| platform.is_this_computer());
    let program = match given {
        Some(program) => program.clone(),
        None => program::build(platform)?,
    };
    let program = program::stripped(platform, &program)?;
    let name = format!("starling-{VERSION}-linux-{}", platform.name);
    archive::write_program(folder, &name, &program)?;
    sbom::write(&folder.join(format!("{name}.cdx.json")), platform, components, sbom::Subject::Program)?;
    if !arguments.without_images {
        image::write(folder, platform, revision)?;
        let sbom = folder.join(format!("starling-{VERSION}-image-{}.cdx.json", platform.name));
        sbom::write(&sbom, platform, components, sbom::Subject::Image)?;
    }
    Ok(())
}

/// The commit that is released.
fn revision() -> Result<String> {
    let output = git(&["rev-parse", "HEAD"])?;
    Ok(output.trim().to_owned())
}

fn check_tree() -> Result<()> {
    let changes = git(&["status", "--porcelain"])?;
    ensure!(changes.is_empty(), "the work tree has changes; commit them, or use --trial:\n{changes}");
    Ok(())
}

/// A release says what is new: Keep a Changelog.
fn check_changelog() -> Result<()> {
    let changelog =
        fs::read_to_string(workspace::root().join("CHANGELOG.md")).context("read CHANGELOG.md")?;
    if changelog.lines().any(|line| line.starts_with(&format!("## [{VERSION}] - "))) {
        return Ok(());
    }
    bail!(
        "CHANGELOG.md has no section `## [{VERSION}] - YYYY-MM-DD`; rename the section Unreleased and begin an empty one, or use --trial"
    )
}

fn git(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    let output = command.args(arguments).current_dir(workspace::root()).output().context("run git")?;
    ensure!(
        output.status.success(),
        "git {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Prints what was made, and what is left to do.
fn show(folder: &Path, missing: &[&str]) -> Result<()> {
    println!("\n=== {} ===", folder.display());
    let mut files: Vec<_> = fs::read_dir(folder).context("read the folder")?.flatten().collect();
    files.sort_by_key(fs::DirEntry::file_name);
    for file in files {
        let bytes = file.metadata().map_or(0, |known| known.len());
        println!("{:>9.2} MB  {}", bytes as f64 / 1e6, file.file_name().to_string_lossy());
    }
    if !missing.is_empty() {
        println!("\nnot made, see above: {}", missing.join(", "));
    }
    println!("\n{}", checks::list());
    Ok(())
}
