//! From `DATABASE_URL` to a store.

use std::path::PathBuf;
use std::sync::Arc;

use crate::postgres::{PostgresConfig, PostgresStore};
use crate::sqlite::{SqliteConfig, SqliteStore, path_of};
use crate::{ConversationStore, Error};

/// The store at `url`, with default settings: `postgres://…` or `postgresql://…`, `sqlite://PATH`, or
/// `sqlite://:memory:` for one that is gone with its last handle.
///
/// PostgreSQL need not be reachable yet, and no schema is made: [`ConversationStore::check`] and
/// [`ConversationStore::migrate`] do that.
///
/// # Errors
/// [`Error::Address`] if the URL is not of that form, or the file can't be used.
pub async fn connect(url: &str) -> Result<Arc<dyn ConversationStore>, Error> {
    match Address::parse(url)? {
        Address::Postgres(url) => Ok(Arc::new(PostgresStore::connect(PostgresConfig::new(url))?)),
        Address::Sqlite(path) => {
            let opened =
                tokio::task::spawn_blocking(move || SqliteStore::open(&path, SqliteConfig::default()));
            let store = opened.await.map_err(|error| Error::Unavailable(error.to_string()))??;
            Ok(Arc::new(store))
        }
    }
}

/// A `DATABASE_URL`, told apart by its scheme.
#[derive(Debug, PartialEq, Eq)]
enum Address<'a> {
    /// The whole URL.
    Postgres(&'a str),
    /// The file, or `:memory:`.
    Sqlite(PathBuf),
}

impl<'a> Address<'a> {
    fn parse(url: &'a str) -> Result<Self, Error> {
        let url = url.trim();
        match url.split_once("://") {
            Some(("postgres" | "postgresql", _)) => Ok(Address::Postgres(url)),
            Some(("sqlite", _)) => path_of(url).map(Address::Sqlite),
            Some((scheme, _)) => {
                Err(Error::Address(format!("{scheme}:// is unknown; use postgres://… or sqlite://PATH")))
            }
            // What stands there may be a password, so it is not repeated.
            None => Err(Error::Address("is no URL; use postgres://… or sqlite://PATH".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_decides() {
        for url in ["postgres://starling@localhost/starling", "postgresql:///starling?host=/run/postgresql"] {
            assert_eq!(Address::parse(url).unwrap(), Address::Postgres(url));
        }
        assert_eq!(
            Address::parse("sqlite://data/starling.db").unwrap(),
            Address::Sqlite("data/starling.db".into())
        );
        assert_eq!(
            Address::parse("sqlite:///var/lib/s.db").unwrap(),
            Address::Sqlite("/var/lib/s.db".into())
        );
    }

    #[test]
    fn other_addresses_are_refused_without_repeating_secrets() {
        for url in ["mysql://root@localhost/x", "sqlite://", "hunter2", ""] {
            let error = Address::parse(url).unwrap_err();
            assert!(matches!(error, Error::Address(_)), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
