//! A standby that follows a primary and can replace it.

use anyhow::{Context, Result, ensure};

use super::{LIMIT, Postgres, SUPERUSER, User, finished};
use crate::programs;
use crate::{Folder, Launch, wait};

impl Postgres {
    /// Copies a running server, and follows it by streaming replication. From now on the primary confirms a commit only when the standby
    /// has it on its disk.
    ///
    /// # Errors
    /// When it can't be copied, started, or does not follow in time.
    pub async fn standby_of(primary: &Self) -> Result<Self> {
        let standby = Self::replica_of(primary).await?;
        primary.psql("ALTER SYSTEM SET synchronous_standby_names = '*'").await?;
        primary.psql("SELECT pg_reload_conf()").await?;
        primary.is_followed("sync_state = 'sync'").await?;
        Ok(standby)
    }

    /// Like [`standby_of`](Self::standby_of), but the primary does not wait for it: it may lag behind, and end.
    ///
    /// # Errors
    /// When it can't be copied, started, or does not follow in time.
    pub async fn replica_of(primary: &Self) -> Result<Self> {
        let folder = Folder::new("pg")?;
        let user = User::for_servers()?;
        if let Some(user) = &user {
            folder.give_to(user.uid, user.gid)?;
        }
        copy(primary, &folder, user.as_ref()).await?;
        // Otherwise a query there is cancelled when the primary has cleaned up what it might still see.
        let settings = [("hot_standby_feedback", "on")];
        let standby = Self::begin(folder, &settings, primary.password.clone()).await?;
        standby.answers().await?;
        primary.is_followed("true").await?;
        Ok(standby)
    }

    /// Waits until the other server shows everything that is committed on this one by now.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn is_replayed_by(&self, replica: &Self) -> Result<()> {
        let position = self.psql("SELECT pg_current_wal_lsn()").await?;
        let query = format!("SELECT pg_last_wal_replay_lsn() >= '{}'::pg_lsn", position.trim());
        let replayed = async || Ok(replica.psql(&query).await?.trim() == "t");
        wait::until_true(LIMIT, "the replica to catch up", replayed).await
    }

    /// Waits until a server follows this one, and this condition on `pg_stat_replication` holds.
    async fn is_followed(&self, condition: &str) -> Result<()> {
        let query =
            format!("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND {condition}");
        let follows = async || Ok(self.psql(&query).await?.trim() != "0");
        wait::until_true(LIMIT, "the standby to follow", follows).await
    }

    /// Promotes a standby, and returns when it accepts writes. The former primary must have ended.
    ///
    /// # Errors
    /// When it does not become the primary in time.
    pub async fn promote(&self) -> Result<()> {
        let done = self.psql("SELECT pg_promote(true, 60)").await?;
        ensure!(done.trim() == "t", "the standby was not promoted");
        self.takes_writes().await
    }
}

async fn copy(primary: &Postgres, folder: &Folder, user: Option<&User>) -> Result<()> {
    let program = programs::find("pg_basebackup")?;
    let launch = Launch::new("pg_basebackup", program, folder.path())
        .args(["-D", "data", "-R", "-X", "stream", "-c", "fast", "--no-sync", "-U", SUPERUSER, "-h"])
        .args([primary.folder.path()])
        .args(["-p", &primary.port().to_string()])
        .user(user);
    finished(launch).await?;
    // The copy has no standby of its own, even if the primary had one.
    let settings = folder.join("data/postgresql.auto.conf");
    let text = std::fs::read_to_string(&settings).context("read the copy's settings")?;
    let kept: String = text
        .lines()
        .filter(|line| !line.starts_with("synchronous_standby_names"))
        .flat_map(|line| [line, "\n"])
        .collect();
    std::fs::write(&settings, kept).context("write the copy's settings")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_committed_is_on_the_standby_when_the_primary_is_gone() {
        let primary = Postgres::start().await.unwrap();
        primary.psql("CREATE TABLE t (n int)").await.unwrap();
        let standby = Postgres::standby_of(&primary).await.unwrap();
        primary.psql("INSERT INTO t VALUES (1), (2)").await.unwrap();
        primary.crash().await.unwrap();
        let error = standby.psql("INSERT INTO t VALUES (3)").await.unwrap_err();
        assert!(error.to_string().contains("read-only"), "{error}");
        standby.promote().await.unwrap();
        standby.psql("INSERT INTO t VALUES (3)").await.unwrap();
        assert_eq!(standby.psql("SELECT sum(n) FROM t").await.unwrap().trim(), "6");
        // The next one in line can be made from it.
        let next = Postgres::standby_of(&standby).await.unwrap();
        standby.psql("INSERT INTO t VALUES (4)").await.unwrap();
        // A commit waits until the standby has it on its disk, not until it shows it.
        standby.is_replayed_by(&next).await.unwrap();
        assert_eq!(next.psql("SELECT sum(n) FROM t").await.unwrap().trim(), "10");
    }
}
