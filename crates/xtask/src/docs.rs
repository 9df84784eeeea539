//! `cargo xtask docs`: the pages that are generated from the program.

use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
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
    let mut stale = Vec::new();
    for (page, words) in PAGES {
        let path = workspace::root().join(page);
        let output = Command::new(&program)
            .args(words)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("run starling")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "starling {}: {}\n{errors}", words.join(" "), output.status);
        if std::fs::read(&path).is_ok_and(|written| written == output.stdout) {
            continue;
        }
        if arguments.check {
            stale.push(page);
        } else {
            std::fs::write(&path, &output.stdout).with_context(|| format!("write {page}"))?;
            println!("wrote {page}");
        }
    }
    if !stale.is_empty() {
        bail!(
            "not what the program says: {}; run `cargo xtask docs` and commit the result",
            stale.join(", ")
        );
    }
    Ok(())
}
