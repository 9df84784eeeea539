//! The file that `sqlite://…` names.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::Error;

/// The file that an address such as `sqlite://data/starling.db` or `sqlite://~/starling.db` names, or `:memory:`.
///
/// # Errors
/// [`Error::Address`] for an address of another form: with parameters, which would become part of the file's name, or in another
/// user's home folder.
pub fn path_of(url: &str) -> Result<PathBuf, Error> {
    path_from(url, std::env::var_os("HOME"))
}

fn path_from(url: &str, home: Option<OsString>) -> Result<PathBuf, Error> {
    let wrong = |why: String| Err(Error::Address(why));
    let Some(path) = url.trim().strip_prefix("sqlite://") else {
        return wrong("is no sqlite://PATH".into());
    };
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
    fn a_path_is_taken_as_it_is_but_for_the_home_folder() {
        for (url, path) in [
            ("sqlite://data/starling.db", "data/starling.db"),
            ("sqlite:///var/lib/s.db", "/var/lib/s.db"),
            ("sqlite://:memory:", ":memory:"),
            ("sqlite://~/s.db\n", "/home/ann/s.db"),
            ("sqlite://a~/s.db", "a~/s.db"),
            ("sqlite://a b%20c.db", "a b%20c.db"),
        ] {
            assert_eq!(path_from(url, Some("/home/ann".into())).unwrap(), Path::new(path), "{url}");
        }
    }

    #[test]
    fn what_would_be_taken_for_a_name_is_refused() {
        let error = |url, home: Option<&str>| path_from(url, home.map(Into::into)).unwrap_err().to_string();
        let parameters = error("sqlite://data.db?mode=rwc&cache=shared", None);
        assert!(parameters.contains("`mode`, `cache`"), "{parameters}");
        assert!(error("sqlite://~bob/s.db", Some("/home/ann")).contains("whole path"));
        assert!(
            error("sqlite://~/s.db", None).contains("HOME")
                && error("sqlite://~/s.db", Some("")).contains("HOME")
        );
        assert!(error("sqlite://", None).contains("needs a path"));
    }
}
