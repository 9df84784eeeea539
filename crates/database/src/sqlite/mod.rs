//! One SQLite file, for a single node. One thread writes and a few read, so that no thread of the asynchronous runtime ever waits for
//! the disk.

mod config;
mod error;
mod file;
mod queue;
mod readers;
mod schema;
mod writer;

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;

pub use config::{Durability, SqliteConfig};

use crate::{Error, PoolStatus, Schema, SchemaStatus};
use file::DatabaseFile;
use readers::Readers;
use writer::Writer;

/// An open SQLite file.
pub struct SqliteDatabase {
    readers: Readers,
    /// Closed last, since closing it checkpoints the write-ahead log.
    writer: Writer,
    file: Arc<DatabaseFile>,
}

impl SqliteDatabase {
    /// Opens the file. Creates it and its folder if they do not exist. `:memory:` is a database that ends with its handle. Blocks on the disk
    /// for a moment.
    ///
    /// # Errors
    /// [`Error::Address`] if the file can't be created or read, is in use by another program, or is no database.
    pub fn open(path: &Path, config: SqliteConfig) -> Result<Self, Error> {
        let SqliteConfig { durability, readers, queue_max, call_timeout } = config;
        let queue_max = queue_max.max(1);
        let file = Arc::new(DatabaseFile::claim(path)?);
        let writer = file.writer(durability)?;
        let connections = (0..readers.max(1)).map(|_| file.reader()).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            readers: Readers::start(connections, &file, queue_max, call_timeout)?,
            writer: Writer::start(writer, Arc::clone(&file), queue_max, call_timeout)?,
            file,
        })
    }

    /// Runs `work` on a snapshot that contains everything that was committed before the call.
    ///
    /// # Errors
    /// Those of the work, and [`Error::Unavailable`] when its turn does not come in time.
    pub async fn read<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    {
        self.readers.read(work).await
    }

    /// Runs `work` in a transaction, and returns its result after the commit. Calls that wait at the same time share a transaction. If `work`
    /// fails, only its own changes are undone.
    ///
    /// # Errors
    /// Those of the work and of the commit, and [`Error::Unavailable`] when its turn does not come in time.
    pub async fn write<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    {
        self.writer.write(work).await
    }

    /// Returns how the schema of the file compares with this one.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if it is newer than this program, which can't use it.
    pub async fn schema_status(&self, schema: &'static Schema) -> Result<SchemaStatus, Error> {
        self.read(|connection| schema::status(connection, schema)).await
    }

    /// Applies what the schema lacks: all of it or nothing.
    ///
    /// # Errors
    /// Those of [`Self::schema_status`], and of the migrations.
    pub async fn migrate(&self, schema: &'static Schema) -> Result<(), Error> {
        self.write(|connection| schema::migrate(connection, schema)).await
    }

    /// Copies all committed data into the file itself, before a stop.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while there is a reader.
    pub async fn checkpoint(&self) -> Result<(), Error> {
        let file = Arc::clone(&self.file);
        let done = tokio::task::spawn_blocking(move || file.checkpoint()).await;
        done.map_err(|error| Error::Unavailable(error.to_string()))?
    }

    /// Returns the states of the writer and of the readers.
    pub fn pools(&self) -> [PoolStatus; 2] {
        [self.writer.status(), self.readers.status()]
    }
}
