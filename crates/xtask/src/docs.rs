//! `cargo xtask docs`: the pages that are generated from the program.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::workspace;

/// Each page, and what makes the program print it.
const PAGES: [(&str, &[&str]); 1] = [("docs/configuration.md", &["config", "--markdown"])];

/// Writes the pages that are generated from the program.
#[derive(clap::Args)]
pub struct Arguments {
    /// Writes nothing, and fails where a page is not what the program says
    #[arg(long)]
    check: bool,
}

/// Writes or checks the pages.
pub async fn run(arguments: &Arguments) -> Result<()> {
    let program = workspace::build_program(false).await?;
    if arguments.check {
        return check(&program).await;
    }
    for page in stale(&program).await? {
        std::fs::write(&page.path, &page.text).with_context(|| format!("write {}", page.name))?;
        println!("wrote {}", page.name);
    }
    Ok(())
}

/// Fails where a page is not what this program says.
pub async fn check(program: &Path) -> Result<()> {
    let stale = stale(program).await?;
    let names: Vec<&str> = stale.iter().map(|page| page.name).collect();
    ensure!(
        names.is_empty(),
        "not what the program says: {}; run `cargo xtask docs` and commit the result",
        names.join(", ")
    );
    Ok(())
}

/// A page as it should be.
struct Page {
    name: &'static str,
    path: PathBuf,
    text: Vec<u8>,
}

/// The pages that are not as they should be.
async fn stale(program: &Path) -> Result<Vec<Page>> {
    let mut stale = Vec::new();
    for (name, words) in PAGES {
        let mut command = Command::new(program);
        let output = command.args(words).stdin(Stdio::null()).kill_on_drop(true).output();
        let output = output.await.with_context(|| format!("run {}", program.display()))?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "starling {}: {}\n{errors}", words.join(" "), output.status);
        let path = workspace::root().join(name);
        if !std::fs::read(&path).is_ok_and(|written| written == output.stdout) {
            stale.push(Page { name, path, text: output.stdout });
        }
    }
    Ok(stale)
}
