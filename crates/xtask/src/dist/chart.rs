//! The archive of the Helm chart.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{install, workspace};

/// The names that Helm may have among the tools, and on this computer.
const NAMES: [&str; 3] = ["helm4", "helm3", "helm"];

/// Packages the chart with Helm. It has the version of the program: a test holds them together.
pub fn package(folder: &Path) -> Result<()> {
    let tools = install::tools()?;
    let candidates = NAMES.iter().map(|name| tools.join(name)).chain([Path::new("helm").to_owned()]);
    let runs =
        |helm: &Path| Command::new(helm).arg("version").output().is_ok_and(|output| output.status.success());
    let helm = candidates.into_iter().find(|helm| runs(helm));
    let helm = helm.context("helm is missing; `cargo xtask test --only install` installs it")?;
    let mut command = Command::new(helm);
    command.args(["package", "helm/starling", "--destination"]).arg(folder).current_dir(workspace::root());
    ensure!(command.status().context("run helm")?.success(), "helm can't package the chart");
    Ok(())
}
