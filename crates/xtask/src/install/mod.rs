//! What the tests need besides Rust: Debian's packages, and tools from Python and npm packages in the build folder.

mod command;
mod debian;
mod npm;
mod python;

use std::path::PathBuf;
use std::thread;

use anyhow::{Result, anyhow};

use crate::workspace;

/// Installs whatever is missing.
pub fn all() -> Result<()> {
    debian::install()?;
    let folder = tools()?.join("..");
    // Both mostly wait for the network.
    thread::scope(|scope| {
        let checkov = scope.spawn(|| python::install(&python::CHECKOV, &folder));
        let npm = npm::install(&folder);
        checkov.join().map_err(|_| anyhow!("the installation of Checkov panicked"))?.and(npm)
    })
}

/// Installs the Debian packages whose programs are missing.
pub fn packages() -> Result<()> {
    debian::install()
}

/// Installs the tools that every test run needs, unless they are there. Returns the folder of all tools' programs.
pub fn tools() -> Result<PathBuf> {
    let folder = workspace::target()?.join("tools");
    python::install(&python::TOOLS, &folder)?;
    python::link_valkey(&folder)?;
    python::install_nextest(&folder)?;
    Ok(folder.join("bin"))
}
