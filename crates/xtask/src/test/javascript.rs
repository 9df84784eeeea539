//! The tests of the JavaScript parts: every `test` and `test:…` script of their `package.json`.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use starling_testkit::install;
use starling_testkit::postgres::Postgres;
use starling_testkit::redis::Redis;

use super::count;
use super::runner::{self, Task};
use super::summary::Outcome;
use crate::workspace;

/// Folders with a `package.json`, from the root.
const FOLDERS: [&str; 2] = ["clients/js", "crates/gateway/console-tests"];

/// The scripts of one folder, after its dependencies are there.
pub struct Suite {
    pub name: String,
    tasks: Vec<Task>,
}

impl Suite {
    /// Runs the scripts beside a Redis and a PostgreSQL of their own.
    pub async fn run(&self) -> Outcome {
        let (redis, postgres) = match tokio::try_join!(Redis::start(), Postgres::start()) {
            Ok(servers) => servers,
            Err(error) => return Outcome::check(Err(error)),
        };
        let with_servers =
            |task: &Task| task.clone().env("REDIS_URL", redis.url()).env("DATABASE_URL", postgres.url());
        let tasks: Vec<Task> = self.tasks.iter().map(with_servers).collect();
        runner::run_all(&tasks).await
    }
}

/// One suite for each folder that has scripts of that name. They find the program in `STARLING_BIN`, a browser in
/// `CHROMIUM_BIN`, and servers for the time of [`Suite::run`] in `REDIS_URL` and `DATABASE_URL`.
pub fn suites() -> Result<Vec<Suite>> {
    let mut suites = Vec::new();
    for folder in FOLDERS {
        let path = workspace::root().join(folder);
        let scripts = scripts(&path)?;
        if scripts.is_empty() {
            continue;
        }
        let install = if path.join("package-lock.json").is_file() { "ci" } else { "install" };
        let mut tasks = vec![npm(&path, &[install, "--no-audit", "--no-fund"])];
        let program = workspace::target()?.join("debug/starling");
        for script in &scripts {
            let mut task = npm(&path, &["run", script]).env("STARLING_BIN", &program).counting(count::node);
            if let Some(chromium) = install::find("chromium") {
                task = task.env("CHROMIUM_BIN", chromium);
            }
            tasks.push(task);
        }
        suites.push(Suite { name: folder.to_owned(), tasks });
    }
    Ok(suites)
}

fn scripts(folder: &Path) -> Result<Vec<String>> {
    let file = folder.join("package.json");
    if !file.is_file() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let package: Value = serde_json::from_str(&text).with_context(|| format!("read {}", file.display()))?;
    let names = package["scripts"].as_object().into_iter().flatten().map(|(name, _)| name);
    Ok(names.filter(|name| *name == "test" || name.starts_with("test:")).cloned().collect())
}

fn npm(folder: &Path, words: &[&str]) -> Task {
    Task::new("npm", words).folder(folder)
}
