//! Which Starling is run.

use std::path::PathBuf;

use anyhow::Result;

/// The program to run: the one that was named, or the one beside this program.
pub async fn program(named: Option<&PathBuf>) -> Result<PathBuf> {
    match named {
        Some(program) => Ok(std::path::absolute(program)?),
        None => tokio::task::spawn_blocking(starling_testkit::node::program).await?,
    }
}
