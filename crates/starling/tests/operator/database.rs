//! A database that is down at the start, and migrations run by the operator.

use starling_testkit::client::{Client, Encoding};
use starling_testkit::free_port;
use starling_testkit::node::{Node, NodeBuilder};
use starling_testkit::postgres::Postgres;
use starling_testkit::wait::until_true;

use crate::{SOON, finished};

fn node(database_url: &str) -> NodeBuilder {
    Node::builder().database(database_url).env("STARLING_DATABASE_MIGRATE", "false")
}

#[tokio::test]
async fn a_node_that_may_not_migrate_says_who_should_and_serves_afterwards() {
    let url = Postgres::shared().await.unwrap().create_database("schema").await.unwrap();
    let (status, log) = finished(node(&url)).await;
    assert_eq!(status, 1, "{log}");
    assert!(log.contains("database_url") && log.contains("run `starling migrate`"), "{log}");

    // Repeating is harmless. Migrations need neither a token key nor Redis.
    let nobody = free_port().unwrap();
    for _ in 0..2 {
        let migrates =
            node(&url).env("STARLING_JWT_SECRET", "").redis(&format!("redis://{}", nobody.address()));
        let (status, log) = finished(migrates.arg("migrate")).await;
        assert_eq!((status, log.trim()), (0, "the schema is up to date"));
    }

    let node = node(&url).start().await.unwrap();
    let mut ada = Client::connect(&node.ws_url(), &node.token("ada"), Encoding::Json).await.unwrap();
    let created = ada.command("create", serde_json::json!({"conversation": "c"})).await.unwrap();
    assert_eq!(created["created"], true);
}

#[tokio::test]
async fn a_node_that_waits_for_its_database_ends_when_told_to() {
    let nobody = free_port().unwrap();
    let waiting = Node::builder()
        .database(&format!("postgres://starling@{}/starling", nobody.address()))
        .env("STARLING_START_TIMEOUT_SECONDS", "86400");
    let node = waiting.without_waiting().start().await.unwrap();
    until_true(SOON, "it to wait", async || Ok(node.log().contains("waiting for the database")))
        .await
        .unwrap();
    assert_eq!(node.terminate(SOON).await.unwrap().code(), Some(0), "{}", node.log());
}
