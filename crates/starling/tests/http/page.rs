//! The console page's files, and the description of the API.

use starling_testkit::http::Request;

use crate::node;

#[tokio::test]
async fn the_page_is_served_with_a_strict_policy_and_only_once() {
    let node = node().await;
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/console/console.js", "text/javascript; charset=utf-8"),
        ("/console/console.css", "text/css; charset=utf-8"),
        ("/console/starling.svg", "image/svg+xml"),
        ("/starling.js", "text/javascript; charset=utf-8"),
        ("/starling/connection.js", "text/javascript; charset=utf-8"),
        ("/openapi.json", "application/json"),
    ] {
        let response = node.get(path).await.expect("an answer");
        assert_eq!((response.status, response.header("content-type")), (200, Some(content_type)), "{path}");
        for (name, value) in [
            ("cache-control", "no-cache"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
        ] {
            assert_eq!(response.header(name), Some(value), "{path} {name}");
        }
        let policy = response.header("content-security-policy").expect("a policy");
        assert!(
            policy.starts_with("default-src 'self'; connect-src 'self' ws: wss: http: https:;"),
            "{policy}"
        );
        let etag = response.header("etag").expect("a tag");
        let url = format!("{}{path}", node.http_url());
        let again = Request::new("GET", &url).header("if-none-match", etag).send().await.expect("an answer");
        assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(etag)), "{path}");
    }
}

#[tokio::test]
async fn the_description_names_this_version() {
    let node = node().await;
    let document = node.get("/openapi.json").await.expect("an answer").json().expect("JSON");
    assert_eq!(
        (document["openapi"].as_str(), document["info"]["title"].as_str()),
        (Some("3.1.0"), Some("Starling"))
    );
    let health = node.get("/health").await.expect("an answer").json().expect("JSON");
    assert_eq!(document["info"]["version"], health["version"]);
}
