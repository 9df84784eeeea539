use std::sync::Arc;

use starling_database::DatabaseAddress;

use crate::postgres::{PostgresConfig, PostgresStore};
use crate::sqlite::{SqliteConfig, SqliteStore};
use crate::{ConversationStore, Error};

/// Opens the store at an address, with default settings.
///
/// PostgreSQL need not be reachable yet, and the schema is not changed: see [`ConversationStore::check`] and [`ConversationStore::migrate`].
///
/// # Errors
/// [`Error::Address`] if the URL is of another form, or the file can't be used.
pub async fn connect(url: &str) -> Result<Arc<dyn ConversationStore>, Error> {
    match url.parse()? {
        DatabaseAddress::Postgres(url) => Ok(Arc::new(PostgresStore::connect(PostgresConfig::new(url))?)),
        DatabaseAddress::Sqlite(path) => {
            let opened =
                tokio::task::spawn_blocking(move || SqliteStore::open(&path, SqliteConfig::default()));
            let store = opened.await.map_err(|error| Error::Unavailable(error.to_string()))??;
            Ok(Arc::new(store))
        }
    }
}
