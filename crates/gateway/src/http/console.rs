//! The console page and the client module that it uses, built into the program.

use std::borrow::Cow;
use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use rust_embed::RustEmbed;
use starling_hub::Map;

use super::error::{self, ApiError};

/// Content security policy: the page may only load from its own node, and use WebSocket and HTTP with it and with other nodes.
const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss: http: https:; img-src 'self' data:; \
                      object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(RustEmbed)]
#[folder = "console/"]
struct Page;

/// Modules of the JavaScript client, the same files that applications use.
#[derive(RustEmbed)]
#[folder = "../../clients/js/starling/"]
struct ClientModules;

/// Module of the JavaScript client that applications import.
static CLIENT: &[u8] = include_bytes!("../../../../clients/js/starling.js");

/// Files by name.
type Files = Map<Cow<'static, str>, File>;

static FILES: LazyLock<Files> = LazyLock::new(embedded::<Page>);

static CLIENT_FILES: LazyLock<Files> = LazyLock::new(embedded::<ClientModules>);

static CLIENT_FILE: LazyLock<File> =
    LazyLock::new(|| File::new("text/javascript; charset=utf-8", Bytes::from_static(CLIENT)));

/// Collects the embedded files of a folder.
fn embedded<Folder: RustEmbed>() -> Files {
    let files = Folder::iter().filter_map(|name: Cow<'static, str>| {
        let data = match Folder::get(&name)?.data {
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(bytes) => Bytes::from(bytes),
        };
        let file = File::new(content_type(&name)?, data);
        Some((name, file))
    });
    files.collect()
}

/// Routes of the page and of the client.
pub(super) fn routes() -> Router {
    Router::new()
        .route("/", get(|headers: HeaderMap, uri: Uri| answer(&FILES, "index.html".to_owned(), headers, uri)))
        .route(
            "/console/{file}",
            get(|Path(name): Path<String>, headers: HeaderMap, uri: Uri| answer(&FILES, name, headers, uri)),
        )
        .route("/starling.js", get(|headers: HeaderMap| async move { CLIENT_FILE.answer(&headers) }))
        .route(
            "/starling/{file}",
            get(|Path(name): Path<String>, headers: HeaderMap, uri: Uri| {
                answer(&CLIENT_FILES, name, headers, uri)
            }),
        )
}

async fn answer(
    files: &'static Files,
    name: String,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, ApiError> {
    match files.get(name.as_str()) {
        Some(file) => Ok(file.answer(&headers)),
        None => Err(error::no_such_path(uri).await),
    }
}

/// Embedded file, which only changes with the program.
pub(super) struct File {
    content_type: &'static str,
    body: Bytes,
    etag: HeaderValue,
}

impl File {
    /// Creates a file from its content.
    pub(super) fn new(content_type: &'static str, body: Bytes) -> File {
        // A weak tag: the same stands for the compressed forms.
        let tag = format!("W/\"{:016x}\"", fingerprint(&body));
        File {
            content_type,
            etag: HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("W/\"\"")),
            body,
        }
    }

    /// Returns the file, or 304 if the client has it.
    pub(super) fn answer(&self, headers: &HeaderMap) -> Response {
        let mut response = if self.is_known(headers) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            ([(CONTENT_TYPE, HeaderValue::from_static(self.content_type))], self.body.clone()).into_response()
        };
        let out = response.headers_mut();
        out.insert(ETAG, self.etag.clone());
        for (name, value) in FILE_HEADERS {
            out.insert(name, HeaderValue::from_static(value));
        }
        response
    }

    fn is_known(&self, headers: &HeaderMap) -> bool {
        let tags = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let own = opaque(self.etag.to_str().unwrap_or_default());
        tags.flat_map(|value| value.split(',')).map(str::trim).any(|tag| tag == "*" || opaque(tag) == own)
    }
}

const FILE_HEADERS: [(HeaderName, &str); 4] = [
    (CACHE_CONTROL, "no-cache"),
    (CONTENT_SECURITY_POLICY, POLICY),
    (REFERRER_POLICY, "no-referrer"),
    (X_FRAME_OPTIONS, "DENY"),
];

/// Compares `If-None-Match` weakly: RFC 9110, section 13.1.2.
fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// Returns the content type of a file; `None` if the page has no such files.
fn content_type(name: &str) -> Option<&'static str> {
    Some(match name.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "webmanifest" => "application/manifest+json",
        _ => return None,
    })
}

/// FNV-1a, which distinguishes the files of different builds. A collision helps no attacker.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(if_none_match: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, if_none_match.parse().expect("header"));
        headers
    }

    #[test]
    fn the_page_and_all_that_it_names_are_built_in() {
        let index = FILES.get("index.html").expect("the page");
        let text = std::str::from_utf8(&index.body).expect("UTF-8");
        let named: Vec<&str> = text.split('"').filter_map(|part| part.strip_prefix("/console/")).collect();
        assert!(!named.is_empty());
        for name in named {
            assert!(FILES.contains_key(name), "{name}");
        }
        assert!(CLIENT_FILE.body.len() > 1_000);
    }

    #[test]
    fn every_module_that_the_client_imports_is_built_in() {
        let mut seen = 0;
        for file in CLIENT_FILES.values().chain([&*CLIENT_FILE]) {
            let text = std::str::from_utf8(&file.body).expect("UTF-8");
            for import in
                text.lines().filter(|line| line.starts_with("import ") || line.starts_with("export {"))
            {
                let Some(path) = import.split('"').nth(1) else { continue };
                let name = path.rsplit('/').next().expect("a name");
                assert!(CLIENT_FILES.contains_key(name), "{path}");
                seen += 1;
            }
        }
        assert!(seen > 10, "only {seen} imports were found");
    }

    #[test]
    fn the_page_has_nothing_that_its_policy_forbids() {
        for (name, file) in FILES.iter().filter(|(name, _)| name.ends_with(".html")) {
            let text = std::str::from_utf8(&file.body).expect("UTF-8");
            assert!(
                !text.contains("<style") && !text.contains(" style=") && !text.contains(" onclick="),
                "{name}"
            );
            for script in text.split("<script").skip(1) {
                assert!(
                    script.trim_start().split('>').next().is_some_and(|tag| tag.contains("src=")),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn a_browser_that_has_a_file_is_told_so() {
        let file = File::new("text/css; charset=utf-8", Bytes::from_static(b"a{}"));
        let tag = file.etag.to_str().expect("text").to_owned();
        let strong = tag.trim_start_matches("W/").to_owned();
        for known in [tag.clone(), strong, format!("\"x\", {tag}"), "*".to_owned()] {
            let response = file.answer(&asked(&known));
            assert_eq!(
                (response.status(), &response.headers()[ETAG]),
                (StatusCode::NOT_MODIFIED, &file.etag)
            );
        }
        for headers in [asked("\"x\""), HeaderMap::new()] {
            let response = file.answer(&headers);
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()[CONTENT_TYPE], "text/css; charset=utf-8");
            assert_eq!(response.headers()[CACHE_CONTROL], "no-cache");
        }
        assert_ne!(File::new("text/css", Bytes::from_static(b"b{}")).etag, file.etag);
    }
}
