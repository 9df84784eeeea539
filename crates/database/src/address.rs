use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::Error;

/// The address in `DATABASE_URL`. Its scheme determines the kind of database.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseAddress {
    /// `postgres://…` or `postgresql://…`: the whole URL, which may hold a password.
    Postgres(String),
    /// `sqlite://PATH`: the file, or `:memory:` for a database that ends with its last handle.
    Sqlite(PathBuf),
}

impl FromStr for DatabaseAddress {
    type Err = Error;

    /// # Errors
    /// [`Error::Address`] for an address of another form, without repeating what may be a password.
    fn from_str(url: &str) -> Result<Self, Error> {
        // Values from files and variables often end with a line break.
        let url = url.trim();
        match url.split_once("://") {
            Some(("postgres" | "postgresql", _)) => Ok(DatabaseAddress::Postgres(url.to_owned())),
            Some(("sqlite", path)) => file_of(path, std::env::var_os("HOME")).map(DatabaseAddress::Sqlite),
            Some((scheme, _)) => {
                Err(Error::Address(format!("{scheme}:// is unknown; use postgres://… or sqlite://PATH")))
            }
            // The text is not repeated, since it may be a password.
            None => Err(Error::Address("is no URL; use postgres://… or sqlite://PATH".into())),
        }
    }
}

impl fmt::Debug for DatabaseAddress {
    /// Omits PostgreSQL's URL, which may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DatabaseAddress::Postgres(_) => f.write_str("Postgres(…)"),
            DatabaseAddress::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
        }
    }
}

/// Returns the file of a `sqlite://` address. Refuses parameters, which would become part of the file's name, and other users' home folders.
fn file_of(path: &str, home: Option<OsString>) -> Result<PathBuf, Error> {
    let wrong = |why: String| Err(Error::Address(why));
    if path.is_empty() {
        return wrong("sqlite:// needs a path behind it".into());
    }
    if let Some((_, query)) = path.split_once('?') {
        let names: Vec<&str> =
            query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name)).collect();
        let names = names.join("`, `");
        return wrong(format!(
            "sqlite://PATH takes no parameters, and there is `{names}`; leave out the `?` and what follows. The file is made \
             where there is none, and is always in WAL mode"
        ));
    }
    let Some(below_home) = path.strip_prefix('~') else { return Ok(path.into()) };
    let Some(below_home) = below_home.strip_prefix('/') else {
        return wrong(format!(
            "{path} is not resolved; write the whole path, or ~/ for your own home folder"
        ));
    };
    match home.filter(|home| !home.is_empty()) {
        Some(home) => Ok(Path::new(&home).join(below_home)),
        None => wrong(format!("{path} begins in your home folder, but the variable HOME is not set")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_decides() {
        let read = |url: &str| url.parse::<DatabaseAddress>().unwrap();
        for url in ["postgres://starling@localhost/starling", "postgresql:///starling?host=/run/postgresql"] {
            assert_eq!(read(&format!("{url}\n")), DatabaseAddress::Postgres(url.into()));
        }
        assert_eq!(read("sqlite://data/starling.db\n"), DatabaseAddress::Sqlite("data/starling.db".into()));
    }

    #[test]
    fn other_addresses_are_refused_without_repeating_secrets() {
        for url in ["mysql://root@localhost/x", "sqlite://", "hunter2", ""] {
            let error = url.parse::<DatabaseAddress>().unwrap_err();
            assert!(matches!(error, Error::Address(_)), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let address = "postgres://u:hunter2@h/d".parse::<DatabaseAddress>().unwrap();
        assert!(!format!("{address:?}").contains("hunter2"));
    }

    #[test]
    fn a_path_is_taken_as_it_is_but_for_the_home_folder() {
        for (given, path) in [
            ("data/starling.db", "data/starling.db"),
            ("/var/lib/s.db", "/var/lib/s.db"),
            (":memory:", ":memory:"),
            ("~/s.db", "/home/ann/s.db"),
            ("a~/s.db", "a~/s.db"),
            ("a b%20c.db", "a b%20c.db"),
        ] {
            assert_eq!(file_of(given, Some("/home/ann".into())).unwrap(), Path::new(path), "{given}");
        }
    }

    #[test]
    fn what_would_be_taken_for_a_name_is_refused() {
        let error = |path, home: Option<&str>| file_of(path, home.map(Into::into)).unwrap_err().to_string();
        let parameters = error("data.db?mode=rwc&cache=shared", None);
        assert!(parameters.contains("`mode`, `cache`"), "{parameters}");
        assert!(error("~bob/s.db", Some("/home/ann")).contains("whole path"));
        assert!(error("~/s.db", None).contains("HOME") && error("~/s.db", Some("")).contains("HOME"));
        assert!(error("", None).contains("needs a path"));
    }
}
