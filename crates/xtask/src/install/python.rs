//! Python packages, in virtual environments inside the build folder.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::run;

/// A virtual environment.
pub struct Environment {
    /// Where it is inside the folder of tools; empty for that folder itself.
    folder: &'static str,
    /// The text of the file with its packages.
    requirements: &'static str,
    /// The program that gets a link in the folder of tools' programs.
    program: Option<&'static str>,
}

/// The folder of tools.
pub const TOOLS: Environment =
    Environment { folder: "", requirements: include_str!("../../tools/requirements.txt"), program: None };
/// Checkov, which needs exact versions of many packages.
pub const CHECKOV: Environment = Environment {
    folder: "checkov",
    requirements: include_str!("../../tools/requirements-checkov.txt"),
    program: Some("checkov"),
};

/// Installs an environment into the folder of tools, unless it is there.
pub fn install(environment: &Environment, tools: &Path) -> Result<()> {
    let folder = tools.join(environment.folder);
    let installed = folder.join("requirements.txt");
    if fs::read_to_string(&installed).is_ok_and(|text| text == environment.requirements) {
        return Ok(());
    }
    let python = folder.join("bin/python");
    if !works(&python) {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    }
    let requirements = folder.join("new.txt");
    fs::write(&requirements, environment.requirements).context("write the requirements")?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    run(Command::new(python).args(pip).arg(&requirements))?;
    if let Some(program) = environment.program {
        link(&folder.join("bin").join(program), &tools.join("bin").join(program))?;
    }
    fs::rename(&requirements, &installed).context("keep the requirements")
}

fn works(python: &Path) -> bool {
    let mut command = Command::new(python);
    command.args(["-m", "pip", "--version"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn link(program: &Path, at: &Path) -> Result<()> {
    match fs::remove_file(at) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => symlink(program, at),
    }
    .with_context(|| format!("link {}", at.display()))
}
