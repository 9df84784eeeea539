//! The address of a backend, as its owner gave it.

use std::fmt;
use std::net::IpAddr;

use http::Uri;
use url::{Host, Url};

use crate::{Networks, RefusedAddress};

/// The longest URL of an endpoint, bytes.
pub const URL_BYTES_MAX: usize = 2048;

/// A URL that requests may be sent to, as far as that can be told without connecting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    text: String,
    uri: Uri,
    /// The address, if the URL has one in the place of a name.
    address: Option<IpAddr>,
}

/// Why a URL is no endpoint. The giver is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEndpoint {
    /// It is too long.
    #[error("the url has {0} bytes, but at most {URL_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// It is no URL.
    #[error("the url can't be read: {0}")]
    NotAUrl(String),
    /// It has another scheme.
    #[error("the url must begin with https:// or http://")]
    Scheme,
    /// It contains a name or a password, which would be shown to whoever lists endpoints.
    #[error("the url must not contain a user or a password")]
    UserInfo,
    /// It has a fragment, which is never sent.
    #[error("the url must not contain a fragment (#…)")]
    Fragment,
    /// Its port can't be connected to.
    #[error("the url must not have port 0")]
    Port,
}

impl Endpoint {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`InvalidEndpoint`] for the first fault that is found.
    pub fn parse(text: &str) -> Result<Self, InvalidEndpoint> {
        if text.len() > URL_BYTES_MAX {
            return Err(InvalidEndpoint::TooLong(text.len()));
        }
        let url = Url::parse(text).map_err(|error| InvalidEndpoint::NotAUrl(error.to_string()))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(InvalidEndpoint::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidEndpoint::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(InvalidEndpoint::Fragment);
        }
        if url.port() == Some(0) {
            return Err(InvalidEndpoint::Port);
        }
        let address = match url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            Some(Host::Domain(_)) => None,
            None => return Err(InvalidEndpoint::NotAUrl("it has no host".into())),
        };
        let uri = url.as_str().parse().map_err(|error| InvalidEndpoint::NotAUrl(format!("{error}")))?;
        Ok(Self { text: url.into(), uri, address })
    }

    /// Returns the URL in its normal form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the scheme, the host and the port, for logs: the rest of the URL may contain secrets.
    #[must_use]
    pub fn origin(&self) -> String {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        format!("{scheme}://{authority}")
    }

    /// Checks an address that the URL contains in the place of a name, so that its owner learns of a refusal at once. What a name leads to is checked
    /// when connecting.
    ///
    /// # Errors
    /// [`RefusedAddress`] if no request may go there.
    pub fn check(&self, networks: &Networks) -> Result<(), RefusedAddress> {
        self.address.map_or(Ok(()), |address| networks.check(address))
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_http_url_without_secrets() {
        for (text, normal) in [
            ("https://example.com/hooks?a=b", "https://example.com/hooks?a=b"),
            ("HTTP://Example.com", "http://example.com/"),
            ("https://bücher.example:8443/x", "https://xn--bcher-kva.example:8443/x"),
            ("http://[::1]:8080/", "http://[::1]:8080/"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().as_str(), normal);
        }
        for (text, error) in [
            ("ftp://example.com/", InvalidEndpoint::Scheme),
            ("javascript:alert(1)", InvalidEndpoint::Scheme),
            ("https://user@example.com/", InvalidEndpoint::UserInfo),
            ("https://:secret@example.com/", InvalidEndpoint::UserInfo),
            ("https://example.com/#part", InvalidEndpoint::Fragment),
            ("https://example.com:0/", InvalidEndpoint::Port),
            (&format!("https://example.com/{}", "a".repeat(2048)), InvalidEndpoint::TooLong(2068)),
        ] {
            assert_eq!(Endpoint::parse(text), Err(error), "{text}");
        }
        for text in [
            "",
            "example.com",
            "https://",
            "https:///",
            "https://exa mple.com/",
            "https://example.com:99999/",
        ] {
            assert!(matches!(Endpoint::parse(text), Err(InvalidEndpoint::NotAUrl(_))), "{text}");
        }
    }

    #[test]
    fn an_origin_has_nothing_of_the_path() {
        for (text, origin) in [
            ("https://example.com/hooks/key?token=a", "https://example.com"),
            ("http://[::1]:8080/", "http://[::1]:8080"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().origin(), origin);
        }
    }

    #[test]
    fn an_address_in_place_of_a_name_is_checked_in_all_its_forms() {
        let refused = |text: &str| Endpoint::parse(text).unwrap().check(&Networks::default()).is_err();
        for text in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://017700000001/",
            "http://[::1]/",
            "http://[::ffff:7f00:1]/",
            "http://①②⑦.0.0.1/",
        ] {
            assert!(refused(text), "{text}");
        }
        assert!(!refused("http://1.1.1.1/") && !refused("http://localhost/"), "names are checked later");
    }
}
