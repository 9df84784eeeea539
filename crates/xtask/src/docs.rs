//! `cargo xtask docs`: the pages that are generated from the program.

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// Each page, and the command that makes the program print it.
const PAGES: [(&str, &[&str]); 1] = [("docs/configuration.md", &["config", "--markdown"])];

/// Writes the pages that are generated from the program.
#[derive(clap::Args)]
pub struct Arguments {
    /// Writes nothing, and fails if a page differs from what the program prints
    #[arg(long)]
    check: bool,
}

/// Writes or checks the pages.
pub fn run(arguments: &Arguments) -> Result<bool> {
    workspace::build_debug()?;
    if arguments.check {
        return check().map(|()| true);
    }
    for (name, words) in PAGES {
        std::fs::write(workspace::root().join(name), printed(words)?)
            .with_context(|| format!("write {name}"))?;
        println!("wrote {name}");
    }
    Ok(true)
}

/// Fails if a page differs from what the program of the debug build prints.
pub fn check() -> Result<()> {
    for (name, words) in PAGES {
        let page = std::fs::read(workspace::root().join(name)).with_context(|| format!("read {name}"))?;
        ensure!(
            page == printed(words)?,
            "{name} is not what the program prints; run `cargo xtask docs` and commit the result"
        );
    }
    Ok(())
}

fn printed(words: &[&str]) -> Result<Vec<u8>> {
    let output = workspace::debug_program("starling")?.args(words).output().context("run starling")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "starling {}: {}\n{errors}", words.join(" "), output.status);
    Ok(output.stdout)
}
