//! A database that a newer program has migrated, as after an upgrade that was rolled back.

use serde_json::json;
use starling_testkit::Folder;
use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::{Node, NodeBuilder, SECRET};
use starling_testkit::postgres::Postgres;

use crate::{SOON, finished};

/// The newest migration of the log that this program knows.
fn known() -> i32 {
    starling_conversation_store::SCHEMA.version()
}

/// What a node logs, once, when it can use a newer schema.
const NEWER: &str = "a newer program has migrated the database";

/// A migration of a later version: what it does to the tables, and its row in the history.
fn later_migration(version: i32, oldest_program: i32) -> String {
    format!(
        "ALTER TABLE messages ADD COLUMN later_{version} TEXT;
         INSERT INTO starling_migrations (version, name, oldest_program) VALUES ({version}, 'later', {oldest_program});"
    )
}

/// Lets somebody send a message, so that the node has used its tables.
async fn send(node: &Node, key: &str) {
    let mut ada = Client::connect(&node.ws_url(), &node.token("ada"), Encoding::Json).await.unwrap();
    ada.command("create", json!({"conversation": "c"})).await.unwrap();
    let sent =
        ada.command("send", json!({"conversation": "c", "key": key, "content": "hello"})).await.unwrap();
    assert!(sent["seq"].is_u64(), "{sent}");
}

/// A node works on a schema that was only added to, and says once that it is newer; so do the other commands.
async fn works(on: impl Fn() -> NodeBuilder, version: i32) {
    for migrates in ["true", "false"] {
        let node = on().env("STARLING_DATABASE_MIGRATE", migrates).start().await.unwrap();
        send(&node, migrates).await;
        assert_eq!(node.log().matches(NEWER).count(), 1, "{}", node.log());
        assert!(node.log().contains(&format!("version {version} (starling_migrations)")), "{}", node.log());
        assert_eq!(node.terminate(SOON).await.unwrap().code(), Some(0));
    }
    let (status, log) = finished(on().arg("migrate")).await;
    let expected = format!(
        "the schema has version {version} (starling_migrations), and this program of version {} can use it",
        known()
    );
    assert_eq!((status, log.trim()), (0, expected.as_str()));
}

/// A node refuses a schema that was taken from, naming both versions and what to do; so does `starling migrate`.
async fn is_refused(on: impl Fn() -> NodeBuilder, version: i32) {
    for builder in [on(), on().env("STARLING_DATABASE_MIGRATE", "false"), on().arg("migrate")] {
        let (status, log) = finished(builder).await;
        assert_eq!(status, 1, "{log}");
        let words = [
            format!("the database's schema has version {version} (starling_migrations)"),
            format!("needs a program of version {version} or later, and this one has version {}", known()),
            "start the newer program again, or restore a backup".to_owned(),
        ];
        for words in words {
            assert!(log.contains(&words), "{words:?} is not in {log}");
        }
    }
}

#[tokio::test]
async fn in_postgresql_it_is_used_if_it_was_only_added_to_and_refused_otherwise() {
    let server = Postgres::shared().await.unwrap();
    let url = server.create_database("newer_schema").await.unwrap();
    let on = || Node::builder().secret(SECRET).database(&url);
    let node = on().start().await.unwrap();
    send(&node, "first").await;
    // The node that runs already goes on, as during an upgrade.
    server.psql_in("newer_schema", &later_migration(known() + 1, 3)).await.unwrap();
    send(&node, "second").await;
    assert_eq!(node.terminate(SOON).await.unwrap().code(), Some(0));
    works(on, known() + 1).await;
    server.psql_in("newer_schema", &later_migration(known() + 2, known() + 2)).await.unwrap();
    is_refused(on, known() + 2).await;
}

#[tokio::test]
async fn in_a_file_it_is_used_if_it_was_only_added_to_and_refused_otherwise() {
    let folder = Folder::new("newer-schema").unwrap();
    let path = folder.join("starling.db");
    let on = || Node::builder().secret(SECRET).database(&format!("sqlite://{}", path.display()));
    let node = on().start().await.unwrap();
    send(&node, "first").await;
    assert_eq!(node.terminate(SOON).await.unwrap().code(), Some(0));
    let migrate = |version, oldest| {
        let file = rusqlite::Connection::open(&path).unwrap();
        file.execute_batch(&later_migration(version, oldest)).unwrap();
    };
    migrate(known() + 1, 3);
    works(on, known() + 1).await;
    migrate(known() + 2, known() + 2);
    is_refused(on, known() + 2).await;
}
