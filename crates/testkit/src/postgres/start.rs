//! How a server is started, on new data or on what is there.

use std::path::Path;

use anyhow::Result;
use tokio::sync::OnceCell;

use super::{Postgres, template};
use crate::Folder;
use crate::user::User;

impl Postgres {
    /// Creates a server, starts it, and returns when it takes connections.
    ///
    /// # Errors
    /// When it can't be created or started, with its log.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// Like [`start`](Self::start), with settings such as `("max_connections", "20")`.
    ///
    /// # Errors
    /// When it can't be created or started, with its log.
    pub async fn start_with(settings: &[(&str, &str)]) -> Result<Self> {
        Self::launch(Folder::new("pg")?, settings).await
    }

    /// Starts a server whose data stays in this folder, or goes on with what is there: a backup is replayed first. As root, choose one
    /// that other users can get to.
    ///
    /// # Errors
    /// When it can't be created or started, with its log.
    pub async fn start_in(folder: &Path) -> Result<Self> {
        Self::launch(Folder::kept(folder)?, &[]).await
    }

    async fn launch(folder: Folder, settings: &[(&str, &str)]) -> Result<Self> {
        let user = User::for_servers()?;
        if let Some(user) = &user {
            folder.give_to(user.uid, user.gid)?;
        }
        if !folder.join("data/PG_VERSION").exists() {
            template::copy_to(folder.path(), user.as_ref()).await?;
        }
        let postgres = Self::begin(folder, settings, format!("{:016x}", rand::random::<u64>())).await?;
        postgres.answers().await?;
        postgres.takes_writes().await?;
        postgres.prepare().await?;
        Ok(postgres)
    }

    /// A server that all tests of this process share, started on the first call. Each test creates a database of its own with
    /// [`create_database`](Self::create_database).
    ///
    /// # Errors
    /// When it can't be created or started, with its log.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }
}
