//! Origins of web pages (RFC 6454): those that an operator lists, and the one that a browser sends.
//!
//! Both are read by the rules by which browsers write them (<https://url.spec.whatwg.org/#concept-url-origin>): the case of scheme and host
//! does not matter, a default port is left out, and international names have their ASCII form.

use std::fmt;

use starling_settings::elements;
use url::{Host, Url};

/// The pages of browsers that may connect, and call over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// Pages that this very host serves.
    #[default]
    SameHost,
    /// Any page.
    Any,
    /// Pages of these origins.
    These(Vec<OriginPattern>),
}

/// An entry of `allowed_origins`: one origin, or all sub-domains of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern(Pattern);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    One(Origin),
    /// Hosts that end with `parent`, which begins with a dot.
    SubDomains {
        scheme: Scheme,
        parent: Box<str>,
        port: u16,
    },
}

/// An origin, normalised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `null`: a sandboxed frame, a page from a file or a `data:` URL, or one that hides its origin.
    Null,
    /// A page of the web.
    Web { scheme: Scheme, host: Box<str>, port: u16 },
    /// A page that is part of an application, such as `capacitor://localhost`, `app://bundle` or `file://`; in lower case.
    Other(Box<str>),
}

/// The schemes of the web.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// A value of `allowed_origins` that no browser's origin could ever match, with the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` {why}; an origin looks like https://chat.example.com")]
pub struct NoOrigin {
    given: String,
    why: &'static str,
}

/// Limit on an origin, bytes. A host has 253 characters at most.
const ORIGIN_BYTES_MAX: usize = 300;

impl Origins {
    /// Reads the entries of `allowed_origins`. Without entries, pages of the same host are allowed.
    ///
    /// # Errors
    /// The first entry that no origin could match.
    pub fn new<'a>(given: impl IntoIterator<Item = &'a str>) -> Result<Origins, NoOrigin> {
        let given: Vec<&str> = given.into_iter().collect();
        match given.as_slice() {
            [] => Ok(Origins::SameHost),
            ["*"] => Ok(Origins::Any),
            list => list
                .iter()
                .map(|entry| OriginPattern::parse(entry))
                .collect::<Result<_, _>>()
                .map(Origins::These),
        }
    }

    /// Reads `allowed_origins`, with commas between its entries.
    pub(crate) fn parse(text: &str) -> Result<Origins, String> {
        Origins::new(elements(text)).map_err(|error| error.to_string())
    }

    /// Whether pages of this origin are listed.
    pub(crate) fn list(&self, origin: Option<&Origin>) -> bool {
        match (self, origin) {
            (Origins::Any, _) => true,
            (Origins::These(patterns), Some(origin)) => {
                patterns.iter().any(|pattern| pattern.matches(origin))
            }
            _ => false,
        }
    }
}

impl OriginPattern {
    fn parse(given: &str) -> Result<OriginPattern, NoOrigin> {
        let refused = |why| NoOrigin { given: given.to_owned(), why };
        if given == "*" {
            return Err(refused("allows every origin, so nothing can stand beside it"));
        }
        let pattern = match given.split_once("://*.") {
            Some((scheme, parent)) => sub_domains(scheme, parent),
            None if given.contains('*') => {
                Err("has a `*` that stands for something else than sub-domains (https://*.example.com)")
            }
            None => Origin::parse(given).map(Pattern::One),
        };
        pattern.map(OriginPattern).map_err(refused)
    }

    fn matches(&self, origin: &Origin) -> bool {
        match (&self.0, origin) {
            (Pattern::One(one), origin) => one == origin,
            (Pattern::SubDomains { scheme, parent, port }, Origin::Web { scheme: of, host, port: at }) => {
                scheme == of
                    && port == at
                    && host.strip_suffix(&**parent).is_some_and(|labels| !labels.is_empty())
            }
            (Pattern::SubDomains { .. }, _) => false,
        }
    }
}

fn sub_domains(scheme: &str, parent: &str) -> Result<Pattern, &'static str> {
    if parent.contains('*') {
        return Err("has more than one `*`");
    }
    match Origin::parse(&format!("{scheme}://{parent}"))? {
        Origin::Web { scheme, host, port } if matches!(Host::parse(&host), Ok(Host::Domain(_))) => {
            Ok(Pattern::SubDomains { scheme, parent: format!(".{host}").into(), port })
        }
        _ => Err("has a `*`, and no domain that could have sub-domains"),
    }
}

impl Origin {
    /// Reads one origin. The error says why the text is none.
    pub(crate) fn parse(text: &str) -> Result<Origin, &'static str> {
        if text.len() > ORIGIN_BYTES_MAX {
            return Err("is too long");
        }
        if text.chars().any(|character| character.is_whitespace() || character.is_control()) {
            return Err("has a space in it; several origins stand with commas between");
        }
        if text.eq_ignore_ascii_case("null") {
            return Ok(Origin::Null);
        }
        let (scheme, authority) = text.split_once("://").ok_or("has no scheme, such as https://")?;
        if authority.contains(['/', '?', '#', '\\']) {
            return Err("has a path or a slash at its end, which no origin has");
        }
        if authority.contains('@') {
            return Err("has a user name in it, which no origin has");
        }
        match scheme.to_ascii_lowercase().as_str() {
            // Browsers write the character that such an escape stands for.
            "http" | "https" if authority.contains('%') => Err("has a character that no origin has"),
            "http" => Origin::of_web(Scheme::Http, text),
            "https" => Origin::of_web(Scheme::Https, text),
            "ws" | "wss" => {
                Err("is the address of a WebSocket, and an origin is that of a page: http:// or https://")
            }
            scheme => Origin::of_application(scheme, authority),
        }
    }

    fn of_web(scheme: Scheme, text: &str) -> Result<Origin, &'static str> {
        let url = Url::parse(text).map_err(|_| "has no host, or a host or port that can't be")?;
        let (host, port) = url.host_str().zip(url.port_or_known_default()).ok_or("has no host")?;
        Ok(Origin::Web { scheme, host: host.into(), port })
    }

    fn of_application(scheme: &str, authority: &str) -> Result<Origin, &'static str> {
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || !scheme.bytes().all(letters) {
            return Err("has no scheme, such as https://");
        }
        let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()+;=:[]%".contains(&byte);
        if !authority.bytes().all(named) {
            return Err("has a character that no origin has");
        }
        Ok(Origin::Other(format!("{scheme}://{}", authority.to_ascii_lowercase()).into()))
    }
}

impl Scheme {
    pub(crate) fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pattern::One(Origin::Null) => f.write_str("null"),
            Pattern::One(Origin::Other(origin)) => f.write_str(origin),
            Pattern::One(Origin::Web { scheme, host, port }) => write_web(f, *scheme, host, *port),
            Pattern::SubDomains { scheme, parent, port } => {
                write_web(f, *scheme, &format!("*{parent}"), *port)
            }
        }
    }
}

fn write_web(f: &mut fmt::Formatter<'_>, scheme: Scheme, host: &str, port: u16) -> fmt::Result {
    let name = if scheme == Scheme::Https { "https" } else { "http" };
    if port == scheme.default_port() {
        write!(f, "{name}://{host}")
    } else {
        write!(f, "{name}://{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn listed(list: &[&str], origin: &str) -> bool {
        let origins = Origins::new(list.iter().copied()).unwrap_or_else(|error| panic!("{error}"));
        origins.list(Origin::parse(origin).ok().as_ref())
    }

    #[test]
    fn one_origin_is_the_same_however_it_is_written() {
        for (entry, origin) in [
            ("https://app.example", "https://app.example"),
            ("https://app.example:443", "https://app.example"),
            ("http://app.example:80", "http://app.example"),
            ("https://app.example", "https://app.example:443"),
            ("HTTPS://App.Example", "https://app.example"),
            ("http://app.example:8080", "http://app.example:8080"),
            ("https://münchen.example", "https://xn--mnchen-3ya.example"),
            ("http://[0:0::1]:3000", "http://[::1]:3000"),
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("null", "null"),
            ("file://", "file://"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("ionic://localhost", "ionic://localhost"),
            ("app://bundle", "app://bundle"),
            ("app://.", "app://."),
            ("app://-", "app://-"),
            ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ] {
            assert!(listed(&[entry], origin), "{entry} does not match {origin}");
            assert!(listed(&["https://other.example", entry], origin), "{entry}");
        }
    }

    #[test]
    fn another_scheme_host_or_port_is_another_origin() {
        for (entry, origin) in [
            ("https://app.example", "http://app.example"),
            ("https://app.example", "https://app.example:8443"),
            ("https://app.example", "https://app.example.evil.example"),
            ("https://app.example", "https://evil-app.example"),
            ("https://app.example", "https://x.app.example"),
            ("http://app.example:443", "https://app.example"),
            ("null", "https://null"),
            ("file://", "null"),
            ("capacitor://localhost", "http://localhost"),
            ("capacitor://localhost", "ionic://localhost"),
            ("https://app.example", "https://app.example https://app.example"),
            ("https://app.example", "https://app.example/"),
            ("https://app.example", "https://user@app.example"),
            ("https://app.example", ""),
        ] {
            assert!(!listed(&[entry], origin), "{entry} matches {origin}");
        }
    }

    #[test]
    fn a_wildcard_stands_for_sub_domains_of_any_depth_and_nothing_else() {
        let entry = "https://*.Example.com:443";
        for origin in ["https://a.example.com", "https://a.b.example.com", "https://A.EXAMPLE.COM:443"] {
            assert!(listed(&[entry], origin), "{origin}");
        }
        for origin in [
            "https://example.com",
            "http://a.example.com",
            "https://a.example.com:8443",
            "https://aexample.com",
            "https://.example.com",
            "https://a.example.com.evil.example",
            "https://a.example.comx",
            "null",
            "app://a.example.com",
        ] {
            assert!(!listed(&[entry], origin), "{origin}");
        }
        assert!(listed(&["http://*.localhost:3000"], "http://shop.localhost:3000"));
    }

    #[test]
    fn what_no_origin_could_match_is_refused_with_the_reason() {
        for (given, why) in [
            ("https://app.example/chat", "a path"),
            ("https://app.example/", "slash"),
            ("file:///", "slash"),
            ("https://app.example?x", "a path"),
            ("https://app.example#x", "a path"),
            ("https://one.example https://two.example", "a space"),
            ("https://one.example\thttps://two.example", "a space"),
            ("https://ada@app.example", "a user name"),
            ("https://ada:secret@app.example", "a user name"),
            ("wss://app.example", "a WebSocket"),
            ("ws://app.example", "a WebSocket"),
            ("app.example", "no scheme"),
            ("localhost:3000", "no scheme"),
            ("://app.example", "no scheme"),
            ("https://", "no host"),
            ("https://:443", "no host"),
            ("https://app.example:port", "host or port"),
            ("https://app.example:99999", "host or port"),
            ("https://app_<x>.example", "host or port"),
            ("https://[::1", "host or port"),
            ("https://*", "sub-domains"),
            ("https://*:443", "sub-domains"),
            ("https://app.*.example", "sub-domains"),
            ("https://app*.example", "sub-domains"),
            ("http://localhost:*", "sub-domains"),
            ("https://*.*.example", "more than one"),
            ("https://*.", "no host"),
            ("https://*.10.0.0.1", "no domain"),
            ("https://*.[::1]", "no domain"),
            ("app://*.bundle", "no domain"),
            ("*", "nothing can stand beside"),
            ("1app://x", "no scheme"),
            ("app://a b", "a space"),
            ("app://a,b", "a character"),
            ("https://%61pp.example", "a character"),
        ] {
            let error = Origins::new(["https://good.example", given]).expect_err(given).to_string();
            assert!(error.starts_with(&format!("`{given}` ")) && error.contains(why), "{error}");
        }
        let long = format!("https://{}.example", "a".repeat(300));
        assert!(Origins::new([long.as_str()]).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_only_an_origin_matches_itself(text in ".{0,60}|[a-z]{1,6}://[a-z.:*0-9\\[\\]]{0,30}") {
            if let Ok(Origins::These(patterns)) = Origins::new([text.as_str()]) {
                // As it is written anew, it is the same pattern.
                let again = Origins::new([patterns[0].to_string().as_str()]);
                prop_assert_eq!(again, Ok(Origins::These(patterns)));
            }
            if let Ok(origin) = Origin::parse(&text) {
                let entry = Origins::new([text.as_str()]);
                prop_assert!(text.contains('*') || entry.is_ok_and(|entry| entry.list(Some(&origin))));
            }
        }
    }
}
