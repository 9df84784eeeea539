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
    /// Locked; the operating system lets go of it when the process ends, however it ends. Programs of older versions look at this
    /// lock alone.
    _lock: File,
    /// The database's file itself, locked: whoever comes by a link, symbolic or hard, finds the same lock. Open as long as any
    /// connection, because closing it would give up the locks that SQLite holds on the file.
    _locked: File,
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
        // Made here, so that it, and what SQLite puts beside it, is its owner's alone whatever the umask.
        let locked = open(&path).map_err(|error| unusable(error.to_string()))?;
        match locked.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                // Should it be this process that uses it, closing the file would take SQLite's locks away.
                let _ = locked.into_raw_fd();
                return Err(used(" by another name"));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(format!("can't be locked: {error}"))),
        }
        if let Ok(known) = locked.metadata()
            && known.nlink() > 1
        {
            let (file, links) = (path.display(), known.nlink());
            tracing::warn!(%file, links, "the database file has several hard links; always use the same one, since SQLite keeps what is not yet in the file beside its name");
        }
        for file in [path.clone(), beside(&path, "-wal"), beside(&path, "-shm")] {
            close_to_others(&file);
        }
        Ok(Self { path, _lock: lock, _locked: locked, _temporary: temporary })
    }

    /// Brings all that was committed into the file itself, and empties the `-wal` file.
    pub(super) fn checkpoint(&self) -> Result<(), Error> {
        let connection =
            self.connection(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        let busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if busy {
            return Err(Error::Unavailable("somebody is still reading it".into()));
        }
        Ok(())
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

/// The file whose name is this one with an ending.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(ending);
    name.into()
}

/// Opens a file without changing it; makes it for its owner alone where there is none.
fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Takes the rights of everybody from a file that holds people's messages. A group's rights stay: somebody has given them.
fn close_to_others(path: &Path) {
    let Ok(known) = path.metadata() else { return };
    let (file, mode) = (path.display(), known.permissions().mode() & 0o777);
    if !known.is_file() || mode & 0o007 == 0 {
        return;
    }
    match std::fs::set_permissions(path, Permissions::from_mode(mode & !0o007)) {
        Ok(()) => {
            tracing::warn!(%file, "every user of this machine could read this file; now only its owner and group can");
        }
        Err(error) => {
            tracing::warn!(%file, %error, "every user of this machine can read this file; run chmod o-rwx on it");
        }
    }
}
