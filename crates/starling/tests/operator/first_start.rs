//! The first start, by somebody who configured nothing.

use std::os::unix::fs::PermissionsExt;

use starling_testkit::http::{Request, Response};
use starling_testkit::node::Node;

use crate::SOON;

async fn get(node: &Node, token: &str, path: &str) -> Response {
    Request::new("GET", &format!("{}{path}", node.http_url())).bearer(token).send().await.unwrap()
}

/// The tokens of the links that were printed, in their order.
fn printed(log: &str, node: &Node) -> Vec<String> {
    let start = format!("{}/#token=", node.http_url());
    log.lines().filter_map(|line| line.trim().strip_prefix(&start).map(str::to_owned)).collect()
}

#[tokio::test]
async fn two_links_are_printed_whose_tokens_work_also_after_a_restart() {
    let node = Node::builder().secret("").start().await.unwrap();
    let tokens = printed(&node.log(), &node);
    let [alice, bob] = tokens.as_slice() else { panic!("not two links: {}", node.log()) };
    for token in [alice, bob] {
        let answer = get(&node, token, "/v1/conversations").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    // Only alice may see the nodes.
    assert_eq!(get(&node, alice, "/v1/nodes").await.status, 200);
    assert_eq!(get(&node, bob, "/v1/nodes").await.status, 403);

    let file = node.folder().join("data/starling.secret");
    let secret = std::fs::read_to_string(&file).unwrap();
    assert!(secret.len() >= 32);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!node.log().contains(&secret));

    let status = node.terminate(SOON).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", node.log());
    node.start_again().await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), secret);
    for token in [alice, bob] {
        assert_eq!(get(&node, token, "/v1/conversations").await.status, 200);
    }
}

#[tokio::test]
async fn a_node_with_a_secret_of_the_operators_prints_no_links() {
    let node = Node::start().await.unwrap();
    assert!(!node.log().contains("#token="), "{}", node.log());
    assert!(!node.folder().join("data/starling.secret").exists());
}
