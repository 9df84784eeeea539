//! What pages of browsers may do: connect, and read answers over HTTP (CORS, <https://fetch.spec.whatwg.org/#http-cors-protocol>).
//!
//! A node uses no cookies: a page acts by a token of its own. So CORS without credentials is enough, and what is kept from other pages is
//! the use of a token that they got hold of.

use std::time::Duration;

use axum::body::Body;
use axum::response::IntoResponse;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use parking_lot::Mutex;
use starling_hub::{CommandError, Map};
use tokio::time::Instant;
use url::Host;

use crate::Origins;
use crate::host::Authority;
use crate::http::error::ApiError;
use crate::origin::{Origin, Scheme};

/// Methods that an allowed page may use.
const METHODS: &str = "GET, POST, PUT, PATCH, DELETE";
/// Headers that an allowed page may send.
const HEADERS: &str = "authorization, content-type, traceparent";
/// Headers of an answer that an allowed page may read, beyond those that every page may.
const EXPOSED: &str = "retry-after, location, date";
/// How long a browser may cache the answer to a preflight request, seconds. Chromium caches no longer.
const MAX_AGE: &str = "7200";
/// Limit on the refused origins that are remembered, so that each is logged once.
const REFUSED_MAX: usize = 64;
/// How long a refused origin is remembered.
const REFUSED_KEPT: Duration = Duration::from_secs(60 * 60);
/// Limit on a refused origin in the log, characters.
const SHOWN_MAX: usize = 200;

/// The rules for pages, and the origins that were refused lately.
pub(crate) struct Pages {
    origins: Origins,
    refused: Mutex<Map<Box<str>, Instant>>,
}

/// Where a request was sent to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Target<'a> {
    /// `None` where the request does not say.
    pub authority: Option<Authority<'a>>,
    /// Whether the client is known to have used TLS. If not, it may have used it all the same: a proxy may have ended it.
    pub secure: bool,
}

/// The page that a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// No page: a program, or a browser that asks for the page itself.
    None,
    /// A page of this very host, which may connect since no origins are listed.
    SameHost,
    /// A page whose origin is listed.
    Listed,
    /// A page of this very host that is not listed, though others are.
    Unlisted,
    /// Any other page.
    Foreign,
    /// A request with several `Origin` headers, which no browser sends.
    Several,
}

impl Page {
    /// Whether it may open a WebSocket.
    pub fn may_connect(self) -> bool {
        matches!(self, Page::None | Page::SameHost | Page::Listed)
    }
}

impl Pages {
    pub fn new(origins: Origins) -> Pages {
        Pages { origins, refused: Mutex::default() }
    }

    /// Returns the page that a request comes from.
    pub fn page(&self, headers: &HeaderMap, target: Target<'_>) -> Page {
        let mut lines = headers.get_all(ORIGIN).iter();
        let Some(line) = lines.next() else { return Page::None };
        if lines.next().is_some() {
            return Page::Several;
        }
        let origin = line.to_str().ok().and_then(|origin| Origin::parse(origin).ok());
        if self.origins.list(origin.as_ref()) {
            return Page::Listed;
        }
        let same_host = origin.is_some_and(|origin| is_of(&origin, target));
        match (same_host, &self.origins) {
            (true, Origins::SameHost) => Page::SameHost,
            (true, _) => Page::Unlisted,
            (false, _) => Page::Foreign,
        }
    }

    /// The answer to a preflight request, by which a browser asks whether a page of another origin may call; `None` for other requests.
    pub fn preflight<B>(&self, request: &Request<B>, page: Page) -> Option<Response<Body>> {
        let asks = request.method() == Method::OPTIONS
            && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if !asks || page == Page::None {
            return None;
        }
        if page != Page::Listed {
            let error = CommandError::forbidden("pages of this origin may not call (allowed_origins)");
            return Some(ApiError::from(error).into_response());
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(HEADERS));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
        Some(response)
    }

    /// Adds the headers by which a listed page may read an answer, whatever its status.
    pub fn share(&self, page: Page, origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
        let shared_with = match (&self.origins, origin) {
            (Origins::SameHost, _) => return,
            (Origins::Any, _) => Some(HeaderValue::from_static("*")),
            (Origins::These(_), origin) => {
                // Even where nothing is allowed: a cache must not give this answer to another page.
                answer.append(VARY, HeaderValue::from_static("origin"));
                origin.cloned()
            }
        };
        if let (Page::Listed, Some(origin)) = (page, shared_with) {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
    }

    /// Logs that a page may not connect or read answers, and what an operator can do about it. Each origin is logged once in a while.
    pub fn log_refused(&self, page: Page, headers: &HeaderMap, target: Target<'_>, is_upgrade: bool) {
        // Where a proxy changes Host, the node's own page looks foreign; its calls work all the same, and the browser says so.
        let own = headers.get("sec-fetch-site").is_some_and(|site| site.as_bytes() == b"same-origin");
        if own && !is_upgrade {
            return;
        }
        let Some(origin) = headers.get(ORIGIN).filter(|_| matches!(page, Page::Foreign | Page::Unlisted))
        else {
            return;
        };
        let origin = String::from_utf8_lossy(origin.as_bytes());
        let shown: String = origin.chars().take(SHOWN_MAX).collect();
        if !self.is_first_refusal(&shown, Instant::now()) {
            return;
        }
        let host = target.authority.map_or_else(String::new, |authority| match authority.port {
            Some(port) => format!("{}:{port}", authority.host),
            None => authority.host.to_owned(),
        });
        tracing::warn!(
            origin = ?shown,
            host,
            "a page of this origin was refused. To allow it, add the origin to allowed_origins; where it is the node's own page, have the \
             load balancer pass on the Host header"
        );
    }

    /// Whether this origin was not refused lately. While too many are remembered, no others are logged.
    fn is_first_refusal(&self, origin: &str, now: Instant) -> bool {
        let mut refused = self.refused.lock();
        refused.retain(|_, at| now.saturating_duration_since(*at) < REFUSED_KEPT);
        if refused.len() >= REFUSED_MAX || refused.contains_key(origin) {
            return false;
        }
        refused.insert(origin.into(), now);
        true
    }
}

/// Whether a page of this origin came from the host that the request goes to. Ports are the same if neither is named, or if one is the
/// default port. Where the client is known to have used TLS, a page without TLS is another one.
fn is_of(origin: &Origin, target: Target<'_>) -> bool {
    let (Origin::Web { scheme, host, port }, Some(authority)) = (origin, target.authority) else {
        return false;
    };
    if target.secure && *scheme == Scheme::Http {
        return false;
    }
    // Compared in the form that URLs have: lower case, and addresses in their one form.
    let same_name = Host::parse(authority.host).is_ok_and(|asked| asked.to_string() == **host);
    same_name && authority.port.unwrap_or(scheme.default_port()) == *port
}

#[cfg(test)]
mod tests {
    use http::{Uri, Version};

    use super::*;
    use crate::host;

    fn headers(origins: &[&str], host: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for origin in origins {
            headers.append(ORIGIN, origin.parse().expect("header"));
        }
        headers.insert(http::header::HOST, host.parse().expect("header"));
        headers
    }

    fn page_of(allowed: &[&str], origins: &[&str], host: &str, secure: bool) -> Page {
        let pages = Pages::new(Origins::new(allowed.iter().copied()).expect("origins"));
        let headers = headers(origins, host);
        let uri = Uri::from_static("/");
        let authority = host::requested(Version::HTTP_11, &uri, &headers).expect("a host");
        pages.page(&headers, Target { authority, secure })
    }

    #[test]
    fn a_page_of_the_same_host_may_connect_and_of_another_may_not() {
        for (origin, host) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("https://chat.example", "chat.example"),
            ("http://chat.example", "chat.example"),
            ("https://chat.example", "chat.example:443"),
            ("http://chat.example", "chat.example:80"),
            ("https://chat.example:443", "chat.example"),
            ("http://chat.example:80", "chat.example"),
            ("https://Chat.Example", "CHAT.example"),
            ("http://[::1]:8080", "[0::1]:8080"),
        ] {
            assert_eq!(page_of(&[], &[origin], host, false), Page::SameHost, "{origin} at {host}");
        }
        for (origin, host) in [
            ("https://evil.example", "chat.example"),
            ("https://chat.example:8443", "chat.example"),
            ("https://chat.example", "chat.example:8443"),
            ("https://chat.example", "chat.example:80"),
            ("http://chat.example", "chat.example:443"),
            ("null", "chat.example"),
            ("file://", "chat.example"),
            ("app://chat.example", "chat.example"),
            ("nonsense", "chat.example"),
            ("https://chat.example/", "chat.example"),
            ("", "chat.example"),
        ] {
            assert_eq!(page_of(&[], &[origin], host, false), Page::Foreign, "{origin} at {host}");
        }
        assert_eq!(page_of(&[], &[], "chat.example", false), Page::None);
        assert_eq!(page_of(&[], &["https://chat.example"], "", false), Page::Foreign);
    }

    #[test]
    fn where_the_client_is_known_to_use_tls_a_page_without_it_is_another() {
        assert_eq!(page_of(&[], &["https://chat.example"], "chat.example", true), Page::SameHost);
        assert_eq!(page_of(&[], &["https://chat.example:8443"], "chat.example:8443", true), Page::SameHost);
        assert_eq!(page_of(&[], &["http://chat.example"], "chat.example", true), Page::Foreign);
        assert_eq!(page_of(&[], &["http://chat.example:8443"], "chat.example:8443", true), Page::Foreign);
    }

    #[test]
    fn a_list_is_all_that_counts_where_there_is_one() {
        let list = ["https://app.example", "null"];
        assert_eq!(page_of(&list, &["https://app.example"], "chat.example", false), Page::Listed);
        assert_eq!(page_of(&list, &["null"], "chat.example", false), Page::Listed);
        assert_eq!(page_of(&list, &["https://chat.example"], "chat.example", false), Page::Unlisted);
        assert_eq!(page_of(&list, &["https://evil.example"], "chat.example", false), Page::Foreign);
        assert_eq!(page_of(&["*"], &["whatever"], "chat.example", false), Page::Listed);
        assert!(
            !Page::Unlisted.may_connect() && !Page::Foreign.may_connect() && !Page::Several.may_connect()
        );
    }

    #[test]
    fn two_origins_are_none() {
        for allowed in [&[][..], &["*"], &["https://app.example"]] {
            let twice = ["https://app.example", "https://app.example"];
            assert_eq!(page_of(allowed, &twice, "app.example", false), Page::Several, "{allowed:?}");
        }
    }

    #[test]
    fn each_refused_origin_is_news_once_an_hour_and_their_number_is_bounded() {
        let pages = Pages::new(Origins::SameHost);
        let start = Instant::now();
        assert!(pages.is_first_refusal("https://one.example", start));
        assert!(!pages.is_first_refusal("https://one.example", start));
        let news =
            (0..10_000).filter(|n| pages.is_first_refusal(&format!("https://{n}.example"), start)).count();
        assert_eq!(news, REFUSED_MAX - 1);
        assert_eq!(pages.refused.lock().len(), REFUSED_MAX);
        assert!(pages.is_first_refusal("https://one.example", start + REFUSED_KEPT));
    }

    #[test]
    fn answers_say_for_which_page_they_are() {
        let share = |allowed: &[&str], page, origin: Option<&'static str>| {
            let pages = Pages::new(Origins::new(allowed.iter().copied()).expect("origins"));
            let mut answer = HeaderMap::new();
            pages.share(page, origin.map(HeaderValue::from_static).as_ref(), &mut answer);
            let text = |name| answer.get(name).map(|value| value.to_str().expect("text").to_owned());
            (text(ACCESS_CONTROL_ALLOW_ORIGIN), text(VARY))
        };
        let (here, vary) = (Some("https://app.example"), Some("origin".to_owned()));
        let own = Some("https://app.example".to_owned());
        assert_eq!(share(&["https://app.example"], Page::Listed, here), (own, vary.clone()));
        assert_eq!(share(&["https://app.example"], Page::Foreign, here), (None, vary.clone()));
        assert_eq!(share(&["https://app.example"], Page::None, None), (None, vary));
        assert_eq!(share(&["*"], Page::Listed, here), (Some("*".to_owned()), None));
        assert_eq!(share(&["*"], Page::None, None), (None, None));
        assert_eq!(share(&[], Page::SameHost, here), (None, None));
    }
}
