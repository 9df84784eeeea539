//! The archive of PostgreSQL, made and used by `deploy/backup` as docs/operating/back-up.md and restore.md say.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use starling_deployment::repository;
use starling_testkit::postgres::{Postgres, run_as_server};
use starling_testkit::{Folder, Launch, programs, wait};

/// The recovery point that the page promises.
const RECOVERY_POINT_MAX: Duration = Duration::from_secs(300);

/// The settings of docs/operating/back-up.md, with these folders.
pub fn documented_settings(scripts: &Path, archive: &Path) -> Result<Vec<(String, String)>> {
    let page = fs::read_to_string(repository("docs/operating/back-up.md"))?;
    let block = page.split("\n```ini\n").nth(1).and_then(|rest| rest.split("\n```").next());
    let mut settings = Vec::new();
    for line in block.context("no settings on the page")?.lines() {
        let (name, value) = line.split_once(" = ").context("a setting")?;
        let value =
            value.trim_matches('\'').replace("/usr/local/lib/starling", &scripts.display().to_string());
        settings.push((name.to_owned(), value.replace(" /archive ", &format!(" {} ", archive.display()))));
    }
    ensure!(settings.iter().any(|(name, _)| name == "archive_command"), "{settings:?}");
    Ok(settings)
}

/// Runs `backup.sh` as the page has it.
pub async fn take_base_backup(postgres: &Postgres, scripts: &Folder, archive: &Path) -> Result<()> {
    let begun = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64().floor();
    postgres.psql("CREATE ROLE backup LOGIN REPLICATION PASSWORD 'for-the-drill'").await?;
    let url = format!("postgres://backup:for-the-drill@{}/postgres", postgres.address());
    let backup = Launch::new("backup", programs::find("sh")?, scripts.path())
        .args([scripts.join("backup.sh").as_os_str(), archive.as_os_str(), "7".as_ref()])
        .env("DATABASE_URL", url)
        .env("METRICS_DIR", scripts.path());
    let said = run_as_server(backup).await?;
    ensure!(said.starts_with("base backup "), "{said}");
    let metrics = fs::read_to_string(scripts.join("starling_backup.prom"))?;
    let value =
        metrics.lines().find_map(|line| line.strip_prefix("starling_backup_completed_timestamp_seconds "));
    let completed: f64 = value.context("no metric")?.parse()?;
    ensure!(completed >= begun, "the metric names a time before the backup");
    Ok(())
}

/// Waits until everything that is committed by now is in the archive. Returns how long that took.
pub async fn wait_until_archived(postgres: &Postgres) -> Result<Duration> {
    let (segment, since) = (current_segment(postgres).await?, Instant::now());
    let is_archived = async || Ok(archived(postgres).await? >= segment);
    wait::until_true(RECOVERY_POINT_MAX, "the WAL to be archived", is_archived).await?;
    Ok(since.elapsed())
}

/// The name of the segment that holds what was committed last.
async fn current_segment(postgres: &Postgres) -> Result<String> {
    Ok(postgres.psql("SELECT pg_walfile_name(pg_current_wal_insert_lsn())").await?.trim().to_owned())
}

/// The name of the newest segment in the archive; names of one timeline sort by age.
async fn archived(postgres: &Postgres) -> Result<String> {
    let name = postgres.psql("SELECT last_archived_wal, failed_count FROM pg_stat_archiver").await?;
    let (name, failed) = name.trim().split_once('|').context("two columns")?;
    ensure!(failed == "0", "archive.sh failed {failed} times");
    // A backup also archives its label: SEGMENT.OFFSET.backup.
    Ok(name.split('.').next().unwrap_or_default().to_owned())
}

/// Starts a server on what `restore.sh` makes in a new folder.
pub async fn restore(scripts: &Folder, archive: &Path, name: &str, moment: Option<&str>) -> Result<Postgres> {
    let place = scripts.join(name);
    let (script, data) = (scripts.join("restore.sh"), place.join("data"));
    let mut arguments = vec![script.as_os_str(), archive.as_os_str(), data.as_os_str()];
    arguments.extend(moment.map(OsStr::new));
    let restore =
        Launch::new(&format!("restore-{name}"), programs::find("sh")?, scripts.path()).args(arguments);
    let said = run_as_server(restore).await?;
    ensure!(said.contains(" is made from "), "{said}");
    Postgres::start_in(&place).await
}
