//! Values that must not be shown.

use std::fmt;

/// What is shown in place of a secret.
pub const MASK: &str = "********";

/// A secret. `Debug` shows a mask.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a secret.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The bytes of the secret.
    pub fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// A URL that may hold passwords. `Debug` and [`Url::masked`] show it without them.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(String);

impl Url {
    /// Keeps a URL as it was written.
    pub fn new(text: impl Into<String>) -> Url {
        Url(text.into())
    }

    /// The URL with its passwords.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The URL without its passwords, also where it can't be parsed. The password in an address of PostgreSQL may hold a bare `/`
    /// or `?`, so everything before the last `@` may be part of it, whatever the grammar of URLs says.
    pub fn masked(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else { return MASK.into() };
        let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
        let place = match place.rsplit_once('@') {
            // The `?` may belong to the password, and nothing tells where that ends.
            None if query.is_some_and(|query| query.contains('@')) => return format!("{scheme}://{MASK}"),
            None => place.to_owned(),
            Some((user, host)) => match user.split_once(':') {
                None => place.to_owned(),
                Some((user, _)) => format!("{user}:{MASK}@{host}"),
            },
        };
        match query {
            None => format!("{scheme}://{place}"),
            Some(query) => {
                let pairs: Vec<_> = query.split('&').map(masked_pair).collect();
                format!("{scheme}://{place}?{}", pairs.join("&"))
            }
        }
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

/// A pair of a query, without its value where that is a password.
fn masked_pair(pair: &str) -> String {
    match pair.split_once('=') {
        Some((name, _)) if name.to_ascii_lowercase().ends_with("password") => format!("{name}={MASK}"),
        _ => pair.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(url: &str) -> String {
        Url::new(url).masked()
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", Secret::new("hush")), MASK);
        assert_eq!(format!("{:?}", Url::new("redis://ann:hush@h")), "redis://ann:********@h");
    }

    #[test]
    fn passwords_are_masked() {
        assert_eq!(masked("postgres://ann:secret@db/x"), "postgres://ann:********@db/x");
        assert_eq!(
            masked("redis-sentinel://h:1?sentinelPassword=secret&a=b"),
            "redis-sentinel://h:1?sentinelPassword=********&a=b"
        );
        assert_eq!(masked("sqlite://data/starling.db"), "sqlite://data/starling.db");
        assert_eq!(masked("postgres://a:p@ss@db/x"), "postgres://a:********@db/x");
        assert_eq!(
            masked("postgres://h/x?password=secret&sslpassword=secret&a=b"),
            "postgres://h/x?password=********&sslpassword=********&a=b"
        );
    }

    #[test]
    fn a_password_is_masked_whatever_stands_in_it() {
        assert_eq!(masked("postgres://ann:se/cr/et@db/x"), "postgres://ann:********@db/x");
        assert_eq!(masked("postgres://ann:s/e:c@r/et@db/x?a=b"), "postgres://ann:********@db/x?a=b");
        assert_eq!(masked("redis://:se/cret@h:1/2"), "redis://:********@h:1/2");
        // tokio-postgres accepts these, too.
        assert_eq!(masked("postgres://ann:se?cret@db/x"), "postgres://********");
        assert_eq!(masked("postgres://ann:se?password=cret@db/x"), "postgres://********");
        assert_eq!(masked("redis-sentinel://h:1?sentinelPassword=se@cret"), "redis-sentinel://********");
    }

    #[test]
    fn what_is_no_password_is_shown() {
        assert_eq!(masked("postgres://ann@db/x"), "postgres://ann@db/x");
        assert_eq!(masked("postgres://db:5432/x?sslmode=require"), "postgres://db:5432/x?sslmode=require");
        let with_both = "postgres://ann:secret@db/x?application_name=a@b";
        assert_eq!(masked(with_both), "postgres://ann:********@db/x?application_name=a@b");
        assert_eq!(masked("sqlite://data/a@b.db"), "sqlite://data/a@b.db");
    }
}
