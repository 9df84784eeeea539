//! The database's file: its folder, the lock on it, and connections to it.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use super::Durability;
use crate::Error;

/// The name that stands for a database which is gone with its last handle.
const IN_MEMORY: &str = ":memory:";
/// How long to wait for somebody at a console who holds the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(4);
/// Statements kept compiled per connection; there are fewer.
const STATEMENTS_MAX: usize = 64;

/// A database's file, which no other program uses as long as this lives.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    path: PathBuf,
    /// Locked; the operating system lets go of it when the process ends, however it ends.
    _lock: File,
    /// Around a database that is not to stay.
    _temporary: Option<TempDir>,
}

impl DatabaseFile {
    /// Makes the folder where there is none, and takes the lock.
    pub(super) fn claim(path: &Path) -> Result<Self, Error> {
        let unusable = |why: String| Error::Address(format!("{}: {why}", path.display()));
        let temporary = if path == Path::new(IN_MEMORY) {
            Some(tempfile::tempdir().map_err(|error| unusable(error.to_string()))?)
        } else {
            None
        };
        let path =
            temporary.as_ref().map_or_else(|| path.to_owned(), |folder| folder.path().join("starling.db"));
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .map_err(|error| unusable(format!("its folder can't be made: {error}")))?;
        }
        let mut lock_path = path.clone().into_os_string();
        lock_path.push(".lock");
        let lock = File::create(&lock_path)
            .map_err(|error| unusable(format!("its lock file can't be made: {error}")))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock, _temporary: temporary }),
            Err(TryLockError::WouldBlock) => Err(unusable(
                "another program uses this database; stop it, or give this one a file of its own".into(),
            )),
            Err(TryLockError::Error(error)) => Err(unusable(format!("can't be locked: {error}"))),
        }
    }

    /// The connection that writes; makes the file where there is none.
    pub(super) fn writer(&self, durability: Durability) -> Result<Connection, Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = self.connection(flags)?;
        let synchronous = match durability {
            Durability::Full => "FULL",
            Durability::Normal => "NORMAL",
        };
        // Readers and the writer do not wait for each other in WAL. It is copied back every 8,192 pages (32 MiB) rather
        // than every 1,000, because each time costs two more waits for the disk and pages change many times in
        // between; after a peak it is cut back. The pages in use stay in 16 MiB of cache.
        connection
            .execute_batch(&format!(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous};
                 PRAGMA foreign_keys = ON; PRAGMA journal_size_limit = 67108864;
                 PRAGMA wal_autocheckpoint = 8192; PRAGMA cache_size = -16384;"
            ))
            .map_err(|error| self.unusable(&error))?;
        Ok(connection)
    }

    /// A connection that reads; there has to be a writer.
    pub(super) fn reader(&self) -> Result<Connection, Error> {
        self.connection(OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
    }

    fn connection(&self, flags: OpenFlags) -> Result<Connection, Error> {
        let connection =
            Connection::open_with_flags(&self.path, flags).map_err(|error| self.unusable(&error))?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| self.unusable(&error))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        Ok(connection)
    }

    fn unusable(&self, error: &rusqlite::Error) -> Error {
        Error::Address(format!("{}: {error}", self.path.display()))
    }
}
