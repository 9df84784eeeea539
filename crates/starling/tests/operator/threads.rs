//! The threads of a node follow from the processors that it may use.

use serde_json::json;
use starling_testkit::client::{Client, Encoding};
use starling_testkit::node::{Node, NodeBuilder};

/// Starts a node and lets a message through it. Returns the names of its threads.
async fn threads_of(node: NodeBuilder) -> Vec<String> {
    let node = node.start().await.unwrap();
    let mut ann = Client::connect(&node.ws_url(), &node.token("ann"), Encoding::Json).await.unwrap();
    ann.command("create", json!({ "conversation": "c" })).await.unwrap();
    ann.command("send", json!({ "conversation": "c", "content": "hello", "key": "1" })).await.unwrap();
    let page = ann.command("history", json!({ "conversation": "c" })).await.unwrap();
    assert!(page.to_string().contains("hello"), "{page}");
    node.threads().unwrap()
}

fn count(threads: &[String], name: &str) -> usize {
    threads.iter().filter(|thread| thread.starts_with(name)).count()
}

#[tokio::test]
async fn on_one_processor_one_thread_serves_sockets_and_everything_else() {
    let threads = threads_of(Node::builder().on_one_processor()).await;
    assert_eq!((count(&threads, "shard-"), count(&threads, "control")), (0, 0), "{threads:?}");
}

#[tokio::test]
async fn shards_that_are_asked_for_have_threads_of_their_own_on_one_processor_too() {
    let threads = threads_of(Node::builder().on_one_processor().env("STARLING_SHARDS", "2")).await;
    assert_eq!(count(&threads, "shard-"), 2, "{threads:?}");
    assert!(count(&threads, "control") > 0, "{threads:?}");
}
