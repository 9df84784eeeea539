//! Pages of other origins: which requests they may send and what they may read (CORS).

use std::time::Duration;

use serde_json::json;
use starling_testkit::client::Upgrade;
use starling_testkit::free_port;
use starling_testkit::http::{Request, Response};
use starling_testkit::node::{Node, NodeBuilder};
use starling_testkit::wait::until_true;

use crate::{json_of, node, refused};

const PAGE: &str = "https://app.example";
const OTHER_PAGE: &str = "https://evil.example";
const SOON: Duration = Duration::from_secs(30);

fn allowing(origins: &str) -> NodeBuilder {
    Node::builder().unlimited().env("STARLING_ALLOWED_ORIGINS", origins)
}

/// Returns the preflight request that a browser sends before a call with a token.
async fn preflight(node: &Node, origin: &str, method: &str, path: &str) -> Response {
    Request::new("OPTIONS", &format!("{}{path}", node.http_url()))
        .header("origin", origin)
        .header("access-control-request-method", method)
        .header("access-control-request-headers", "authorization,content-type,traceparent")
        .send()
        .await
        .expect("an answer")
}

async fn call_from(node: &Node, origin: &str, token: &str, method: &str, path: &str) -> Response {
    let request = Request::new(method, &format!("{}{path}", node.http_url())).header("origin", origin);
    request.bearer(token).send().await.expect("an answer")
}

/// Returns the words of a list-valued header, in lower case.
fn words(response: &Response, header: &str) -> Vec<String> {
    let lines = response.headers.iter().filter(|(name, _)| name == header);
    lines.flat_map(|(_, value)| value.split(',')).map(|word| word.trim().to_ascii_lowercase()).collect()
}

#[track_caller]
fn readable(response: &Response, origin: &str) {
    assert_eq!(response.header("access-control-allow-origin"), Some(origin), "{response:?}");
    let exposed = words(response, "access-control-expose-headers");
    for header in ["retry-after", "location", "date"] {
        assert!(exposed.contains(&header.to_owned()), "{header}: {exposed:?}");
    }
    // Only the token counts, not a cookie.
    assert_eq!(response.header("access-control-allow-credentials"), None);
    if origin != "*" {
        assert!(words(response, "vary").contains(&"origin".to_owned()), "{response:?}");
    }
}

#[track_caller]
fn unreadable(response: &Response) {
    let allowed = response.headers.iter().find(|(name, _)| name.starts_with("access-control-"));
    assert_eq!(allowed, None, "{response:?}");
}

#[tokio::test]
async fn a_listed_page_may_call_and_read_the_answers() {
    let node =
        allowing("https://*.shop.example, https://app.example:443, null").start().await.expect("a node");
    let ada = node.token("ada");
    for origin in [PAGE, "https://a.b.shop.example", "null"] {
        for (method, path) in [
            ("POST", "/v1/conversations"),
            ("PATCH", "/v1/conversations/tea"),
            ("PUT", "/v1/conversations/tea/members/bob"),
            ("DELETE", "/v1/conversations/tea/members/bob"),
            ("GET", "/v1/conversations"),
        ] {
            let leave = preflight(&node, origin, method, path).await;
            assert_eq!(leave.status, 204, "{}", leave.text());
            readable(&leave, origin);
            let methods = words(&leave, "access-control-allow-methods");
            assert!(methods.contains(&method.to_ascii_lowercase()), "{methods:?}");
            let headers = words(&leave, "access-control-allow-headers");
            for header in ["authorization", "content-type", "traceparent"] {
                assert!(headers.contains(&header.to_owned()), "{headers:?}");
            }
            let seconds = leave.header("access-control-max-age").and_then(|age| age.parse::<u32>().ok());
            assert!(seconds.is_some_and(|seconds| seconds >= 600), "{leave:?}");
        }
    }
    let body = json!({"conversation": "tea", "members": ["bob"]});
    let made = Request::new("POST", &format!("{}/v1/conversations", node.http_url())).header("origin", PAGE);
    let made = made.bearer(&ada).json(&body).send().await.expect("an answer");
    json_of(&made, 201);
    readable(&made, PAGE);
    let listed = call_from(&node, PAGE, &ada, "GET", "/v1/conversations").await;
    assert_eq!(json_of(&listed, 200)["conversations"][0]["conversation"], "tea");
    readable(&listed, PAGE);
    let removed = call_from(&node, PAGE, &ada, "DELETE", "/v1/conversations/tea/members/bob").await;
    assert_eq!(removed.status, 204);
    readable(&removed, PAGE);
    for path in ["/health", "/ready", "/openapi.json", "/starling.js"] {
        readable(&call_from(&node, PAGE, &ada, "GET", path).await, PAGE);
    }
    // It may also open a WebSocket.
    Upgrade::to(&node.ws_url()).header("origin", PAGE).open().await.expect("a socket");
}

#[tokio::test]
async fn failures_can_be_read_as_well() {
    let builder = Node::builder()
        .env("STARLING_ALLOWED_ORIGINS", PAGE)
        .env("STARLING_LIMIT_USER_REQUESTS_PER_SECOND", "1")
        .env("STARLING_LIMIT_ADDRESS_CONNECTIONS", "3");
    let node = builder.start().await.expect("a node");
    let ada = node.token("ada");
    let bad = call_from(&node, PAGE, "nonsense", "GET", "/v1/conversations").await;
    refused(&bad, 401, "unauthorized");
    readable(&bad, PAGE);
    for (method, path, status) in [
        ("GET", "/v1/conversations/none", 404),
        ("DELETE", "/v1/conversations", 405),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/nodes", 403),
        ("GET", "/v1/conversations?limit=0", 400),
    ] {
        let user = node.token(&format!("user-{status}-{}", path.len()));
        let failed = call_from(&node, PAGE, &user, method, path).await;
        assert_eq!(failed.status, status, "{method} {path}: {}", failed.text());
        readable(&failed, PAGE);
    }
    // The user's own limit.
    until_true(SOON, "a refusal", async || {
        let answer = call_from(&node, PAGE, &ada, "GET", "/v1/conversations").await;
        readable(&answer, PAGE);
        Ok(answer.status == 429 && answer.header("retry-after").is_some())
    })
    .await
    .expect("refused");
    // The limit per address applies before a request is parsed.
    let mut held = Vec::new();
    until_true(SOON, "a refusal", async || {
        let answer = call_from(&node, PAGE, &ada, "GET", "/health").await;
        readable(&answer, PAGE);
        if answer.status == 429 {
            let foreign = call_from(&node, OTHER_PAGE, &ada, "GET", "/health").await;
            unreadable(&foreign);
            return Ok(foreign.status == 429);
        }
        held.extend(Upgrade::to(&node.ws_url()).open().await.ok());
        Ok(false)
    })
    .await
    .expect("refused");
}

#[tokio::test]
async fn what_cannot_be_had_at_the_moment_can_be_read_as_well() {
    let nobody = free_port().expect("a port");
    let node = Node::builder()
        .secret("")
        .env("STARLING_ALLOWED_ORIGINS", PAGE)
        .env("STARLING_TICKET_SECRET", "a secret that only signs tickets, and no tokens")
        .env("STARLING_JWT_ALGORITHM", "EdDSA")
        .env("STARLING_JWT_JWKS_URL", &format!("http://{}/keys", nobody.address()))
        .without_waiting()
        .start()
        .await
        .expect("a node");
    until_true(SOON, "the node", async || Ok(node.get("/health").await.is_ok())).await.expect("up");
    let token = starling_testkit::token::Token::of("ada").header("alg", "EdDSA").sign_with(|_| vec![0; 64]);
    let answer = call_from(&node, PAGE, &token, "GET", "/v1/conversations").await;
    refused(&answer, 503, "unavailable");
    readable(&answer, PAGE);
}

#[tokio::test]
async fn a_page_that_is_not_listed_learns_nothing() {
    let node = allowing(PAGE).start().await.expect("a node");
    let ada = node.token("ada");
    for origin in [
        OTHER_PAGE,
        "http://app.example",
        "https://app.example.evil.example",
        "null",
        "https://app.example:8443",
    ] {
        let leave = preflight(&node, origin, "POST", "/v1/conversations").await;
        refused(&leave, 403, "forbidden");
        unreadable(&leave);
        let answer = call_from(&node, origin, &ada, "GET", "/v1/conversations").await;
        unreadable(&answer);
        // A cache must not serve this response to a page that may read it, nor the reverse.
        assert!(words(&answer, "vary").contains(&"origin".to_owned()));
    }
    let twice = Request::new("GET", &format!("{}/health", node.http_url()));
    unreadable(&twice.header("origin", PAGE).header("origin", PAGE).send().await.expect("an answer"));
    // Programs send no origin, and an `OPTIONS` request that is not a preflight gets the usual response.
    let plain = node.get("/health").await.expect("an answer");
    unreadable(&plain);
    let options =
        Request::new("OPTIONS", &format!("{}/v1/conversations", node.http_url())).header("origin", PAGE);
    assert_eq!(options.send().await.expect("an answer").status, 405);
}

#[tokio::test]
async fn every_page_may_call_where_all_are_allowed() {
    let node = allowing("*").start().await.expect("a node");
    for origin in [PAGE, "null", "capacitor://localhost", "file://"] {
        let leave = preflight(&node, origin, "PUT", "/v1/conversations/tea/members/bob").await;
        assert_eq!(leave.status, 204);
        readable(&leave, "*");
        readable(&call_from(&node, origin, &node.token("ada"), "GET", "/v1/conversations").await, "*");
    }
}

#[tokio::test]
async fn without_a_list_no_other_page_may_call() {
    let node = node().await;
    for origin in [PAGE, &node.http_url(), "null"] {
        unreadable(&call_from(&node, origin, &node.token("ada"), "GET", "/v1/conversations").await);
        let leave = preflight(&node, origin, "POST", "/v1/conversations").await;
        assert_eq!(leave.status, 403);
        unreadable(&leave);
    }
}

#[tokio::test]
async fn the_metrics_port_is_for_no_page() {
    let node = allowing("*").start().await.expect("a node");
    for method in ["GET", "OPTIONS"] {
        let url = format!("http://{}/metrics", node.metrics_address());
        let asked =
            Request::new(method, &url).header("origin", PAGE).header("access-control-request-method", "GET");
        unreadable(&asked.send().await.expect("an answer"));
    }
}

#[tokio::test]
async fn a_refused_page_is_logged_once_with_what_to_do() {
    let node = allowing(PAGE).start().await.expect("a node");
    let lines = |origin: &str| {
        let log = node.log();
        log.lines().filter(|line| line.contains(origin) && line.contains("allowed_origins")).count()
    };
    for n in 0..20 {
        preflight(&node, OTHER_PAGE, "POST", "/v1/conversations").await;
        let third = Upgrade::to(&node.ws_url()).header("origin", "https://third.example");
        assert!(third.open().await.is_err());
        // Invented origins do not fill the log.
        for m in 0..20 {
            call_from(&node, &format!("https://{n}-{m}.invented.example"), "x", "GET", "/ready").await;
        }
    }
    until_true(SOON, "the lines", async || Ok(lines(OTHER_PAGE) == 1 && lines("https://third.example") == 1))
        .await
        .expect("logged once");
    let invented = lines("invented.example");
    assert!((1..100).contains(&invented), "{invented} lines");
    assert_eq!(lines(PAGE), 0);
}
