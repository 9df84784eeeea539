//! A data folder that is made once and copied for each server. `initdb` and the first start take a second of processor time, and most
//! tests have a server of their own.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::{INITDB, Postgres, User, finished, initialise};
use crate::folder::base;
use crate::{Folder, Launch, programs};

/// How the names of templates begin.
const PREFIX: &str = "postgres-template-";
/// A template is used for a day, so that nothing removes parts of it by their age.
const DAY_SECONDS: u64 = 86_400;

/// Puts a new database cluster into `data` in this folder. It has Starling's role and database.
pub(super) async fn copy_to(folder: &Path, user: Option<&User>) -> Result<()> {
    let template = template(user).await?;
    let copy = Launch::new("cp", programs::find("cp")?, folder)
        .args(["-a", "--reflink=auto", "--"])
        .args([template.as_os_str(), folder.join("data").as_os_str()])
        .user(user);
    finished(copy).await.map(drop)
}

/// The path of the template. The first test process of a day makes it, and others wait meanwhile.
async fn template(user: Option<&User>) -> Result<PathBuf> {
    let (base, name) = (base()?, name_of_today()?);
    let template = base.join(&name);
    if template.exists() {
        return Ok(template);
    }
    let door = base.join("postgres-template.lock");
    let _door = tokio::task::spawn_blocking(move || {
        let door = File::create(door)?;
        door.lock()?;
        anyhow::Ok(door)
    })
    .await?
    .context("lock the template of PostgreSQL")?;
    if !template.exists() {
        remove_older(&base, &name);
        make(&template, user).await.context("make the template of PostgreSQL")?;
    }
    Ok(template)
}

/// The name depends on everything that the content depends on, and on the day.
fn name_of_today() -> Result<String> {
    let program = fs::canonicalize(programs::find("initdb")?)?;
    let mut hasher = DefaultHasher::new();
    (INITDB, &program, fs::metadata(&program)?.modified()?).hash(&mut hasher);
    let day = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() / DAY_SECONDS;
    Ok(format!("{PREFIX}{:016x}-{day}", hasher.finish()))
}

/// Removes templates that nobody uses any more. Those of today and yesterday may still be copied.
fn remove_older(base: &Path, today: &str) {
    let day = |name: &str| name.rsplit_once('-').and_then(|(_, day)| day.parse::<u64>().ok()).unwrap_or(0);
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(PREFIX) && day(&name) + 1 < day(today) {
            // What can't be removed now, a later process removes.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

async fn make(template: &Path, user: Option<&User>) -> Result<()> {
    // A short name: the path of the server's Unix socket in it has a limit of 107 bytes.
    let folder = Folder::new("pg")?;
    if let Some(user) = user {
        folder.give_to(user.uid, user.gid)?;
    }
    initialise(folder.path(), user).await?;
    let data = folder.join("data");
    let postgres = Postgres::begin(folder, &[], format!("{:016x}", rand::random::<u64>())).await?;
    postgres.answers().await?;
    postgres.prepare().await?;
    postgres.stop().await?;
    // It appears whole, or not at all.
    fs::rename(data, template).context("put it in its place")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_templates_of_earlier_days_are_removed() {
        let base = tempfile::TempDir::new().unwrap();
        let names =
            ["postgres-template-0a-7", "postgres-template-0b-8", "postgres-template-0a-9", "run-0a-1"];
        for name in names {
            fs::create_dir(base.path().join(name)).unwrap();
        }
        remove_older(base.path(), "postgres-template-0c-9");
        let kept = names.map(|name| base.path().join(name).exists());
        assert_eq!(kept, [false, true, true, true]);
    }
}
