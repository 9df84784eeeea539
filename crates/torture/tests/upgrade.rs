//! Nodes of this version and of a next one, whose schema is newer, replace each other under load.

use std::time::Duration;

use anyhow::{Result, ensure};
use starling_testkit::process::Signal;
use starling_testkit::{Folder, Launch, Process, node};

/// The longest time that a run may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

/// Goes from this version to a next one, whose migration is of this kind, and back. Returns what the torture says; it has to pass.
async fn upgraded(kind: &str) -> Result<String> {
    let folder = Folder::new("upgrade")?;
    let previous = tokio::task::spawn_blocking(node::program).await??;
    let launch = Launch::new("torture", env!("CARGO_BIN_EXE_torture"), folder.path())
        .args(["upgrade", "--seconds", "1", "--clients", "50", "--rate", "50"])
        .args(["--previous".as_ref(), previous.as_os_str()])
        .args(["--program", env!("CARGO_BIN_EXE_starling-next")])
        .args(["--node-env".to_owned(), format!("STARLING_NEXT={kind}")])
        .end_by(Signal::INT);
    let torture = Process::start(launch).await?;
    let status = torture.ended(LIMIT).await?;
    ensure!(status.success(), "{status}: {}", torture.log());
    Ok(torture.log())
}

#[tokio::test]
async fn nodes_work_beside_and_after_a_next_version_whose_migration_only_adds() -> Result<()> {
    let log = upgraded("adds").await?;
    ensure!(log.contains("which the previous release can use"), "{log}");
    ensure!(log.matches("back: node-").count() == 2, "not every node went back: {log}");
    Ok(())
}

#[tokio::test]
async fn nodes_do_not_start_after_a_next_version_whose_migration_takes_away() -> Result<()> {
    let log = upgraded("breaks").await?;
    ensure!(log.contains("there is no way back") && log.contains("start the newer program again"), "{log}");
    ensure!(!log.contains("back: node"), "{log}");
    Ok(())
}
