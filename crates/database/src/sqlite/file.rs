//! The database's file: its folder, the lock on it, and connections to it.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use super::config::Durability;
use crate::Error;

/// The name of a database that ends with its last handle.
const IN_MEMORY: &str = ":memory:";
/// How long to wait for another program that locks the database, such as a console.
const BUSY_TIMEOUT: Duration = Duration::from_secs(4);
/// The number of compiled statements that each connection keeps, which is more than there are.
const STATEMENTS_MAX: usize = 64;

/// A database's file, locked against other programs.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    path: PathBuf,
    /// The locked lock file. The operating system releases the lock when the process ends in any way. Older versions use only this lock.
    _lock: File,
    /// The database's file itself, locked, so that programs that open it by a symbolic or hard link find the lock. It stays open as long as any
    /// connection, because closing it would release SQLite's locks on the file.
    _locked: File,
    /// The folder of a temporary database.
    _temporary: Option<TempDir>,
}

impl DatabaseFile {
    /// Creates the folder if it does not exist, and takes the locks.
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
        let lock = open(&beside(&path, ".lock"))
            .map_err(|error| unusable(format!("its lock file can't be made: {error}")))?;
        let used = |how: &str| {
            unusable(format!(
                "another program uses this database{how}; stop it, or give this one a file of its own"
            ))
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(used("")),
            Err(TryLockError::Error(error)) => return Err(unusable(format!("can't be locked: {error}"))),
        }
        // Created here, so that only its owner can read it and the files that SQLite puts beside it, whatever the umask is.
        let locked = open(&path).map_err(|error| unusable(error.to_string()))?;
        match locked.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                // If this process itself uses the file, closing it would release SQLite's locks.
                let _ = locked.into_raw_fd();
                return Err(used(" by another name"));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(format!("can't be locked: {error}"))),
        }
        if let Ok(known) = locked.metadata()
            && known.nlink() > 1
        {
            let (file, links) = (path.display(), known.nlink());
            tracing::warn!(%file, links, "the database file has several hard links; always use the same one, because SQLite keeps recent changes in a file next to that name");
        }
        for file in [path.clone(), beside(&path, "-wal"), beside(&path, "-shm"), beside(&path, ".lock")] {
            close_to_others(&file);
        }
        Ok(Self { path, _lock: lock, _locked: locked, _temporary: temporary })
    }

    /// Copies all committed data into the file itself, and empties the `-wal` file.
    pub(super) fn checkpoint(&self) -> Result<(), Error> {
        let connection =
            self.connection(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        let busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if busy {
            return Err(Error::Unavailable("somebody is still reading it".into()));
        }
        Ok(())
    }

    /// Opens the connection that writes. Creates the file if it does not exist.
    pub(super) fn writer(&self, durability: Durability) -> Result<Connection, Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = self.connection(flags)?;
        let synchronous = match durability {
            Durability::Full => "FULL",
            Durability::Normal => "NORMAL",
        };
        // With a write-ahead log, readers and the writer do not wait for each other. It is copied back every 8,192 pages (32 MiB) instead of
        // every 1,000, because each time takes two waits for the disk, and pages change many times in between. After a peak it is
        // truncated. The cache has 16 MiB for the pages in use.
        connection
            .execute_batch(&format!(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous};
                 PRAGMA foreign_keys = ON; PRAGMA journal_size_limit = 67108864;
                 PRAGMA wal_autocheckpoint = 8192; PRAGMA cache_size = -16384;"
            ))
            .map_err(|error| self.unusable(&error))?;
        Ok(connection)
    }

    /// Opens a connection that reads. The writer must exist.
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

/// Returns the path with a suffix.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(ending);
    name.into()
}

/// Opens a file without changing it. If it does not exist, creates it readable for its owner only.
fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Removes the rights of everybody but the owner from a file with messages.
fn close_to_others(path: &Path) {
    let Ok(known) = path.metadata() else { return };
    let (file, mode) = (path.display(), known.permissions().mode() & 0o777);
    if !known.is_file() || mode & 0o077 == 0 {
        return;
    }
    match std::fs::set_permissions(path, Permissions::from_mode(mode & !0o077)) {
        Ok(()) => {
            tracing::warn!(%file, "other users of this machine could read this file; now only its owner can");
        }
        Err(error) => {
            tracing::warn!(%file, %error, "other users of this machine can read this file; run chmod go-rwx on it");
        }
    }
}
