//! Limits of single tenants, on top of the general ones.

use starling_testkit::client::{Client, Encoding, Failure};
use starling_testkit::node::Node;
use starling_testkit::token::Token;

async fn connect(node: &Node, tenant: &str) -> Result<Client, Failure> {
    let token = Token::of("ada").tenant(tenant).sign(node.secret());
    Client::connect(&node.ws_url(), &token, Encoding::Json).await
}

#[tokio::test]
async fn what_a_tenants_table_leaves_out_is_as_for_everybody() {
    let node = Node::builder()
        .file("starling.toml", "[tenants.x]\nuser_writes_per_minute = 5\n\n[tenants.z]\nconnections = 2\n")
        .arg("--config")
        .arg("starling.toml")
        .env("STARLING_LIMIT_TENANT_CONNECTIONS", "1")
        .start()
        .await
        .unwrap();
    for (tenant, connections) in [("x", 1), ("y", 1), ("z", 2)] {
        let mut open = Vec::new();
        for _ in 0..connections {
            open.push(connect(&node, tenant).await.unwrap());
        }
        let failure = connect(&node, tenant).await.unwrap_err();
        assert_eq!(failure.code(), Some("rate_limited"), "{tenant}: {failure}");
    }
}
