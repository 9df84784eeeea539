//! The database, of either kind.

use std::path::Path;

use starling_database::{DatabaseAddress, SchemaStatus};
use tokio::time::timeout;

use super::clock::Clocks;
use super::examination::Examination;
use super::postgres::{self, PATIENCE};
use crate::config::Config;
use crate::database::{Database, address};

/// Examines the database.
pub async fn examine(examination: &mut Examination, config: &Config, clocks: &mut Clocks) {
    examination.section("database");
    // What is wrong with the settings was found with the configuration.
    let (Ok(database), Ok(address)) = (Database::read(config), address(config)) else {
        return examination.skipped("database_url", "the settings have to be mended first");
    };
    match &address {
        DatabaseAddress::Postgres(url) => {
            let usable = postgres::examine(examination, config, url, clocks).await;
            if usable {
                examine_schema(examination, config, &database).await;
            }
            if let Some(url) = &config.database.read_url {
                postgres::examine_replica(examination, url.expose()).await;
            }
        }
        DatabaseAddress::Sqlite(path) if path == Path::new(":memory:") => examination.warning(
            "database_url",
            "sqlite://:memory: forgets everything when the node ends",
            "name a file, unless this is a trial",
        ),
        DatabaseAddress::Sqlite(path) => examine_file(examination, config, &database, path).await,
    }
}

/// Examines a file of SQLite. Makes none: that is for the node.
async fn examine_file(examination: &mut Examination, config: &Config, database: &Database, path: &Path) {
    let name = path.display();
    if path.exists() {
        examination.good("file", name.to_string());
        return examine_schema(examination, config, database).await;
    }
    // A starting node makes the missing folders.
    let folder = path.ancestors().skip(1).find(|folder| folder.as_os_str().is_empty() || folder.exists());
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK) {
        Ok(()) => examination.good("file", format!("{name} does not exist yet; the first start makes it")),
        Err(error) => examination.problem(
            "file",
            format!("{name} does not exist, and {} can't be written: {error}", folder.display()),
            "give the folder to the user that runs the node, or mount a volume there",
        ),
    }
}

/// Examines whether the schema fits this program.
async fn examine_schema(examination: &mut Examination, config: &Config, database: &Database) {
    let subject = "migrations";
    let stores = match database.open().await {
        Ok(stores) => stores,
        Err(failure) => {
            let advice = "stop the other program, or, if it is the node itself, ask it: starling healthcheck";
            return examination.warning("use", failure.message, advice);
        }
    };
    match timeout(PATIENCE, stores.check_schemas()).await {
        Ok(Ok(statuses)) => examine_statuses(examination, config, &statuses),
        Ok(Err(error)) => {
            let advice = "no node of this version starts on this database; see docs/operating/cluster.md and roll-back.md";
            examination.problem("use", error.to_string(), advice);
        }
        Err(_) => examination.problem(subject, "the database took too long to answer", "see its own log"),
    }
    stores.conversations.close().await;
}

fn examine_statuses(examination: &mut Examination, config: &Config, statuses: &[SchemaStatus]) {
    let subject = "migrations";
    for newer in statuses.iter().filter_map(SchemaStatus::newer) {
        examination.good(subject, newer.to_string());
    }
    if !statuses.contains(&SchemaStatus::Behind) {
        if statuses.contains(&SchemaStatus::Current) {
            examination.good(subject, "the schema is up to date");
        }
    } else if config.database.migrate {
        examination.good(subject, "the next start brings the schema up to date (database_migrate)");
    } else {
        let advice = "run `starling migrate` with this configuration";
        examination.problem(subject, "the schema is not up to date, and nodes do not migrate", advice);
    }
}
