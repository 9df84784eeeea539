//! The host that a request is for (RFC 9112, section 3.2).

use std::net::Ipv6Addr;

use http::header::HOST;
use http::{HeaderMap, Uri, Version};

/// The host that a request was sent to, as its client wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Authority<'a> {
    /// A name or an address; an IPv6 address stands in brackets. Not empty.
    pub host: &'a str,
    pub port: Option<u16>,
}

/// The reason why a request is refused with 400: servers could disagree about the host that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHost {
    #[error("a request by HTTP/1.1 needs the header `Host`")]
    Missing,
    #[error("there is more than one `Host` header")]
    Several,
    #[error("the header `Host` holds no host")]
    Garbage,
}

/// Returns the host that a request is for. `None` where it names none: over HTTP/1.0 it need not, and the header may be empty.
pub(crate) fn requested<'a>(
    version: Version,
    uri: &'a Uri,
    headers: &'a HeaderMap,
) -> Result<Option<Authority<'a>>, BadHost> {
    let mut lines = headers.get_all(HOST).iter();
    let Some(line) = lines.next() else {
        return if version > Version::HTTP_10 { Err(BadHost::Missing) } else { Ok(None) };
    };
    if lines.next().is_some() {
        return Err(BadHost::Several);
    }
    let line = line.to_str().map_err(|_| BadHost::Garbage)?.trim();
    let from_header =
        if line.is_empty() { None } else { Some(Authority::parse(line).ok_or(BadHost::Garbage)?) };
    // A request to a proxy names the host in its first line, which has precedence (RFC 9112, section 3.2.2).
    match uri.authority() {
        Some(authority) => Authority::parse(authority.as_str()).ok_or(BadHost::Garbage).map(Some),
        None => Ok(from_header),
    }
}

impl<'a> Authority<'a> {
    /// Reads `uri-host [":" port]` of RFC 3986, section 3.2.
    fn parse(text: &'a str) -> Option<Authority<'a>> {
        let end = match text.strip_prefix('[') {
            Some(rest) => {
                let end = rest.find(']')?;
                rest[..end].parse::<Ipv6Addr>().ok()?;
                end + 2
            }
            None => text.find(':').unwrap_or(text.len()),
        };
        let (host, rest) = text.split_at(end);
        let named = host.starts_with('[') || (!host.is_empty() && is_registered_name(host));
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            None => return None,
            // An empty port is the default one.
            Some("") => None,
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(port.parse().ok()?),
            Some(_) => return None,
        };
        named.then_some(Authority { host, port })
    }
}

/// Whether this is `reg-name`; an IPv4 address is one, too.
fn is_registered_name(host: &str) -> bool {
    let mut rest = host.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = match first {
            b'%' => match after {
                [high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => after,
                _ => return false,
            },
            _ if first.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&first) => after,
            _ => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn parsed(text: &str) -> Option<(&str, Option<u16>)> {
        Authority::parse(text).map(|authority| (authority.host, authority.port))
    }

    #[test]
    fn a_host_and_a_port_are_read() {
        for (text, host, port) in [
            ("chat.example", "chat.example", None),
            ("chat.example:8080", "chat.example", Some(8080)),
            ("chat.example:", "chat.example", None),
            ("chat_1.example", "chat_1.example", None),
            ("10.0.0.1:80", "10.0.0.1", Some(80)),
            ("[::1]", "[::1]", None),
            ("[2001:db8::7]:443", "[2001:db8::7]", Some(443)),
            ("x", "x", None),
            ("caf%C3%A9.example", "caf%C3%A9.example", None),
        ] {
            assert_eq!(parsed(text), Some((host, port)), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "",
            ":80",
            "a b",
            "a/b",
            "/",
            "ada@chat.example",
            "http://chat.example",
            "chat.example:port",
            "chat.example:99999",
            "chat.example:80:80",
            "::1",
            "[::1",
            "[::1]x",
            "[::1]:x",
            "[chat.example]",
            "[]",
            "[fe80::1%25eth0]",
            "a?b",
            "a#b",
            "a\\b",
            "<a>",
            "a\"b",
            "%",
            "%4",
            "%zz",
            "a,b:1:2",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn a_request_names_one_host_or_none_by_http_1_0() {
        let ask = |version, uri: &str, hosts: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(HOST, HeaderValue::from_bytes(host).expect("a header"));
            }
            let uri: Uri = uri.parse().expect("a URI");
            requested(version, &uri, &headers).map(|found| found.map(|authority| authority.host.to_owned()))
        };
        let (old, new) = (Version::HTTP_10, Version::HTTP_11);
        let found = |host: &str| Ok(Some(host.to_owned()));
        assert_eq!(ask(new, "/", &[b"a"]), found("a"));
        assert_eq!(ask(old, "/", &[b"a"]), found("a"));
        assert_eq!(ask(old, "/", &[]), Ok(None));
        assert_eq!(ask(new, "/", &[b""]), Ok(None));
        assert_eq!(ask(new, "/", &[]), Err(BadHost::Missing));
        assert_eq!(ask(new, "http://b/", &[]), Err(BadHost::Missing));
        assert_eq!(ask(new, "http://b/", &[b"a"]), found("b"));
        for version in [old, new] {
            assert_eq!(ask(version, "/", &[b"a", b"a"]), Err(BadHost::Several));
            assert_eq!(ask(version, "/", &[b"a", b"b"]), Err(BadHost::Several));
            assert_eq!(ask(version, "/", &[b"a b"]), Err(BadHost::Garbage));
            assert_eq!(ask(version, "/", &[b"\xff"]), Err(BadHost::Garbage));
        }
    }
}
